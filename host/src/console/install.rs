//! From a file's bytes to a version in force: check, compile, instantiate, start, swap, drain. Everything before the swap happens without touching
//! what runs; the swap is one step; a version that traps right after it is taken back.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::lane::Lane;
use super::table::{Slot, Table, Unit};
use super::{BuiltIn, Console, MAX_CONTEXTS, Settings};
use crate::failure::Failure;
use crate::plugin::{
    Call, Caller, CallerRole, Compiled, Context, Grants, Handler, IdDescriptor, Limits, LoadError, Module, NotGranted,
    Overlay, Store, StoreView,
};

/// Where a version came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Carried inside the program.
    BuiltIn,
    /// A file.
    File(PathBuf),
}

/// A file to be installed.
#[derive(Clone)]
pub struct Source {
    /// The file's name without its ending: versions of one name replace each other.
    pub name: String,
    /// Where it came from.
    pub origin: Origin,
    /// The file.
    pub bytes: Arc<[u8]>,
    /// What is granted to it beside what the configuration says: the built-in modules' own.
    pub grants: Grants,
}

/// What an installation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The module ids that the file answers to on this host.
    pub ids: Vec<String>,
    /// Sha-256 of the file, in hexadecimal.
    pub digest: String,
    /// False where this very file was in force already.
    pub changed: bool,
}

/// Why a file was refused. What ran before runs on.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The file itself.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What it imports.
    #[error(transparent)]
    NotGranted(#[from] NotGranted),
    /// Another file has the id.
    #[error(
        "it claims the module id `{id}`, which {other} answers to: remove one of the two, or give this one other ids"
    )]
    Conflict {
        /// The id.
        id: String,
        /// The other file.
        other: String,
    },
    /// The id is a built-in module's.
    #[error(
        "it claims the module id `{0}` of a built-in module: set `allow_replace_builtin = true` under [modules] in pomelo.toml if it shall take its place"
    )]
    BuiltIn(String),
    /// It would take only some of a built-in module's ids.
    #[error("it takes the place of a built-in module and lacks its module id `{0}`")]
    Partial(String),
    /// It cannot be instantiated.
    #[error("it cannot be instantiated: {0}")]
    Instantiate(Failure),
    /// `start` failed.
    #[error("`start` of module {id} failed: {failure}")]
    Start {
        /// The module id.
        id: String,
        /// What it failed with.
        failure: Failure,
    },
    /// The table is full.
    #[error("this host keeps {MAX_CONTEXTS} module ids and {max} files at most", max = MAX_UNITS)]
    TooMany,
}

/// What is kept of a refusal.
pub(super) struct Refusal {
    pub why: String,
    /// Whether another file has an id that this one claims: once that goes, this one is worth another try.
    conflict: bool,
}

/// Files in force at the same time.
const MAX_UNITS: usize = 256;
/// Serial calls of one file that may wait.
const LANE: usize = 4096;
/// How long a new version that traps is taken back.
const PROBATION: Duration = Duration::from_secs(10);
/// How long a `start` that failed waits before it is called again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A version that has passed every check and waits for the swap.
struct Candidate {
    source: Source,
    module: Arc<Module>,
    /// The module ids on this host.
    ids: Vec<IdDescriptor>,
    elsewhere: BTreeSet<String>,
}

impl Console {
    /// Installs a file: as a new module, or as the next version of one. Before [`Console::start`] no `start` is called.
    ///
    /// # Errors
    /// [`InstallError`] says why the file was refused; it is also shown by `modules` until a version is accepted.
    pub async fn install(&self, source: Source) -> Result<Installed, InstallError> {
        let (name, built_in) = (source.name.clone(), source.origin == Origin::BuiltIn);
        let outcome = self.try_install(source).await;
        if !built_in && outcome.as_ref().is_ok_and(|installed| installed.changed) {
            // The version before it may have had a built-in module's place, which this one has not.
            self.restore_built_in(|_| false).await;
        }
        match &outcome {
            Ok(installed) => {
                if installed.changed {
                    let Installed { ids, digest, .. } = installed;
                    match built_in {
                        true => tracing::debug!(file = %name, ?ids, %digest, "a module is in force"),
                        false => tracing::info!(file = %name, ?ids, %digest, "a module is in force"),
                    }
                    metrics::counter!("pomelo_modules_installed_total").increment(1);
                }
            }
            Err(error) => {
                tracing::error!(file = %name, %error, "a module was refused");
                metrics::counter!("pomelo_modules_refused_total").increment(1);
                let mut refused = self.0.refused.lock();
                if refused.len() < MAX_UNITS {
                    let conflict = matches!(error, InstallError::Conflict { .. });
                    refused.insert(name, Refusal { why: error.to_string(), conflict });
                }
            }
        }
        outcome
    }

