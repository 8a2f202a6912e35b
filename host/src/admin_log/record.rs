//! A record of the admin log, and its line.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::plugin::{Caller, CallerRole};
use crate::util::line_budget;
use crate::util::visible::escaped;

/// What kind of thing a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A message to a module that is answered, as a response or through an acknowledgement.
    Request,
    /// A message to a module that is not answered.
    Notify,
    /// A command to the host itself.
    Command,
    /// A registration: every one of a client, and those of monitors that were refused.
    Register,
}

/// One thing that was asked of the master, and what came of it.
#[derive(Clone, Debug)]
pub struct Record {
    /// When the message came.
    pub time: SystemTime,
    /// What it was.
    pub kind: Kind,
    /// Who asked. For a refused registration, who the peer said it was.
    pub caller: Arc<Caller>,
    /// The module, for requests, notifies and some commands.
    pub module: Option<String>,
    /// The operation of the module, or the command.
    pub operation: Option<String>,
    /// The servers that the message names in the usual members, as many as are told.
    pub targets: Vec<String>,
    /// How many the message names.
    pub target_count: usize,
    /// Whether what was asked for only shows something.
    pub reads: bool,
    /// The code of the failure; absent if there was none.
    pub failure: Option<Cow<'static, str>>,
    /// Why a registration was refused.
    pub reason: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// A record as it is written. Members that are absent are left out.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    kind: Kind,
    role: CallerRole,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "serverType", skip_serializing_if = "Option::is_none")]
    server_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    targets: &'a [String],
    /// How many there are in all, where not all are told.
    #[serde(rename = "targetCount", skip_serializing_if = "Option::is_none")]
    target_count: Option<usize>,
    /// `ok`, or the code of the failure.
    result: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// Milliseconds.
    ms: f64,
    /// For how many records the line stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// When the first of them came.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

impl Record {
    /// A record of a message that came just now.
    pub fn new(kind: Kind, caller: Arc<Caller>) -> Self {
        Record {
            time: SystemTime::now(),
            kind,
            caller,
            module: None,
            operation: None,
            targets: Vec::new(),
            target_count: 0,
            reads: false,
            failure: None,
            reason: None,
            took: Duration::ZERO,
        }
    }

    /// Appends the line. `folded`: for how many records it stands, and when the first of them came.
    pub(super) fn line(&self, folded: Option<(u64, SystemTime)>, text: &mut Vec<u8>) {
        let caller = &*self.caller;
        let line = Line {
            time: rfc3339(self.time),
            kind: self.kind,
            role: caller.role,
            user: caller.user.as_deref(),
            level: caller.level,
            id: caller.id.as_deref(),
            server_type: caller.server_type.as_deref(),
            address: caller.address.as_deref(),
            module: self.module.as_deref(),
            operation: self.operation.as_deref(),
            targets: &self.targets,
            target_count: Some(self.target_count).filter(|count| *count > self.targets.len()),
            result: self.failure.as_deref().unwrap_or("ok"),
            reason: self.reason.as_deref(),
            // Whole microseconds: more digits say nothing.
            ms: (self.took.as_micros() as f64) / 1000.0,
            count: folded.map(|(count, _)| count),
            since: folded.map(|(_, since)| rfc3339(since)),
        };
        push(text, &line);
    }

    /// Writes the record to the program's log: at level `info`, or at `debug` if a file keeps it.
    pub(super) fn trace(&self, kept: bool) {
        let (caller, kind) = (&*self.caller, self.kind);
        let (user, from) = (caller.user.as_deref(), caller.address.as_deref());
        let (module, operation, failure) = (self.module.as_deref(), self.operation.as_deref(), self.failure.as_deref());
        if kind == Kind::Register {
            // The session logs registrations, with the peer.
        } else if kept {
            tracing::debug!(target: "pomelo::admin", ?kind, user, from, module, operation, failure, "asked by a client");
        } else {
            line_budget::caused(user.unwrap_or_default(), || {
                tracing::info!(target: "pomelo::admin", ?kind, user, from, module, operation, failure, "asked by a client");
            });
        }
    }
}

/// Appends the line that says how many records are missing before it. Its kind says why.
pub(super) fn missing_line(text: &mut Vec<u8>, time: SystemTime, kind: &'static str, records: u64) {
    #[derive(Serialize)]
    struct Missing {
        time: String,
        kind: &'static str,
        records: u64,
    }
    push(text, &Missing { time: rfc3339(time), kind, records });
}

fn push(text: &mut Vec<u8>, line: &impl Serialize) {
    // Texts and numbers can always be written. Escaped, because people look at the file with what shows it as it is.
    if let Ok(line) = serde_json::to_string(line) {
        text.extend_from_slice(escaped(&line).as_bytes());
        text.push(b'\n');
    }
}

/// In UTC, to the millisecond.
fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}
