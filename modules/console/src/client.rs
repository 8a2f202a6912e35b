//! The master's side: finds the signal of a client's command.

use std::collections::BTreeMap;

use pomelo_sdk::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::{Answer, ConsoleOptions};
use crate::arguments::Arguments;
use crate::ask::{Reasons, ask, reason};
use crate::logs::Since;
use crate::message::{Message, Wanted, unknown};
use crate::{add, blacklist, crons, logs, restart, stop_kill};

/// From a client.
#[derive(Deserialize)]
pub struct Command {
    signal: String,
    #[serde(default)]
    ids: Option<Vec<String>>,
    #[serde(default, rename = "type")]
    server_type: Option<String>,
    #[serde(default)]
    args: Option<Arguments>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    lines: Option<u32>,
    #[serde(default)]
    since: Option<Since>,
    #[serde(default)]
    wait: Option<u64>,
    #[serde(default)]
    from: Option<u64>,
    #[serde(default)]
    grep: Option<String>,
}

pub fn handle(agent: &Agent, command: Command) -> Result<Answer> {
    let ids = command.ids.unwrap_or_default();
    let args = command.args.unwrap_or_default();
    match command.signal.as_str() {
        "list" => list(agent),
        "stop" => stop_kill::stop(agent, ids),
        "kill" => stop_kill::kill(agent, ids),
        "restart" => restart::restart(agent, ids, command.server_type),
        "add" => add::add(agent, args),
        "logs" => {
            let Command { lines, wait, from, grep, .. } = command;
            let wanted = Wanted { lines, wait, from, grep, ..Wanted::default() };
            let since = command.since.unwrap_or_default();
            match command.id {
                Some(id) => logs::of_one(agent, &id, wanted, since).map(Answer::Logs),
                None => logs::of_several(agent, ids, command.server_type, &wanted, since).map(Answer::Merged),
            }
        }
        "addCron" => crons::add(agent, args),
        "removeCron" => crons::remove(agent, args),
        "blacklist" => blacklist::blacklist(agent, args),
        other => Err(unknown(other)),
    }
}

fn list(agent: &Agent) -> Result<Answer> {
    /// The id in the answer is not read, because the host knows who answered.
    #[derive(Deserialize)]
    struct Listed {
        body: Box<RawValue>,
    }
    let timeout = agent.options::<ConsoleOptions>()?.timeout;
    let (mut msg, mut missing) = (BTreeMap::new(), Reasons::new());
    for (id, answer) in ask::<Listed>(agent, &["*"], &Message::new("list"), timeout)? {
        match answer {
            Ok(listed) => drop(msg.insert(id, listed.body)),
            Err(failure) => drop(missing.insert(id, reason(&failure))),
        }
    }
    Ok(Answer::List { msg, missing })
}