    async fn try_install(&self, source: Source) -> Result<Installed, InstallError> {
        let compiled = Compiled::new(&self.0.engine, source.bytes.clone()).await?;
        let digest = compiled.inspection().digest.clone();
        {
            let table = self.0.table.read();
            let now = table.units.get(&source.name);
            if now.is_some_and(|unit| unit.module.inspection().digest == digest && unit.origin == source.origin) {
                self.0.refused.lock().remove(&source.name);
                return Ok(Installed { ids: table.ids_of(&source.name), digest, changed: false });
            }
        }
        let candidate = self.check(source, &compiled)?;
        candidate.module.warm_up().await.map_err(InstallError::Instantiate)?;
        let overlay = if *self.0.started.borrow() { Some(self.start_candidate(&candidate).await?) } else { None };
        let ids = candidate.ids.iter().map(|id| id.id.clone()).collect();
        self.put_in_force(candidate, overlay.unwrap_or_default())?;
        Ok(Installed { ids, digest, changed: true })
    }

    /// Everything that can be told without running the file.
    fn check(&self, source: Source, compiled: &Arc<Compiled>) -> Result<Candidate, InstallError> {
        let settings = &self.0.settings;
        let identity = &self.0.identity;
        let all = settings.ids(&source.name, &compiled.descriptor().ids);
        let grants = self.grants(&source, &all);
        let first = all.first().map_or("", |id| &id.id);
        grants.check(first, &compiled.inspection().imports)?;
        let limits = self.limits(&all);
        let module = Arc::new(Module::new(&self.0.engine, &source.name, compiled, limits)?);
        let here =
            |id: &IdDescriptor| id.applies_to(identity.role) && settings.applies_to(&id.id, &identity.server_type);
        let (ids, elsewhere): (Vec<_>, Vec<_>) = all.into_iter().partition(here);
        let elsewhere = elsewhere.into_iter().map(|id| id.id).collect();
        let candidate = Candidate { source, module, ids, elsewhere };
        self.replaced(&self.0.table.read(), &candidate)?;
        Ok(candidate)
    }

    /// Limits of a file: those that the configuration gives the first of its ids that it gives any.
    fn limits(&self, ids: &[IdDescriptor]) -> Limits {
        let settings = &self.0.settings;
        let own = ids.iter().find_map(|id| settings.modules.get(&id.id).and_then(|module| module.limits.clone()));
        let mut limits = own.unwrap_or_else(|| settings.limits.clone());
        limits.memory = limits.memory.min(self.0.engine.limits().max_memory);
        limits
    }

    /// What the file may import: what was granted to any of its ids, and, where it takes a built-in module's place, what that may.
    fn grants(&self, source: &Source, ids: &[IdDescriptor]) -> Grants {
        let mut grants = source.grants.clone();
        for id in ids {
            if let Some(module) = self.0.settings.modules.get(&id.id) {
                grants.extend(&module.grants);
            }
            if let Some(built_in) = self.0.settings.built_in(&id.id).filter(|_| self.0.settings.replace_builtin) {
                grants.extend(&built_in.source.grants);
            }
        }
        grants
    }

    /// The files in force whose place the candidate would take: its own earlier version, and a built-in module where that is allowed. A built-in
    /// module takes its place back from whatever file has it.
    fn replaced(&self, table: &Table, candidate: &Candidate) -> Result<Vec<Arc<Unit>>, InstallError> {
        let name = &candidate.source.name;
        let mut replaced: Vec<Arc<Unit>> = table.units.get(name).cloned().into_iter().collect();
        for id in &candidate.ids {
            let Some(unit) = table.slots.get(&id.id).map(|slot| &slot.unit) else { continue };
            if replaced.iter().any(|known| known.name == unit.name) {
                continue;
            }
            match &unit.origin {
                Origin::File(_) if candidate.source.origin == Origin::BuiltIn => replaced.push(unit.clone()),
                Origin::File(path) => {
                    return Err(InstallError::Conflict { id: id.id.clone(), other: path.display().to_string() });
                }
                Origin::BuiltIn if !self.0.settings.replace_builtin => {
                    return Err(InstallError::BuiltIn(id.id.clone()));
                }
                Origin::BuiltIn => replaced.push(unit.clone()),
            }
        }
        let lost = |unit: &Arc<Unit>| {
            let mut lost = table.slots.values().filter(|slot| slot.unit.name == unit.name);
            lost.find(|slot| !candidate.ids.iter().any(|id| id.id == slot.descriptor.id))
                .map(|s| s.descriptor.id.clone())
        };
        let built_in = |unit: &&Arc<Unit>| unit.name != *name && unit.origin == Origin::BuiltIn;
        if let Some(id) = replaced.iter().filter(built_in).find_map(lost) {
            return Err(InstallError::Partial(id));
        }
        let new = usize::from(!table.units.contains_key(name));
        if table.units.len() + new > MAX_UNITS {
            return Err(InstallError::TooMany);
        }
        Ok(replaced)
    }

