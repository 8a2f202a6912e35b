//! `exec` and `run`: something to run once on a server.

use std::io::Read;

use anyhow::Context as _;
use serde_json::json;

use super::super::super::Exit;
use super::super::{Shell, output};
use super::{Arguments, Candidates, Command, Refused};

/// The longest script, bytes: what fits a frame with room to spare.
const MAX_SCRIPT: u64 = 512 * 1024;

/// The module that runs scripts.
const SCRIPTS: &str = "scripts";

pub(super) const EXEC: Command = Command {
    name: "exec",
    summary: "run a script file of this machine on the server",
    usage: "exec <file>",
    help: "For the server chosen with `use`. The file's content is sent and run once.\n\
           A path that does not begin with / is relative to where the shell was\n\
           started.\n\
           \n  exec scripts/count.wat",
    complete: |before| if before.is_empty() { vec![Candidates::Files] } else { vec![] },
    run: |shell, arguments| Box::pin(exec(shell, arguments)),
};

async fn exec(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let [file] = arguments.words() else { return Err(Refused::usage("one file (a name with blanks needs quotes)")) };
    let server = shell.context.server("exec")?;
    let script = read(file)?;
    let body = json!({ "command": "run", "serverId": server, "script": script });
    let answer = shell.master().await?.client.request(SCRIPTS, body).await?;
    output::answer(shell.json, &answer)
}

fn read(file: &str) -> anyhow::Result<String> {
    let mut script = Vec::new();
    let opened = std::fs::File::open(file).and_then(|opened| opened.take(MAX_SCRIPT + 1).read_to_end(&mut script));
    opened.with_context(|| format!("the script {file} cannot be read"))?;
    if script.len() as u64 > MAX_SCRIPT {
        return Err(Exit::failed(format!("the script {file} is longer than {MAX_SCRIPT} bytes")));
    }
    String::from_utf8(script).map_err(|_| Exit::failed(format!("the script {file} is not text")))
}

pub(super) const RUN: Command = Command {
    name: "run",
    summary: "run a script on the server",
    usage: "run <script>",
    help: "For the server chosen with `use`. The rest of the line is sent as it is\n\
           typed.\n\
           \n  run app.isMaster()",
    complete: |_| vec![],
    run: |shell, arguments| Box::pin(run(shell, arguments)),
};

async fn run(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let script = arguments.rest(0);
    if script.is_empty() {
        return Err(Refused::usage("what is to be run?"));
    }
    shell.context.server("run")?;
    output::answer(shell.json, &shell.watch_server("run", script).await?)
}
