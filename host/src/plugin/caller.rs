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
}