    /// Calls the candidate's `start` under each of its ids, with what it stores held back.
    async fn start_candidate(&self, candidate: &Candidate) -> Result<Vec<(Arc<Store>, Arc<Overlay>)>, InstallError> {
        let mut overlays = Vec::new();
        for id in &candidate.ids {
            let context = self.context(&id.id)?;
            let overlay = Arc::new(Overlay::default());
            let store = StoreView::held_back(context.store.clone(), overlay.clone());
            overlays.push((context.store.clone(), overlay));
            self.call_start(&candidate.module, context, store)
                .await
                .map_err(|failure| InstallError::Start { id: id.id.clone(), failure })?;
        }
        Ok(overlays)
    }

    async fn call_start(&self, module: &Arc<Module>, context: Arc<Context>, store: StoreView) -> Result<(), Failure> {
        if !module.inspection().has(Handler::Start) {
            return Ok(());
        }
        let call = Call {
            caller: Arc::new(Caller::of(CallerRole::Host)),
            msg: None,
            wants_answer: false,
            depth: 0,
            deadline: Instant::now() + module.limits().wall,
            context,
            store,
        };
        module.lease().call(Handler::Start, call).await.map(drop)
    }

    /// What a module id has on this host; made at its first use.
    fn context(&self, id: &str) -> Result<Arc<Context>, InstallError> {
        let mut contexts = self.0.contexts.lock();
        if let Some(context) = contexts.get(id) {
            return Ok(context.clone());
        }
        if contexts.len() >= MAX_CONTEXTS {
            return Err(InstallError::TooMany);
        }
        let settings = self.0.settings.modules.get(id);
        let limits = settings.and_then(|module| module.limits.as_ref()).unwrap_or(&self.0.settings.limits);
        let others = {
            let console = self.downgrade();
            move |id: &str| {
                let console = console.upgrade()?;
                let contexts = console.contexts.lock();
                contexts.get(id).map(|context| context.store.clone())
            }
        };
        let store = match &self.0.settings.keeper {
            Some(keeper) => Store::kept(limits.store, id, keeper.clone()),
            None => Store::new(limits.store),
        };
        let mut grants = settings.map(|module| module.grants.clone()).unwrap_or_default();
        if let Some(built_in) = self.0.settings.built_in(id) {
            grants.extend(&built_in.source.grants);
        }
        let context = Arc::new(Context::new(
            id,
            self.0.identity.clone(),
            self.0.services.clone(),
            settings.map_or_else(|| "{}".into(), |module| module.options.clone()),
            grants,
            Arc::new(store),
            Arc::new(others),
        ));
        contexts.insert(id.to_owned(), context.clone());
        Ok(context)
    }

