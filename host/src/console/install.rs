//! From a file's bytes to a version in force: check, compile, instantiate, start, swap, drain. Everything before the swap happens without touching
//! what runs; the swap is one step; a version that traps right after it is taken back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;

use super::candidate::{Candidate, signer};
use super::error::InstallError;
use super::kept::blocking;
use super::registry::{FileRefusal, Registry};
use super::source::{Origin, Source};
use super::start::call_start;
use super::table::Unit;
use super::turns::Turns;
use crate::journal::{Event, kind};
use crate::plugin::{Compiled, Context, Engine, StagedChanges, StoreView};
use crate::trust::Signer;
use crate::util::lasting;
use crate::versions::{State, digest_of, short};
use crate::wire::sentence;

/// Puts versions of files in force.
#[derive(Clone)]
pub(super) struct Installer {
    pub engine: Engine,
    pub registry: Arc<Registry>,
    pub turns: Arc<Turns>,
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

/// What a candidate's `start` stored under each of its ids, staged until the swap.
pub(super) type Staged = Vec<(Arc<Context>, Arc<StagedChanges>)>;

impl Installer {
    /// Installs a file: as a new module, or as the next version of one. Before [`Turns::start`] no `start` is called.
    ///
    /// # Errors
    /// [`InstallError`] says why the file was refused; it is also shown by `modules` until a version is accepted.
    pub async fn install(&self, source: Source) -> Result<Installed, InstallError> {
        self.install_with(source, self.turns.has_started()).await
    }

    /// Installs a file that was there before this host. Its `start` is called when it is in force, if the host has started.
    ///
    /// # Errors
    /// As [`Installer::install`].
    pub async fn install_present(&self, source: Source) -> Result<Installed, InstallError> {
        let (name, bytes) = (source.name.clone(), source.bytes.clone());
        let (Origin::File(path), true) = (source.origin.clone(), self.registry.settings().versions.is_some()) else {
            return self.install_with(source, false).await;
        };
        let digest = tokio::task::spawn_blocking(move || digest_of(&bytes)).await.unwrap_or_default();
        if self.is(&name, &digest, State::TakenBack).await && self.fall_back(&name, &path, Some(&digest)).await {
            let why = InstallError::TakenBack;
            self.refuse_unread(&name, sentence(&why), Some(digest));
            return Err(why);
        }
        let outcome = self.install_with(source, false).await;
        match &outcome {
            Ok(_) => {
                if let Some(unit) = self.registry.table.read().units.get(&name) {
                    unit.was_present.store(true, Ordering::Release);
                }
            }
            // The host comes up with the version that it ran before, as a rule.
            Err(_) => {
                self.fall_back(&name, &path, Some(&digest)).await;
            }
        }
        outcome
    }

    async fn install_with(&self, source: Source, starts_first: bool) -> Result<Installed, InstallError> {
        let (name, built_in) = (source.name.clone(), source.origin == Origin::BuiltIn);
        // Of what a master hands on to many hosts it tells itself.
        let is_told = !built_in && !self.registry.is_from_master(&source.origin);
        let bytes = source.bytes.clone();
        let installing = (!built_in).then(|| self.registry.installs(&name));
        let outcome = self.try_install(source, starts_first).await;
        drop(installing);
        // From the swap on nothing is waited for until all that follows it is under way, because this may be dropped wherever it waits: a newer file ends it.
        let restoring = (!built_in && outcome.as_ref().is_ok_and(|installed| installed.changed)).then(|| {
            // The version before it may have had a built-in module's place, and this one may have given that up.
            let installer = self.clone();
            self.registry.life.tasks.spawn(async move { installer.restore_built_in(|_| false).await })
        });
        match &outcome {
            Ok(installed) => {
                if installed.changed {
                    let Installed { ids, digest, .. } = installed;
                    match built_in {
                        true => tracing::debug!(file = %name, ?ids, %digest, "a module is in force"),
                        false => tracing::info!(file = %name, ?ids, %digest, "a module is in force"),
                    }
                    metrics::counter!("pomelo_modules_installed_total").increment(1);
                    if is_told && !ids.is_empty() {
                        let (ids_shown, digest) = (ids.join(", "), short(digest));
                        let message = format!("{name}.wasm is in force as {ids_shown}, digest {digest}");
                        self.registry.record(Event::new(kind::RELOAD, message).module(&ids[0]));
                    }
                }
            }
            Err(error) => {
                // One that is tried again may fail again and again. That is told once.
                if !error.is_passing() || self.registry.refusal(&name).as_deref() != Some(&sentence(error)) {
                    tracing::error!(file = %name, error = %sentence(error), "a module was refused");
                    metrics::counter!("pomelo_modules_refused_total").increment(1);
                    let event = Event::new(kind::REFUSAL, format!("{name}.wasm was refused: {}", sentence(error)));
                    self.registry.record(event.module(&name));
                }
                let conflict = matches!(error, InstallError::Conflict { .. });
                let why = sentence(error);
                // After all else, because this may be dropped where it waits.
                let digest = blocking(move || digest_of(&bytes)).await.ok();
                let refusal = FileRefusal {
                    why,
                    digest,
                    conflict,
                    settings: error.is_of_settings(),
                    passing: error.is_passing() && !matches!(error, InstallError::Start { .. }),
                };
                self.registry.refuse(&name, refusal);
            }
        }
        if let Some(restoring) = restoring
            && let Err(error) = restoring.await
        {
            lasting::panicked("what brings built-in modules back", &error);
        }
        outcome
    }

