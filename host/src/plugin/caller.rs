//! Who called, as the host knows it from the connection.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::failure::Failure;

/// Who called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerRole {
    /// A client of the master.
    Client,
    /// A monitor, to its master.
    Monitor,
    /// The master, to a monitor.
    Master,
    /// The module's timer.
    Timer,
    /// The host itself: `start`, server events.
    Host,
}

impl CallerRole {
    /// Its name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            CallerRole::Client => "client",
            CallerRole::Monitor => "monitor",
            CallerRole::Master => "master",
            CallerRole::Timer => "timer",
            CallerRole::Host => "host",
        }
    }
}

/// Callers whose faults are charged together, because they are trusted alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallerClass {
    /// Clients whose user has level 1.
    Operators,
    /// Clients of other levels. Not trusted.
    Users,
    /// Monitors. Not trusted, because the token of any server type makes one.
    Monitors,
    /// The master, which calls its monitors.
    Master,
    /// The host itself: timers, `start`, server events.
    Host,
}

impl CallerClass {
    /// All of them.
    pub const ALL: [CallerClass; 5] =
        [CallerClass::Operators, CallerClass::Users, CallerClass::Monitors, CallerClass::Master, CallerClass::Host];

    /// Whose calls are meant, in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            CallerClass::Operators => "clients of level 1",
            CallerClass::Users => "clients of other levels",
            CallerClass::Monitors => "monitors",
            CallerClass::Master => "the master",
            CallerClass::Host => "the host itself",
        }
    }

    /// Its name in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            CallerClass::Operators => "operators",
            CallerClass::Users => "users",
            CallerClass::Monitors => "monitors",
            CallerClass::Master => "master",
            CallerClass::Host => "host",
        }
    }

    /// Whether one caller of the class may speak for all of it.
    pub const fn is_trusted(self) -> bool {
        !matches!(self, CallerClass::Users | CallerClass::Monitors)
    }

    /// Its place in [`CallerClass::ALL`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// Who called, as the connection knows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// What the caller is.
    pub role: CallerRole,
    /// Server id or client id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A monitor's server type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_type: Option<String>,
    /// A client's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// That user's level: 1 may do everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,
    /// Where the connection comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Sends messages to a client that waits for the answer. Absent where the caller is no such client.
    #[serde(skip)]
    pub progress: Option<Progress>,
}

/// Sends a message of a module to a client, beside the answers that it waits for.
#[derive(Clone)]
pub struct Progress(pub Arc<SendProgress>);

/// Given the module id and the message.
pub type SendProgress = dyn Fn(&str, &RawValue) -> Result<(), Failure> + Send + Sync;

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

impl Caller {
    /// A caller of which only the role is known.
    pub fn of(role: CallerRole) -> Self {
        Caller { role, id: None, server_type: None, user: None, level: None, address: None, progress: None }
    }

    /// The class that it belongs to.
    pub fn class(&self) -> CallerClass {
        match self.role {
            CallerRole::Client if self.level == Some(1) => CallerClass::Operators,
            CallerRole::Client => CallerClass::Users,
            CallerRole::Monitor => CallerClass::Monitors,
            CallerRole::Master => CallerClass::Master,
            CallerRole::Timer | CallerRole::Host => CallerClass::Host,
        }
    }

    /// By what it is told from others of its class: a client's user, a monitor's server id.
    pub fn name(&self) -> Option<&str> {
        match self.role {
            CallerRole::Client => self.user.as_deref(),
            _ => self.id.as_deref(),
        }
    }
}
