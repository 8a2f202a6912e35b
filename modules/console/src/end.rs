//! `stop` and `kill`.

use pomelo_sdk::prelude::*;
use serde::de::IgnoredAny;

use crate::Message;
use crate::ask::{Reasons, ask, is_cut, is_unknown, reason, single};
use crate::client::{Answer, Options, nothing_done};

pub fn stop(agent: &Agent, ids: Vec<String>) -> Result<Answer> {
    let status = if ids.is_empty() { "all" } else { "part" };
    let Ended { ended, failed } = end(agent, ids, "stop")?;
    if ended.is_empty() && !failed.is_empty() {
        return Err(nothing_done("stopped", &failed));
    }
    Ok(Answer::Stopped { status, stopped: ended, failed })
}

pub fn kill(agent: &Agent, ids: Vec<String>) -> Result<Answer> {
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

/// Ends servers, or all of them; the master last. Those that are named stay down, whatever becomes of the master; where all end, the cluster does,
/// and its next start is that of all.
fn end(agent: &Agent, ids: Vec<String>, signal: &str) -> Result<Ended> {
    let master = agent.server_id();
    let all = ids.is_empty();
    let ids = if all { everyone(agent)? } else { ids };
    let (ids, mut failed) = single(ids);
    if !all {
        // Before they are asked: nobody is to bring one back in between.
        hold(agent, &ids, true)?;
    }
    let (last, first): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| *id == master);

    let timeout = agent.options::<Options>()?.stop_timeout;
    let (mut ended, mut up) = (Vec::new(), Vec::new());
    for ids in [first, last] {
        for (id, outcome) in end_some(agent, &ids, signal, timeout)? {
            match outcome {
                Ok(()) => ended.push(id),
                // Of all, those that are down already need nothing.
                Err(failure) if all && is_unknown(&failure) => {}
                Err(failure) => {
                    // One that is not there is to stay away all the same.
                    if !is_unknown(&failure) {
                        up.push(id.clone());
                    }
                    failed.insert(id, reason(&failure));
                }
            }
        }
    }
    if !all {
        hold(agent, &up, false)?;
    }
    ended.sort_unstable();
    Ok(Ended { ended, failed })
}

/// The servers that are to run, and those that do: the monitor of a server that does not run at the moment can be asked as well.
fn everyone(agent: &Agent) -> Result<Vec<String>> {
    let mut ids = agent.cluster().configured()?;
    ids.extend(agent.cluster().servers::<IgnoredAny>()?.servers.into_keys());
    Ok(ids)
}

/// Tells the starter, where there is one, that servers are to stay down, or are not.
fn hold(agent: &Agent, ids: &[String], down: bool) -> Result {
    match agent.starter().hold(ids, down) {
        Err(failure) if failure.code() == "not-available" => Ok(()),
        outcome => outcome,
    }
}

/// Asks servers to end. One that ends may be gone before its answer is out; but a connection also breaks while a server runs on. So those that left
/// without an answer are looked at: who is no longer there has ended, and who is back is asked once more.
fn end_some(agent: &Agent, ids: &[String], signal: &str, timeout: u64) -> Result<Vec<(String, Result)>> {
    let mut outcomes = Vec::new();
    let mut cut = ask_to_end(agent, ids, signal, timeout, &mut outcomes)?;
    let mut back = Vec::new();
    for (id, answer) in ask::<IgnoredAny>(agent, &cut, &Message::new("list"), timeout)? {
        match answer {
            Err(failure) if is_unknown(&failure) => outcomes.push((id, Ok(()))),
            Err(failure) if is_cut(&failure) || failure.code() == "unreachable" => outcomes.push((id, Err(doubt()))),
            _ => back.push(id),
        }
    }
    cut = ask_to_end(agent, &back, signal, timeout, &mut outcomes)?;
    outcomes.extend(cut.into_iter().map(|id| (id, Err(doubt()))));
    Ok(outcomes)
}

/// Asks servers to end; the outcomes, and the ids of those whose connection ended before there was an answer.
fn ask_to_end(
    agent: &Agent,
    ids: &[String],
    signal: &str,
    timeout: u64,
    outcomes: &mut Vec<(String, Result)>,
) -> Result<Vec<String>> {
    let mut cut = Vec::new();
    for (id, answer) in ask::<IgnoredAny>(agent, ids, &Message::new(signal), timeout)? {
        match answer {
            // A server of pomelo 2.x answers `kill` with its id where others have an error.
            Err(failure) if failure.message() == id => outcomes.push((id, Ok(()))),
            Err(failure) if is_cut(&failure) => cut.push(id),
            answer => outcomes.push((id, answer.map(drop))),
        }
    }
    Ok(cut)
}

fn doubt() -> Failure {
    Failure::new("unreachable", "The connection broke before it answered: whether it has ended is not known.")
}
