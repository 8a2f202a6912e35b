//! The monitor's side: acts on the process that it stands beside.

use pomelo_sdk::prelude::*;
use serde::Serialize;

use crate::figures::Figures;
use crate::unknown;

/// What a monitor answers.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    List {
        #[serde(rename = "serverId")]
        server_id: String,
        body: Figures,
    },
    /// To `stop` and `kill`: the server's id, as pomelo's servers answer.
    Ended(String),
    /// To `restart`: the new process id.
    Restarted(u32),
}

pub fn handle(agent: &Agent, signal: &str) -> Result<Answer> {
    let process = agent.process();
    let id = agent.server_id();
    match signal {
        "list" => {
            let body = Figures::new(id.clone(), agent.server_type(), process.stats()?);
            Ok(Answer::List {
                server_id: id,
                body,
            })
        }
        "stop" => process.stop().map(|()| Answer::Ended(id)),
        "kill" => process.kill().map(|()| Answer::Ended(id)),
        "restart" => process.restart().map(Answer::Restarted),
        other => Err(unknown(other)),
    }
}
