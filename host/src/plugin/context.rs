//! What a module id has on a host, over all versions of the module: its store, its options, its grants, its figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::capability::Services;
use super::{Grants, Identity, Stats, Store};

/// The modules of the same host.
pub trait Neighbours: Send + Sync {
    /// The module ids that the host knows, in order.
    fn ids(&self) -> Vec<String>;
    /// The store of a module id.
    fn store(&self, id: &str) -> Option<Arc<Store>>;
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
