//! From a file's bytes to a version in force: check, compile, instantiate, start, swap, drain. Everything before the swap happens without touching
//! what runs; the swap is one step; a version that traps right after it is taken back.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::table::{Table, Unit};
use super::{Console, MAX_CONTEXTS};
use crate::failure::Failure;
use crate::journal::{Event, kind};
use crate::plugin::{
    Compiled, Context, Descriptor, Grants, IdDescriptor, Limits, LoadError, Module, NotGranted, StagedChanges, Store,
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
    pub conflict: bool,
}

/// Files in force at the same time.
const MAX_UNITS: usize = 256;

/// A version that has passed every check and waits for the swap.
pub(super) struct Candidate {
    pub source: Source,
    pub module: Arc<Module>,
    /// The module ids on this host.
    pub ids: Vec<IdDescriptor>,
    /// Those on hosts of the other role.
    pub elsewhere: BTreeSet<String>,
}

/// What a candidate's `start` stored under each of its ids, held back until the swap.
pub(super) type Overlays = Vec<(Arc<Store>, Arc<StagedChanges>)>;

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
                    if !built_in && !ids.is_empty() {
                        let short = digest.get(..8).unwrap_or(digest);
                        let message = format!("{name}.wasm is in force as {}, digest {short}", ids.join(", "));
                        self.record(Event::new(kind::RELOAD, message).module(&ids[0]));
                    }
                }
            }
            Err(error) => {
                tracing::error!(file = %name, %error, "a module was refused");
                metrics::counter!("pomelo_modules_refused_total").increment(1);
                self.record(Event::new(kind::REFUSAL, format!("{name}.wasm was refused: {error}")).module(&name));
                let mut refused = self.0.refused.lock();
                if refused.len() < MAX_UNITS {
                    let conflict = matches!(error, InstallError::Conflict { .. });
                    refused.insert(name, Refusal { why: error.to_string(), conflict });
                }
            }
        }
        outcome
    }

    /// Writes down what happened to this host's modules.
    pub(super) fn record(&self, event: Event) {
        self.0.services.journal.record(event.server(&self.0.identity.server_id));
    }

    pub(super) async fn try_install(&self, source: Source) -> Result<Installed, InstallError> {
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
        let started = *self.0.started.borrow();
        let overlays = if started { Some(self.start_candidate(&candidate).await?) } else { None };
        let ids = candidate.ids.iter().map(|id| id.id.clone()).collect();
        self.put_in_force(candidate, overlays)?;
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
        let limits = self.limits(&source, &all, compiled.descriptor());
        let module = Arc::new(Module::new(&self.0.engine, &source.name, compiled, limits)?);
        let here =
            |id: &IdDescriptor| id.applies_to(identity.role) && settings.applies_to(&id.id, &identity.server_type);
        let (ids, elsewhere): (Vec<_>, Vec<_>) = all.into_iter().partition(here);
        let elsewhere = elsewhere.into_iter().map(|id| id.id).collect();
        let candidate = Candidate { source, module, ids, elsewhere };
        self.replaced(&self.0.table.read(), &candidate)?;
        Ok(candidate)
    }

    /// Limits of a file: those that the configuration gives the first of its ids that it gives any; and for a module that the program carries, those
    /// that it wants itself, where the configuration does not say otherwise.
    fn limits(&self, source: &Source, ids: &[IdDescriptor], descriptor: &Descriptor) -> Limits {
        let settings = &self.0.settings;
        let own = ids.iter().find_map(|id| settings.modules.get(&id.id).and_then(|module| module.limits.clone()));
        let mut limits = own.unwrap_or_else(|| settings.limits.clone());
        if source.origin == Origin::BuiltIn {
            descriptor.limits.raise(&mut limits, &settings.limits);
        }
        limits.memory = limits.memory.min(self.0.engine.limits().max_memory);
        limits.answer = limits.answer.min(settings.max_answer.unwrap_or(usize::MAX));
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
    pub(super) fn replaced(&self, table: &Table, candidate: &Candidate) -> Result<Vec<Arc<Unit>>, InstallError> {
        let name = &candidate.source.name;
        self.check_claims(table, candidate)?;
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

    /// Ids that the file has on hosts of the other role are claimed here as well: what is granted to a built-in module's id must not come to
    /// whoever names it.
    fn check_claims(&self, table: &Table, candidate: &Candidate) -> Result<(), InstallError> {
        let Source { name, origin, .. } = &candidate.source;
        if *origin == Origin::BuiltIn {
            return Ok(());
        }
        let here = candidate.ids.iter().map(|id| &id.id);
        for id in here.clone().chain(&candidate.elsewhere) {
            if self.0.settings.built_in(id).is_some() && !self.0.settings.replace_builtin {
                return Err(InstallError::BuiltIn(id.clone()));
            }
        }
        let mut files = table.units.values().filter(|unit| unit.name != *name);
        let other = files.find_map(|unit| match &unit.origin {
            Origin::File(path) => here.clone().find(|id| unit.elsewhere.contains(*id)).map(|id| (id, path)),
            Origin::BuiltIn => None,
        });
        match other {
            Some((id, path)) => Err(InstallError::Conflict { id: id.clone(), other: path.display().to_string() }),
            None => Ok(()),
        }
    }

    /// What a module id has on this host; made at its first use.
    pub(super) fn context(&self, id: &str) -> Result<Arc<Context>, InstallError> {
        let mut contexts = self.0.contexts.lock();
        if let Some(context) = contexts.get(id) {
            return Ok(context.clone());
        }
        if contexts.len() >= MAX_CONTEXTS {
            return Err(InstallError::TooMany);
        }
        let settings = self.0.settings.modules.get(id);
        let limits = settings.and_then(|module| module.limits.as_ref()).unwrap_or(&self.0.settings.limits);
        let store = match &self.0.settings.keeper {
            Some(keeper) => Store::with_keeper(limits.store, id, keeper.clone()),
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
            Arc::new(self.downgrade()),
        ));
        contexts.insert(id.to_owned(), context.clone());
        Ok(context)
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
}
