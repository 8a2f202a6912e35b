//! `jobs`: what the fleet does and has done for operators.

use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;

use super::admin::{CONSOLE, Session, parse};
use super::exit::Exit;
use super::list::clock;
use super::print;
use super::progress::{Job, Progress};
use super::table::{self, Column};

/// How long the master is asked to hold an answer until a job has changed. The deadline of such a request is longer by as much.
const WAIT: Duration = Duration::from_secs(20);

/// What is to be done with a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum JobAction {
    /// It is shown.
    #[default]
    Show,
    /// It is shown until it is over or pauses.
    Follow,
    /// What was not begun is not done.
    Cancel,
    /// It goes on after a failure.
    Resume,
}

pub(super) async fn jobs(session: &Session, id: Option<u64>, action: JobAction) -> anyhow::Result<()> {
    let Some(id) = id else { return all(session).await };
    match action {
        JobAction::Show => show(session, &session.ask(json!({ "signal": "job", "job": id })).await?),
        JobAction::Cancel => show(session, &session.ask(json!({ "signal": "cancelJob", "job": id })).await?),
        JobAction::Resume => show(session, &session.ask(json!({ "signal": "resumeJob", "job": id })).await?),
        JobAction::Follow => follow(session, id).await,
    }
}

async fn all(session: &Session) -> anyhow::Result<()> {
    let answer = session.ask(json!({ "signal": "jobs" })).await?;
    if session.json {
        return Ok(());
    }
    let jobs: Vec<Job> = parse(&answer)?;
    let row = |job: &Job| {
        vec![
            job.id.to_string(),
            job.kind.clone(),
            job.state.clone(),
            format!("{}/{}", job.over(), job.servers.len()),
            clock(job.created),
            job.ended.map_or_else(|| "-".into(), clock),
            job.by.clone(),
            if job.why.is_empty() { "-".to_owned() } else { job.why.clone() },
        ]
    };
    let columns = [
        Column::whole("job"),
        Column::whole("kind"),
        Column::whole("state"),
        Column::whole("servers"),
        Column::optional("begun", 2),
        Column::optional("ended", 1),
        "by".into(),
        "why".into(),
    ];
    Ok(table::print(&columns, jobs.iter().map(row).collect())?)
}

fn show(session: &Session, answer: &RawValue) -> anyhow::Result<()> {
    if session.json {
        return Ok(());
    }
    let job: Job = parse(answer)?;
    print::line(headline(&job))?;
    job.notes.iter().try_for_each(print::line)?;
    let row = |server: &super::progress::Server| {
        let why = if server.why.is_empty() { "-" } else { &server.why };
        let state = server.outcome.as_deref().unwrap_or(&server.step);
        vec![server.id.clone(), server.action.clone(), state.to_owned(), why.to_owned()]
    };
    let columns = [Column::whole("id"), Column::optional("action", 1), Column::whole("state"), "why".into()];
    Ok(table::print(&columns, job.servers.iter().map(row).collect())?)
}

fn headline(job: &Job) -> String {
    let why = if job.why.is_empty() { String::new() } else { format!(": {}", job.why) };
    let by = if job.by.is_empty() { String::new() } else { format!(" by {}", job.by) };
    let Job { id, kind, state, servers, .. } = job;
    format!("job {id}: {kind}{by}, {state}, {} of {} servers{why}", job.over(), servers.len())
}

/// Shows how far a job is, until it is over or has paused. It is a failure if not all was done.
async fn follow(session: &Session, id: u64) -> anyhow::Result<()> {
    let mut progress = Progress::new(session.json);
    let mut revision = 0;
    loop {
        let wait = u64::try_from(WAIT.as_millis())?;
        let body = json!({ "signal": "job", "job": id, "revision": revision, "wait": wait });
        let answer = session.client.request_within(CONSOLE, body, session.time + WAIT).await?;
        let job: Job = parse(&answer)?;
        if job.revision != revision {
            progress.show(&job);
            if session.json {
                print::json(&answer)?;
            }
        }
        revision = job.revision;
        if job.state == "paused" || !Job::is_under_way(&job.state) {
            progress.end();
            if !session.json {
                print::line(headline(&job))?;
            }
            return match job.state.as_str() {
                "done" => Ok(()),
                "paused" => Err(Exit::failed(format!("`pomelo jobs {id} --resume` or `--cancel`"))),
                state => Err(Exit::failed(format!("job {id} is {state}"))),
            };
        }
    }
}
