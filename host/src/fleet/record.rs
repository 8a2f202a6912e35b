//! What is known of one server.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::state::{Place, State, Wanted};
use crate::wire::Info;

/// Ends that are kept of a server.
pub const KEPT_EXITS: usize = 5;
/// Bytes that a reason may have.
const MAX_WHY: usize = 512;

/// Where a server is known from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The configuration.
    Configured,
    /// It was added while the cluster ran, as described.
    Added(Info),
    /// It has joined, and nobody had named it.
    Joined,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerRecord {
    /// Its id.
    pub id: String,
    /// Its type.
    pub server_type: String,
    /// Where it is known from.
    pub origin: Origin,
    /// Who can start it.
    pub place: Place,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// Who wanted that: a user, `configuration`, or a sentence.
    pub wanted_by: String,
    /// Since when, milliseconds since 1970-01-01 00:00 UTC.
    pub wanted_since: u64,
    /// What it is.
    pub state: State,
    /// Since when, milliseconds since 1970-01-01 00:00 UTC.
    pub since: u64,
    /// Why it is so; empty where there is nothing to say.
    #[serde(default)]
    pub why: String,
    /// How often it was started again after it had ended by itself.
    #[serde(default)]
    pub restarts: u64,
    /// How often it has joined. Whoever waits for a server to be ready again compares two of these.
    #[serde(default)]
    pub joins: u64,
    /// How long it took to become ready the last time, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<u64>,
    /// While it drains: the connections that are left, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// How it has ended, the newest last; at most [`KEPT_EXITS`].
    #[serde(default)]
    pub exits: Vec<LastExit>,
    /// Grows with every change of any server.
    pub revision: u64,
}

/// How a server has ended once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// In which manner, such as `ended with code 1`.
    pub how: String,
    /// When, milliseconds since 1970-01-01 00:00 UTC.
    pub time: u64,
    /// The last lines of its standard error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// What its monitor tells it from others by; 0 where no monitor has told it.
    #[serde(default)]
    pub id: u64,
}

impl LastExit {
    /// Whether both are the same end. The times of one that was told twice may differ.
    pub fn is(&self, other: &LastExit) -> bool {
        if self.id == 0 || other.id == 0 { self == other } else { self.id == other.id }
    }
}

impl ServerRecord {
    /// A server of which nothing is known but that it is to run.
    pub fn new(id: &str, server_type: &str, origin: Origin, place: Place, by: &str) -> Self {
        let now = now();
        ServerRecord {
            id: id.to_owned(),
            server_type: server_type.to_owned(),
            origin,
            place,
            wanted: Wanted::Up,
            wanted_by: by.to_owned(),
            wanted_since: now,
            state: if place == Place::Ours { State::Pending } else { State::Elsewhere },
            since: now,
            why: String::new(),
            restarts: 0,
            joins: 0,
            ready_ms: None,
            connections: None,
            exits: Vec::new(),
            revision: 0,
        }
    }

    /// Whether it is as it is wanted.
    pub fn is_as_wanted(&self) -> bool {
        match self.wanted {
            Wanted::Up => self.state == State::Running,
            Wanted::Down => self.state == State::Stopped,
        }
    }
}

/// Milliseconds since 1970-01-01 00:00 UTC.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A reason, cut to what a record keeps.
pub(super) fn cut(why: &str) -> String {
    let mut why = why.to_owned();
    // The mark of the cut counts as well.
    crate::util::cut(&mut why, MAX_WHY - '…'.len_utf8());
    why
}
