//! `modules` and `request`: the master's modules, and a message to any of them.

use super::super::super::admin;
use super::super::super::arguments::ModulesAction;
use super::super::Shell;
use super::super::misuse::Misuse;
use super::{Arguments, Candidates, Command};

pub(super) const MODULES: Command = Command {
    name: "modules",
    summary: "show the master's modules",
    usage: "modules",
    help: "Versions, states, calls and failures, and why a file was refused.",
    complete: |_| vec![],
    run: |shell, arguments| {
        Box::pin(async move {
            if !arguments.words().is_empty() {
                return Err(Misuse::words("`modules` takes no arguments; see `enable` and `disable`"));
            }
            admin::modules(&*shell.master().await?, ModulesAction::List).await
        })
    },
};

pub(super) const REQUEST: Command = Command {
    name: "request",
    summary: "ask a module of the master",
    usage: "request <moduleId> [<message>]",
    help: "The message is JSON, taken as it is typed; without one it is null.\n\
           \n  request timeReport\n  request __console__ {\"signal\": \"list\"}",
    complete: |before| if before.is_empty() { vec![Candidates::Modules] } else { vec![] },
    run: |shell, arguments| Box::pin(request(shell, arguments)),
};

async fn request(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let Some(module) = arguments.words().first() else { return Err(Misuse::words("which module?")) };
    let message = match arguments.rest(1) {
        "" => "null",
        message => message,
    };
    let message = admin::message(message)?;
    admin::request(&*shell.master().await?, module, &message).await
}
