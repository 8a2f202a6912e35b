//! Whether a command means the whole cluster. An empty list of ids does not say so, because a script's variable can be empty by accident.

use std::io::{BufRead, IsTerminal, stdin};

use super::arguments::Targets;
use super::exit::Exit;
use super::print;

/// The servers that a command is about.
///
/// `everything` is what the command would do without ids, in words. Without ids, type and `--all` it is asked for on a terminal and refused elsewhere.
pub(super) async fn chosen(targets: Targets, command: &str, everything: &str) -> anyhow::Result<Targets> {
    if targets.all || targets.server_type.is_some() || !targets.ids.is_empty() {
        return Ok(targets);
    }
    if !(stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Exit::usage(format!(
            "`pomelo {command}` without an id would {everything}: name ids, or say `--all`"
        )));
    }
    print::note(format!("This will {everything}. Go on? [yes/no]"));
    // A thread of its own, because the answer may be long in coming.
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        stdin().lock().read_line(&mut line).map(|_| line)
    });
    let answer = answer.await??;
    if ["yes", "y"].contains(&answer.trim()) { Ok(targets) } else { Err(Exit::failed("nothing was done")) }
}
