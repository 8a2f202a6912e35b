//! The master's side: passes a client's command on to the monitors, and gathers what came of it.

use std::collections::BTreeMap;

use pomelo_sdk::prelude::*;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Message, unknown};

/// From a client.
#[derive(Deserialize)]
pub struct Command {
    signal: String,
    #[serde(default)]
    ids: Option<Vec<String>>,
    #[serde(default, rename = "type")]
    server_type: Option<String>,
}

/// Why each of some servers failed.
type Reasons = BTreeMap<String, String>;

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
}

/// Nothing is read of a server's `info`.
type Info = IgnoredAny;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Options {
    /// Milliseconds.
    timeout: u64,
    stop_timeout: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { timeout: 2_000, stop_timeout: 10_000 }
    }
}

pub fn handle(agent: &Agent, command: Command) -> Result<Answer> {
    let ids = command.ids.unwrap_or_default();
    match command.signal.as_str() {
        "list" => list(agent),
        "stop" => stop(agent, ids),
        "kill" => kill(agent, ids),
        "restart" => restart(agent, ids, command.server_type),
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
    for (id, answer) in ask::<Listed>(agent, &["*"], "list", timeout)? {
        match answer {
            Ok(listed) => drop(msg.insert(id, listed.body)),
            Err(failure) => drop(missing.insert(id, reason(&failure))),
        }
    }
    Ok(Answer::List { msg, missing })
}

fn stop(agent: &Agent, ids: Vec<String>) -> Result<Answer> {
    let status = if ids.is_empty() { "all" } else { "part" };
    let Ended { ended, failed } = end(agent, ids, "stop")?;
    if ended.is_empty() && !failed.is_empty() {
        return Err(nothing_done("stopped", &failed));
    }
    Ok(Answer::Stopped { status, stopped: ended, failed })
}

fn kill(agent: &Agent, ids: Vec<String>) -> Result<Answer> {
    let failed = end(agent, ids, "kill")?.failed;
    if failed.is_empty() {
        return Ok(Answer::Killed { code: "ok" });
    }
    Ok(Answer::Remained { code: "remained", server_ids: failed.into_keys().collect() })
}

/// What came of an attempt to end servers.
struct Ended {
    ended: Vec<String>,
    failed: Reasons,
}

/// Ends servers, or all of them; the master last.
fn end(agent: &Agent, ids: Vec<String>, signal: &str) -> Result<Ended> {
    let master = agent.server_id();
    let all = ids.is_empty();
    let ids = if all { everyone(agent)? } else { ids };
    let (ids, mut failed) = single(ids);
    let (last, first): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| *id == master);

    let timeout = agent.options::<Options>()?.stop_timeout;
    let mut ended = Vec::new();
    for ids in [first, last] {
        for (id, answer) in ask::<IgnoredAny>(agent, &ids, signal, timeout)? {
            match answer {
                // Of all, those that are down already need nothing.
                Err(failure) if all && is_unknown(&failure) => {}
                Err(failure) if !has_ended(&id, &failure) => drop(failed.insert(id, reason(&failure))),
                _ => ended.push(id),
            }
        }
    }
    ended.sort_unstable();
    Ok(Ended { ended, failed })
}

/// The servers of the table, and those that are configured: the monitor of a server that does not run at the moment can be asked as well.
fn everyone(agent: &Agent) -> Result<Vec<String>> {
    let mut ids = agent.cluster().configured()?;
    ids.extend(agent.cluster().servers::<Info>()?.servers.into_keys());
    Ok(ids)
}

/// Whether a failure means that the server has done as it was told. One that ends may be gone before its answer is out; and a server of
/// pomelo 2.x answers `kill` with its id where others have an error.
fn has_ended(id: &str, failure: &Failure) -> bool {
    failure.code() == "disconnected" || failure.message() == id
}

