//! `list`, `stop`, `kill`, `restart`, `drain`, `undrain`: what the program's subcommands of the same names do.

use super::super::super::arguments::{Following, Rolling, Targets};
use super::super::super::list::{self, ListQuery};
use super::super::super::orders;
use super::super::Shell;
use super::super::context::Context;
use super::super::misuse::Misuse;
use super::{Arguments, Candidates, Command};

pub(super) const LIST: Command = Command {
    name: "list",
    summary: "show the servers with their processes",
    usage: "list",
    help: "Ids, types, process ids, memory, uptime, restarts and states; a server that\n\
           does not answer is named.",
    complete: |_| vec![],
    run: |shell, arguments| {
        Box::pin(async move {
            if !arguments.words().is_empty() {
                return Err(Misuse::words("`list` takes no arguments"));
            }
            list::list(&*shell.master().await?, ListQuery::default()).await
        })
    },
};

pub(super) const STOP: Command = Command {
    name: "stop",
    summary: "stop servers for good",
    usage: "stop <serverId>...\nstop all",
    help: "`stop all` ends the master too. A stopped server stays down until it is\n\
           restarted or added.\n\
           \n  stop area-server-1",
    complete: |before| servers_or_all(before),
    run: |shell, arguments| Box::pin(stop(shell, arguments)),
};

async fn stop(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let ids = ids(&arguments)?.ok_or_else(|| Misuse::words("which servers? `all` for all, and the master"))?;
    let what = if ids.is_empty() { "all servers, and the master".to_owned() } else { ids.join(", ") };
    if shell.confirm(&format!("stop {what}")).await? {
        let targets = Targets { ids, ..Targets::default() };
        orders::stop(&*shell.master().await?, targets, Following::default()).await?;
    }
    Ok(())
}

pub(super) const KILL: Command = Command {
    name: "kill",
    summary: "kill servers without asking them to end",
    usage: "kill [all]\nkill <serverId>...",
    help: "Without an id, all servers and the master are killed.",
    complete: |before| servers_or_all(before),
    run: |shell, arguments| Box::pin(kill(shell, arguments)),
};

async fn kill(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let ids = ids(&arguments)?.unwrap_or_default();
    let what = if ids.is_empty() { "all servers, and the master".to_owned() } else { ids.join(", ") };
    if shell.confirm(&format!("kill {what}")).await? {
        let targets = Targets { ids, ..Targets::default() };
        orders::kill(&*shell.master().await?, targets, Following::default()).await?;
    }
    Ok(())
}

pub(super) const RESTART: Command = Command {
    name: "restart",
    summary: "restart servers, or start those that are down",
    usage: "restart <serverId>...\nrestart type <serverType>\nrestart all",
    help: "`all` leaves out the master, because it cannot restart itself.\n\
           \n  restart chat-server-1 chat-server-2\n  restart type connector",
    complete: |before| servers_type_or_all(before),
    run: |shell, arguments| Box::pin(restart(shell, arguments)),
};

async fn restart(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let targets = targets(&arguments)?;
    if shell.confirm(&format!("restart {}", in_words(&targets))).await? {
        orders::restart(&*shell.master().await?, targets, Rolling::default(), Following::default()).await?;
    }
    Ok(())
}

pub(super) const DRAIN: Command = Command {
    name: "drain",
    summary: "let servers finish what they do and end; they stay down",
    usage: "drain <serverId>...\ndrain type <serverType>\ndrain all",
    help: "Others no longer route to them. Each ends when its connections have, or when\n\
           its time (`drain_ms`) is over. `undrain` puts back those that still drain.\n\
           \n  drain connector-server-1",
    complete: |before| servers_type_or_all(before),
    run: |shell, arguments| Box::pin(drain(shell, arguments)),
};

async fn drain(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let targets = targets(&arguments)?;
    if shell.confirm(&format!("drain and stop {}", in_words(&targets))).await? {
        orders::drain(&*shell.master().await?, targets, Following::default()).await?;
    }
    Ok(())
}

pub(super) const UNDRAIN: Command = Command {
    name: "undrain",
    summary: "put servers back that drain",
    usage: "undrain <serverId>...",
    help: "Others route to them again.\n\
           \n  undrain connector-server-1",
    complete: |_| vec![Candidates::Servers],
    run: |shell, arguments| {
        Box::pin(async move {
            if arguments.words().is_empty() || arguments.words().contains(&"") {
                return Err(Misuse::words("which servers?"));
            }
            orders::undrain(&*shell.master().await?, arguments.owned()).await
        })
    },
};

fn servers_type_or_all(before: &[&str]) -> Vec<Candidates> {
    match before {
        [] => vec![Candidates::Words(&["all", "type"]), Candidates::Servers],
        ["all"] | ["type", ..] => vec![],
        _ => vec![Candidates::Servers],
    }
}

/// The servers that `type TYPE`, `all` or ids mean.
fn targets(arguments: &Arguments<'_>) -> anyhow::Result<Targets> {
    let (server_type, ids) = match arguments.words() {
        ["type", server_type] => (Some((*server_type).to_owned()), Vec::new()),
        ["type", ..] => return Err(Misuse::words("one server type")),
        _ => (None, ids(arguments)?.ok_or_else(|| Misuse::words("which servers? `all` for all"))?),
    };
    Ok(Targets { ids, server_type, all: false })
}

fn in_words(targets: &Targets) -> String {
    match &targets.server_type {
        Some(server_type) => format!("all servers of type {server_type}"),
        None if targets.ids.is_empty() => "all servers".to_owned(),
        None => targets.ids.join(", "),
    }
}

fn servers_or_all(before: &[&str]) -> Vec<Candidates> {
    match before {
        [] => vec![Candidates::Words(&["all"]), Candidates::Servers],
        ["all", ..] => vec![],
        _ => vec![Candidates::Servers],
    }
}

/// The ids that are named: an empty list for `all`, none where nothing was named.
fn ids(arguments: &Arguments<'_>) -> anyhow::Result<Option<Vec<String>>> {
    match arguments.words() {
        [] => Ok(None),
        [Context::ALL] => Ok(Some(Vec::new())),
        words if words.contains(&Context::ALL) => Err(Misuse::words("either `all` or ids")),
        words if words.contains(&"") => Err(Misuse::words("an id is not empty")),
        _ => Ok(Some(arguments.owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::line::Line;
    use super::*;

    #[test]
    fn all_is_never_meant_by_accident() {
        let read = |typed: &str| {
            let line = Line::parse(typed).unwrap();
            ids(&Arguments::new(&line)).map_err(|error| error.to_string())
        };
        assert_eq!(read("stop"), Ok(None));
        assert_eq!(read("stop all"), Ok(Some(vec![])));
        assert_eq!(read("stop a b"), Ok(Some(vec!["a".into(), "b".into()])));
        assert!(read("stop a all").is_err() && read("stop ''").is_err());
    }
}
