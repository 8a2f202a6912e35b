//! `add`, `addCron`, `removeCron`, `blacklist`: signals of the console with words as arguments.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::super::super::Exit;
use super::super::super::admin::CONSOLE;
use super::super::{Shell, output};
use super::{Arguments, Candidates, Command, Refused};

pub(super) const ADD: Command = Command {
    name: "add",
    summary: "add servers to the cluster, and start them",
    usage: "add <key>=<value>...",
    help: "The keys are those of servers.json; only types that the configuration knows\n\
           can be added. clusterCount=N adds N of them, with ++ for the numbers.\n\
           \n  add host=127.0.0.1 port=3451 serverType=chat id=chat-server-2\n\
           \x20 add host=127.0.0.1 port=3152 serverType=connector \\\n\
           \x20     id=connector-server-3 clientPort=3012 frontend=true",
    complete: |_| {
        vec![Candidates::Words(&["clientPort=", "clusterCount=", "frontend=", "host=", "id=", "port=", "serverType="])]
    },
    run: |shell, arguments| Box::pin(pairs(shell, arguments, "add", "add this server")),
};

pub(super) const ADD_CRON: Command = Command {
    name: "addCron",
    summary: "add a cron to servers",
    usage: "addCron id=<id> serverId=<serverId> time=<time> action=<action>\n\
            addCron id=<id> serverType=<serverType> time=<time> action=<action>",
    help: "The time has six fields, from seconds to the day of the week; its blanks\n\
           need quotes. The action is a function of the application.\n\
           \n  addCron id=8 serverId=chat-server-1 'time=0 30 10 * * *' \\\n\
           \x20         action=chatCron.send\n\
           \x20 addCron id=8 serverType=chat 'time=0 30 10 * * *' action=chatCron.send",
    complete: |_| vec![Candidates::Words(&["action=", "id=", "serverId=", "serverType=", "time="])],
    run: |shell, arguments| Box::pin(pairs(shell, arguments, "addCron", "add this cron")),
};

pub(super) const REMOVE_CRON: Command = Command {
    name: "removeCron",
    summary: "remove a cron from servers",
    usage: "removeCron id=<id> serverId=<serverId>\nremoveCron id=<id> serverType=<serverType>",
    help: "  removeCron id=8 serverId=chat-server-1\n  removeCron id=8 serverType=chat",
    complete: |_| vec![Candidates::Words(&["id=", "serverId=", "serverType="])],
    run: |shell, arguments| Box::pin(pairs(shell, arguments, "removeCron", "remove this cron")),
};

/// Signals with `key=value` words.
async fn pairs(shell: &mut Shell, arguments: Arguments<'_>, signal: &str, what: &str) -> anyhow::Result<()> {
    checked(arguments.words())?;
    tell(shell, arguments.owned(), signal, what).await
}

fn checked(words: &[&str]) -> anyhow::Result<()> {
    if words.is_empty() {
        return Err(Refused::usage("words of the form key=value"));
    }
    match words.iter().find(|word| word.split_once('=').is_none_or(|(key, _)| key.is_empty())) {
        None => Ok(()),
        Some(word) => Err(Refused::usage(format!("`{word}` has not the form key=value (blanks need quotes)"))),
    }
}

pub(super) const BLACKLIST: Command = Command {
    name: "blacklist",
    summary: "keep addresses away from the frontend servers",
    usage: "blacklist <address or pattern>...",
    help: "Addresses, or regular expressions of addresses.\n\
           \n  blacklist 192.168.10.120 192.168.18.60\n  blacklist '\\b10\\.1\\.\\d+\\.\\d+\\b'",
    complete: |_| vec![],
    run: |shell, arguments| {
        Box::pin(async move {
            if arguments.words().is_empty() {
                return Err(Refused::usage("which addresses?"));
            }
            tell(shell, arguments.owned(), "blacklist", "blacklist these addresses").await
        })
    },
};

async fn tell(shell: &mut Shell, args: Vec<String>, signal: &str, what: &str) -> anyhow::Result<()> {
    if !shell.confirm(what).await? {
        return Ok(());
    }
    let body = json!({ "signal": signal, "args": args });
    let answer = shell.master().await?.client.request(CONSOLE, body).await?;
    if shell.json {
        println!("{answer}");
    }
    match serde_json::from_str(answer.get()) {
        Ok(Outcome { done, failed }) => {
            if !shell.json && !done.is_empty() {
                println!("done by {}", done.join(", "));
            }
            if failed.is_empty() {
                return Ok(());
            }
            let failed: Vec<_> = failed.iter().map(|(id, why)| format!("{id} ({why})")).collect();
            Err(Exit::failed(format!("not done by {}", failed.join(", "))))
        }
        // A console of somebody else's.
        Err(_) if shell.json => Ok(()),
        Err(_) => output::answer(false, &answer),
    }
}

/// What came of a signal that several servers were to follow.
#[derive(Deserialize)]
struct Outcome {
    done: Vec<String>,
    failed: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pair_is_named() {
        assert!(checked(&["id=a", "time=0 30 10 * * *", "x="]).is_ok());
        assert!(checked(&[]).is_err());
        for wrong in ["word", "=value"] {
            let said = checked(&["id=a", wrong]).unwrap_err().to_string();
            assert!(said.contains(wrong) && said.contains("key=value"), "{said}");
        }
    }
}