    /// The swap: from here on, new calls use the candidate. What it replaced ends in the background, or comes back if the candidate traps soon.
    fn put_in_force(
        &self,
        candidate: Candidate,
        overlays: Vec<(Arc<Store>, Arc<Overlay>)>,
    ) -> Result<(), InstallError> {
        let contexts = candidate.ids.iter().map(|id| self.context(&id.id)).collect::<Result<Vec<_>, _>>()?;
        let mut table = self.0.table.write();
        // What was true at the check may have changed while the candidate started.
        let replaced = self.replaced(&table, &candidate)?;
        let lane = replaced.first().map(|unit| unit.lane.clone());
        let unit = Arc::new(Unit {
            name: candidate.source.name.clone(),
            origin: candidate.source.origin.clone(),
            module: candidate.module.clone(),
            lane: lane.unwrap_or_else(|| Arc::new(Lane::new(LANE, &self.0.tasks, self.0.shutdown.clone()))),
            since: SystemTime::now(),
            elsewhere: candidate.elsewhere,
        });
        let before: Vec<Arc<Slot>> = table
            .slots
            .values()
            .filter(|slot| replaced.iter().any(|old| old.name == slot.unit.name))
            .cloned()
            .collect();
        for old in &replaced {
            table.remove(&old.name);
        }
        for (context, id) in contexts.into_iter().zip(candidate.ids) {
            let descriptor = self.0.settings.timer(id);
            context.store.declare(candidate.module.descriptor());
            let operations = self.0.settings.operations(&descriptor.id, candidate.module.descriptor());
            let slot = Slot { context, unit: unit.clone(), descriptor, operations };
            table.slots.insert(slot.descriptor.id.clone(), Arc::new(slot));
        }
        table.units.insert(unit.name.clone(), unit.clone());
        // Before anybody can call it: if it traps at once, that is told here as well.
        self.0.refused.lock().remove(&unit.name);
        let undo: Vec<_> = overlays.iter().map(|(store, overlay)| (store.clone(), store.commit(overlay))).collect();
        drop(table);
        self.schedule();
        if !replaced.is_empty() {
            self.0.tasks.spawn(self.clone().retire(unit, replaced, before, undo));
        }
        Ok(())
    }

    /// Watches a new version for its first seconds, then lets go of what it replaced. Traps of its own bring the old one back.
    async fn retire(
        self,
        unit: Arc<Unit>,
        replaced: Vec<Arc<Unit>>,
        before: Vec<Arc<Slot>>,
        undo: Vec<(Arc<Store>, Overlay)>,
    ) {
        let drain = self.0.settings.drain();
        let probation = PROBATION.min(drain);
        let swapped = Instant::now();
        let trapped = tokio::select! {
            () = self.0.shutdown.cancelled() => false,
            // What a built-in module replaces is a file that is gone: it does not come back.
            () = std::future::ready(()), if unit.origin == Origin::BuiltIn => false,
            () = tokio::time::sleep(probation) => false,
            () = unit.module.first_trap() => true,
        };
        if trapped && self.take_back(&unit, &replaced, before, undo) {
            unit.module.drain(drain).await;
            return;
        }
        let left = drain.saturating_sub(swapped.elapsed());
        futures_util::future::join_all(replaced.iter().map(|old| old.module.drain(left))).await;
    }

    /// Puts back what a version replaced, unless something else is in force by now.
    fn take_back(
        &self,
        unit: &Arc<Unit>,
        replaced: &[Arc<Unit>],
        before: Vec<Arc<Slot>>,
        undo: Vec<(Arc<Store>, Overlay)>,
    ) -> bool {
        let mut table = self.0.table.write();
        if !table.units.get(&unit.name).is_some_and(|now| Arc::ptr_eq(now, unit)) {
            return false;
        }
        table.remove(&unit.name);
        for old in replaced {
            table.units.insert(old.name.clone(), old.clone());
        }
        for slot in before {
            table.slots.insert(slot.descriptor.id.clone(), slot);
        }
        for (store, overlay) in undo {
            store.commit(&overlay);
        }
        drop(table);
        let why = "it trapped right after it had taken over; the version before it is back";
        tracing::error!(file = %unit.name, "a module was taken back: {why}");
        metrics::counter!("pomelo_modules_taken_back_total").increment(1);
        self.0.refused.lock().insert(unit.name.clone(), Refusal { why: why.into(), conflict: false });
        self.schedule();
        true
    }

    /// Removes a file's module: new calls find no such module, calls under way end in the background. A built-in module whose place it had takes
    /// that back in one step, so that no call falls between the two.
    pub async fn remove(&self, name: &str) {
        self.0.refused.lock().remove(name);
        self.restore_built_in(|unit| unit == name).await;
        let removed = self.0.table.write().remove(name);
        tracing::info!(file = name, "a module was removed");
        if let Some(unit) = removed {
            self.schedule();
            let drain = self.0.settings.drain();
            self.0.tasks.spawn(async move { unit.module.drain(drain).await });
        }
    }

    /// Installs the built-in modules whose ids nobody answers to, or only files that are `going`.
    async fn restore_built_in(&self, going: impl Fn(&str) -> bool) {
        for built_in in &self.0.settings.built_in {
            let answered = {
                let table = self.0.table.read();
                let stays = |unit: &Arc<Unit>| !going(&unit.name);
                built_in.ids.iter().any(|id| table.unit_of(id).is_some_and(stays))
            };
            if answered {
                continue;
            }
            if let Err(error) = self.try_install(built_in.source.clone()).await {
                tracing::error!(module = %built_in.source.name, %error, "a built-in module could not be brought back");
            }
        }
    }

