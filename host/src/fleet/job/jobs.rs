//! All jobs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::kept::{self, Part};
use super::record::{Job, JobState, Outcome, ServerProgress, Step};
use super::request::{Action, Kind, Request};
use super::{Actuator, JobId, Messages};
use crate::failure::{Failure, code};
use crate::fleet::{Fleet, Wanted, now};
use crate::journal::{self, Event, Journal};

/// Whoever waits for changes of a job is told of those together that come within this time, because each costs as much as the job has servers.
const GATHER: Duration = Duration::from_millis(100);
/// How long a job that takes servers over waits for the other to let go of them.
const LETTING_GO: Duration = Duration::from_secs(5);

/// How many jobs there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Jobs that are not over. Default 64.
    pub under_way: usize,
    /// Jobs that are kept after they are over. Default 200.
    pub kept: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { under_way: 64, kept: 200 }
    }
}

/// All jobs of a master.
#[derive(Clone)]
pub struct Jobs(Arc<Shared>);

pub(super) struct Shared {
    pub fleet: Arc<Fleet>,
    pub actuator: Arc<dyn Actuator>,
    journal: Journal,
    limits: Limits,
    /// The master's own id. It ends last.
    own: String,
    table: Mutex<Table>,
    changed: watch::Sender<u64>,
    tasks: TaskTracker,
    /// Cancelled when the master ends.
    stop: CancellationToken,
}

#[derive(Default)]
struct Table {
    jobs: BTreeMap<JobId, Entry>,
    last: JobId,
    revision: u64,
    /// What the monitors were asked with last.
    messages: Messages,
}

struct Entry {
    job: Job,
    under_way: Option<Arc<UnderWay>>,
}

/// The handles of a job that is not over.
pub(super) struct UnderWay {
    /// Cancels what was not begun, and drains.
    pub cancel: CancellationToken,
    /// Lets a paused job go on.
    pub resume: Notify,
    /// For each server, in the order of the job.
    pub servers: Vec<ServerTokens>,
    /// What was wanted before the job, and by whom, where the job wants something else.
    before: Mutex<BTreeMap<String, (Wanted, String)>>,
}

/// The handles of one server of a job.
pub(super) struct ServerTokens {
    /// Cancels it, where it was not begun or drains.
    pub cancel: CancellationToken,
    /// Another job takes it over.
    pub taken: watch::Sender<Option<JobId>>,
}

impl Jobs {
    /// The jobs as they were kept. Those that were under way are over: the master that ran them has ended.
    pub fn load(fleet: Arc<Fleet>, actuator: Arc<dyn Actuator>, journal: Journal, own: &str, limits: Limits) -> Self {
        let mut table = Table::default();
        let (jobs, last) = kept::load(&**fleet.store());
        table.last = last;
        for job in jobs {
            table.revision = table.revision.max(job.revision);
            table.jobs.insert(job.id, Entry { job, under_way: None });
        }
        let told = table.jobs.values().rev().find(|entry| !entry.job.messages.module.is_empty());
        table.messages = told.map(|entry| entry.job.messages.clone()).unwrap_or_default();
        let changed = watch::Sender::new(table.revision);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let own = own.to_owned();
        let jobs = Jobs(Arc::new(Shared {
            fleet,
            actuator,
            journal,
            limits,
            own,
            table: Mutex::new(table),
            changed,
            tasks,
            stop,
        }));
        jobs.interrupt("the master was started anew");
        jobs
    }

    /// Ends all jobs that are under way as interrupted. What they have done stays done.
    fn interrupt(&self, why: &str) {
        let interrupted: Vec<JobId> = {
            let table = self.0.table.lock();
            table.jobs.values().filter(|entry| !entry.job.state.is_over()).map(|entry| entry.job.id).collect()
        };
        for id in interrupted {
            self.0.change(id, Part::Whole, |job| {
                for server in job.servers.iter_mut().filter(|server| server.outcome.is_none()) {
                    server.outcome = Some(Outcome::Interrupted);
                    server.ended = Some(now());
                }
                (job.state, job.why, job.ended) = (JobState::Interrupted, why.to_owned(), Some(now()));
            });
            self.0.over(id);
        }
    }

