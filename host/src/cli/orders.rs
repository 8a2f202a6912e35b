//! `stop`, `kill`, `restart`, `drain`, `undrain`: orders to the fleet. Each is a job of the master, which goes on when this program has left.
//!
//! An order is one request, whose answer comes when the job is over. Until then the console says how far the job is. `--timeout` bounds only the
//! time until the master says the first word.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::admin::{CONSOLE, Session, done, outcome, parse};
use super::arguments::{Following, Pace, Rolling, Targets};
use super::exit::{Exit, INTERRUPTED};
use super::print;
use super::progress::{Job, Progress};
use crate::client::ClientError;

/// How long the answer of a job may take. Who waits for it decides when to leave.
const AS_LONG_AS_IT_TAKES: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The answer to an order whose job was not waited for, or has paused.
#[derive(Deserialize)]
struct UnderWay {
    status: String,
    job: u64,
    #[serde(default)]
    why: String,
}

/// What was answered, and how far the job was last.
pub(super) struct Answered {
    pub answer: Box<RawValue>,
    job: Option<Job>,
}

/// The body of an order about servers.
fn body(signal: &str, targets: &Targets, following: &Following) -> Value {
    let mut body = followed(signal, following);
    body["ids"] = json!(targets.ids);
    if let Some(server_type) = &targets.server_type {
        body["type"] = json!(server_type);
    }
    body
}

/// The body of any order.
pub(super) fn followed(signal: &str, following: &Following) -> Value {
    let mut body = json!({ "signal": signal, "queue": following.queue, "progress": true });
    let wait = if following.no_wait { Some(0) } else { following.wait.map(|seconds| seconds.saturating_mul(1000)) };
    if let Some(wait) = wait {
        body["wait"] = json!(wait);
    }
    body
}

/// Sends an order, and shows how far it is until the answer comes. None if the job goes on, which is said.
pub(super) async fn order(session: &Session, body: Value) -> anyhow::Result<Option<Answered>> {
    let mut pushes = session.pushes.lock().await;
    // What is left of an earlier order is not about this one.
    let mut before = 0;
    while let Ok(push) = pushes.try_recv() {
        before = Job::of(&push).map_or(before, |job| job.id.max(before));
    }
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut answer = std::pin::pin!(session.client.request_within(CONSOLE, &body, AS_LONG_AS_IT_TAKES));
    let mut progress = Progress::new(session.json);
    let mut job: Option<Job> = None;
    let mut first = std::pin::pin!(tokio::time::sleep(session.time));
    let answer = loop {
        tokio::select! {
            // What was said before the answer is shown before it.
            biased;
            Some(push) = pushes.recv() => {
                if let Some(told) = Job::of(&push).filter(|told| told.id > before) {
                    progress.show(&told);
                    job = Some(told);
                }
            }
            answer = &mut answer => break answer,
            interrupt = &mut interrupted => {
                interrupt.context("Ctrl-C cannot be waited for")?;
                progress.end();
                let message = match job {
                    Some(job) => format!("job {} goes on; `pomelo jobs {} -f` follows it", job.id, job.id),
                    None => "abandoned; the master may still carry out what it was asked".to_owned(),
                };
                return Err(Exit { code: INTERRUPTED, message }.into());
            }
            () = &mut first, if job.is_none() => {
                let what = format!("the answer of `{CONSOLE}`");
                return Err(ClientError::Timeout { addr: session.client.address(), what, after: session.time }.into());
            }
        }
    };
    // The answer comes in the place of the last word about the job. A master that ends does not say it, and need not.
    if let (Ok(_), Some(last)) = (&answer, &job)
        && let Ok(told) = session.client.request(CONSOLE, json!({ "signal": "job", "job": last.id })).await
        && let Ok(told) = parse::<Job>(&told)
    {
        progress.show(&told);
        job = Some(told);
    }
    progress.end();
    // Those of `apply` are part of its answer.
    if let Some(job) = job.as_ref().filter(|job| job.kind != "apply" && !session.json) {
        job.notes.iter().for_each(|said| print::note(format!("pomelo: {said}")));
    }
    let answer = match answer {
        Err(error @ ClientError::Disconnected { .. }) if let Some(job) = &job => {
            print::note(format!("pomelo: job {} may go on; `pomelo jobs {}` shows it", job.id, job.id));
            return Err(error.into());
        }
        answer => answer?,
    };
    if session.json {
        print::json(&answer)?;
    }
    match serde_json::from_str::<UnderWay>(answer.get()) {
        Ok(UnderWay { status, job, why }) if Job::is_under_way(&status) => {
            let why = if why.is_empty() { why } else { format!(": {why}") };
            if status == "paused" {
                let hint = format!("`pomelo jobs {job} --resume` or `--cancel`");
                return Err(Exit::failed(format!("job {job} has paused{why}; {hint}")));
            }
            if !session.json {
                print::line(format!("job {job} is {status}{why}; `pomelo jobs {job} -f` follows it"))?;
            }
            Ok(None)
        }
        _ => Ok(Some(Answered { answer, job })),
    }
}