    /// Whether the newest file of a name was refused since another has an id that it claims.
    pub fn in_conflict(&self, name: &str) -> bool {
        self.0.refused.lock().get(name).is_some_and(|refusal| refusal.conflict)
    }

    /// Installs the modules carried inside the program. To be called before anything else is installed.
    ///
    /// # Errors
    /// The first that is refused.
    pub async fn install_built_in(&self) -> Result<(), InstallError> {
        for built_in in &self.0.settings.built_in {
            self.install(built_in.source.clone()).await?;
        }
        Ok(())
    }

    /// Schedules the timers, then calls each module's `start` in the order of the files' names, built-in modules first. One that fails is reported,
    /// and called again with back-off.
    pub async fn start(&self) {
        self.0.started.send_replace(true);
        self.schedule();
        let slots: Vec<Arc<Slot>> = {
            let table = self.0.table.read();
            let mut slots: Vec<_> = table.slots.values().cloned().collect();
            slots.sort_by_key(|slot| {
                (slot.unit.origin != Origin::BuiltIn, slot.unit.name.clone(), slot.descriptor.id.clone())
            });
            slots
        };
        for slot in slots {
            let (module, context) = (slot.unit.module.clone(), slot.context.clone());
            if let Err(failure) = self.start_once(&module, &context).await {
                tracing::error!(module = %context.id, %failure, "`start` failed; it will be called again");
                self.0.tasks.spawn(self.clone().start_again(module, context));
            }
        }
    }

    async fn start_once(&self, module: &Arc<Module>, context: &Arc<Context>) -> Result<(), Failure> {
        self.call_start(module, context.clone(), StoreView::direct(context.store.clone())).await
    }

    async fn start_again(self, module: Arc<Module>, context: Arc<Context>) {
        let mut pause = RETRY.0;
        loop {
            tokio::select! {
                () = self.0.shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let in_force =
                self.0.table.read().slots.get(&context.id).is_some_and(|s| Arc::ptr_eq(&s.unit.module, &module));
            if !in_force {
                return;
            }
            match self.start_once(&module, &context).await {
                Ok(()) => return tracing::info!(module = %context.id, "`start` succeeded"),
                Err(failure) => tracing::error!(module = %context.id, %failure, ?pause, "`start` failed again"),
            }
            pause = (pause * 2).min(RETRY.1);
        }
    }
}

impl Table {
    /// Takes a file and its ids out.
    fn remove(&mut self, unit: &str) -> Option<Arc<Unit>> {
        self.slots.retain(|_, slot| slot.unit.name != unit);
        self.units.remove(unit)
    }
}

impl Settings {
    /// All ids that a file answers to: the descriptor's, and those that the configuration loads from it.
    fn ids(&self, file: &str, descriptor: &[IdDescriptor]) -> Vec<IdDescriptor> {
        let mut ids = descriptor.to_vec();
        let more =
            self.modules.iter().filter(|(_, module)| module.file.as_deref().is_some_and(|name| stem(name) == file));
        for (id, _) in more {
            if let Some(first) = descriptor.first().filter(|_| !ids.iter().any(|known| known.id == *id)) {
                ids.push(IdDescriptor { id: id.clone(), ..first.clone() });
            }
        }
        ids
    }

    /// The id's descriptor with the configuration's timer.
    fn timer(&self, mut descriptor: IdDescriptor) -> IdDescriptor {
        if let Some(module) = self.modules.get(&descriptor.id) {
            descriptor.interval = module.interval.or(descriptor.interval);
            descriptor.delay = module.delay.or(descriptor.delay);
        }
        descriptor
    }

    fn operations(&self, id: &str, descriptor: &crate::plugin::Descriptor) -> crate::plugin::Operations {
        let mut operations = descriptor.operations.clone();
        if let Some(module) = self.modules.get(id) {
            operations.levels.extend(module.levels.clone());
        }
        operations
    }

    /// The built-in module that has the id.
    fn built_in(&self, id: &str) -> Option<&BuiltIn> {
        self.built_in.iter().find(|built_in| built_in.ids.contains(id))
    }
}

fn stem(file: &str) -> &str {
    file.strip_suffix(".wasm").unwrap_or(file)
}