    /// Begins a job. Answers when it is on the disk that the job is to be done. `stop` and `kill` are begun also if the disk does not take that, and the
    /// job says so in its notes: what they end may be what fills the disk, and the record waits until there is room. What is wanted of its servers is then
    /// as the job says, unless the job has to wait for them. The job is carried out even if nobody waits for the answer any more. A server that is not
    /// known has failed in the job.
    ///
    /// # Errors
    /// `busy` where another job owns one of the servers, or too many jobs are under way; `timeout` where a job does not let go of a server that is taken
    /// over; `failed` where the disk cannot be written and the order is another one than `stop` and `kill`; `not-available` where the master is ending.
    pub async fn submit(&self, request: Request) -> Result<Job, Failure> {
        let shared = &self.0;
        if shared.stop.is_cancelled() {
            return Err(Failure::new(code::NOT_AVAILABLE, "the master is ending and takes no more jobs"));
        }
        let job = shared.enter(&request)?;
        let id = job.id;
        let known: Vec<String> = job
            .servers
            .iter()
            .filter(|server| server.outcome.is_none() && server.id != shared.own)
            .map(|server| server.id.clone())
            .collect();
        let jobs = self.clone();
        let begun = shared.tasks.spawn(async move { jobs.begin(id, request, known).await });
        begun.await.map_err(|error| Failure::new(code::FAILED, format!("job {id} was not begun: {error}")))?
    }

    /// Begins a job that was entered.
    async fn begin(&self, id: JobId, request: Request, known: Vec<String>) -> Result<Job, Failure> {
        let shared = &self.0;
        let under_way = shared.under_way(id)?;
        let claimed = match self.claim(id, &request, &known).await {
            Ok(claimed) => claimed,
            Err(failure) => {
                shared.discard(id);
                return Err(failure);
            }
        };
        if claimed {
            shared.want(&under_way, &request, &known);
            shared.overrule(id, &request, &known);
        }
        match shared.fleet.written().await {
            Ok(()) => {}
            Err(failure) if request.kind.is_urgent() => shared.change(id, Part::Job, |job| {
                job.notes.push(format!(
                    "this order is carried out, but a master that is started anew may not know of it, because it is not \
                     on the disk yet: {}",
                    failure.message
                ));
            }),
            Err(failure) => {
                shared.want_as_before(&under_way, &known);
                known.iter().for_each(|server| shared.fleet.release(id, server));
                shared.discard(id);
                let what = format!(
                    "{} is refused, because the order cannot be kept: {} (`stop` and `kill` are carried out all the same)",
                    request.kind.as_str(),
                    failure.message
                );
                return Err(Failure::new(failure.code, what));
            }
        }
        let names = known.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        let more = if known.len() > 3 { format!(" and {} more", known.len() - 3) } else { String::new() };
        let message = format!("job {id}: {} {names}{more}", request.kind.as_str()).trim_end().to_owned();
        shared.journal.record(Event::new(journal::kind::JOB, message).client(Some(&request.by)));
        shared.tasks.spawn(super::run::run(shared.clone(), id, request, claimed, known));
        self.get(id)
    }

    /// As [`Jobs::submit`], for an order that repeats what was ordered before: the monitors are asked as they were asked last.
    ///
    /// # Errors
    /// As [`Jobs::submit`].
    pub async fn submit_again(&self, request: Request) -> Result<Job, Failure> {
        let messages = self.0.table.lock().messages.clone();
        self.submit(Request { messages, ..request }).await
    }

    /// Makes a job the owner of its servers. Answers false if it has to wait for them.
    async fn claim(&self, id: JobId, request: &Request, known: &[String]) -> Result<bool, Failure> {
        let shared = &self.0;
        let Err(owned) = shared.fleet.claim(id, known) else { return Ok(true) };
        let blocking: Vec<(String, JobId, Kind)> = {
            let table = shared.table.lock();
            let kind = |owner: &JobId| table.jobs.get(owner).map(|entry| entry.job.kind);
            owned.into_iter().filter_map(|(server, owner)| Some((server, owner, kind(&owner)?))).collect()
        };
        if let Some((server, owner, kind)) = blocking.iter().find(|(_, _, kind)| !request.kind.takes_over(*kind)) {
            if request.queue {
                return Ok(false);
            }
            let what = format!(
                "{server} belongs to job {owner}, a {}: `pomelo jobs {owner}` shows it, `pomelo jobs {owner} --cancel` ends it, --queue waits for it",
                kind.as_str()
            );
            return Err(Failure::new(code::BUSY, what));
        }
        for (server, owner, _) in &blocking {
            shared.take_over(*owner, server, id);
        }
        let mut changed = shared.fleet.changed();
        let claimed = async {
            while shared.fleet.claim(id, known).is_err() {
                // The sender is part of the fleet.
                let _ = changed.changed().await;
            }
        };
        let late = || Failure::new(code::TIMEOUT, "the job that owns the servers does not let go of them");
        tokio::time::timeout(LETTING_GO, claimed).await.map_err(|_| late())?;
        Ok(true)
    }

