//! The console service: which module is meant, may this caller ask it, and when is it called.
//!
//! Both hosts have one. It keeps the table of module ids, hands messages to handlers, keeps the order of those that are declared serial, fires
//! timers, feeds server events, and installs, replaces and removes versions of modules.
//!
//! | file | what is there |
//! |---|---|
//! | `table` | module ids, and the files that answer to them |
//! | `settings` | what a configuration says of modules |
//! | `install` | from a file's bytes to a version that may take over |
//! | `start` | `start`, once for each id and version |
//! | `swap` | taking over, letting go, coming back, removal |
//! | `dispatch` | from a message to a handler's answer |
//! | `permissions` | whether a client may ask for an operation |
//! | `lane` | calls that run one at a time |
//! | `schedule` | timers |
//! | `events` | changes of the server table, to the modules that want them |
//! | `observe` | metrics that are states |
//! | `commands` | `list`, `enable`, `disable`, `modules` |
//!
//! This part knows no sockets and no module by name.

mod commands;
mod dispatch;
mod events;
mod install;
mod lane;
mod observe;
mod permissions;
mod schedule;
mod settings;
mod start;
mod swap;
mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::plugin::capability::Services;
use crate::plugin::{Context, Engine, HostRole, Identity, Module, ModulesInForce, Neighbours, Store};

pub use commands::{CommandAnswer, ModuleStatus};
pub use dispatch::{Inbound, Reply};
pub use events::{Batch, EventSource, Position};
pub use install::{InstallError, Installed, Origin, Source};
pub use permissions::Asked;
pub use settings::{BuiltIn, ModuleSettings, Settings};

/// The console service of a host. Clones are the same service.
#[derive(Clone)]
pub struct Console(Arc<Inner>);

struct Inner {
    identity: Arc<Identity>,
    services: Arc<Services>,
    engine: Engine,
    settings: Settings,
    table: RwLock<table::Table>,
    /// By module id; they stay when a module is removed, so that one that comes back finds its store. Bounded by [`MAX_CONTEXTS`].
    contexts: Mutex<BTreeMap<String, Arc<Context>>>,
    disabled: RwLock<BTreeSet<String>>,
    timers: Mutex<HashMap<String, schedule::Timer>>,
    /// By module id.
    feeds: Mutex<HashMap<String, events::Feed>>,
    events: OnceLock<Arc<dyn EventSource>>,
    /// The last refusal of each file, until a version of it is accepted.
    refused: Mutex<BTreeMap<String, install::Refusal>>,
    started: watch::Sender<bool>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    /// Files of which the metrics know.
    observed: Mutex<BTreeSet<String>>,
}

/// The keeper's scope for what operators enabled and disabled. No module id has a space.
const STATES: &str = "module states";
const ENABLED: &str = "enabled";
const DISABLED: &str = "disabled";

/// Module ids that a host keeps a store for, present and past.
const MAX_CONTEXTS: usize = 1024;

impl Console {
    /// A console service without modules.
    pub fn new(engine: Engine, identity: Identity, services: Services, settings: Settings) -> Self {
        let mut disabled: BTreeSet<String> =
            settings.modules.iter().filter(|(_, module)| !module.enabled).map(|(id, _)| id.clone()).collect();
        // What an operator said last counts more than the configuration. A monitor is told by its master.
        let keeper = settings.keeper.as_ref().filter(|_| identity.role == HostRole::Master);
        for (id, state) in keeper.iter().flat_map(|keeper| keeper.load(STATES)) {
            if state == DISABLED {
                disabled.insert(id);
            } else {
                disabled.remove(&id);
            }
        }
        Console(Arc::new(Inner {
            identity: Arc::new(identity),
            services: Arc::new(services),
            engine,
            settings,
            table: RwLock::default(),
            contexts: Mutex::default(),
            disabled: RwLock::new(disabled),
            timers: Mutex::default(),
            feeds: Mutex::default(),
            events: OnceLock::new(),
            refused: Mutex::default(),
            started: watch::Sender::new(false),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            observed: Mutex::default(),
        }))
    }

    /// Whose host this is.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Gives the source of server events; to be called once, before [`Console::start`].
    pub fn set_events(&self, source: Arc<dyn EventSource>) {
        // A second source would be a mistake of the program, without harm: the first one stays.
        let _ = self.0.events.set(source);
    }

    /// Waits for the calls under way, at most for the time given, and ends timers, feeds and lanes. Calls that come later are refused.
    pub async fn shut_down(&self, at_most: Duration) {
        self.0.shutdown.cancel();
        self.0.timers.lock().clear();
        self.0.feeds.lock().clear();
        let modules = self.0.table.read().modules();
        futures_util::future::join_all(modules.iter().map(|module| module.drain(at_most))).await;
        self.0.tasks.close();
        let _ = tokio::time::timeout(at_most, self.0.tasks.wait()).await;
    }

    /// The modules of this host, for those who do not keep it alive.
    pub fn neighbours(&self) -> Arc<dyn Neighbours> {
        Arc::new(self.downgrade())
    }

    /// The versions in force on this host, for those who do not keep it alive.
    pub fn modules_in_force(&self) -> Arc<dyn ModulesInForce> {
        Arc::new(self.downgrade())
    }

    /// Whether this host is shutting down.
    pub fn is_shutting_down(&self) -> bool {
        self.0.shutdown.is_cancelled()
    }

    /// Waits until this host begins to shut down.
    pub async fn shutting_down(&self) {
        self.0.shutdown.cancelled().await;
    }

    fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }
}

/// Weak, since every context has it and stands in the console itself.
impl Neighbours for Weak<Inner> {
    fn ids(&self) -> Vec<String> {
        let Some(console) = self.upgrade() else { return Vec::new() };
        let mut ids: Vec<_> = console.table.read().slots.keys().cloned().collect();
        ids.sort_unstable();
        ids
    }

    fn store(&self, id: &str) -> Option<Arc<Store>> {
        let console = self.upgrade()?;
        let contexts = console.contexts.lock();
        contexts.get(id).map(|context| context.store.clone())
    }
}

impl ModulesInForce for Weak<Inner> {
    fn module(&self, id: &str) -> Option<Arc<Module>> {
        let console = self.upgrade()?;
        let table = console.table.read();
        table.slots.get(id).map(|slot| slot.unit.module.clone())
    }
}
