//! A record of the admin log, and its line.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::plugin::{Caller, CallerRole};

/// What kind of thing a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
    /// The servers that the message names in the usual members.
    pub targets: Vec<String>,
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
    /// `ok`, or the code of the failure.
    result: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// Milliseconds.
    ms: f64,
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
            failure: None,
            reason: None,
            took: Duration::ZERO,
        }
    }

    /// Appends the line.
    pub(super) fn line(&self, text: &mut Vec<u8>) {
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
            result: self.failure.as_deref().unwrap_or("ok"),
            reason: self.reason.as_deref(),
            // Whole microseconds: more digits say nothing.
            ms: (self.took.as_micros() as f64) / 1000.0,
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
            tracing::info!(target: "pomelo::admin", ?kind, user, from, module, operation, failure, "asked by a client");
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
    let before = text.len();
    match serde_json::to_writer(&mut *text, line) {
        Ok(()) => text.push(b'\n'),
        // Texts and numbers can always be written.
        Err(_) => text.truncate(before),
    }
}

/// In UTC, to the millisecond.
fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}