    /// One job.
    ///
    /// # Errors
    /// `not-found`.
    pub fn get(&self, id: JobId) -> Result<Job, Failure> {
        self.0.look(id, Job::clone)
    }

    /// All jobs that are kept, the newest first.
    pub fn list(&self) -> Vec<Job> {
        self.0.table.lock().jobs.values().rev().map(|entry| entry.job.clone()).collect()
    }

    /// Waits until a job has changed since that revision, at most for the time given, and answers with it. Changes that follow one another closely are
    /// told together.
    ///
    /// # Errors
    /// `not-found`.
    pub async fn wait(&self, id: JobId, revision: u64, at_most: Duration) -> Result<Job, Failure> {
        let until = tokio::time::Instant::now() + at_most;
        self.wait_for(id, until, |job| job.revision > revision).await?;
        let gathered = until.min(tokio::time::Instant::now() + GATHER);
        self.wait_for(id, gathered, |job| job.state == JobState::Paused).await?;
        self.get(id)
    }

    /// Waits until that holds of a job, or it is over, or the time has come.
    async fn wait_for(
        &self,
        id: JobId,
        until: tokio::time::Instant,
        holds: impl Fn(&Job) -> bool,
    ) -> Result<(), Failure> {
        let mut changed = self.0.changed.subscribe();
        let held = async {
            loop {
                changed.mark_unchanged();
                if self.0.look(id, |job| holds(job) || job.state.is_over())? {
                    return Ok(());
                }
                // The sender is part of the jobs.
                let _ = changed.changed().await;
            }
        };
        tokio::time::timeout_at(until, held).await.unwrap_or(Ok(()))
    }

    /// Cancels a job. What was not begun is not done. A server that drains is put back. A server that was ended is started before the job is over.
    ///
    /// # Errors
    /// `not-found`; `not-available` where it is over.
    pub fn cancel(&self, id: JobId, by: &str) -> Result<Job, Failure> {
        let under_way = self.0.under_way(id)?;
        self.0.change(id, Part::Job, |job| job.why = format!("cancelled by {by}"));
        under_way.cancel.cancel();
        self.get(id)
    }

    /// Lets a paused job go on.
    ///
    /// # Errors
    /// `not-found`; `not-available` where it is over, or not paused.
    pub fn resume(&self, id: JobId) -> Result<Job, Failure> {
        let under_way = self.0.under_way(id)?;
        let mut refused = None;
        // It runs from here on, so that a second one does not resume it from its next pause.
        self.0.change(id, Part::Job, |job| match job.state {
            JobState::Paused => {
                job.state = JobState::Running;
                job.why.clear();
                under_way.resume.notify_one();
            }
            state => refused = Some(format!("job {id} is {}, not paused", state.as_str())),
        });
        match refused {
            Some(what) => Err(Failure::new(code::NOT_AVAILABLE, what)),
            None => self.get(id),
        }
    }

    /// Takes the drain of a server back. Returns whether a job was draining it, or was to drain it.
    pub fn undrain(&self, server: &str) -> bool {
        let Some(owner) = self.0.fleet.owner(server) else { return false };
        let table = self.0.table.lock();
        let Some(Entry { job, under_way: Some(under_way) }) = table.jobs.get(&owner) else { return false };
        let place = job.servers.iter().position(|progress| {
            progress.id == server
                && matches!(progress.step, Step::Waiting | Step::Draining)
                && progress.outcome.is_none()
        });
        let Some(place) = place else { return false };
        under_way.servers[place].cancel.cancel();
        true
    }

    /// A number that grows with every change of a job.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// The fleet that the jobs act on.
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.0.fleet
    }

    /// How many jobs are not over.
    pub fn count_under_way(&self) -> usize {
        self.0.table.lock().jobs.values().filter(|entry| !entry.job.state.is_over()).count()
    }

    /// Ends all jobs, because the master ends.
    pub async fn shut_down(&self, at_most: Duration) {
        self.0.stop.cancel();
        self.0.tasks.close();
        let _ = tokio::time::timeout(at_most, self.0.tasks.wait()).await;
        self.interrupt("the master has ended");
    }
}

