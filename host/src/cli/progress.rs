//! How far a job is: a bar on a terminal, and a line for each server elsewhere. Both go to standard error.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use super::admin::CONSOLE;

use super::print;
use crate::client::Push;

/// How often the bar's clock moves.
const TICK: Duration = Duration::from_millis(200);

/// A job, as the master shows it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Job {
    pub id: u64,
    pub kind: String,
    pub state: String,
    #[serde(default)]
    pub by: String,
    #[serde(default)]
    pub created: u64,
    #[serde(default)]
    pub ended: Option<u64>,
    #[serde(default)]
    pub why: String,
    #[serde(default)]
    pub revision: u64,
    /// What else is to be said of it.
    #[serde(default)]
    pub notes: Vec<String>,
    pub servers: Vec<Server>,
}

/// One server of a job.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Server {
    pub id: String,
    #[serde(default)]
    pub action: String,
    #[serde(default)]
    pub step: String,
    #[serde(default)]
    pub outcome: Option<String>,
    #[serde(default)]
    pub why: String,
}

impl Job {
    /// The job that the console tells of, if it does.
    pub fn of(push: &Push) -> Option<Job> {
        (push.module == CONSOLE).then(|| serde_json::from_str(push.body.get()).ok())?
    }

    /// Whether a job in that state is not over.
    pub fn is_under_way(state: &str) -> bool {
        ["queued", "running", "paused"].contains(&state)
    }

    /// How many servers it is done with.
    pub fn over(&self) -> usize {
        self.servers.iter().filter(|server| server.outcome.is_some()).count()
    }

    /// Why a server of it has failed.
    pub fn why(&self, id: &str) -> Option<&str> {
        let server = self.servers.iter().find(|server| server.id == id)?;
        (!server.why.is_empty()).then_some(server.why.as_str())
    }
}

impl Server {
    /// Its outcome, and why.
    fn said(&self) -> Option<String> {
        let outcome = self.outcome.as_deref()?;
        let why = if self.why.is_empty() { String::new() } else { format!(" ({})", self.why) };
        Some(print::shown(&format!("{}: {outcome}{why}", self.id)))
    }

    fn is_being_worked_on(&self) -> bool {
        self.outcome.is_none() && !self.step.is_empty() && self.step != "waiting"
    }
}

/// Shows how far one job is.
pub(super) struct Progress {
    silent: bool,
    /// On a terminal, from the first word about the job on.
    bar: Option<ProgressBar>,
    on_terminal: bool,
    said: BTreeSet<String>,
}

impl Progress {
    /// `silent`: nothing is shown.
    pub fn new(silent: bool) -> Progress {
        Progress { silent, bar: None, on_terminal: io::stderr().is_terminal(), said: BTreeSet::new() }
    }

    /// Shows how far the job is now.
    pub fn show(&mut self, job: &Job) {
        if self.silent {
            return;
        }
        if self.on_terminal {
            self.bar(job);
        } else if job.servers.len() > 1 {
            for line in self.lines(job) {
                print::note(line);
            }
        }
    }

    /// A line for each server that has an outcome since the last time.
    fn lines(&mut self, job: &Job) -> Vec<String> {
        let mut lines = Vec::new();
        for server in &job.servers {
            if let Some(said) = server.said()
                && self.said.insert(server.id.clone())
            {
                lines.push(format!("job {}: {} of {}: {said}", job.id, self.said.len(), job.servers.len()));
            }
        }
        lines
    }

    fn bar(&mut self, job: &Job) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(job.servers.len() as u64);
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len} {elapsed} {wide_msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(print::shown(&format!("job {} {}", job.id, job.kind)));
            bar.enable_steady_tick(TICK);
            bar
        });
        for server in job.servers.iter().filter(|server| server.outcome.as_deref().is_some_and(|o| o != "done")) {
            if let Some(said) = server.said()
                && self.said.insert(server.id.clone())
            {
                bar.println(said);
            }
        }
        bar.set_position(job.over() as u64);
        let under_way = job.servers.iter().filter(|server| server.is_being_worked_on());
        let under_way = under_way.map(|server| format!("{} {}", server.id, server.step)).collect::<Vec<_>>().join(", ");
        let message = if under_way.is_empty() { format!("{} {}", job.state, job.why) } else { under_way };
        bar.set_message(print::shown(&message));
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A bar must not stay behind, whatever ends the command.
impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_server_is_told_of_once() {
        let job = |servers| -> Job {
            serde_json::from_value(json!({"id": 3, "kind": "stop", "state": "running", "servers": servers})).unwrap()
        };
        let mut progress = Progress::new(false);
        let first = progress.lines(&job(json!([{"id": "a", "outcome": "done"}, {"id": "b", "step": "stopping"}])));
        assert_eq!(first, ["job 3: 1 of 2: a: done"]);
        let failed = json!([{"id": "a", "outcome": "done"}, {"id": "b", "outcome": "failed", "why": "no\u{1b}"}]);
        assert_eq!(progress.lines(&job(failed)), ["job 3: 2 of 2: b: failed (no\\u001b)"]);
    }
}
