//! The registry: which module ids there are, what each has on this host, which are disabled, and which files were refused.
//!
//! It knows what is in force. How a version comes into force is the installer's affair (`install`, `swap`), and what calls modules unasked is that
//! of `turns`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::life::Life;
use super::settings::Settings;
use super::table::Table;
use crate::failure::{Failure, code};
use crate::journal::Event;
use crate::plugin::capability::Services;
use crate::plugin::{Context, HostRole, Identity, Module, ModulesInForce, Neighbours, Store};

/// The keeper's scope for what operators enabled and disabled. It has a space, because no module id has one.
const STATES: &str = "module states";
const ENABLED: &str = "enabled";
const DISABLED: &str = "disabled";

/// The most module ids, present and past, that a host keeps a store for.
pub(super) const MAX_CONTEXTS: usize = 1024;
/// The most files in force at the same time, and the most refusals that are kept.
pub(super) const MAX_UNITS: usize = 256;

/// What a host knows of its modules.
pub(super) struct Registry {
    pub identity: Arc<Identity>,
    settings: RwLock<Arc<Settings>>,
    /// Names of files of the modules' directory that are worth another try, because the settings have changed.
    pub again: Again,
    pub life: Life,
    services: Arc<Services>,
    /// The modules in force.
    pub table: RwLock<Table>,
    /// By module id. A context stays when its module is removed, so that a module that comes back finds its store. Bounded by [`MAX_CONTEXTS`].
    contexts: Mutex<BTreeMap<String, Arc<Context>>>,
    /// Ids of disabled modules, loaded or not.
    disabled: RwLock<BTreeSet<String>>,
    /// By the file's name: its last refusal, until a version of it is accepted. Bounded by [`MAX_UNITS`].
    refusals: Mutex<BTreeMap<String, FileRefusal>>,
}

/// Why the newest file of a name is not in force.
pub(super) struct FileRefusal {
    /// The reason, as a sentence.
    pub why: String,
    /// Whether another file has an id that this one claims: once that file goes, this one is worth another try.
    pub conflict: bool,
    /// Whether other settings could have it accepted.
    pub settings: bool,
}

/// Names of files that are worth another try, for whoever can read the files. Bounded by [`MAX_UNITS`], because they are those of files that are in
/// force or were refused.
#[derive(Default)]
pub(super) struct Again {
    names: Mutex<BTreeSet<String>>,
    told: Notify,
}

impl Again {
    pub fn add(&self, names: impl IntoIterator<Item = String>) {
        let mut all = self.names.lock();
        all.extend(names);
        if !all.is_empty() {
            self.told.notify_one();
        }
    }

    /// Waits for names, and takes them. One task may wait.
    pub async fn next(&self) -> BTreeSet<String> {
        loop {
            let names = std::mem::take(&mut *self.names.lock());
            if !names.is_empty() {
                return names;
            }
            self.told.notified().await;
        }
    }
}

/// Why there is no context of a module id.
pub(super) enum NoContext {
    /// There is no room for one more module id.
    Full,
    /// What the module has stored cannot be read.
    Unread(Failure),
}

impl Registry {
    pub fn new(identity: Identity, services: Services, settings: Settings) -> Result<Self, Failure> {
        let mut disabled: BTreeSet<String> =
            settings.modules.iter().filter(|(_, module)| !module.enabled).map(|(id, _)| id.clone()).collect();
        // What an operator said last overrides the configuration. Only a master keeps it, because a monitor is told by its master.
        let keeper = settings.keeper.as_ref().filter(|_| identity.role == HostRole::Master);
        for (id, state) in keeper.map_or(Ok(Vec::new()), |keeper| keeper.load(STATES))? {
            if state == DISABLED {
                disabled.insert(id);
            } else {
                disabled.remove(&id);
            }
        }
        Ok(Registry {
            identity: Arc::new(identity),
            settings: RwLock::new(Arc::new(settings)),
            again: Again::default(),
            life: Life::default(),
            services: Arc::new(services),
            table: RwLock::default(),
            contexts: Mutex::default(),
            disabled: RwLock::new(disabled),
            refusals: Mutex::default(),
        })
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.read().clone()
    }

    /// Puts other settings in force, for all that is looked up from now on, and for the options, grants and stores of the module ids that are known.
    pub fn replace_settings(&self, settings: Arc<Settings>) {
        // The contexts stay locked, because one that is made meanwhile must not keep what was in force before.
        let contexts = self.contexts.lock();
        *self.settings.write() = settings.clone();
        for (id, context) in contexts.iter() {
            let (options, grants, limit) = settings.context(id);
            context.configure(options, grants);
            context.store.set_limit(limit);
        }
    }

