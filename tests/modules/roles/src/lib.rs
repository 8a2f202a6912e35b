//! Says which callback a message came to, from whom, and keeps what it was told: for tests of who may say what to whom.
//!
//! A client's message says what to do, `{"do": "ask", "targets": ["type:chat"]}`.

use std::collections::BTreeMap;

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

struct Roles;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Wish {
    /// Asks monitors, and answers with what they say.
    Ask { targets: Vec<String> },
    /// Tells monitors something, and waits for nobody.
    Tell { targets: Vec<String>, what: String },
    /// Has a monitor ask its master, and tell it something.
    Up { server: String },
    /// What this host was told, or a monitor.
    Told { server: Option<String> },
    /// Says how far it is, then answers.
    Progress,
}

/// Between master and monitors.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Message {
    Who,
    Remember(String),
    Up,
    Told,
}

const DEADLINE: Duration = Duration::from_secs(10);

#[module(id = "roles", level = 2, durable("told:*"))]
impl Roles {
    fn client_handler(agent: &Agent, wish: Wish) -> Result<Value> {
        match wish {
            Wish::Ask { targets } => {
                let answers = agent.cluster().request_many::<Value>(&targets, &Message::Who, DEADLINE)?;
                let answer = |(id, answer): (String, Result<Value>)| {
                    (id, answer.unwrap_or_else(|failure| failure.code().to_owned().into()))
                };
                Ok(json!(answers.into_iter().map(answer).collect::<BTreeMap<_, _>>()))
            }
            Wish::Tell { targets, what } => {
                agent.cluster().notify(&targets, &Message::Remember(what)).map(|()| Value::Null)
            }
            Wish::Up { server } => agent.cluster().request(&server, &Message::Up, DEADLINE),
            Wish::Told { server: None } => told(agent),
            Wish::Told { server: Some(server) } => agent.cluster().request(&server, &Message::Told, DEADLINE),
            Wish::Progress => {
                agent.progress(&json!({"done": 1}))?;
                agent.progress(&json!({"done": 2}))?;
                Ok("done".into())
            }
        }
    }

    fn monitor_handler(agent: &Agent, message: Message) -> Result<Value> {
        match message {
            Message::Who => Ok(who(agent, "monitor_handler")),
            Message::Remember(what) => remember(agent, "master", &what),
            Message::Up => {
                agent.uplink().notify(&Message::Remember("a word".into()))?;
                agent.uplink().request(&Message::Who, DEADLINE)
            }
            Message::Told => told(agent),
        }
    }

    fn master_handler(agent: &Agent, message: Message) -> Result<Value> {
        match message {
            Message::Who => Ok(who(agent, "master_handler")),
            Message::Remember(what) => remember(agent, &agent.caller_id()?, &what),
            Message::Up | Message::Told => Err(Failure::new("bad-message", "That is for monitors.")),
        }
    }
}

fn who(agent: &Agent, callback: &str) -> Value {
    json!({"callback": callback, "server": agent.server_id(), "caller": agent.caller().id})
}

fn remember(agent: &Agent, from: &str, what: &str) -> Result<Value> {
    agent.store().set(&["told:", from].concat(), what).map(|()| Value::Null)
}

/// By whom, and what.
fn told(agent: &Agent) -> Result<Value> {
    Ok(json!(agent.store().entries::<String>("told:")?.into_iter().collect::<BTreeMap<_, _>>()))
}
