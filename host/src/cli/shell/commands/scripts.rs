//! `exec` and `run`: scripts that are run once on a server.

use std::io::Read;

use anyhow::Context as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::super::exit::Exit;
use super::super::misuse::Misuse;
use super::super::{Shell, output};
use super::{Arguments, Candidates, Command};

/// The longest script, bytes; it fits a frame even in base64.
const MAX_SCRIPT: u64 = 512 * 1024;

/// The module that runs scripts.
const SCRIPTS: &str = "scripts";

pub(super) const EXEC: Command = Command {
    name: "exec",
    summary: "run a script file of this machine on the server",
    usage: "exec <file> [<arguments>]",
    help: "For the server chosen with `use`. The file's content is sent and run once: a\n\
           component, or its text form (WAT). The arguments are JSON. A path that does\n\
           not begin with / is relative to where the shell was started.\n\
           \n  exec scripts/count.wat {\"of\": \"rooms\"}",
    complete: |before| if before.is_empty() { vec![Candidates::Files] } else { vec![] },
    run: |shell, arguments| Box::pin(exec(shell, arguments)),
};

async fn exec(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let Some(file) = arguments.words().first() else { return Err(Misuse::words("which file?")) };
    let server = shell.context.server("exec")?;
    let args = json_of(arguments.rest(1))?;
    let body = json!({ "command": "run", "serverId": server, "script": read(file)?, "args": args });
    ask(shell, body).await
}

pub(super) const RUN: Command = Command {
    name: "run",
    summary: "run a script on the server",
    usage: "run <saved script> [<arguments>]\nrun <script>",
    help: "For the server chosen with `use`. A name that ends in .wat or .wasm is that of\n\
           a saved script, its arguments are JSON; anything else is itself the script,\n\
           and is sent as it is typed to the end of the line.\n\
           \n  run count.wat {\"of\": \"rooms\"}\n  run (component ...)",
    complete: |_| vec![],
    run: |shell, arguments| Box::pin(run(shell, arguments)),
};

async fn run(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let Some(first) = arguments.words().first() else { return Err(Misuse::words("what is to be run?")) };
    let server = shell.context.server("run")?;
    if is_name(first) {
        let args = json_of(arguments.rest(1))?;
        return ask(shell, json!({ "command": "run", "serverId": server, "filename": first, "args": args })).await;
    }
    output::answer(shell.json, &shell.watch_server("run", arguments.rest(0)).await?)
}

async fn ask(shell: &Shell, body: Value) -> anyhow::Result<()> {
    output::answer(shell.json, &shell.master().await?.client.request(SCRIPTS, body).await?)
}

/// Whether a word is the name of a saved script, rather than a script itself.
fn is_name(word: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    word.chars().all(plain) && (word.ends_with(".wat") || word.ends_with(".wasm"))
}

fn json_of(arguments: &str) -> anyhow::Result<Value> {
    if arguments.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(arguments).map_err(|error| Misuse::words(format!("the arguments are not JSON: {error}")))
}

/// A file's content in the form that the module takes: text unchanged, a component's bytes in base64.
fn read(file: &str) -> anyhow::Result<String> {
    let mut script = Vec::new();
    let opened = std::fs::File::open(file).and_then(|opened| opened.take(MAX_SCRIPT + 1).read_to_end(&mut script));
    opened.with_context(|| format!("the script {file} cannot be read"))?;
    if script.len() as u64 > MAX_SCRIPT {
        return Err(Exit::failed(format!("the script {file} is longer than {MAX_SCRIPT} bytes")));
    }
    if script.starts_with(b"\0asm") {
        return Ok(format!("base64:{}", STANDARD.encode(script)));
    }
    String::from_utf8(script).map_err(|_| Exit::failed(format!("the script {file} is neither text nor a component")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_scripts() {
        assert!(is_name("count.wat") && is_name("a-b_2.wasm"));
        for script in ["app.isMaster()", "(component)", "x", "../x.wat", "app.get(\"x.wat"] {
            assert!(!is_name(script), "{script}");
        }
    }

    #[test]
    fn a_file_is_sent_as_text_or_in_base64() {
        let dir = tempfile::tempdir().unwrap();
        let read_back = |content: &[u8]| {
            let file = dir.path().join("script");
            std::fs::write(&file, content).unwrap();
            read(file.to_str().unwrap())
        };
        assert_eq!(read_back(b"(component)").unwrap(), "(component)");
        assert_eq!(read_back(b"\0asm").unwrap(), "base64:AGFzbQ==");
        assert!(read_back(b"\xff").is_err());
        let long = vec![b' '; usize::try_from(MAX_SCRIPT).unwrap() + 1];
        assert!(read_back(&long).unwrap_err().to_string().contains("longer"));
        assert!(read("/nowhere/script").unwrap_err().to_string().contains("/nowhere/script"));
    }
}
