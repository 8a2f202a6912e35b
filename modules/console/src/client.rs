//! The master's side: what a client's command comes to.

use std::collections::BTreeMap;

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::arguments::Arguments;
use crate::ask::{Reasons, ask, reason};
use crate::logs::Wanted;
use crate::{Message, add, blacklist, crons, logs, restart, stop_kill, unknown};

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
    since: Option<u64>,
    #[serde(default)]
    wait: Option<u64>,
}

/// To a client.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    List {
        msg: BTreeMap<String, Box<RawValue>>,
        missing: Reasons,
    },
    Stopped {
        status: &'static str,
        stopped: Vec<String>,
        failed: Reasons,
    },
    Killed {
        code: &'static str,
    },
    Remained {
        code: &'static str,
        #[serde(rename = "serverIds")]
        server_ids: Vec<String>,
    },
    Restarted(Vec<String>),
    /// To `logs`: what the host says of the program's output.
    Logs(Box<RawValue>),
    /// To `add`, `addCron`, `removeCron` and `blacklist`: which servers have it done, and why the others have not.
    Done {
        status: &'static str,
        done: Vec<String>,
        failed: Reasons,
    },
}

impl Answer {
    /// Of a signal that some servers were to follow. None of them having done so is a failure.
    pub fn done(what: &str, done: Vec<String>, failed: Reasons) -> Result<Self> {
        if done.is_empty() && !failed.is_empty() {
            return Err(nothing_done(what, &failed));
        }
        let status = if failed.is_empty() { "ok" } else { "part" };
        Ok(Answer::Done { status, done, failed })
    }
}

/// The module's options.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Options {
    /// Milliseconds.
    pub timeout: u64,
    pub stop_timeout: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { timeout: 2_000, stop_timeout: 10_000 }
    }
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
            let wanted = Wanted { lines: command.lines, since: command.since, wait: command.wait };
            logs::forward(agent, command.id, wanted).map(Answer::Logs)
        }
        "addCron" => crons::add(agent, args),
        "removeCron" => crons::remove(agent, args),
        "blacklist" => blacklist::blacklist(agent, args),
        other => Err(unknown(other)),
    }
}

fn list(agent: &Agent) -> Result<Answer> {
    /// The id in it is not read: the host knows who answered.
    #[derive(Deserialize)]
    struct Listed {
        body: Box<RawValue>,
    }
    let timeout = agent.options::<Options>()?.timeout;
    let (mut msg, mut missing) = (BTreeMap::new(), Reasons::new());
    for (id, answer) in ask::<Listed>(agent, &["*"], &Message::new("list"), timeout)? {
        match answer {
            Ok(listed) => drop(msg.insert(id, listed.body)),
            Err(failure) => drop(missing.insert(id, reason(&failure))),
        }
    }
    Ok(Answer::List { msg, missing })
}

/// The failure where no server did what was asked.
pub fn nothing_done(what: &str, failed: &Reasons) -> Failure {
    Failure::of_all(["No server was ", what].concat(), failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_every_server() {
        let failed = [("a", "no answer"), ("b", "no such server")].map(|(id, why)| (id.into(), why.into())).into();
        assert_eq!(
            nothing_done("stopped", &failed).message(),
            "No server was stopped: a: no answer; b: no such server"
        );
    }

    #[test]
    fn answers_have_the_form_of_pomelo() {
        let show = |answer: &Answer| serde_json::to_string(answer).unwrap();
        assert_eq!(show(&Answer::Killed { code: "ok" }), r#"{"code":"ok"}"#);
        assert_eq!(
            show(&Answer::Remained { code: "remained", server_ids: vec!["a".into()] }),
            r#"{"code":"remained","serverIds":["a"]}"#
        );
        assert_eq!(show(&Answer::Restarted(vec![])), "[]");
        let done = Answer::done("added", vec!["a".into()], Reasons::new()).unwrap();
        assert_eq!(show(&done), r#"{"status":"ok","done":["a"],"failed":{}}"#);
    }
}