fn restart(agent: &Agent, ids: Vec<String>, server_type: Option<String>) -> Result<Answer> {
    let timeout = agent.options::<Options>()?.stop_timeout;
    let (master, named) = (agent.server_id(), !ids.is_empty());
    let (targets, mut failed) = match server_type {
        _ if named => single(ids),
        Some(server_type) => (vec![["type:", &server_type].concat()], Reasons::new()),
        None => (vec!["*".to_owned()], Reasons::new()),
    };
    let mut restarted = 0;
    for (id, answer) in ask::<IgnoredAny>(agent, &targets, "restart", timeout)? {
        let outcome = match answer {
            // The master is not among all: it cannot restart itself.
            Err(_) if !named && id == master => continue,
            Err(failure) if named && is_down(&failure) => start(agent, &id, failure),
            answer => answer.map(drop),
        };
        match outcome {
            Ok(()) => restarted += 1,
            Err(failure) => drop(failed.insert(id, reason(&failure))),
        }
    }
    if restarted == 0 && !failed.is_empty() {
        return Err(nothing_done("restarted", &failed));
    }
    Ok(Answer::Restarted(failed.into_keys().collect()))
}

/// Has a server that is down started, where the configuration knows it; else it stays with the failure.
fn start(agent: &Agent, id: &str, failure: Failure) -> Result {
    if agent.cluster().configured()?.iter().any(|configured| configured == id) {
        agent.starter().start(id)
    } else {
        Err(failure)
    }
}

/// Passes a signal on; nobody to ask is no failure.
fn ask<T: serde::de::DeserializeOwned>(
    agent: &Agent,
    targets: &[impl AsRef<str>],
    signal: &str,
    timeout: u64,
) -> Result<Vec<(String, Result<T>)>> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    // What is left is for the answer: this call's own deadline must not come first.
    let left = agent.time_left() * 9 / 10;
    let message = Message { signal: signal.to_owned() };
    agent.cluster().request_many(targets, &message, Duration::from_millis(timeout).min(left))
}

/// The ids, each once. What would name several servers is no id, and has failed.
fn single(ids: Vec<String>) -> (Vec<String>, Reasons) {
    let (mut ids, several): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| id != "*" && !id.starts_with("type:"));
    ids.sort_unstable();
    ids.dedup();
    let failed = several.into_iter().map(|id| (id, NO_SUCH_SERVER.to_owned())).collect();
    (ids, failed)
}

const NO_SUCH_SERVER: &str = "There is no such server.";

/// Whether a failure says that nobody is connected under the id.
fn is_unknown(failure: &Failure) -> bool {
    failure.code() == "not-found"
}

/// Whether a failure says that the server's monitor is not there, or is just ending.
fn is_down(failure: &Failure) -> bool {
    is_unknown(failure) || failure.code() == "disconnected"
}

fn reason(failure: &Failure) -> String {
    let message = if is_unknown(failure) { NO_SUCH_SERVER } else { failure.message() };
    message.to_owned()
}

fn nothing_done(what: &str, failed: &Reasons) -> Failure {
    let mut message = ["No server was ", what].concat();
    for (index, (id, reason)) in failed.iter().enumerate() {
        message.push_str(if index == 0 { ": " } else { "; " });
        message.push_str(id);
        message.push_str(": ");
        message.push_str(reason);
    }
    Failure::new("failed", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_apart_and_taken_once() {
        let ids = ["b", "a", "b", "a@10.0.0.1:3050", "type:a", "*"].map(String::from).to_vec();
        let (ids, failed) = single(ids);
        assert_eq!(ids, ["a", "a@10.0.0.1:3050", "b"]);
        assert_eq!(failed.into_keys().collect::<Vec<_>>(), ["*", "type:a"]);
    }

    #[test]
    fn a_failure_names_every_server() {
        let failed = [("a", "no answer"), ("b", "no such server")].map(|(id, why)| (id.into(), why.into())).into();
        assert_eq!(
            nothing_done("stopped", &failed).message(),
            "No server was stopped: a: no answer; b: no such server"
        );
    }

    #[test]
    fn a_server_that_is_gone_has_ended() {
        assert!(has_ended("a", &Failure::new("disconnected", "The connection closed.")));
        assert!(has_ended("a", &Failure::new("failed", "a")));
        assert!(!has_ended("a", &Failure::new("timeout", "No answer.")));
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
    }
}
