//! `enable` and `disable`: a module on all hosts, or a setting of one server's application.

use super::super::super::admin;
use super::super::super::arguments::ModulesAction;
use super::super::misuse::Misuse;
use super::super::{Shell, output};
use super::{Arguments, Candidates, Command};

pub(super) const ENABLE: Command = Command {
    name: "enable",
    summary: "enable a module, or a setting of the application",
    usage: "enable module <moduleId>\nenable app <setting>",
    help: "A module is enabled on all hosts. A setting is switched on in the server\n\
           chosen with `use`.\n\
           \n  enable module systemInfo\n  enable app systemMonitor",
    complete: |before| switches(before),
    run: |shell, arguments| Box::pin(switch(shell, arguments, true)),
};

pub(super) const DISABLE: Command = Command {
    name: "disable",
    summary: "disable a module, or a setting of the application",
    usage: "disable module <moduleId>\ndisable app <setting>",
    help: "A module is disabled on all hosts: its timer stops and its handlers refuse.\n\
           A setting is switched off in the server chosen with `use`.\n\
           \n  disable module systemInfo\n  disable app systemMonitor",
    complete: |before| switches(before),
    run: |shell, arguments| Box::pin(switch(shell, arguments, false)),
};

fn switches(before: &[&str]) -> Vec<Candidates> {
    match before {
        [] => vec![Candidates::Words(&["app", "module"])],
        ["module"] => vec![Candidates::Modules],
        _ => vec![],
    }
}

async fn switch(shell: &mut Shell, arguments: Arguments<'_>, on: bool) -> anyhow::Result<()> {
    let command = if on { "enable" } else { "disable" };
    match arguments.words() {
        ["module", id] => {
            let id = (*id).to_owned();
            let action = if on { ModulesAction::Enable { id } } else { ModulesAction::Disable { id } };
            admin::modules(&*shell.master().await?, action).await
        }
        ["app", setting] => {
            shell.context.server(&format!("{command} app"))?;
            output::answer(shell.json, &shell.watch_server(command, *setting).await?)
        }
        _ => Err(Misuse::words("`module` or `app`, and a name")),
    }
}
