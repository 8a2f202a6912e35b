//! The master's side: which servers are asked, and what a client is told of their answers.

use std::collections::BTreeMap;

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::gather::{Gathered, frontends, servers};
use crate::question::{Question, bad, text, unknown};
use crate::shown;

/// From a client.
#[derive(Deserialize)]
pub struct Command {
    #[serde(default)]
    comd: Option<String>,
    #[serde(default)]
    context: Option<String>,
    #[serde(default)]
    param: Option<Box<RawValue>>,
}

/// To a client.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    Several(Gathered),
    Modules {
        msg: Vec<String>,
    },
    Status {
        msg: Box<RawValue>,
    },
    #[serde(rename_all = "camelCase")]
    Master {
        master_config: &'static str,
        master_info: Option<Box<RawValue>>,
    },
    /// What the server answered, as it is.
    Plain(Box<RawValue>),
}

#[derive(Deserialize)]
#[serde(default)]
struct WatchOptions {
    /// Milliseconds.
    timeout: u64,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self { timeout: 2_000 }
    }
}

pub fn handle(agent: &Agent, command: Option<Command>) -> Result<Answer> {
    let wanted = |member: &Option<String>| member.clone().filter(|text| !text.is_empty());
    let (comd, context, param) = match command {
        Some(Command { comd, context, param }) => (wanted(&comd), wanted(&context), param),
        None => (None, None, None),
    };
    let (Some(comd), Some(context)) = (comd, context) else {
        return Err(bad(&["`comd` and `context` are needed: what to do, and a server's id or `all`."]));
    };
    let (comd, context) = (comd.as_str(), context.as_str());
    // A tenth of the time is left for the answer, because this call's own deadline must not come first.
    let longest = agent.time_left() * 9 / 10;
    let timeout = Duration::from_millis(agent.options::<WatchOptions>()?.timeout).min(longest);
    let question = Question { comd, context: Some(context), param };
    match comd {
        "servers" => servers(agent, &question, timeout).map(Answer::Several),
        "connections" | "logins" => frontends(agent, &question, timeout).map(Answer::Several),
        "modules" if context == "all" => Ok(Answer::Modules { msg: agent.modules() }),
        "status" => one(agent, &question, timeout).map(|msg| Answer::Status { msg }),
        "config" if text(question.param.as_deref(), WHICH)? == "master" => master(agent),
        "modules" | "config" | "proxy" | "handler" | "set" | "enable" | "disable" | "memory" => {
            one(agent, &question, timeout).map(Answer::Plain)
        }
        "run" | "cpu" => one(agent, &question, longest).map(Answer::Plain),
        "components" => one(agent, &question, timeout)
            .and_then(|components| shown::components(components, is_admin(agent)))
            .map(Answer::Plain),
        "settings" => one(agent, &question, timeout)
            .and_then(|settings| shown::settings(settings, is_admin(agent)))
            .map(Answer::Plain),
        "get" => {
            let key = text(question.param.as_deref(), "the key of a setting")?;
            let admin = is_admin(agent);
            shown::check(&key, admin)?;
            one(agent, &question, timeout).map(|value| Answer::Plain(shown::value(value, admin)))
        }
        other => Err(unknown(other)),
    }
}

/// The `param` of `config`, in words.
const WHICH: &str = "the component, or `master`";

/// Whether the caller may see everything. Its level comes from its connection.
fn is_admin(agent: &Agent) -> bool {
    agent.caller_level() == Some(1)
}

/// The answer of one server.
fn one(agent: &Agent, question: &Question<&str>, timeout: Duration) -> Result<Box<RawValue>> {
    let context = question.context.unwrap_or_default();
    if context == "all" || context == "*" || context.starts_with("type:") {
        return Err(bad(&["`", question.comd, "` is for one server: `context` is its id."]));
    }
    agent.cluster().request(context, question, timeout)
}

fn master(agent: &Agent) -> Result<Answer> {
    let mut servers: BTreeMap<String, Box<RawValue>> = agent.cluster().servers()?.servers;
    let master_info = servers.remove(&agent.server_id());
    Ok(Answer::Master { master_config: "The master has no configuration besides its files.", master_info })
}
