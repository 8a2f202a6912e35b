//! The master's side: finds the signal of a client's command.

use pomelo_sdk::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::Answer;
use crate::arguments::{Arguments, bad};
use crate::logs::Since;
use crate::message::{Wanted, unknown};
use crate::order::How;
use crate::{add, blacklist, crons, list, logs, orders};

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
    /// The number of a job.
    #[serde(default)]
    job: Option<u64>,
    /// The revision of a job that the client knows.
    #[serde(default)]
    revision: u64,
    #[serde(default)]
    options: Option<Box<RawValue>>,
    #[serde(default)]
    queue: bool,
    #[serde(default)]
    progress: bool,
    #[serde(default)]
    from: Option<u64>,
    #[serde(default)]
    grep: Option<String>,
    /// The digest of the files that `apply` takes over, as it came with their plan.
    #[serde(default)]
    plan: Option<String>,
}

pub fn handle(agent: &Agent, command: Command) -> Result<Answer> {
    let ids = command.ids.unwrap_or_default();
    let args = command.args.unwrap_or_default();
    let server_type = command.server_type;
    let how = How { options: command.options, queue: command.queue, wait: command.wait, progress: command.progress };
    match command.signal.as_str() {
        "list" => list::list(agent),
        "stop" => orders::stop(agent, ids, server_type, &how),
        "kill" => orders::kill(agent, ids, server_type, &how),
        "restart" => orders::restart(agent, ids, server_type, &how),
        "start" => orders::other(agent, "start", "started", ids, server_type, &how),
        "drain" => orders::other(agent, "drain", "drained", ids, server_type, &how),
        "apply" => orders::apply(agent, command.plan.as_deref(), &how),
        "undrain" => orders::undrain(agent, ids),
        "add" => add::add(agent, args, &how),
        "jobs" => agent.starter().jobs().map(Answer::Jobs),
        "job" => {
            let wait = Duration::from_millis(how.wait.unwrap_or(0));
            agent.starter().wait(job(command.job)?, command.revision, wait).map(Answer::Jobs)
        }
        "cancelJob" => agent.starter().cancel(job(command.job)?).map(Answer::Jobs),
        "resumeJob" => agent.starter().resume(job(command.job)?).map(Answer::Jobs),
        "logs" => {
            let Command { lines, from, grep, .. } = command;
            let wanted = Wanted { lines, wait: how.wait, from, grep, ..Wanted::default() };
            let since = command.since.unwrap_or_default();
            match command.id {
                Some(id) => logs::of_one(agent, &id, wanted, since).map(Answer::Logs),
                None => logs::of_several(agent, ids, server_type, &wanted, since).map(Answer::Merged),
            }
        }
        "addCron" => crons::add(agent, args),
        "removeCron" => crons::remove(agent, args),
        "blacklist" => blacklist::blacklist(agent, args),
        other => Err(unknown(other)),
    }
}

fn job(job: Option<u64>) -> Result<u64> {
    job.ok_or_else(|| bad("The number of the job is missing: `job`."))
}
