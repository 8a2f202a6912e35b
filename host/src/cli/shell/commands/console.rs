//! `add`, `addCron`, `removeCron`, `blacklist`: the console's signals whose arguments are words.

use super::super::super::admin;
use super::super::Shell;
use super::super::misuse::Misuse;
use super::{Arguments, Candidates, Command};

pub(super) const ADD: Command = Command {
    name: "add",
    summary: "add servers to the cluster, and start them",
    usage: "add <key>=<value>...",
    help: "The keys are those of servers.json; only types that the configuration knows\n\
           can be added. clusterCount=N instead of an id adds N that are alike; ports\n\
           that end in ++ count up.\n\
           \n  add host=127.0.0.1 port=3451 serverType=chat id=chat-server-2\n\
           \x20 add host=127.0.0.1 port=3152 serverType=connector \\\n\
           \x20     id=connector-server-3 clientPort=3012 frontend=true",
    complete: |_| {
        vec![Candidates::Words(&["clientPort=", "clusterCount=", "frontend=", "host=", "id=", "port=", "serverType="])]
    },
    run: |shell, arguments| {
        Box::pin(async move {
            checked(arguments.words())?;
            if shell.confirm("add this server").await? {
                admin::add(&*shell.master().await?, arguments.owned()).await?;
            }
            Ok(())
        })
    },
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
    run: |shell, arguments| Box::pin(cron(shell, arguments, "addCron", "add this cron", "cron added")),
};

pub(super) const REMOVE_CRON: Command = Command {
    name: "removeCron",
    summary: "remove a cron from servers",
    usage: "removeCron id=<id> serverId=<serverId>\nremoveCron id=<id> serverType=<serverType>",
    help: "  removeCron id=8 serverId=chat-server-1\n  removeCron id=8 serverType=chat",
    complete: |_| vec![Candidates::Words(&["id=", "serverId=", "serverType="])],
    run: |shell, arguments| Box::pin(cron(shell, arguments, "removeCron", "remove this cron", "cron removed")),
};

async fn cron(shell: &mut Shell, arguments: Arguments<'_>, signal: &str, what: &str, did: &str) -> anyhow::Result<()> {
    checked(arguments.words())?;
    if shell.confirm(what).await? {
        admin::signal(&*shell.master().await?, signal, arguments.owned(), did).await?;
    }
    Ok(())
}

fn checked(words: &[&str]) -> anyhow::Result<()> {
    if words.is_empty() {
        return Err(Misuse::words("words of the form key=value"));
    }
    match words.iter().find(|word| word.split_once('=').is_none_or(|(key, _)| key.is_empty())) {
        None => Ok(()),
        Some(word) => Err(Misuse::words(format!("`{word}` has not the form key=value (blanks need quotes)"))),
    }
}

pub(super) const BLACKLIST: Command = Command {
    name: "blacklist",
    summary: "have the frontend servers refuse addresses",
    usage: "blacklist <address>|<network>|<pattern>...",
    help: "A pattern is an IPv4 address with * for some of its parts.\n\
           \n  blacklist 192.168.10.120 10.1.0.0/16 192.168.18.*",
    complete: |_| vec![],
    run: |shell, arguments| {
        Box::pin(async move {
            if arguments.words().is_empty() {
                return Err(Misuse::words("which addresses?"));
            }
            if shell.confirm("blacklist these addresses").await? {
                admin::signal(&*shell.master().await?, "blacklist", arguments.owned(), "blacklisted").await?;
            }
            Ok(())
        })
    },
};

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
