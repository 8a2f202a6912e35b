//! `restart`: restarts servers, and starts those that are down.

use pomelo_sdk::prelude::*;
use serde_json::value::RawValue;

use crate::answer::{Answer, ConsoleOptions, nothing_done};
use crate::ask::{Reasons, ask, is_cut, is_unknown, reason, single};
use crate::message::Message;
use crate::stop_kill::{end_some, send};

pub fn restart(agent: &Agent, ids: Vec<String>, server_type: Option<String>) -> Result<Answer> {
    let timeout = agent.options::<ConsoleOptions>()?.stop_timeout;
    let (master, named) = (agent.server_id(), !ids.is_empty());
    let (targets, mut failed) = match server_type {
        _ if named => single(ids),
        Some(server_type) => (vec![["type:", &server_type].concat()], Reasons::new()),
        None => (vec!["*".to_owned()], Reasons::new()),
    };
    let mut restarted = 0;
    let (mut pomelos, mut outcomes) = (Vec::new(), Vec::new());
    for (id, answer) in ask::<Box<RawValue>>(agent, &targets, &Message::new("restart"), timeout)? {
        let outcome = match answer {
            // `restart` of all leaves the master out, because it cannot restart itself.
            Err(_) if !named && id == master => continue,
            // The monitor is not there, or was just ending. One that cannot be reached may be there, and is not started a second time.
            Err(failure) if named && (is_unknown(&failure) || is_cut(&failure)) => start(agent, &id, failure),
            // A server of pomelo 2.x answers with how it was started, and stops.
            Ok(answer) if answer.get().starts_with('{') => {
                pomelos.push(id);
                continue;
            }
            answer => answer.map(drop),
        };
        outcomes.push((id, outcome));
    }
    for (id, outcome) in end_some(&pomelos, "stop", |ids, signal| send(agent, ids, signal, timeout))? {
        // It said that it stops. So it may have gone before it was asked to stop.
        let gone = |failure: &Failure| is_unknown(failure) || failure.code() == "unreachable";
        let ended = outcome.or_else(|failure| if gone(&failure) { Ok(()) } else { Err(failure) });
        let outcome = ended.and_then(|()| agent.starter().start(&id));
        outcomes.push((id, outcome));
    }
    for (id, outcome) in outcomes {
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

/// Starts a server that is down. If the starter does not know it, the failure stays as it was. Any other
/// failure of the starter says why a configured server cannot be started from here: it belongs on another machine, for example.
fn start(agent: &Agent, id: &str, failure: Failure) -> Result {
    match agent.starter().start(id) {
        Err(unknown) if is_unknown(&unknown) => Err(failure),
        outcome => outcome,
    }
}
