//! What is known of a job.

use serde::{Deserialize, Serialize};

use super::request::{Action, Kind, Options};
use super::{JobId, Messages};

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// It waits for servers that other jobs own.
    Queued,
    /// It runs.
    Running,
    /// A server has failed. It goes on when it is resumed.
    Paused,
    /// All that it was to do is done.
    Done,
    /// Some servers have failed, or all.
    Failed,
    /// It was cancelled before all was done.
    Cancelled,
    /// The master ended before all was done.
    Interrupted,
}

/// What a job does with a server at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// It was not begun.
    Waiting,
    /// It drains.
    Draining,
    /// It is being ended.
    Stopping,
    /// It is being started.
    Starting,
    /// It is ready, and must stay so for a while.
    Settling,
    /// The job is done with it.
    Over,
}

/// What has come of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// What was asked for.
    Done,
    /// It has failed.
    Failed,
    /// The job was cancelled, or this server of it was.
    Cancelled,
    /// Another job has taken it over.
    TakenOver,
    /// The master ended before it was done.
    Interrupted,
}

/// One server of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerProgress {
    /// Its id.
    pub id: String,
    /// What is done with it.
    pub action: Action,
    /// How far it is.
    pub step: Step,
    /// What has come of it; absent until the job is done with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The code of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why it has failed, or what is to be said of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// When it was begun, milliseconds since 1970-01-01 00:00 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<u64>,
    /// When the job was done with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
}

/// One job.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// What it is for.
    pub kind: Kind,
    /// How far it is.
    pub state: JobState,
    /// Who asked for it.
    pub by: String,
    /// How it is carried out.
    pub options: Options,
    /// When it was asked for, milliseconds since 1970-01-01 00:00 UTC.
    pub created: u64,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// What is to be said of its state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What else is to be said of it, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The servers.
    pub servers: Vec<ServerProgress>,
    /// Grows with every change of the job.
    pub revision: u64,
    /// What the monitors are asked with. It is kept beside the job, and not shown.
    #[serde(skip)]
    pub messages: Messages,
}

impl JobState {
    /// Whether the job is over.
    pub fn is_over(self) -> bool {
        !matches!(self, JobState::Queued | JobState::Running | JobState::Paused)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Paused => "paused",
            JobState::Done => "done",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
            JobState::Interrupted => "interrupted",
        }
    }
}

impl Job {
    /// How many servers have that outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.servers.iter().filter(|server| server.outcome == Some(outcome)).count()
    }

    /// What has come of it, in a sentence without its subject.
    pub fn summary(&self) -> String {
        let mut parts = vec![format!("{} of {} done", self.count(Outcome::Done), self.servers.len())];
        for (outcome, word) in [
            (Outcome::Failed, "failed"),
            (Outcome::Cancelled, "cancelled"),
            (Outcome::TakenOver, "taken over"),
            (Outcome::Interrupted, "interrupted"),
        ] {
            match self.count(outcome) {
                0 => {}
                count => parts.push(format!("{count} {word}")),
            }
        }
        parts.join(", ")
    }
}
