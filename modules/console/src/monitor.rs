//! A monitor's side: acts on the process and the application that the monitor stands beside.

use pomelo_sdk::prelude::*;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::arguments::bad;
use crate::figures::Figures;
use crate::logs;
use crate::message::{Message, unknown};

/// What a monitor answers.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    List {
        #[serde(rename = "serverId")]
        server_id: String,
        body: Box<Figures>,
    },
    /// To `stop`, `kill`, `drain` and `undrain`: the server's id, as pomelo's servers answer.
    Did(String),
    /// To `restart`: the new process id.
    Restarted(u32),
    /// To `addCron`, `removeCron` and `blacklist`.
    Done(u32),
    /// To `logs`.
    Logs(Box<RawValue>),
}

pub fn handle(agent: &Agent, message: Message) -> Result<Answer> {
    let process = agent.process();
    let id = agent.server_id();
    match message.signal.as_str() {
        "list" => {
            let body = Box::new(Figures::new(id.clone(), agent.server_type(), process.stats()?));
            Ok(Answer::List { server_id: id, body })
        }
        "stop" => process.stop().map(|()| Answer::Did(id)),
        "kill" => process.kill().map(|()| Answer::Did(id)),
        "drain" => {
            let deadline =
                message.deadline.ok_or_else(|| bad("How long the drain may take is missing: `deadlineMs`."))?;
            process.drain(Duration::from_millis(deadline)).map(|()| Answer::Did(id))
        }
        "undrain" => process.undrain().map(|()| Answer::Did(id)),
        "restart" => process.restart().map(Answer::Restarted),
        "logs" => logs::read(agent, message.logs).map(Answer::Logs),
        "addCron" => {
            let cron = message.cron.ok_or_else(|| bad("There is no cron to be added."))?;
            agent.application().add_crons(&[cron]).map(|()| Answer::Done(1))
        }
        "removeCron" => {
            let id = message.cron.and_then(|mut cron| cron.remove("id"));
            let id = id.ok_or_else(|| bad("The cron to be removed has no id."))?;
            let removed = agent.application().remove_crons(std::slice::from_ref(&id))?;
            if removed.is_empty() {
                // Not `not-found`, which is for a server that is not there.
                return Err(Failure::new("no-cron", ["There is no cron ", &id, " here."].concat()));
            }
            Ok(Answer::Done(1))
        }
        "blacklist" => {
            let patterns = message.blacklist.unwrap_or_default();
            // The application may answer anything.
            agent.application().call::<serde::de::IgnoredAny>("blacklist", &patterns).map(|_| Answer::Done(1))
        }
        other => Err(unknown(other)),
    }
}
