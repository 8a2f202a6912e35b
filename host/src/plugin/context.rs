//! What belongs to a module id on a host, whichever version of the module is in force: its store, its options, its grants, its figures.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;

use super::capability::Services;
use super::log_budget::LogBudget;
use super::{Grants, Identity, Stats, Store};

/// The modules of the same host.
pub trait Neighbours: Send + Sync {
    /// The module ids that the host knows, in order.
    fn ids(&self) -> Vec<String>;
    /// The store of a module id.
    fn store(&self, id: &str) -> Option<Arc<Store>>;
}

/// What belongs to a module id on a host.
pub struct Context {
    /// The module id.
    pub id: String,
    /// Whose host this is.
    pub identity: Arc<Identity>,
    /// What the host offers.
    pub services: Arc<Services>,
    /// What the configuration says of the module: its options, and what is granted. It may change while calls are under way.
    configured: RwLock<(String, Grants)>,
    /// The module's store.
    pub store: Arc<Store>,
    /// The modules of this host.
    pub neighbours: Arc<dyn Neighbours>,
    /// Figures of the handlers.
    pub stats: Stats,
    /// Lines that the module may still log.
    pub(super) log_budget: LogBudget,
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
            configured: RwLock::new((options, grants)),
            store,
            neighbours,
            log_budget: LogBudget::new(Instant::now()),
        }
    }

    /// The module's options, JSON text.
    pub fn options(&self) -> String {
        self.configured.read().0.clone()
    }

    /// Whether the operator granted that the module may, through an interface, turn to the module `id`.
    pub fn reaches(&self, interface: &str, id: &str) -> bool {
        self.configured.read().1.reaches(interface, id)
    }

    /// Takes over other options and grants. The next look at them, also of a call that is under way, sees these.
    pub fn configure(&self, options: String, grants: Grants) {
        *self.configured.write() = (options, grants);
    }

    /// Whether what is set under a key outlives the process.
    pub fn is_durable(&self, key: &str) -> bool {
        self.store.is_durable(key)
    }
}
