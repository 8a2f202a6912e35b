//! From a file's bytes to a version in force: check, compile, instantiate, start, swap, drain. Everything before the swap happens without touching
//! what runs; the swap is one step; a version that traps right after it is taken back.

use std::sync::Arc;

use super::candidate::Candidate;
use super::error::InstallError;
use super::registry::{FileRefusal, Registry};
use super::source::{Origin, Source};
use super::start::call_start;
use super::table::Unit;
use super::turns::Turns;
use crate::journal::{Event, kind};
use crate::plugin::{Compiled, Engine, StagedChanges, Store, StoreView};
use crate::util::lasting;

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
pub(super) type Staged = Vec<(Arc<Store>, Arc<StagedChanges>)>;

impl Installer {
    /// Installs a file: as a new module, or as the next version of one. Before [`Turns::start`] no `start` is called.
    ///
    /// # Errors
    /// [`InstallError`] says why the file was refused; it is also shown by `modules` until a version is accepted.
    pub async fn install(&self, source: Source) -> Result<Installed, InstallError> {
        let (name, built_in) = (source.name.clone(), source.origin == Origin::BuiltIn);
        let outcome = self.try_install(source).await;
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
                    if !built_in && !ids.is_empty() {
                        let short = digest.get(..8).unwrap_or(digest);
                        let message = format!("{name}.wasm is in force as {}, digest {short}", ids.join(", "));
                        self.registry.record(Event::new(kind::RELOAD, message).module(&ids[0]));
                    }
                }
            }
            Err(error) => {
                tracing::error!(file = %name, %error, "a module was refused");
                metrics::counter!("pomelo_modules_refused_total").increment(1);
                self.registry
                    .record(Event::new(kind::REFUSAL, format!("{name}.wasm was refused: {error}")).module(&name));
                let conflict = matches!(error, InstallError::Conflict { .. });
                self.registry
                    .refuse(&name, FileRefusal { why: error.to_string(), conflict, settings: error.is_of_settings() });
            }
        }
        if let Some(restoring) = restoring
            && let Err(error) = restoring.await
        {
            lasting::panicked("what brings built-in modules back", &error);
        }
        outcome
    }

    pub(super) async fn try_install(&self, source: Source) -> Result<Installed, InstallError> {
        let compiled = Compiled::new(&self.engine, source.bytes.clone()).await?;
        let digest = compiled.inspection().digest.clone();
        {
            let table = self.registry.table.read();
            let now = table.units.get(&source.name);
            let same = |unit: &&Arc<Unit>| unit.module().inspection().digest == digest && unit.origin == source.origin;
            // Settings that have changed may give it other ids.
            if now.filter(same).is_some_and(|unit| self.registry.has_its_ids(&table, unit)) {
                self.registry.forget_refusal(&source.name);
                return Ok(Installed { ids: table.ids_of(&source.name), digest, changed: false });
            }
        }
        let candidate = Candidate::check(&self.registry, &self.engine, source, &compiled)?;
        candidate.module.warm_up().await.map_err(InstallError::Instantiate)?;
        let started = self.turns.has_started();
        let staged = if started { Some(self.start_candidate(&candidate).await?) } else { None };
        let ids = candidate.ids.iter().map(|id| id.id.clone()).collect();
        self.put_in_force(candidate, staged)?;
        Ok(Installed { ids, digest, changed: true })
    }

    /// Calls the candidate's `start` under each of its ids, with what it stores staged.
    async fn start_candidate(&self, candidate: &Candidate) -> Result<Staged, InstallError> {
        let mut staged = Vec::new();
        for id in &candidate.ids {
            let context = self.registry.context(&id.id)?;
            let changes = Arc::new(StagedChanges::default());
            let store = StoreView::staged(context.store.clone(), changes.clone());
            staged.push((context.store.clone(), changes));
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
        for built_in in &self.registry.settings().built_in {
            self.install(built_in.source.clone()).await?;
        }
        Ok(())
    }
}
