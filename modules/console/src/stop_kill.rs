//! `stop` and `kill`: end servers.

use pomelo_sdk::prelude::*;
use serde::de::IgnoredAny;

use crate::answer::{Answer, ConsoleOptions, nothing_done};
use crate::ask::{Reasons, ask, is_cut, is_unknown, reason, single};
use crate::message::Message;

pub fn stop(agent: &Agent, ids: Vec<String>) -> Result<Answer> {
    let status = if ids.is_empty() { "all" } else { "part" };
    let EndedServers { ended, failed } = end(agent, ids, "stop")?;
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

/// What came of the attempt to end servers.
struct EndedServers {
    ended: Vec<String>,
    failed: Reasons,
}

/// Ends the servers of the given ids, or all; the master last. Servers that are named are kept down, also by the next master. If no id is given the whole
/// cluster ends. No server is kept down then, because the next start is to start all.
fn end(agent: &Agent, ids: Vec<String>, signal: &str) -> Result<EndedServers> {
    let master = agent.server_id();
    let all = ids.is_empty();
    let ids = if all { everyone(agent)? } else { ids };
    let (ids, mut failed) = single(ids);
    if !all {
        // Before they are asked to end, so that the starter brings none back in between.
        hold(agent, &ids, true)?;
    }
    let (last, first): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| *id == master);

    let timeout = agent.options::<ConsoleOptions>()?.stop_timeout;
    let send = |ids: &[String], signal: &str| send(agent, ids, signal, timeout);
    let (mut ended, mut up) = (Vec::new(), Vec::new());
    for ids in [first, last] {
        for (id, outcome) in end_some(&ids, signal, send)? {
            match outcome {
                Ok(()) => ended.push(id),
                // Where all are to end, a server that is down already is no failure.
                Err(failure) if all && is_unknown(&failure) => {}
                Err(failure) => {
                    if stays_up(&failure) {
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
    Ok(EndedServers { ended, failed })
}

/// The servers that are configured, and those that run. The configured ones are among them because the monitor of a server that does not run can be
/// asked as well.
fn everyone(agent: &Agent) -> Result<Vec<String>> {
    let mut ids = agent.cluster().configured()?;
    ids.extend(agent.cluster().servers::<IgnoredAny>()?.servers.into_keys());
    Ok(ids)
}

/// Tells the starter, if there is one, whether servers are to be kept down. `hold` is the word of the interface `starter`.
fn hold(agent: &Agent, ids: &[String], down: bool) -> Result {
    match agent.starter().hold(ids, down) {
        Err(failure) if failure.code() == "not-available" => Ok(()),
        outcome => outcome,
    }
}

/// What became of each of some servers.
pub type Outcomes = Vec<(String, Result)>;

/// Sends servers a signal.
pub fn send(agent: &Agent, ids: &[String], signal: &str, timeout: u64) -> Result<Outcomes> {
    let answers = ask::<IgnoredAny>(agent, ids, &Message::new(signal), timeout)?;
    Ok(answers.into_iter().map(|(id, answer)| (id, answer.map(drop))).collect())
}

/// Asks servers to end, through `send`. A server that ends may be gone before its answer is out. But a connection may also break while its server runs
/// on. Therefore each server that left without an answer is looked for: if it is no longer there it has ended, and if it is back it is asked once more.
pub fn end_some(
    ids: &[String],
    signal: &str,
    mut send: impl FnMut(&[String], &str) -> Result<Outcomes>,
) -> Result<Outcomes> {
    let (cut, mut outcomes) = cut_off(send(ids, signal)?);
    let mut back = Vec::new();
    for (id, looked) in send(&cut, "list")? {
        match looked {
            Err(failure) if is_unknown(&failure) => outcomes.push((id, Ok(()))),
            Err(failure) if is_cut(&failure) || failure.code() == "unreachable" => outcomes.push((id, Err(doubt()))),
            _ => back.push(id),
        }
    }
    let (cut, others) = cut_off(send(&back, signal)?);
    outcomes.extend(others);
    outcomes.extend(cut.into_iter().map(|id| (id, Err(doubt()))));
    Ok(outcomes)
}

/// The servers whose connection ended before they answered, and the outcomes of the others.
fn cut_off(answers: Outcomes) -> (Vec<String>, Outcomes) {
    let (mut cut, mut outcomes) = (Vec::new(), Outcomes::new());
    for (id, answer) in answers {
        match answer {
            // A server of pomelo 2.x answers `kill` with its id in the place of an error.
            Err(failure) if failure.message() == id => outcomes.push((id, Ok(()))),
            Err(failure) if is_cut(&failure) => cut.push(id),
            answer => outcomes.push((id, answer)),
        }
    }
    (cut, outcomes)
}

/// Whether a server that was to end certainly runs on. A server that is not there, or may still be ending, is kept down.
fn stays_up(failure: &Failure) -> bool {
    !is_unknown(failure) && !is_cut(failure) && !["unreachable", "timeout"].contains(&failure.code())
}

fn doubt() -> Failure {
    Failure::new("unreachable", "The connection broke before the server answered, so that it may not have ended.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each server does with the signals that it is sent, in their order.
    fn play(script: &[(&str, &[(&str, Result)])]) -> Vec<(String, Result)> {
        let mut sent = Vec::new();
        let ids: Vec<String> = script.iter().map(|(id, _)| (*id).to_owned()).collect();
        let mut outcomes = end_some(&ids, "stop", |ids, signal| {
            let answer = |id: &String| {
                let before = sent.iter().filter(|known| *known == id).count();
                sent.push(id.clone());
                let (_, steps) = script.iter().find(|(known, _)| known == id).unwrap();
                assert_eq!(steps[before].0, signal, "{id}");
                (id.clone(), steps[before].1.clone())
            };
            Ok(ids.iter().map(answer).collect())
        })
        .unwrap();
        assert_eq!(sent.len(), script.iter().map(|(_, steps)| steps.len()).sum::<usize>(), "all was sent");
        outcomes.sort_by(|a, b| a.0.cmp(&b.0));
        outcomes
    }

    fn failure(code: &str) -> Result {
        Err(Failure::new(code, "why"))
    }

    #[test]
    fn s4_only_a_server_that_refuses_to_end_is_no_longer_kept_down() {
        let lifted = |code| stays_up(&Failure::new(code, "why"));
        assert!(lifted("failed") && lifted("forbidden") && lifted("busy"));
        assert!(!["not-found", "disconnected", "unreachable", "timeout"].into_iter().any(lifted));
        assert!(!stays_up(&doubt()));
    }

    #[test]
    fn c2_a_server_whose_connection_broke_counts_as_ended_only_when_it_has_left() {
        let outcomes = play(&[
            ("answers", &[("stop", Ok(()))]),
            ("back", &[("stop", failure("disconnected")), ("list", Ok(())), ("stop", Ok(()))]),
            ("flaps", &[("stop", failure("disconnected")), ("list", Ok(())), ("stop", failure("disconnected"))]),
            ("lost", &[("stop", failure("disconnected")), ("list", failure("unreachable"))]),
            ("never", &[("stop", failure("unreachable"))]),
            ("pomelo", &[("stop", Err(Failure::new("failed", "pomelo")))]),
            ("refuses", &[("stop", failure("failed"))]),
            ("went", &[("stop", failure("disconnected")), ("list", failure("not-found"))]),
        ]);
        let codes: Vec<_> =
            outcomes.iter().map(|(id, outcome)| (id.as_str(), outcome.as_ref().err().map(Failure::code))).collect();
        let wanted = [
            ("answers", None),
            ("back", None),
            ("flaps", Some("unreachable")),
            ("lost", Some("unreachable")),
            ("never", Some("unreachable")),
            ("pomelo", None),
            ("refuses", Some("failed")),
            ("went", None),
        ];
        assert_eq!(codes, wanted);
    }
}