impl Shared {
    /// Enters a new job into the table.
    fn enter(&self, request: &Request) -> Result<Job, Failure> {
        let mut table = self.table.lock();
        let under_way = table.jobs.values().filter(|entry| !entry.job.state.is_over()).count();
        if under_way >= self.limits.under_way {
            return Err(Failure::new(code::BUSY, format!("{under_way} jobs are under way: `pomelo jobs` shows them")));
        }
        let id = table.last + 1;
        let progress = |(server, action): &(String, Action)| {
            let known = *server == self.own || self.fleet.state(server).is_some();
            let mut progress = ServerProgress {
                id: server.clone(),
                action: *action,
                step: Step::Waiting,
                outcome: None,
                code: None,
                why: String::new(),
                began: None,
                ended: None,
            };
            let refusal = match known {
                false => Some((code::NOT_FOUND, "There is no such server.")),
                true if *server == self.own && !action.ends() => {
                    Some((code::NOT_AVAILABLE, "the master cannot restart itself"))
                }
                true => None,
            };
            if let Some((code, why)) = refusal {
                (progress.step, progress.outcome) = (Step::Over, Some(Outcome::Failed));
                (progress.code, progress.why, progress.ended) = (Some(code.into()), why.into(), Some(now()));
            }
            progress
        };
        let servers: Vec<ServerProgress> = request.servers.iter().map(progress).collect();
        let count = servers.len();
        let job = Job {
            id,
            kind: request.kind,
            state: JobState::Queued,
            by: request.by.clone(),
            options: request.options.clone(),
            created: now(),
            ended: None,
            why: String::new(),
            notes: request.notes.clone(),
            servers,
            revision: 0,
            messages: request.messages.clone(),
        };
        let tokens = || ServerTokens { cancel: CancellationToken::new(), taken: watch::Sender::new(None) };
        let handles = UnderWay {
            cancel: CancellationToken::new(),
            resume: Notify::new(),
            servers: (0..count).map(|_| tokens()).collect(),
            before: Mutex::default(),
        };
        table.last = id;
        if !request.messages.module.is_empty() {
            table.messages = request.messages.clone();
        }
        table.jobs.insert(id, Entry { job: job.clone(), under_way: Some(Arc::new(handles)) });
        drop(table);
        self.change(id, Part::Whole, |_| {});
        Ok(job)
    }

    /// Sets what is wanted of the servers of a job that owns them.
    pub fn want(&self, under_way: &UnderWay, request: &Request, known: &[String]) {
        let before = |id: &String| self.fleet.get(id).map(|record| (id.clone(), (record.wanted, record.wanted_by)));
        *under_way.before.lock() = known.iter().filter_map(before).collect();
        let known: HashSet<&String> = known.iter().collect();
        let those = |ends: bool| -> Vec<String> {
            let is = |(id, action): &&(String, Action)| action.ends() == ends && known.contains(id);
            request.servers.iter().filter(is).map(|(id, _)| id.clone()).collect()
        };
        self.fleet.want(&those(false), Wanted::Up, &request.by);
        if !request.until_next_master {
            self.fleet.want(&those(true), Wanted::Down, &request.by);
        }
    }

    /// Sets back what is wanted of servers that a job owns and has not begun.
    pub fn want_as_before(&self, under_way: &UnderWay, ids: &[String]) {
        let before = under_way.before.lock();
        for id in ids {
            let Some((wanted, by)) = before.get(id) else { continue };
            if self.fleet.get(id).is_some_and(|record| record.wanted != *wanted) {
                self.fleet.want(std::slice::from_ref(id), *wanted, by);
            }
        }
    }

    /// Looks at a job.
    pub fn look<T>(&self, id: JobId, look: impl FnOnce(&Job) -> T) -> Result<T, Failure> {
        let table = self.table.lock();
        table.jobs.get(&id).map(|entry| look(&entry.job)).ok_or_else(|| unknown(id))
    }

    /// Changes a part of a job, and keeps that part.
    pub fn change(&self, id: JobId, part: Part, change: impl FnOnce(&mut Job)) {
        let mut table = self.table.lock();
        table.revision += 1;
        let revision = table.revision;
        let Some(entry) = table.jobs.get_mut(&id) else { return };
        change(&mut entry.job);
        entry.job.revision = revision;
        kept::keep(&**self.fleet.store(), &mut entry.job, part);
        drop(table);
        self.changed.send_replace(revision);
    }

    /// Changes the progress of one server of a job, and keeps it.
    pub fn progress(&self, id: JobId, place: usize, change: impl FnOnce(&mut ServerProgress)) {
        self.change(id, Part::Server(place), |job| {
            if let Some(progress) = job.servers.get_mut(place) {
                change(progress);
            }
        });
    }

