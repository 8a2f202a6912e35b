//! `stop`, `kill`, `start`, `restart`, `drain`, `undrain`, `apply`: orders to the fleet, and the answers in pomelo's form.

use pomelo_sdk::prelude::*;
use serde::de::IgnoredAny;

use crate::answer::{Answer, ConsoleOptions, nothing_done, status};
use crate::ask::{Reasons, ask, reason, single};
use crate::message::Message;
use crate::order::{Followed, How, Meant, order};

/// Servers that are named, all of a type, or all, as a client's `ids` and `type` mean it.
pub fn meant(ids: Vec<String>, server_type: Option<String>) -> Meant {
    match server_type {
        _ if !ids.is_empty() => Meant::Ids(ids),
        Some(server_type) => Meant::Type(server_type),
        None => Meant::All,
    }
}

pub fn stop(agent: &Agent, ids: Vec<String>, server_type: Option<String>, how: &How) -> Result<Answer> {
    let status = if ids.is_empty() && server_type.is_none() { "all" } else { "part" };
    let (ids, mut failed, mut stopped, only) = slaves(agent, ids, "stop")?;
    if only {
        return ended(status, stopped, failed, None);
    }
    match order(agent, "stop", meant(ids, server_type), how)?.or_failed("stopped", stopped.is_empty())? {
        Ok((job, done, more)) => {
            stopped.extend(done);
            failed.extend(more);
            ended(status, stopped, failed, Some(job))
        }
        Err(answer) => Ok(answer),
    }
}

fn ended(status: &'static str, stopped: Vec<String>, failed: Reasons, job: Option<u64>) -> Result<Answer> {
    if stopped.is_empty() && !failed.is_empty() {
        return Err(nothing_done("stopped", &failed));
    }
    Ok(Answer::Stopped { status, stopped, failed, job })
}

pub fn kill(agent: &Agent, ids: Vec<String>, server_type: Option<String>, how: &How) -> Result<Answer> {
    let (ids, mut failed, _, only) = slaves(agent, ids, "kill")?;
    if !only {
        match order(agent, "kill", meant(ids, server_type), how)?.or_failed("killed", false)? {
            Ok((_, _, more)) => failed.extend(more),
            Err(answer) => return Ok(answer),
        }
    }
    if failed.is_empty() {
        return Ok(Answer::Killed { code: "ok" });
    }
    Ok(Answer::Remained { code: "remained", server_ids: failed.into_keys().collect() })
}

/// `restart` answers the ids that failed, as pomelo does.
pub fn restart(agent: &Agent, ids: Vec<String>, server_type: Option<String>, how: &How) -> Result<Answer> {
    let (ids, failed) = if ids.is_empty() { (ids, Reasons::new()) } else { single(ids) };
    if ids.is_empty() && !failed.is_empty() {
        return Err(nothing_done("restarted", &failed));
    }
    match order(agent, "restart", meant(ids, server_type), how)?.done("restarted")? {
        Ok((_, _, more)) => Ok(Answer::Restarted(failed.into_keys().chain(more.into_keys()).collect())),
        Err(answer) => Ok(answer),
    }
}

/// `start` and `drain`, which pomelo does not know.
pub fn other(
    agent: &Agent,
    kind: &str,
    did: &str,
    ids: Vec<String>,
    server_type: Option<String>,
    how: &How,
) -> Result<Answer> {
    match order(agent, kind, meant(ids, server_type), how)?.done(did)? {
        Ok((_, done, failed)) => Answer::done(did, done, failed),
        Err(answer) => Ok(answer),
    }
}

/// `apply`: takes the configuration's files over, of which a plan was shown.
pub fn apply(agent: &Agent, plan: Option<&str>, how: &How) -> Result<Answer> {
    match crate::order::apply(agent, plan, how)? {
        Followed::Over { job, done, failed, notes } => {
            Ok(Answer::Applied { status: status(&failed), job, done, failed, notes })
        }
        Followed::UnderWay { job, state, why } => Ok(Answer::UnderWay { status: state, job, why }),
    }
}

/// `undrain`: takes the drain of servers back.
pub fn undrain(agent: &Agent, ids: Vec<String>) -> Result<Answer> {
    let done = agent.starter().undrain(&ids)?;
    let others = ids.into_iter().filter(|id| !done.contains(id));
    let failed = others.map(|id| (id, "It does not drain.".to_owned())).collect();
    Answer::done("put back", done, failed)
}

/// Sends a signal to monitors that are named with their address, as in `ID@HOST:PORT`: they stand behind the first of their id, so that the fleet does
/// not know them. Gives the other ids, and whether there are none.
fn slaves(agent: &Agent, ids: Vec<String>, signal: &str) -> Result<(Vec<String>, Reasons, Vec<String>, bool)> {
    if ids.is_empty() {
        return Ok((ids, Reasons::new(), Vec::new(), false));
    }
    let (ids, mut failed) = single(ids);
    let (slaves, ids): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| id.contains('@'));
    let timeout = agent.options::<ConsoleOptions>()?.timeout;
    let mut done = Vec::new();
    for (id, answer) in ask::<IgnoredAny>(agent, &slaves, &Message::new(signal), timeout)? {
        match answer {
            Ok(_) => done.push(id),
            Err(failure) => drop(failed.insert(id, reason(&failure))),
        }
    }
    let only = ids.is_empty();
    Ok((ids, failed, done, only))
}
