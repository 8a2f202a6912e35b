//! What belongs to a module id on a host, whichever version of the module is in force: its store, its options, its grants, its figures.

use std::sync::Arc;
use std::time::Instant;

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
            options,
            grants,
            store,
            neighbours,
            log_budget: LogBudget::new(Instant::now()),
        }
    }

    /// Whether what is set under a key outlives the process.
    pub fn is_durable(&self, key: &str) -> bool {
        self.store.is_durable(key)
    }
}
