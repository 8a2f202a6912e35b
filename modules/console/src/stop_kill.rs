//! `stop` and `kill`.

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

/// What came of an attempt to end servers.
struct EndedServers {
    ended: Vec<String>,
    failed: Reasons,
}

/// Ends servers, or all of them; the master last. Those that are named stay down, whatever becomes of the master; where all end, the cluster does,
/// and its next start is that of all.
fn end(agent: &Agent, ids: Vec<String>, signal: &str) -> Result<EndedServers> {
    let master = agent.server_id();
    let all = ids.is_empty();
    let ids = if all { everyone(agent)? } else { ids };
    let (ids, mut failed) = single(ids);
    if !all {
        // Before they are asked: nobody is to bring one back in between.
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
                // Of all, those that are down already need nothing.
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

/// What became of each of some servers.
pub type Outcomes = Vec<(String, Result)>;

/// Gives servers a signal.
pub fn send(agent: &Agent, ids: &[String], signal: &str, timeout: u64) -> Result<Outcomes> {
    let answers = ask::<IgnoredAny>(agent, ids, &Message::new(signal), timeout)?;
    Ok(answers.into_iter().map(|(id, answer)| (id, answer.map(drop))).collect())
}

/// Asks servers to end, by way of `send`. One that ends may be gone before its answer is out; but a connection also breaks while a server runs on.
/// So those that left without an answer are looked at: who is no longer there has ended, and who is back is asked once more.
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

/// Those whose connection ended before there was an answer, and what became of the others.
fn cut_off(answers: Outcomes) -> (Vec<String>, Outcomes) {
    let (mut cut, mut outcomes) = (Vec::new(), Outcomes::new());
    for (id, answer) in answers {
        match answer {
            // A server of pomelo 2.x answers `kill` with its id where others have an error.
            Err(failure) if failure.message() == id => outcomes.push((id, Ok(()))),
            Err(failure) if is_cut(&failure) => cut.push(id),
            answer => outcomes.push((id, answer)),
        }
    }
    (cut, outcomes)
}

/// Whether a server that was to end certainly runs on. One that is not there, or may still be ending, is to stay away all the same.
fn stays_up(failure: &Failure) -> bool {
    !is_unknown(failure) && !is_cut(failure) && !["unreachable", "timeout"].contains(&failure.code())
}

fn doubt() -> Failure {
    Failure::new("unreachable", "The connection broke before it answered: whether it has ended is not known.")
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
