//! Jobs: orders of operators, carried out server by server.
//!
//! A job owns the servers that it acts on, so that no two jobs act on one server at the same time. Jobs run in the host and outlive whoever asked for
//! them. They are kept durably: a master that is started anew ends the jobs of the one before as `interrupted`, with what was done.
//!
//! | file | what is there |
//! |---|---|
//! | `request` | what is asked for |
//! | `record` | what is known of a job |
//! | `waves` | which servers go together, and in which order |
//! | `kept` | how jobs are kept on disk |
//! | `jobs` | all jobs: submit, look, wait, cancel, resume |
//! | `run` | one job while it runs |
//! | `server` | one server of a job: drained, ended, started, ready |

mod jobs;
mod kept;
mod record;
mod request;
mod run;
mod server;
mod waves;

#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::failure::Failure;

pub use jobs::{Jobs, Limits};
pub use record::{Job, JobState, Outcome, ServerProgress, Step};
pub use request::{Action, Amount, Kind, Messages, OnFailure, Options, Request};

/// The number of a job, from 1.
pub type JobId = u64;

/// How long each part of a server's way may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// From when it is asked to end until it is killed.
    pub stop: Duration,
    /// How long it may drain; zero if it does not.
    pub drain: Duration,
    /// From its start until it is ready.
    pub ready: Duration,
}

/// Why a server did not end.
#[derive(Clone, Debug)]
pub struct NotEnded {
    /// What is said of it.
    pub failure: Failure,
    /// Whether it certainly runs on, because it refused. Otherwise it may have ended.
    pub refused: bool,
}

/// Acts on servers.
pub trait Actuator: Send + Sync + 'static {
    /// Begins a process for a server that is down.
    fn launch(&self, id: String) -> BoxFuture<'_, Result<(), Failure>>;
    /// Ends a server, and answers when it has ended. With `kill`, without asking it.
    fn end<'a>(&'a self, id: String, kill: bool, messages: &'a Messages) -> BoxFuture<'a, Result<(), NotEnded>>;
    /// Restarts the program of a server under the monitor that is there. Answers false where that cannot be, or would not bring in what has
    /// changed: the server is then to be ended and launched.
    fn restart<'a>(&'a self, id: String, messages: &'a Messages) -> BoxFuture<'a, Result<bool, Failure>>;
    /// Lets a server drain. Answers when it has drained, or its time is over.
    fn drain<'a>(&'a self, id: String, messages: &'a Messages) -> BoxFuture<'a, Result<(), Failure>>;
    /// Takes that back.
    fn undrain<'a>(&'a self, id: String, messages: &'a Messages) -> BoxFuture<'a, Result<(), Failure>>;
    /// Whether the server is in the table.
    fn is_present(&self, id: &str) -> bool;
    /// How long each part may take.
    fn times(&self, id: &str) -> Times;
}