    /// Installs a file. If it `starts_first`, its `start` is called before it is put in force, and refused where that fails.
    pub(super) async fn try_install(&self, source: Source, starts_first: bool) -> Result<Installed, InstallError> {
        let signer = match source.origin {
            Origin::BuiltIn => Signer::None,
            Origin::File(_) => {
                let (settings, name, bytes) = (self.registry.settings(), source.name.clone(), source.bytes.clone());
                let signer = blocking(move || signer(&settings, &name, &bytes));
                signer.await.map_err(InstallError::Unread)??
            }
        };
        let compiled = Compiled::new(&self.engine, source.bytes.clone()).await?;
        let digest = compiled.inspection().digest.clone();
        {
            let table = self.registry.table.read();
            let now = table.units.get(&source.name);
            let same = |unit: &&Arc<Unit>| unit.module().inspection().digest == digest && unit.origin == source.origin;
            // Settings that have changed may give it other ids.
            if let Some(unit) = now.filter(same).filter(|unit| self.registry.has_its_ids(&table, unit)) {
                // Keys may have become known that were not when it was installed.
                *unit.signer.write() = signer;
                // It may have been kept from before, and is the file itself now.
                unit.is_kept.store(false, Ordering::Release);
                self.registry.forget_refusal(&source.name);
                return Ok(Installed { ids: table.ids_of(&source.name), digest, changed: false });
            }
        }
        let candidate = Candidate::check(&self.registry, &self.engine, source, signer, &compiled)?;
        candidate.module.warm_up().await.map_err(InstallError::Instantiate)?;
        let staged = if starts_first { Some(self.start_candidate(&candidate).await?) } else { None };
        let ids = candidate.ids.iter().map(|id| id.id.clone()).collect();
        self.put_in_force(candidate, staged)?;
        Ok(Installed { ids, digest, changed: true })
    }

    /// Keeps why a file was refused that did not even come here: it cannot be read, or there is something else under its name. Told once for each reason.
    pub fn refuse_unread(&self, name: &str, why: String, digest: Option<String>) {
        if self.registry.refusal(name).as_deref() == Some(&why) {
            return;
        }
        tracing::error!(file = %name, %why, "a module was refused");
        metrics::counter!("pomelo_modules_refused_total").increment(1);
        // A directory has a slash at its end, and no file's name has one.
        let (what, module) = match name.ends_with('/') {
            true => (format!("the modules' directory {name}: {why}"), None),
            false => (format!("{name}.wasm was refused: {why}"), Some(name)),
        };
        let event = Event::new(kind::REFUSAL, what);
        self.registry.record(match module {
            Some(module) => event.module(module),
            None => event,
        });
        self.registry.refuse(name, FileRefusal { why, digest, ..FileRefusal::default() });
    }

    /// Calls the candidate's `start` under each of its ids, with what it stores staged.
    async fn start_candidate(&self, candidate: &Candidate) -> Result<Staged, InstallError> {
        let mut staged = Vec::new();
        for id in &candidate.ids {
            let context = self.registry.context(&id.id)?;
            let changes = Arc::new(StagedChanges::default());
            let store = StoreView::staged(context.store.clone(), changes.clone());
            staged.push((context.clone(), changes));
            call_start(candidate.module.clone(), context, store)
                .await
                .map_err(|failure| InstallError::Start { id: id.id.clone(), failure })?;
        }
        Ok(staged)
    }

    /// Installs the modules carried inside the program. To be called before anything else is installed.
    ///
    /// # Errors
    /// The first that is refused.
    pub async fn install_built_in(&self) -> Result<(), InstallError> {
        // Beside each other, because each may need a compiler of its own. Kept until they are in force.
        let built_in = self.registry.settings();
        let compile = |bytes| async { Compiled::new(&self.engine, bytes).await };
        let _compiled = join_all(built_in.built_in.iter().map(|built_in| compile(built_in.source.bytes.clone()))).await;
        for built_in in &self.registry.settings().built_in {
            self.install(built_in.source.clone()).await?;
        }
        Ok(())
    }
}
