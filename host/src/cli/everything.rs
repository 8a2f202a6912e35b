//! Whether a command means the whole cluster. An empty list of ids does not say so, because a script's variable can be empty by accident.

use std::io::{BufRead, IsTerminal, stdin};

use super::exit::Exit;
use super::print;

/// The ids that a command is about; an empty list where it is about all servers.
///
/// `everything` is what the command would do without ids, in words. Without ids and `--all` it is asked for on a terminal and refused elsewhere.
pub(super) async fn ids_or_all(
    ids: Vec<String>,
    all: bool,
    command: &str,
    everything: &str,
) -> anyhow::Result<Vec<String>> {
    if all || !ids.is_empty() {
        return Ok(ids);
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
    if ["yes", "y"].contains(&answer.trim()) { Ok(ids) } else { Err(Exit::failed("nothing was done")) }
}
