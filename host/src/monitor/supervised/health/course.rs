//! The course of the checks: when the program is checked, what counts as unhealthy, and what is done then.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::patient::Patient;
use super::{Problem, Verdict};
use crate::config::{Health, Then};
use crate::failure::code;
use crate::journal::{Event, Journal, kind};
use crate::monitor::supervised::drain::Draining;
use crate::supervise::{Phase, Status};
use crate::util::in_words;

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// The checks of one program.
pub(in crate::monitor::supervised) struct Course<P> {
    /// The server's id.
    pub id: String,
    pub health: Health,
    pub patient: P,
    pub status: watch::Receiver<Status>,
    pub drain: watch::Receiver<Option<Draining>>,
    pub verdict: Arc<watch::Sender<Verdict>>,
    pub journal: Journal,
}

/// What was found of one process, by each kind of check.
#[derive(Default)]
struct Findings {
    pid: Option<u32>,
    check: Finding,
    memory: Finding,
}

/// What one kind of check has found.
#[derive(Default)]
struct Finding {
    /// Failures in a row.
    failures: u32,
    /// Why the program is unhealthy, if it is.
    problem: Option<String>,
}

impl<P: Patient> Course<P> {
    /// Checks the program for as long as it is supervised.
    pub async fn run(&self) {
        let mut findings = Findings::default();
        loop {
            if !matches!(self.status.borrow().phase, Phase::Running(_)) {
                // What was found of a process that has ended says nothing of the next one.
                findings = Findings::default();
                self.tell(&findings);
            }
            let Some(pid) = self.until(|serving| serving).await else { return };
            if findings.pid != Some(pid) {
                findings = Findings { pid: Some(pid), ..Findings::default() };
                self.tell(&findings);
            }
            tokio::select! {
                other = self.until(|serving| if serving == Some(pid) { None } else { Some(()) }) => if other.is_none() { return },
                never = self.attend(pid, &mut findings) => match never {},
            }
        }
    }

    /// Checks a process again and again.
    async fn attend(&self, pid: u32, findings: &mut Findings) -> Infallible {
        let every = self.health.interval;
        let mut turns = interval_at(Instant::now() + every, every);
        // After a check that took long the next one comes at once, and none is made up for.
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            if self.health.check.is_some() {
                let found = self.patient.check(self.health.timeout).await;
                let what = self.patient.name();
                self.found(findings, |findings| &mut findings.check, (what.0, &what.1), self.health.then, found);
            }
            if let Some(most) = self.health.max_memory {
                let found = match self.patient.memory(pid).await {
                    Some(used) if used > most => {
                        let (used, most) = (used.div_ceil(MIB), most / MIB);
                        Err(format!("its memory is {used} MiB, more than `max_memory_mib` = {most}"))
                    }
                    // A process that has just ended has none.
                    _ => Ok(()),
                };
                let (name, then) = (("memory", "its memory is within bounds"), self.health.memory_then);
                self.found(findings, |findings| &mut findings.memory, name, then, found);
            }
            let restart = |finding: &Finding, then| (then == Then::Restart).then(|| finding.problem.clone()).flatten();
            let why = restart(&findings.check, self.health.then);
            if let Some(why) = why.or_else(|| restart(&findings.memory, self.health.memory_then)) {
                self.restart(pid, &why).await;
            }
        }
    }

    /// Takes over what a check has found. `name` is the label of metrics and what is said of a program that is healthy again.
    fn found(
        &self,
        findings: &mut Findings,
        of: impl Fn(&mut Findings) -> &mut Finding,
        name: (&'static str, &str),
        then: Then,
        found: Result<(), String>,
    ) {
        let finding = of(findings);
        let why = match found {
            Ok(()) => {
                finding.failures = 0;
                if finding.problem.take().is_some() {
                    self.record(kind::HEALTHY, format!("the program is healthy again: {}", name.1), Vec::new());
                    self.tell(findings);
                }
                return;
            }
            Err(why) => why,
        };
        metrics::counter!("pomelo_health_failures_total", "check" => name.0).increment(1);
        finding.failures = finding.failures.saturating_add(1);
        tracing::debug!(server = self.id, failures = finding.failures, why, "a check has failed");
        // The reason of a program that is unhealthy already stays, so that others are not told of every change in it.
        if finding.problem.is_some() || finding.failures < self.health.failures {
            return;
        }
        let why = match finding.failures {
            1 => why,
            failures => format!("{why}, {failures} times in a row"),
        };
        let consequence = match then {
            Then::Report => "",
            Then::Unready => "; others do not see its server until it is healthy again",
            Then::Restart => "; others do not see its server, and it is ended",
        };
        finding.problem = Some(why.clone());
        tracing::warn!(server = self.id, "the program is unhealthy: {why}");
        self.record(kind::UNHEALTHY, format!("the program is unhealthy: {why}{consequence}"), Vec::new());
        self.tell(findings);
    }

    /// Ends the process for its health, with what helps to find out what was wrong with it. Returns when it is not ended.
    async fn restart(&self, pid: u32, why: &str) {
        let profile = match self.health.profile {
            None => String::new(),
            Some(time) => match self.patient.profile(pid, time).await {
                Ok(path) => format!("; what it did for {} is in {}", in_words(time), path.display()),
                Err(failure) => format!("; no CPU profile was taken: {}", failure.message),
            },
        };
        let lines = self.patient.last_lines().await;
        // Before the order, because with the process this course ends.
        self.record(kind::HEALTH_RESTART, format!("the program is ended, because {why}{profile}"), lines);
        loop {
            match self.patient.restart(pid, why.to_owned()).await {
                Err(failure) if failure.code == code::BUSY => {
                    tracing::warn!(server = self.id, %failure, "the program cannot be ended now");
                    sleep(self.health.interval).await;
                }
                // The process ends or has ended, and this course ends with it.
                Ok(()) | Err(_) => return std::future::pending().await,
            }
        }
    }

    fn record(&self, kind: &'static str, message: String, lines: Vec<String>) {
        self.journal.record(Event::new(kind, message).server(self.id.clone()).exit(None, None, lines));
    }

    /// Tells what was found.
    fn tell(&self, findings: &Findings) {
        let problem = |finding: &Finding, then| {
            let why = finding.problem.clone()?;
            Some(Problem { why, hides: then != Then::Report })
        };
        let check = problem(&findings.check, self.health.then);
        let memory = problem(&findings.memory, self.health.memory_then);
        let verdict = Verdict { pid: findings.pid, problems: check.into_iter().chain(memory).collect() };
        self.verdict.send_if_modified(|told| {
            let changed = *told != verdict;
            *told = verdict;
            changed
        });
    }

    /// Waits until `test` finds something in the process that runs and does not drain, if there is one. Absent when nobody supervises the program any
    /// more.
    async fn until<T>(&self, test: impl Fn(Option<u32>) -> Option<T>) -> Option<T> {
        let (mut status, mut drain) = (self.status.clone(), self.drain.clone());
        loop {
            let serving = match status.borrow_and_update().phase {
                Phase::Running(pid) => Some(pid),
                _ => None,
            };
            let draining = drain.borrow_and_update().as_ref().map(|draining| draining.pid);
            if let Some(found) = test(serving.filter(|pid| draining != Some(*pid))) {
                return Some(found);
            }
            tokio::select! {
                changed = status.changed() => changed.ok()?,
                Ok(()) = drain.changed() => {}
            }
        }
    }
}
