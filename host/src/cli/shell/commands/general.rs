//! `use`, `help`, `quit`.

use super::super::super::exit::Exit;
use super::super::super::{print, table};
use super::super::context::Context;
use super::super::misuse::Misuse;
use super::super::{Shell, unknown};
use super::{ALL, Arguments, Candidates, Command, find};

pub(super) const USE: Command = Command {
    name: "use",
    summary: "choose the server that commands are for",
    usage: "use <serverId>|all",
    help: "Commands such as get, set and run are for the server that was chosen last;\n\
           the prompt shows it.\n\
           \n  use area-server-1\n  use all",
    complete: |before| if before.is_empty() { vec![Candidates::Words(&["all"]), Candidates::Servers] } else { vec![] },
    run: |shell, arguments| Box::pin(choose(shell, arguments)),
};

async fn choose(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let [server] = arguments.words() else { return Err(Misuse::words("one server, or `all`")) };
    if *server == Context::ALL {
        shell.context = Context::All;
        return Ok(());
    }
    if !shell.connection.servers().await?.iter().any(|id| id == server) {
        return Err(Exit::failed(format!("there is no server {} in the cluster", server)));
    }
    shell.context = Context::Server((*server).to_owned());
    Ok(())
}

pub(super) const HELP: Command = Command {
    name: "help",
    summary: "list the commands, or say how one is used",
    usage: "help [<command>]",
    help: "`?` is the same.\n\n  help show",
    complete: |before| if before.is_empty() { vec![Candidates::Commands] } else { vec![] },
    run: |_, arguments| Box::pin(async move { help(&arguments) }),
};

fn help(arguments: &Arguments<'_>) -> anyhow::Result<()> {
    match arguments.words() {
        [] => {
            let row = |command: &&Command| vec![command.name.to_owned(), command.summary.to_owned()];
            table::print(&["command", "what it does"], ALL.iter().map(row).collect())?;
            print::lines("\n`help <command>` says more.")?;
        }
        [word] => {
            let command = find(word).ok_or_else(|| unknown(word))?;
            print::lines(format!("{}: {}\n", command.name, command.summary))?;
            command.usage.lines().try_for_each(|form| print::line(format!("  {form}")))?;
            print::lines(format!("\n{}", command.help))?;
        }
        _ => return Err(Misuse::words("one command at most")),
    }
    Ok(())
}

pub(super) const QUIT: Command = Command {
    name: "quit",
    summary: "leave the shell",
    usage: "quit",
    help: "`exit` and Ctrl-D do the same.",
    complete: |_| vec![],
    run: |shell, arguments| {
        Box::pin(async move {
            if !arguments.words().is_empty() {
                return Err(Misuse::words("`quit` takes no arguments"));
            }
            shell.over = true;
            Ok(())
        })
    },
};
