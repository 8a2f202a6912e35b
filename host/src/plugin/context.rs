//! What a module id has on a host, over all versions of the module: its store, its options, its grants, its figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::capability::Services;
use super::{Grants, Module, Stats, Store};
use crate::failure::Failure;

/// What a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostRole {
    /// Runs the cluster.
    Master,
    /// Stands beside a server.
    Monitor,
}

impl HostRole {
    /// `master` or `monitor`.
    pub const fn as_str(self) -> &'static str {
        match self {
            HostRole::Master => "master",
            HostRole::Monitor => "monitor",
        }
    }
}

/// Whose host this is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What the host is.
    pub role: HostRole,
    /// Id of its server.
    pub server_id: String,
    /// Type of its server; `master` on the master.
    pub server_type: String,
}

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
    /// The way to a client that waits.
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

/// The modules of the same host.
pub trait Neighbours: Send + Sync {
    /// The module ids that the host knows, in order.
    fn ids(&self) -> Vec<String>;
    /// The store of a module id.
    fn store(&self, id: &str) -> Option<Arc<Store>>;
    /// The version in force of a module id.
    fn module(&self, _id: &str) -> Option<Arc<Module>> {
        None
    }
}

/// What a module id has on a host.
pub struct Context {
    /// The module id.
    pub id: String,
    /// Whose host this is.
    pub identity: Arc<Identity>,
    /// What the host offers.
    pub services: Arc<Services>,
    /// The module's options, JSON text.
    pub options: String,
    /// What the operator granted.
    pub grants: Grants,
    /// The module's store.
    pub store: Arc<Store>,
    /// The modules of this host.
    pub neighbours: Arc<dyn Neighbours>,
    /// Figures of the handlers.
    pub stats: Stats,
    /// Lines that the module may still log in this second.
    pub(super) lines: LineBudget,
}

impl Context {
    /// A context with an empty store.
    pub fn new(
        id: impl Into<String>,
        identity: Arc<Identity>,
        services: Arc<Services>,
        options: String,
        grants: Grants,
        store: Arc<Store>,
        neighbours: Arc<dyn Neighbours>,
    ) -> Self {
        let id = id.into();
        Context {
            stats: Stats::new(&id),
            id,
            identity,
            services,
            options,
            grants,
            store,
            neighbours,
            lines: LineBudget::default(),
        }
    }

    /// Whether what is set under a key outlives the process.
    pub fn is_durable(&self, key: &str) -> bool {
        self.store.is_durable(key)
    }
}

/// Keeps a module that logs without pause from filling the log.
#[derive(Debug, Default)]
pub(super) struct LineBudget {
    window: Mutex<Option<(Instant, u32)>>,
    told: AtomicBool,
}

impl LineBudget {
    /// Lines that a module may log in a second.
    const LINES: u32 = 100;

    /// Whether one more line may be logged; `Err(true)` where the loss is to be told, once a window.
    pub fn take(&self, now: Instant) -> Result<(), bool> {
        let mut window = self.window.lock();
        let (_, used) = match window.as_mut() {
            Some(open) if now.duration_since(open.0) < Duration::from_secs(1) => open,
            _ => {
                self.told.store(false, Ordering::Relaxed);
                window.insert((now, 0))
            }
        };
        *used = used.saturating_add(1);
        if *used <= Self::LINES { Ok(()) } else { Err(!self.told.swap(true, Ordering::Relaxed)) }
    }
}
