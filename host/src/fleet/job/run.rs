//! One job while it runs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::JobId;
use super::jobs::{Shared, UnderWay};
use super::kept::Part;
use super::record::{JobState, Outcome, Step};
use super::request::{Action, OnFailure, Request};
use super::server::{Came, Course};
use super::waves::{Member, waves};
use crate::failure::{Failure, code};
use crate::fleet::now;

/// Runs a job to its end. `claimed` says whether it owns its servers already.
pub(super) async fn run(shared: Arc<Shared>, id: JobId, request: Request, claimed: bool, known: Vec<String>) {
    let Ok(under_way) = shared.under_way(id) else { return };
    let whole = async {
        if !claimed && !queue(&shared, id, &under_way, &request, &known).await {
            return;
        }
        shared.change(id, Part::Job, |job| job.state = JobState::Running);
        carry_out(&shared, id, &under_way, &request).await;
    };
    // A master that ends stops all its servers itself. What is under way is then told as interrupted.
    if shared.stop().run_until_cancelled(whole).await.is_none() {
        return;
    }
    let cancelled = under_way.cancel.is_cancelled();
    let mut not_begun = Vec::new();
    shared.change(id, Part::Whole, |job| {
        for server in job.servers.iter_mut().filter(|server| server.outcome.is_none()) {
            (server.step, server.outcome, server.ended) = (Step::Over, Some(Outcome::Cancelled), Some(now()));
            not_begun.push(server.id.clone());
        }
    });
    // Before they are free, so that nobody acts on what is no longer wanted.
    shared.want_as_before(&under_way, &not_begun);
    known.iter().for_each(|server| shared.fleet.release(id, server));
    shared.change(id, Part::Job, |job| {
        job.ended = Some(now());
        let all_done = job.count(Outcome::Done) == job.servers.len();
        job.state = match () {
            () if all_done => JobState::Done,
            () if cancelled => JobState::Cancelled,
            () if job.count(Outcome::Failed) > 0 => JobState::Failed,
            () => JobState::Cancelled,
        };
    });
    shared.over(id);
}

/// Waits until the servers belong to the job. Returns false if it was cancelled before.
async fn queue(shared: &Shared, id: JobId, under_way: &UnderWay, request: &Request, known: &[String]) -> bool {
    let mut changed = shared.fleet.changed();
    let claimed = async {
        loop {
            changed.mark_unchanged();
            // A server that a later order has ended meanwhile is no longer this job's.
            let open = shared.open(id, known);
            match shared.fleet.claim(id, &open) {
                Ok(()) => break open,
                Err(owned) => {
                    let first = owned
                        .iter()
                        .next()
                        .map(|(server, owner)| format!("it waits for {server}, which job {owner} owns"));
                    let first = first.unwrap_or_default();
                    shared.change(id, Part::Job, |job| job.why = first);
                }
            }
            // The sender is part of the fleet.
            let _ = changed.changed().await;
        }
    };
    let Some(open) = under_way.cancel.run_until_cancelled(claimed).await else { return false };
    shared.change(id, Part::Job, |job| job.why.clear());
    shared.want(under_way, request, &open);
    if let Err(failure) = shared.fleet.written().await {
        tracing::error!(job = id, %failure, "what is wanted of the servers of a job could not be written");
    }
    true
}

async fn carry_out(shared: &Shared, id: JobId, under_way: &UnderWay, request: &Request) {
    let records: Vec<_> = request.servers.iter().map(|(server, _)| shared.fleet.get(server)).collect();
    let members: Vec<Member<'_>> = request
        .servers
        .iter()
        .zip(&records)
        .map(|((server, action), record)| Member {
            server_type: record.as_ref().map_or("", |record| &record.server_type),
            action: *action,
            own: server == shared.own(),
            late: request.late.contains(server),
        })
        .collect();
    let mut failed_before = 0;
    let waves = waves(&members, &request.options);
    let count = waves.len();
    for (number, wave) in waves.into_iter().enumerate() {
        if under_way.cancel.is_cancelled() {
            return;
        }
        join_all(wave.into_iter().map(|place| one(shared, id, under_way, request, place))).await;
        let failed = shared.look(id, |job| job.count(Outcome::Failed)).unwrap_or_default();
        let pauses = request.options.rolling && request.options.on_failure == OnFailure::Pause && number + 1 < count;
        if pauses && failed > failed_before && !under_way.cancel.is_cancelled() {
            let why = format!("a server has failed: `pomelo jobs {id} --resume` goes on, --cancel ends the job");
            shared.change(id, Part::Job, |job| (job.state, job.why) = (JobState::Paused, why));
            under_way.cancel.run_until_cancelled(under_way.resume.notified()).await;
            if under_way.cancel.is_cancelled() {
                return;
            }
        }
        failed_before = failed;
    }
}

/// Carries out one server of a job.
async fn one(shared: &Shared, id: JobId, under_way: &UnderWay, request: &Request, place: usize) {
    let (server, action) = &request.servers[place];
    let tokens = &under_way.servers[place];
    // A server that is not known has failed before.
    if shared.look(id, |job| job.servers[place].outcome.is_some()).unwrap_or(true) {
        return;
    }
    let mut begin = false;
    shared.progress(id, place, |progress| {
        if progress.outcome.is_none() && !tokens.cancel.is_cancelled() {
            (progress.began, begin) = (Some(now()), true);
        }
    });
    if !begin {
        return;
    }
    let cancelled = under_way.cancel.child_token();
    let step = |step: Step| shared.progress(id, place, |progress| progress.step = step);
    let course = Course {
        fleet: &shared.fleet,
        actuator: &*shared.actuator,
        id: server,
        action: *action,
        messages: &request.messages,
        by: &request.by,
        drain: request.options.drain || *action == Action::Drain,
        min_ready: Duration::from_millis(request.options.min_ready_ms),
        cancelled: &cancelled,
        step: &step,
    };
    let mut taken = tokens.taken.subscribe();
    let came: Came = tokio::select! {
        biased;
        by = taken.wait_for(Option::is_some) => {
            let by = by.ok().and_then(|by| *by).unwrap_or_default();
            (Outcome::TakenOver, Some(Failure::new(code::BUSY, format!("job {by} has taken it over"))))
        }
        came = course.run() => came,
        // Only a drain is cut short by that, and the course goes on to put the server back.
        came = async {
            tokens.cancel.cancelled().await;
            cancelled.cancel();
            std::future::pending::<Came>().await
        } => came,
    };
    let (outcome, failure) = came;
    if let Some(failure) = failure.as_ref().filter(|_| outcome == Outcome::Failed) {
        shared.failed(id, request.kind, server, &failure.message);
    }
    shared.progress(id, place, |progress| {
        (progress.step, progress.outcome, progress.ended) = (Step::Over, Some(outcome), Some(now()));
        if let Some(failure) = failure {
            (progress.code, progress.why) = (Some(failure.code.into_owned()), failure.message);
        }
    });
    shared.fleet.release(id, server);
}
