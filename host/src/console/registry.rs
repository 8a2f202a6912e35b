//! The registry: which module ids there are, what each has on this host, which are disabled, and which files were refused.
//!
//! It knows what is in force. How a version comes into force is the installer's affair (`install`, `swap`), and what calls modules unasked is that
//! of `turns`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, watch};

use super::life::Life;
use super::settings::Settings;
use super::source::Origin;
use super::table::Table;
use crate::failure::{Failure, code};
use crate::journal::Event;
use crate::plugin::capability::Services;
use crate::plugin::{Context, HostRole, Identity, Module, ModulesInForce, Neighbours, Store};

/// The keeper's scope for what operators enabled and disabled. It has a space, because no module id has one.
const STATES: &str = "module states";
const ENABLED: &str = "enabled";
const DISABLED: &str = "disabled";

/// The most module ids in force that a host keeps a store for.
pub(super) const MAX_CONTEXTS: usize = 1024;
/// The most module ids that no file has any more and whose stores are kept in memory, because the module may come back; and the most bytes of these stores.
const MAX_PAST: (usize, usize) = (128, 8 << 20);
/// The most files in force at the same time.
pub(super) const MAX_UNITS: usize = 256;
/// The most refusals that are kept. There may be one for each file that is read, and one for the directory.
const MAX_REFUSALS: usize = 2 * MAX_UNITS + 1;

/// What a host knows of its modules.
pub(super) struct Registry {
    pub identity: Arc<Identity>,
    settings: RwLock<Arc<Settings>>,
    /// Names of files that are worth another try, because settings or other files have changed.
    pub again: Again,
    pub life: Life,
    services: Arc<Services>,
    /// The modules in force.
    pub table: RwLock<Table>,
    /// What each module id has, in use or not. Bounded by [`MAX_CONTEXTS`].
    contexts: Mutex<Contexts>,
    /// Ids of disabled modules, loaded or not.
    disabled: RwLock<BTreeSet<String>>,
    /// By the file's name: its last refusal, until a version of it is accepted. Bounded by [`MAX_REFUSALS`].
    refusals: Mutex<BTreeMap<String, FileRefusal>>,
    /// Names of files that are being compiled and checked.
    installing: Mutex<BTreeSet<String>>,
    /// Counts changes of what is in force or refused.
    changes: watch::Sender<u64>,
    /// The directory of files that the master hands on, and tells of itself.
    from_master: OnceLock<PathBuf>,
}

/// A file is shown as being installed as long as this lives.
pub(super) struct Installing<'a> {
    registry: &'a Registry,
    file: &'a str,
}

impl Drop for Installing<'_> {
    fn drop(&mut self) {
        self.registry.installing.lock().remove(self.file);
    }
}

/// Why the newest file of a name is not in force.
#[derive(Clone, Default)]
pub(super) struct FileRefusal {
    /// The reason, as a sentence.
    pub why: String,
    /// Sha-256 of what was refused, in hexadecimal; absent where it was not read.
    pub digest: Option<String>,
    /// Whether another file has an id that this one claims: once that file goes, this one is worth another try.
    pub conflict: bool,
    /// Whether other settings could have it accepted.
    pub settings: bool,
    /// Whether the host is at fault and not the file, so that it is tried again.
    pub passing: bool,
}

/// How many times names may be told before a follower has taken those of the first time.
const MOST_TOLD: usize = 16;

/// Tells whoever can read the files the names of those that are worth another try.
pub(super) struct Again(broadcast::Sender<Arc<BTreeSet<String>>>);

impl Default for Again {
    fn default() -> Self {
        Again(broadcast::Sender::new(MOST_TOLD))
    }
}

impl Again {
    pub fn add(&self, names: impl IntoIterator<Item = String>) {
        let names: BTreeSet<String> = names.into_iter().collect();
        if !names.is_empty() {
            // Where nobody follows a directory there are no files.
            let _ = self.0.send(Arc::new(names));
        }
    }
}

