//! What the master's side sends to a monitor's.

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::arguments::Pairs;

/// From the master to a monitor.
#[derive(Default, Serialize, Deserialize)]
pub struct Message {
    pub signal: String,
    /// With `addCron` and `removeCron`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<Pairs>,
    /// With `blacklist`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blacklist: Option<Vec<String>>,
    /// With `logs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Wanted>,
    /// With `drain`: how long it may take, milliseconds.
    #[serde(default, rename = "deadlineMs", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
}

impl Message {
    pub fn new(signal: &str) -> Self {
        Self { signal: signal.to_owned(), ..Self::default() }
    }
}

/// Which lines of a log are wanted.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Wanted {
    /// At most so many, the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
    /// Those after this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// How long to wait for one, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u64>,
    /// Those of that time or later, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Those that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
    /// The size of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// Whether the files are read, and not the newest lines in memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
}

/// The failure for an unknown signal.
pub fn unknown(signal: &str) -> Failure {
    const SIGNALS: &str = ": it is list, add, start, stop, kill, restart, drain, undrain, apply, jobs, job, cancelJob, resumeJob, logs, addCron, removeCron or blacklist.";
    Failure::new("unknown-signal", ["There is no signal ", signal, SIGNALS].concat())
}
