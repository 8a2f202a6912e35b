//! What is asked for.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Starts servers that are down.
    Start,
    /// Ends servers. They stay down.
    Stop,
    /// Ends servers without asking them. They stay down.
    Kill,
    /// Ends servers and starts them, and starts those that are down.
    Restart,
    /// Lets servers drain, and ends them then. They stay down.
    Drain,
    /// Starts servers that were added.
    Add,
    /// Brings the servers to another configuration: starts those that are new, restarts those that have changed, drains and ends those that are gone.
    Apply,
}

/// What is done with one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is started.
    Start,
    /// It is ended.
    Stop,
    /// It is killed.
    Kill,
    /// It is ended and started.
    Restart,
    /// It is drained and ended.
    Drain,
}

/// A number of servers, or a share of those of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Count(u32),
    /// So many of a hundred.
    Percent(u32),
}

/// What happens when a server fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The job pauses before the next servers, until it is resumed or cancelled.
    #[default]
    Pause,
    /// The job goes on.
    Continue,
}

/// How a job is carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Options {
    /// Whether servers go one after another, by type. Otherwise all go together.
    pub rolling: bool,
    /// How many servers of a type are away at a time, if it is rolling.
    pub max_unavailable: Amount,
    /// How long a server must have been ready before the next goes, milliseconds.
    pub min_ready_ms: u64,
    /// What happens when a server fails, if it is rolling.
    pub on_failure: OnFailure,
    /// Whether servers drain before they end, as long as their `drain_ms` says.
    pub drain: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            rolling: false,
            max_unavailable: Amount::Count(1),
            min_ready_ms: 0,
            on_failure: OnFailure::Pause,
            drain: false,
        }
    }
}

/// What a module asks the servers' monitors with. The fleet knows no signals: it passes these on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Messages {
    /// The module that is asked, on the server's side.
    pub module: String,
    /// To end.
    pub stop: Option<Box<RawValue>>,
    /// To end at once.
    pub kill: Option<Box<RawValue>>,
    /// To end and start again.
    pub restart: Option<Box<RawValue>>,
    /// To drain. The host adds `deadlineMs`.
    pub drain: Option<Box<RawValue>>,
    /// To take that back.
    pub undrain: Option<Box<RawValue>>,
}

/// An order.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it is for.
    pub kind: Kind,
    /// The servers, and what is done with each.
    pub servers: Vec<(String, Action)>,
    /// How it is carried out.
    pub options: Options,
    /// Who asks: a user, or a sentence.
    pub by: String,
    /// What the monitors are asked with.
    pub messages: Messages,
    /// Whether it waits for servers that other jobs own. Otherwise it is refused.
    pub queue: bool,
    /// Whether servers that it ends are to be started by the next master: the whole cluster ends.
    pub until_next_master: bool,
    /// Servers that are started after all others are done, because they need what these let go of.
    pub late: Vec<String>,
    /// What else is to be said of the job, a sentence each.
    pub notes: Vec<String>,
}

impl Request {
    /// An order for the same action with some servers.
    pub fn new(kind: Kind, ids: impl IntoIterator<Item = String>, by: impl Into<String>) -> Self {
        let action = match kind {
            Kind::Start | Kind::Add => Action::Start,
            Kind::Stop => Action::Stop,
            Kind::Kill => Action::Kill,
            Kind::Restart | Kind::Apply => Action::Restart,
            Kind::Drain => Action::Drain,
        };
        Request {
            kind,
            servers: ids.into_iter().map(|id| (id, action)).collect(),
            options: Options::default(),
            by: by.into(),
            messages: Messages::default(),
            queue: false,
            until_next_master: false,
            late: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl Action {
    /// Whether the server is wanted down from now on.
    pub(super) fn ends(self) -> bool {
        matches!(self, Action::Stop | Action::Kill | Action::Drain)
    }
}

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Start => "start",
            Kind::Stop => "stop",
            Kind::Kill => "kill",
            Kind::Restart => "restart",
            Kind::Drain => "drain",
            Kind::Add => "add",
            Kind::Apply => "apply",
        }
    }

    /// Whether an order of this kind is carried out although the disk does not take it. What it ends may be what fills the disk.
    pub(super) fn is_urgent(self) -> bool {
        matches!(self, Kind::Stop | Kind::Kill)
    }

    /// Whether a job of this kind takes servers over from one of the other kind. A server that does not come up can always be stopped or
    /// started anew, and one that does not end can always be killed.
    pub(super) fn takes_over(self, other: Kind) -> bool {
        match self {
            Kind::Kill => other != Kind::Kill,
            Kind::Stop | Kind::Restart | Kind::Drain => matches!(other, Kind::Start | Kind::Add),
            _ => false,
        }
    }
}

impl Amount {
    /// How many of so many servers; at least one.
    pub fn of(self, servers: usize) -> usize {
        match self {
            Amount::Count(count) => count as usize,
            Amount::Percent(percent) => servers.saturating_mul(percent as usize) / 100,
        }
        .max(1)
    }

    /// Reads `3` or `25%`.
    ///
    /// # Errors
    /// A sentence that says what it can be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no number of servers: it is a number from 1, or a share from 1% to 100%");
        let (digits, percent) = text.strip_suffix('%').map_or((text, false), |digits| (digits, true));
        let number: u32 = digits.parse().map_err(|_| wrong())?;
        match percent {
            true if (1..=100).contains(&number) => Ok(Amount::Percent(number)),
            false if number > 0 => Ok(Amount::Count(number)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Count(count) => write!(f, "{count}"),
            Amount::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Amount::Count(count) => serializer.serialize_u32(*count),
            Amount::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u32),
            Text(String),
        }
        let text = match Form::deserialize(deserializer)? {
            Form::Number(number) => number.to_string(),
            Form::Text(text) => text,
        };
        Amount::parse(&text).map_err(serde::de::Error::custom)
    }
}
