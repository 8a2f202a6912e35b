//! Who called, as the host knows it from the connection.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;

use super::ModuleMessage;
use crate::budget::{Account, Class};
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
    /// The account of the caller's connection. Absent where the caller is in this process, or is the master of this monitor.
    #[serde(skip)]
    pub account: Option<Account>,
}

/// Sends a message of a module to a client, beside the answers that it waits for.
#[derive(Clone)]
pub struct Progress(pub Arc<SendProgress>);

/// Given the message, whose module is the one that sends it. Waits until there is room for it, and fails with `busy` where there is none until the
/// message's deadline.
pub type SendProgress = dyn Fn(ModuleMessage) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync;

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

impl Caller {
    /// A caller of which only the role is known.
    pub fn of(role: CallerRole) -> Self {
        let (id, server_type, user, address) = (None, None, None, None);
        Caller { role, id, server_type, user, level: None, address, progress: None, account: None }
    }

    /// The class that it belongs to.
    pub fn class(&self) -> Class {
        match self.role {
            CallerRole::Client if self.level == Some(1) => Class::Operator,
            CallerRole::Client => Class::User,
            CallerRole::Monitor => Class::Monitor,
            CallerRole::Timer | CallerRole::Host => Class::Host,
            CallerRole::Master => Class::Master,
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
