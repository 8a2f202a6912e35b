//! `get` and `set`: settings of one server's application.

use serde_json::json;

use super::super::misuse::Misuse;
use super::super::{Shell, output};
use super::{Arguments, Command};

pub(super) const GET: Command = Command {
    name: "get",
    summary: "show a setting of the server's application",
    usage: "get <key>",
    help: "For the server chosen with `use`. `show settings` shows them all.",
    complete: |_| vec![],
    run: |shell, arguments| Box::pin(get(shell, arguments)),
};

async fn get(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let [key] = arguments.words() else { return Err(Misuse::words("one key")) };
    shell.context.server("get")?;
    output::answer(shell.json, &shell.watch_server("get", *key).await?)
}

pub(super) const SET: Command = Command {
    name: "set",
    summary: "change a setting of the server's application",
    usage: "set <key> <value>",
    help: "For the server chosen with `use`. The value is text; quotes hold blanks\n\
           together.\n\
           \n  set motd 'back in five minutes'",
    complete: |_| vec![],
    run: |shell, arguments| Box::pin(set(shell, arguments)),
};

async fn set(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let [key, value] = arguments.words() else {
        return Err(Misuse::words("one key and one value (a value with blanks needs quotes)"));
    };
    shell.context.server("set")?;
    output::answer(shell.json, &shell.watch_server("set", json!({ "key": key, "value": value })).await?)
}
