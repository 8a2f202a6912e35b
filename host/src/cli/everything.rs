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
    let refusal = format!("`pomelo {command}` without an id would {everything}");
    agreed(&refusal, "name ids, or say `--all`", &format!("This will {everything}.")).await?;
    Ok(targets)
}

/// Asks on a terminal whether to go on. Elsewhere there is nobody to be asked: the refusal says what would be done, and how to say that it is meant.
///
/// # Errors
/// Where nobody agrees.
pub(super) async fn agreed(refusal: &str, hint: &str, what: &str) -> anyhow::Result<()> {
    if !(stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Exit::usage(format!("{refusal}: {hint}")));
    }
    print::note(format!("{what} Go on? [yes/no]"));
    // A thread of its own, because the answer may be long in coming.
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        stdin().lock().read_line(&mut line).map(|_| line)
    });
    let answer = answer.await??;
    if ["yes", "y"].contains(&answer.trim()) { Ok(()) } else { Err(Exit::failed("nothing was done")) }
}
