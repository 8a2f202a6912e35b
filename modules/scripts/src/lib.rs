//! Scripts: programs that are run once on a server, as pomelo-admin's module of this name runs JavaScript. A client's message names a `command`:
//!
//! | command | members | answer |
//! |---|---|---|
//! | `list` | | `{"servers": [id], "scripts": [name]}` |
//! | `get` | `filename` | the script as it was saved |
//! | `save` | `filename`, `body` | `null` |
//! | `run` | `filename`, or `script`, the script itself; `args`, any JSON | the script's answer |
//!
//! Each command may have a `serverId`: the server whose scripts are meant, and on which a script runs. Without it that is the master. If a server does not
//! have a saved script, the master's script of that name runs there. So the master's scripts are a library for all servers.
//!
//! A script is a WebAssembly component, or its text form (WAT). In `script`, `body` and the answer of `get` a component stands in base64 behind `base64:`,
//! because JSON cannot hold bytes.

mod content;

use pomelo_sdk::prelude::*;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

struct Scripts;

#[module(id = "scripts", operations(by = "command"), limits(answer_kib = 2048, message_kib = 3072, memory_mib = 32))]
impl Scripts {
    fn client_handler(agent: &Agent, message: Message) -> Result<Answer> {
        let server = message.server_id.clone().unwrap_or_else(|| agent.server_id());
        match message.command.as_str() {
            "list" => {
                let servers = agent.cluster().servers::<IgnoredAny>()?.servers.into_keys().collect();
                Ok(Answer::List { servers, scripts: ask(agent, &server, &message)? })
            }
            "get" | "save" => ask(agent, &server, &message).map(Answer::Passed),
            "run" => run(agent, &server, message).map(Answer::Passed),
            other => Err(unknown(other)),
        }
    }

    fn monitor_handler(agent: &Agent, message: Message) -> Result<Answer> {
        let scripts = agent.scripts();
        match message.command.as_str() {
            "list" => scripts.names().map(Answer::Names),
            "get" => Ok(Answer::Content(content::to_text(scripts.get(message.filename()?)?))),
            "save" => {
                let body = message.body.as_deref().ok_or_else(|| lacks("body"))?;
                scripts.save(message.filename()?, &content::from_text(body)?)?;
                Ok(Answer::Saved(()))
            }
            "run" => match &message.script {
                Some(script) => scripts.run_content(&content::from_text(script)?, &message.args).map(Answer::Passed),
                None => {
                    let name = message.filename()?;
                    // Asked first, because the failure of a script that is there may have any code, this one too.
                    if !scripts.names()?.iter().any(|known| known == name) {
                        return Err(Failure::new(
                            NO_SCRIPT,
                            ["There is no script ", name, " on this server."].concat(),
                        ));
                    }
                    scripts.run(name, &message.args).map(Answer::Passed)
                }
            },
            other => Err(unknown(other)),
        }
    }
}

/// The code of the failure for a script that a server does not have.
const NO_SCRIPT: &str = "no-script";

/// From a client to the master, and from the master to a monitor.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    command: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    script: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    args: Option<Box<RawValue>>,
}

impl Message {
    fn filename(&self) -> Result<&str> {
        self.filename.as_deref().ok_or_else(|| lacks("filename"))
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    List { servers: Vec<String>, scripts: Vec<String> },
    Names(Vec<String>),
    Content(String),
    Saved(()),
    Passed(Box<RawValue>),
}

/// Passes a message on to a server, and waits for the answer as long as this call may take.
fn ask<T: serde::de::DeserializeOwned>(agent: &Agent, server: &str, message: &Message) -> Result<T> {
    agent.cluster().request(server, message, agent.time_left())
}

/// Runs a script on a server. If the server does not have it, the master's is run there.
fn run(agent: &Agent, server: &str, mut message: Message) -> Result<Box<RawValue>> {
    let master = agent.server_id();
    match ask(agent, server, &message) {
        Err(failure) if failure.code() == NO_SCRIPT && server != master => {
            message.command = "get".to_owned();
            message.script = ask(agent, &master, &message)?;
            message.command = "run".to_owned();
            ask(agent, server, &message)
        }
        answer => answer,
    }
}

fn lacks(member: &str) -> Failure {
    Failure::new("bad-message", ["The message lacks `", member, "`."].concat())
}

fn unknown(command: &str) -> Failure {
    let message = ["There is no command ", command, ": it is list, get, save or run."].concat();
    Failure::new("bad-message", message)
}