    /// What a module id has on this host; made at its first use.
    pub fn context(self: &Arc<Self>, id: &str) -> Result<Arc<Context>, NoContext> {
        let mut contexts = self.contexts.lock();
        if let Some(context) = contexts.get(id) {
            return Ok(context.clone());
        }
        if contexts.len() >= MAX_CONTEXTS {
            return Err(NoContext::Full);
        }
        let settings = self.settings();
        let (options, grants, limit) = settings.context(id);
        let store = match &settings.keeper {
            Some(keeper) => Store::with_keeper(limit, id, keeper.clone()).map_err(NoContext::Unread)?,
            None => Store::new(limit),
        };
        let context = Arc::new(Context::new(
            id,
            self.identity.clone(),
            self.services.clone(),
            options,
            grants,
            Arc::new(store),
            self.neighbours(),
        ));
        contexts.insert(id.to_owned(), context.clone());
        Ok(context)
    }

    /// The modules of this host, as a handle that does not keep the host alive.
    pub fn neighbours(self: &Arc<Self>) -> Arc<dyn Neighbours> {
        Arc::new(Arc::downgrade(self))
    }

    /// The versions in force on this host, as a handle that does not keep the host alive.
    pub fn modules_in_force(self: &Arc<Self>) -> Arc<dyn ModulesInForce> {
        Arc::new(Arc::downgrade(self))
    }

    /// Refuses a call of a disabled module.
    pub fn check_enabled(&self, id: &str) -> Result<(), Failure> {
        if self.disabled.read().contains(id) {
            return Err(Failure::new(code::DISABLED, format!("module {id} is disabled")));
        }
        Ok(())
    }

    /// Enables or disables a module id, whether a module of it is loaded or not; whether that changed anything.
    pub fn set_enabled(&self, id: &str, enable: bool) -> bool {
        let mut disabled = self.disabled.write();
        let changed = if enable { disabled.remove(id) } else { disabled.insert(id.to_owned()) };
        if changed {
            let state = if enable { ENABLED } else { DISABLED };
            if let Some(keeper) = self.settings().keeper.as_ref().filter(|_| self.identity.role == HostRole::Master) {
                keeper.put(STATES, id, Some(state.into()));
            }
            tracing::info!(module = id, enabled = enable, "a module was {state}");
        }
        changed
    }

    /// The ids of disabled modules.
    pub fn disabled(&self) -> BTreeSet<String> {
        self.disabled.read().clone()
    }

    /// Takes over which modules are disabled.
    pub fn set_disabled(&self, ids: BTreeSet<String>) {
        *self.disabled.write() = ids;
    }

    /// Keeps why a file was refused.
    pub fn refuse(&self, file: &str, refusal: FileRefusal) {
        let mut refusals = self.refusals.lock();
        if refusals.len() < MAX_UNITS || refusals.contains_key(file) {
            refusals.insert(file.to_owned(), refusal);
        }
    }

    /// Forgets why a file was refused, because a version of it was accepted, or the file is gone.
    pub fn forget_refusal(&self, file: &str) {
        self.refusals.lock().remove(file);
    }

    /// By file: why its newest version was refused.
    pub fn refusals(&self) -> BTreeMap<String, String> {
        self.refusals.lock().iter().map(|(file, refusal)| (file.clone(), refusal.why.clone())).collect()
    }

    /// The files that were refused, and might be accepted under other settings.
    pub fn refused_by_settings(&self) -> Vec<String> {
        let refusals = self.refusals.lock();
        refusals.iter().filter(|(_, refusal)| refusal.settings).map(|(file, _)| file.clone()).collect()
    }

    /// Whether the newest version of a file was refused because another file has an id that it claims.
    pub fn in_conflict(&self, file: &str) -> bool {
        self.refusals.lock().get(file).is_some_and(|refusal| refusal.conflict)
    }

    /// Writes down what happened to this host's modules.
    pub fn record(&self, event: Event) {
        self.services.journal.record(event.server(&self.identity.server_id));
    }

    /// Writes down what a client did to this host. The event names the client instead of the host's server.
    pub fn record_of_client(&self, event: Event) {
        self.services.journal.record(event);
    }
}

/// Weak, because the registry holds every context, and every context holds this.
impl Neighbours for Weak<Registry> {
    fn ids(&self) -> Vec<String> {
        let Some(registry) = self.upgrade() else { return Vec::new() };
        let mut ids: Vec<_> = registry.table.read().slots.keys().cloned().collect();
        ids.sort_unstable();
        ids
    }

    fn store(&self, id: &str) -> Option<Arc<Store>> {
        let registry = self.upgrade()?;
        let contexts = registry.contexts.lock();
        contexts.get(id).map(|context| context.store.clone())
    }
}

impl ModulesInForce for Weak<Registry> {
    fn module(&self, id: &str) -> Option<Arc<Module>> {
        let registry = self.upgrade()?;
        let table = registry.table.read();
        table.slots.get(id).map(|slot| slot.unit.module())
    }
}
