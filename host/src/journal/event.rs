//! One thing that happened, and the form in which a monitor reports it.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::util::cut;
use crate::util::visible::{escaped, escaped_but};

/// The kinds of events that the host itself writes. The set is open: readers must expect others.
pub mod kind {
    /// A server has joined: it is in the server table.
    pub const JOIN: &str = "join";
    /// A server has left the server table.
    pub const LEAVE: &str = "leave";
    /// A further monitor has registered under the id of one that is there.
    pub const SLAVE: &str = "slave";
    /// A program ended. `code` or `signal`, and `lines`, say how.
    pub const EXIT: &str = "exit";
    /// A program was started again.
    pub const RESTART: &str = "restart";
    /// A program ended and stays down.
    pub const GIVEN_UP: &str = "given-up";
    /// A new version of a module has taken over, or a module's file is gone.
    pub const RELOAD: &str = "reload";
    /// A version of a module is back: a newer one trapped at once, or was refused at the start of a host, or an operator has gone back from it.
    pub const ROLLBACK: &str = "rollback";
    /// A version of a module is for more monitors than before, or a module is taken from them.
    pub const ROLLOUT: &str = "rollout";
    /// A handler keeps trapping and is left alone for a while.
    pub const PUT_ASIDE: &str = "put-aside";
    /// A registration, a request or a module's file was refused.
    pub const REFUSAL: &str = "refusal";
    /// A module was enabled.
    pub const ENABLE: &str = "enable";
    /// A module was disabled.
    pub const DISABLE: &str = "disable";
    /// The operator should look: a large part of the fleet vanished, or that is over.
    pub const ALARM: &str = "alarm";
    /// A job of the fleet has begun, or is over.
    pub const JOB: &str = "job";
    /// A monitor serves metrics and health at an address.
    pub const HTTP: &str = "http";

    /// The checks of a program's health have failed so often that it is unhealthy.
    pub const UNHEALTHY: &str = "unhealthy";
    /// A program that was unhealthy is healthy again.
    pub const HEALTHY: &str = "healthy";
    /// A program is ended for its health. `lines` are the last of what it has written.
    pub const HEALTH_RESTART: &str = "health-restart";
    /// The files of the configuration differ from what runs, cannot be read, or are what runs again.
    pub const FILES: &str = "files";
    /// The host's certificate was read again, could not be, or ends soon.
    pub const CERTIFICATE: &str = "certificate";

    /// All of them.
    const ALL: [&str; 21] = [
        JOIN,
        LEAVE,
        SLAVE,
        EXIT,
        RESTART,
        GIVEN_UP,
        RELOAD,
        ROLLBACK,
        ROLLOUT,
        PUT_ASIDE,
        REFUSAL,
        ENABLE,
        DISABLE,
        ALARM,
        JOB,
        HTTP,
        UNHEALTHY,
        HEALTHY,
        HEALTH_RESTART,
        FILES,
        CERTIFICATE,
    ];

    /// The kind as a metric's label. A kind that is not listed here is `other`.
    pub fn known(kind: &str) -> &'static str {
        ALL.iter().find(|known| **known == kind).copied().unwrap_or("other")
    }
}

/// Bytes that an event's sentence may have.
const MAX_MESSAGE: usize = 1024;
/// Lines of a program's output that an event may carry, and bytes of one.
const MAX_LINES: (usize, usize) = (10, 512);
/// Bytes of a kind and of an id.
const MAX_WORD: usize = 128;

/// Bytes of a kind that a monitor reports.
const MAX_KIND: usize = 64;

/// One thing that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number in its journal, from 1.
    #[serde(default)]
    pub n: u64,
    /// When, milliseconds since 1970-01-01 00:00 UTC by the journal's clock.
    #[serde(default)]
    pub time: u64,
    /// One of [`kind`], or another word in kebab-case.
    pub kind: Cow<'static, str>,
    /// The server that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The module that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The user whose client caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// A sentence that says what happened.
    pub message: String,
    /// The code with which a program ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal by which a program was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The last lines of the program: of its standard error, and in [`kind::HEALTH_RESTART`] of all that it has written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// How often it has happened, where events with the same cause were folded into this one; absent for once. `time` is then that of the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// When it happened first; absent where it happened once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
}

/// The kinds that a server causes again and again that is in a crash loop, or well and unwell in turns.
const FOLDED: [&str; 8] = [
    kind::EXIT,
    kind::RESTART,
    kind::GIVEN_UP,
    kind::JOIN,
    kind::LEAVE,
    kind::UNHEALTHY,
    kind::HEALTHY,
    kind::HEALTH_RESTART,
];