/// The names of files that are worth another try, because settings or other files have changed: from the moment on at which this was made.
pub struct FilesToInstall {
    told: broadcast::Receiver<Arc<BTreeSet<String>>>,
    registry: Weak<Registry>,
}

impl FilesToInstall {
    /// Waits for names, without their ending. Whoever took them too late for all to be kept is told the names of all files that are known.
    pub async fn next(&mut self) -> BTreeSet<String> {
        match self.told.recv().await {
            Ok(names) => Arc::unwrap_or_clone(names),
            Err(broadcast::error::RecvError::Lagged(_)) => {
                self.registry.upgrade().map(|registry| registry.file_names()).unwrap_or_default()
            }
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
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

/// What each module id has. It stays for a while when its module is removed, so that a module that comes back finds its store.
#[derive(Default)]
struct Contexts {
    by_id: BTreeMap<String, Arc<Context>>,
    /// The ids that nobody uses any more, the one that has been so for the longest time first.
    past: VecDeque<String>,
}

impl Contexts {
    /// Whether anybody else has a context: a module in force, one that is about to be, or a call.
    fn in_use(context: &Arc<Context>) -> bool {
        Arc::strong_count(context) > 1
    }

    /// Gives ids back that nobody uses: those whose stores are empty, and the oldest of the others beyond the bounds.
    /// What has to be dropped is returned, because it may be large.
    fn give_back(&mut self, (most, bytes): (usize, usize)) -> Vec<Arc<Context>> {
        let Contexts { by_id, past } = self;
        past.retain(|id| by_id.get(id).is_some_and(|context| !Self::in_use(context)));
        let known: BTreeSet<&String> = past.iter().collect();
        let unused = by_id.iter().filter(|(id, context)| !Self::in_use(context) && !known.contains(id));
        let new: Vec<String> = unused.map(|(id, _)| id.clone()).collect();
        past.extend(new);
        let mut dropped = Vec::new();
        let mut kept = (0, 0);
        // From the newest to the oldest.
        let mut stay: VecDeque<String> = VecDeque::new();
        for id in std::mem::take(past).into_iter().rev() {
            let Some(context) = by_id.get(&id) else { continue };
            let size = context.store.bytes();
            if size == 0 || kept.0 >= most || kept.1 + size > bytes {
                dropped.extend(by_id.remove(&id));
            } else {
                kept = (kept.0 + 1, kept.1 + size);
                stay.push_front(id);
            }
        }
        *past = stay;
        dropped
    }
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
            installing: Mutex::default(),
            changes: watch::Sender::new(0),
            from_master: OnceLock::new(),
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
        for (id, context) in &contexts.by_id {
            let (options, grants, limit) = settings.context(id);
            context.configure(options, grants);
            context.store.set_limit(limit);
        }
    }

    /// What a module id has on this host; made at its first use.
    pub fn context(self: &Arc<Self>, id: &str) -> Result<Arc<Context>, NoContext> {
        if let Some(context) = self.contexts.lock().by_id.get(id) {
            return Ok(context.clone());
        }
        let settings = self.settings();
        let (options, grants, limit) = settings.context(id);
        // Read while nothing is locked, because it is as large as the module has made it.
        let store = match &settings.keeper {
            Some(keeper) => Store::with_keeper(limit, id, keeper.clone()).map_err(NoContext::Unread)?,
            None => Store::new(limit),
        };
        let made = Arc::new(Context::new(
            id,
            self.identity.clone(),
            self.services.clone(),
            options,
            grants,
            Arc::new(store),
            self.neighbours(),
        ));
        let mut contexts = self.contexts.lock();
        // Somebody else may have made it meanwhile.
        if let Some(context) = contexts.by_id.get(id) {
            return Ok(context.clone());
        }
        let dropped = contexts.give_back(MAX_PAST);
        if contexts.by_id.len() >= MAX_CONTEXTS {
            return Err(NoContext::Full);
        }
        // Other settings may have come into force meanwhile. Whoever brings them waits for this lock.
        let (options, grants, limit) = self.settings().context(id);
        made.configure(options, grants);
        made.store.set_limit(limit);
        contexts.by_id.insert(id.to_owned(), made.clone());
        drop(contexts);
        drop(dropped);
        Ok(made)
    }

    /// Gives module ids back of which nothing is left, because a file has gone or has other ids.
    pub fn give_back(&self) {
        let dropped = self.contexts.lock().give_back(MAX_PAST);
        drop(dropped);
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

    /// Shows a file as being installed.
    pub fn installs<'a>(&'a self, file: &'a str) -> Installing<'a> {
        self.installing.lock().insert(file.to_owned());
        Installing { registry: self, file }
    }

    /// The files that are being installed.
    pub fn installing(&self) -> BTreeSet<String> {
        self.installing.lock().clone()
    }

    /// Says that something else is in force or refused.
    pub fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Says which directory has files that the master hands on. That is said once.
    pub fn set_from_master(&self, directory: &Path) {
        // It was said before: the first word stands.
        let _ = self.from_master.set(directory.to_owned());
    }

    /// Whether a file is one that the master hands on.
    pub fn is_from_master(&self, origin: &Origin) -> bool {
        matches!(origin, Origin::File(path) if path.parent().is_some_and(|of| self.from_master.get().is_some_and(|it| it == of)))
    }

    /// Counts changes of what is in force or refused.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What tells the names of files that are worth another try.
    pub fn files_to_install(self: &Arc<Self>) -> FilesToInstall {
        FilesToInstall { told: self.again.0.subscribe(), registry: Arc::downgrade(self) }
    }

    /// The names of all files that are in force or were refused.
    fn file_names(&self) -> BTreeSet<String> {
        let in_force: BTreeSet<String> = self.table.read().units.keys().cloned().collect();
        in_force.into_iter().chain(self.refusals.lock().keys().cloned()).collect()
    }

    /// Has the files tried again that were refused because others had their ids: their follower is told, whichever directory the others were in.
    pub fn try_conflicts(&self) {
        let refusals = self.refusals.lock();
        let names = refusals.iter().filter(|(_, refusal)| refusal.conflict).map(|(file, _)| file.clone());
        let names: Vec<String> = names.collect();
        drop(refusals);
        self.again.add(names);
    }

    /// Keeps why a file was refused.
    pub fn refuse(&self, file: &str, refusal: FileRefusal) {
        let mut refusals = self.refusals.lock();
        if refusals.len() < MAX_REFUSALS || refusals.contains_key(file) {
            refusals.insert(file.to_owned(), refusal);
        }
        drop(refusals);
        self.changed();
    }

    /// Why the newest version of a file was refused, and what might have it accepted.
    pub fn whole_refusal(&self, file: &str) -> Option<FileRefusal> {
        self.refusals.lock().get(file).cloned()
    }

    /// Forgets why a file was refused, because a version of it was accepted, or the file is gone.
    pub fn forget_refusal(&self, file: &str) {
        if self.refusals.lock().remove(file).is_some() {
            self.changed();
        }
    }

    /// Why the newest version of a file was refused.
    pub fn refusal(&self, file: &str) -> Option<String> {
        self.refusals.lock().get(file).map(|refusal| refusal.why.clone())
    }

    /// By file: why its newest version was refused, and what that was.
    pub fn whole_refusals(&self) -> BTreeMap<String, FileRefusal> {
        self.refusals.lock().clone()
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
        contexts.by_id.get(id).map(|context| context.store.clone())
    }
}

impl ModulesInForce for Weak<Registry> {
    fn module(&self, id: &str) -> Option<Arc<Module>> {
        let registry = self.upgrade()?;
        let table = registry.table.read();
        table.slots.get(id).map(|slot| slot.unit.module())
    }
}