    /// A job is over: its handles go, and the oldest that are over with them.
    pub fn over(&self, id: JobId) {
        let mut table = self.table.lock();
        let Some(entry) = table.jobs.get_mut(&id) else { return };
        entry.under_way = None;
        let job = entry.job.clone();
        let over: Vec<JobId> =
            table.jobs.values().filter(|entry| entry.job.state.is_over()).map(|entry| entry.job.id).collect();
        for old in over.iter().take(over.len().saturating_sub(self.limits.kept)) {
            if let Some(entry) = table.jobs.remove(old) {
                kept::forget(&**self.fleet.store(), &entry.job);
            }
        }
        drop(table);
        let why = if job.why.is_empty() { String::new() } else { format!(" ({})", job.why) };
        let message = format!("job {id}: {} is {}{why}: {}", job.kind.as_str(), job.state.as_str(), job.summary());
        tracing::info!(job = id, "{message}");
        self.journal.record(Event::new(journal::kind::JOB, message).client(Some(&job.by)));
    }

    /// Writes down that a server of a job has failed.
    pub fn failed(&self, id: JobId, kind: Kind, server: &str, why: &str) {
        tracing::warn!(job = id, server, why, "{} has failed", kind.as_str());
        let message = format!("job {id}: {} of {server} has failed: {why}", kind.as_str());
        self.journal.record(Event::new(journal::kind::JOB, message).server(server));
    }

    /// Forgets a job that was not begun.
    fn discard(&self, id: JobId) {
        if let Some(entry) = self.table.lock().jobs.remove(&id) {
            kept::forget(&**self.fleet.store(), &entry.job);
        }
    }

    pub fn under_way(&self, id: JobId) -> Result<Arc<UnderWay>, Failure> {
        let table = self.table.lock();
        let entry = table.jobs.get(&id).ok_or_else(|| unknown(id))?;
        let over = || Failure::new(code::NOT_AVAILABLE, format!("job {id} is {} already", entry.job.state.as_str()));
        entry.under_way.clone().ok_or_else(over)
    }

    /// Takes a server of one job over for another. The job lets go of it: at once if it has not begun it.
    fn take_over(&self, owner: JobId, server: &str, by: JobId) {
        let Ok(under_way) = self.under_way(owner) else { return };
        let place = self.look(owner, |job| job.servers.iter().position(|progress| progress.id == server));
        let Ok(Some(place)) = place else { return };
        let mut not_begun = false;
        self.progress(owner, place, |progress| {
            under_way.servers[place].taken.send_replace(Some(by));
            if progress.began.is_none() && progress.outcome.is_none() {
                not_begun = true;
                (progress.step, progress.outcome, progress.ended) = (Step::Over, Some(Outcome::TakenOver), Some(now()));
                (progress.code, progress.why) = (Some(code::BUSY.into()), format!("job {by} has taken it over"));
            }
        });
        if not_begun {
            self.fleet.release(owner, server);
        }
    }

    /// Takes servers that a job ends out of the jobs that were ordered before it and still wait for them: an order to start a server must not undo a
    /// later one to stop it.
    fn overrule(&self, id: JobId, request: &Request, known: &[String]) {
        let queued: Vec<JobId> = {
            let table = self.table.lock();
            let is = |entry: &&Entry| entry.job.state == JobState::Queued && entry.job.id < id;
            table.jobs.values().filter(is).map(|entry| entry.job.id).collect()
        };
        if queued.is_empty() {
            return;
        }
        let known: HashSet<&String> = known.iter().collect();
        for (server, action) in request.servers.iter().filter(|(server, _)| known.contains(server)) {
            if action.ends() {
                queued.iter().for_each(|queued| self.take_over(*queued, server, id));
            }
        }
    }

    /// The servers of a job, of those that are `known`, for which nothing has come out yet.
    pub fn open(&self, id: JobId, known: &[String]) -> Vec<String> {
        let known: HashSet<&String> = known.iter().collect();
        let table = self.table.lock();
        let servers = table.jobs.get(&id).into_iter().flat_map(|entry| &entry.job.servers);
        let open = servers.filter(|server| server.outcome.is_none() && known.contains(&server.id));
        open.map(|server| server.id.clone()).collect()
    }

    pub fn own(&self) -> &str {
        &self.own
    }

    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

fn unknown(id: JobId) -> Failure {
    Failure::new(
        code::NOT_FOUND,
        format!("there is no job {id}, or it is no longer kept: `pomelo jobs` shows those that are"),
    )
}