/// An event as a monitor reports it to its master. The master ignores its `n`, `time`, `server` and `client`.
#[derive(Serialize, Deserialize)]
pub struct Report {
    #[serde(flatten)]
    event: Event,
    /// How long ago it happened, milliseconds: the clocks of two machines differ.
    #[serde(default)]
    ago: u64,
}

impl Event {
    /// An event of that kind that happens now.
    pub fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Event { kind: kind.into(), message: message.into(), ..Event::default() }
    }

    /// Names the server that it concerns.
    pub fn server(self, id: impl Into<String>) -> Self {
        Event { server: Some(id.into()), ..self }
    }

    /// Names the module that it concerns.
    pub fn module(self, id: impl Into<String>) -> Self {
        Event { module: Some(id.into()), ..self }
    }

    /// Names the user whose client caused it.
    pub fn client(self, user: Option<&str>) -> Self {
        Event { client: user.map(str::to_owned), ..self }
    }

    /// Says how a program ended.
    pub fn exit(self, code: Option<i32>, signal: Option<i32>, lines: Vec<String>) -> Self {
        Event { code, signal, lines, ..self }
    }

    /// The event with its number, its time, and all its texts in one line each, escaped and cut to their bounds, because peers have a part in them.
    pub(super) fn numbered(mut self, n: u64) -> Self {
        self.n = n;
        if self.time == 0 {
            self.time = now();
        }
        for text in [Some(&mut self.message), self.server.as_mut(), self.module.as_mut(), self.client.as_mut()] {
            if let Some(text) = text
                && let Cow::Owned(shown) = escaped(text)
            {
                *text = shown;
            }
        }
        for line in &mut self.lines {
            if let Cow::Owned(shown) = escaped_but(line, &['\t']) {
                *line = shown;
            }
        }
        cut(&mut self.message, MAX_MESSAGE);
        if self.kind.len() > MAX_WORD {
            cut(self.kind.to_mut(), MAX_WORD);
        }
        for id in [&mut self.server, &mut self.module, &mut self.client].into_iter().flatten() {
            cut(id, MAX_WORD);
        }
        self.lines.truncate(MAX_LINES.0);
        self.lines.iter_mut().for_each(|line| cut(line, MAX_LINES.1));
        self
    }

    /// What events with the same cause share; absent for those that are never folded. Numbers in the sentence, such as process ids, do not count.
    pub(super) fn cause(&self) -> Option<String> {
        let server = self.server.as_ref().filter(|_| FOLDED.contains(&&*self.kind))?;
        let mut cause = format!("{}\0{server}\0{:?}\0{:?}\0", self.kind, self.code, self.signal);
        let mut digits = false;
        for c in self.message.chars() {
            if !c.is_ascii_digit() {
                cause.push(c);
            } else if !digits {
                cause.push('0');
            }
            digits = c.is_ascii_digit();
        }
        Some(cause)
    }

    /// The event, with an earlier one of the same cause folded into it.
    pub(super) fn after(self, earlier: &Event) -> Self {
        let count = earlier.count.unwrap_or(1).saturating_add(1);
        let first = earlier.first.unwrap_or(earlier.time).min(self.time);
        Event { time: self.time.max(earlier.time), count: Some(count), first: Some(first), ..self }
    }

    /// About how many bytes the event takes in an answer.
    pub(super) fn size(&self) -> usize {
        // Escaping at most doubles what people and programs write. Names and numbers take the rest.
        150 + 2 * (self.message.len() + self.lines.iter().map(|line| line.len() + 3).sum::<usize>())
    }

    /// The report that a monitor sends of it.
    pub fn report(&self) -> Report {
        Report { event: self.clone(), ago: now().saturating_sub(self.time) }
    }
}

impl Report {
    /// The event, reported by the monitor of that server at `now`. A kind that is no word in kebab-case becomes `other`.
    pub fn of(self, server: &str, now: u64) -> Event {
        let kind = &self.event.kind;
        let is_word = (1..=MAX_KIND).contains(&kind.len()) && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        let kind = if is_word { self.event.kind } else { "other".into() };
        let (server, time) = (Some(server.to_owned()), now.saturating_sub(self.ago));
        Event { n: 0, time, kind, server, client: None, count: None, first: None, ..self.event }
    }

    /// As [`Report::of`], by this host's clock.
    pub fn received(self, server: &str) -> Event {
        self.of(server, now())
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}
