//! The health of a program while it runs: it is checked again and again, and what is found is told, hides its server, or has it started again.
//!
//! | file | what is there |
//! |---|---|
//! | `course` | when the program is checked, what counts as unhealthy, and what is done then |
//! | `check` | one check: of a port, over HTTP, over the control socket, or by a command |
//! | `patient` | what the course asks of the program and does with it |
//! | `profiles` | the CPU profiles that are taken before a restart, as files |
//!
//! A program is checked while it runs and does not drain, one check at a time. What was found belongs to one process. This part knows neither the
//! master nor the views: `phases` makes of the [`Verdict`] what others see.

mod check;
mod course;
mod patient;
mod profiles;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use self::course::Course;
use super::drain::Draining;
use crate::config::Health;
use crate::journal::Journal;
use crate::util::lasting;

pub(super) use check::Asked;
pub(super) use patient::Program;

/// What the checks of a program have found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The process that is checked; absent while none runs.
    pub pid: Option<u32>,
    /// What makes it unhealthy, one for each kind of check: at most two.
    pub problems: Vec<Problem>,
}

/// Why a program is unhealthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In words: `GET http://127.0.0.1:4050/healthz was answered with status 503, 3 times in a row`.
    pub why: String,
    /// Whether others do not see the server for that.
    pub hides: bool,
}

impl Verdict {
    /// Whether a process was found healthy, or was not found unhealthy yet.
    pub fn is_healthy(&self) -> bool {
        self.pid.is_some() && self.problems.is_empty()
    }

    /// The problems, a sentence each.
    pub fn whys(&self) -> Vec<String> {
        self.problems.iter().map(|problem| format!("the program is unhealthy: {}", problem.why)).collect()
    }

    /// Why others do not see the server; absent if they do, and if another process was checked.
    pub fn hides(&self, pid: Option<u32>) -> Option<&str> {
        let hiding = self.problems.iter().find(|problem| problem.hides && pid.is_some() && self.pid == pid);
        hiding.map(|problem| problem.why.as_str())
    }
}

/// The checks of one program, which end when this is dropped.
pub(super) struct Checks {
    verdict: watch::Receiver<Verdict>,
    _course: AbortOnDropHandle<()>,
}

impl Checks {
    /// Begins to check the program of the server `id` whenever it runs and does not drain.
    pub fn begin(
        id: &str,
        health: Health,
        patient: Program,
        drain: watch::Receiver<Option<Draining>>,
        journal: Journal,
    ) -> Self {
        let verdict = Arc::new(watch::Sender::new(Verdict::default()));
        let told = verdict.subscribe();
        let status = patient.supervisor.status();
        let course = Course { id: id.to_owned(), health, patient, status, drain, verdict, journal };
        let course = Arc::new(course);
        let checking = lasting::lasting("the checks of a program's health", move || {
            let course = course.clone();
            async move { course.run().await }
        });
        Checks { verdict: told, _course: AbortOnDropHandle::new(tokio::spawn(checking)) }
    }

    /// What they have found; changes are told.
    pub fn verdict(&self) -> watch::Receiver<Verdict> {
        self.verdict.clone()
    }
}

/// The verdict of a program that is never checked.
pub(super) fn unchecked() -> watch::Receiver<Verdict> {
    watch::Sender::new(Verdict::default()).subscribe()
}