pub(super) async fn stop(session: &Session, targets: Targets, following: Following) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        stopped: Vec<String>,
        #[serde(default)]
        failed: BTreeMap<String, String>,
    }
    let Some(Answered { answer, .. }) = order(session, body("stop", &targets, &following)).await? else {
        return Ok(());
    };
    let Answer { stopped, failed } = parse(&answer)?;
    outcome(session, "stopped", &stopped, &failed)
}

pub(super) async fn kill(session: &Session, targets: Targets, following: Following) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        #[serde(default)]
        server_ids: Vec<String>,
    }
    let Some(Answered { answer, job }) = order(session, body("kill", &targets, &following)).await? else {
        return Ok(());
    };
    let Answer { server_ids } = parse(&answer)?;
    if server_ids.is_empty() {
        if !session.json {
            print::line("killed")?;
        }
        return Ok(());
    }
    Err(Exit::failed(format!("remained: {}", with_reasons(&server_ids, job.as_ref()))))
}

pub(super) async fn restart(
    session: &Session,
    targets: Targets,
    rolling: Rolling,
    following: Following,
) -> anyhow::Result<()> {
    let mut body = body("restart", &targets, &following);
    let options = options(&rolling);
    if !options.is_empty() {
        body["options"] = Value::Object(options);
    }
    let Some(Answered { answer, job }) = order(session, body).await? else { return Ok(()) };
    let failed: Vec<String> = parse(&answer)?;
    if failed.is_empty() {
        if !session.json {
            print::line("restarted")?;
        }
        return Ok(());
    }
    Err(Exit::failed(format!("not restarted: {}", with_reasons(&failed, job.as_ref()))))
}

/// Refuses what has no meaning: servers that all go together have no pace.
pub(super) fn check(rolling: &Rolling) -> anyhow::Result<()> {
    match paced(&rolling.pace).is_empty() || rolling.rolling {
        true => Ok(()),
        false => Err(Exit::usage(
            "--max-unavailable, --min-ready, --pause-on-failure and --continue are for a restart with --rolling",
        )),
    }
}

/// The members of a job's `options` that were asked for.
fn options(rolling: &Rolling) -> Map<String, Value> {
    let mut options = paced(&rolling.pace);
    if rolling.rolling {
        options.insert("rolling".into(), true.into());
    }
    if rolling.drain {
        options.insert("drain".into(), true.into());
    }
    options
}

/// Those of them that say how servers go one after another.
pub(super) fn paced(pace: &Pace) -> Map<String, Value> {
    let mut options = Map::new();
    if let Some(amount) = &pace.max_unavailable {
        options.insert("maxUnavailable".into(), json!(amount));
    }
    if let Some(seconds) = pace.min_ready {
        options.insert("minReadyMs".into(), seconds.saturating_mul(1000).into());
    }
    if pace.pause_on_failure || pace.go_on {
        options.insert("onFailure".into(), if pace.go_on { "continue" } else { "pause" }.into());
    }
    options
}

/// The ids, each with the reason that the job has for it.
fn with_reasons(ids: &[String], job: Option<&Job>) -> String {
    let named = ids.iter().map(|id| match job.and_then(|job| job.why(id)) {
        Some(why) => format!("{id} ({why})"),
        None => id.clone(),
    });
    named.collect::<Vec<_>>().join(", ")
}

pub(super) async fn drain(session: &Session, targets: Targets, following: Following) -> anyhow::Result<()> {
    match order(session, body("drain", &targets, &following)).await? {
        Some(Answered { answer, .. }) => done(session, &answer, "drained"),
        None => Ok(()),
    }
}

pub(super) async fn undrain(session: &Session, ids: Vec<String>) -> anyhow::Result<()> {
    let answer = session.ask(json!({ "signal": "undrain", "ids": ids })).await?;
    done(session, &answer, "put back")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_says_what_was_asked_for_and_nothing_else() {
        let targets = Targets { ids: vec!["a".into()], ..Targets::default() };
        let plain = body("stop", &targets, &Following::default());
        assert_eq!(plain, json!({"signal": "stop", "ids": ["a"], "queue": false, "progress": true}));
        let some = Following { queue: true, no_wait: false, wait: Some(3) };
        assert_eq!(body("stop", &targets, &some)["wait"], 3000);
        let at_once = Following { no_wait: true, ..Following::default() };
        assert_eq!(body("stop", &targets, &at_once)["wait"], 0);
        assert!(options(&Rolling::default()).is_empty());
        let pace = Pace { min_ready: Some(2), go_on: true, ..Pace::default() };
        assert!(check(&Rolling { pace: pace.clone(), ..Rolling::default() }).is_err());
        let rolling = Rolling { rolling: true, pace, ..Rolling::default() };
        assert!(check(&rolling).is_ok());
        assert_eq!(
            Value::Object(options(&rolling)),
            json!({"rolling": true, "minReadyMs": 2000, "onFailure": "continue"})
        );
    }
}
