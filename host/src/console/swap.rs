//! The swap: a candidate takes over in one step. What it replaced is drained, or comes back if the candidate traps soon. Files are removed here too.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::candidate::Candidate;
use super::error::InstallError;
use super::install::{Installer, Staged};
use super::lane::Lane;
use super::registry::FileRefusal;
use super::source::Origin;
use super::table::{Slot, Unit};
use crate::journal::{Event, kind};
use crate::plugin::{Store, StoreUndo};

/// The most serial calls of one file that may wait.
const LANE: usize = 4096;
/// For how long after the swap a trap takes a new version back. The drain time counts where it is shorter, because what was replaced is gone then.
const PROBATION: Duration = Duration::from_secs(10);

impl Installer {
    /// The swap: from here on, new calls use the candidate. What it replaced ends in the background, or comes back if the candidate traps soon.
    ///
    /// `staged` is absent where `start` has not been called yet. It is called afterwards, if this host has started by then.
    pub(super) fn put_in_force(&self, candidate: Candidate, staged: Option<Staged>) -> Result<(), InstallError> {
        let contexts = candidate.ids.iter().map(|id| self.registry.context(&id.id)).collect::<Result<Vec<_>, _>>()?;
        let mut table = self.registry.table.write();
        // What was true at the check may have changed while the candidate started.
        let replaced = candidate.replaced(&self.registry.settings(), &table)?;
        let lane = replaced.first().map(|unit| unit.lane.clone());
        let settings = self.registry.settings();
        let unit = Arc::new(Unit::new(
            (candidate.source.name.clone(), candidate.source.origin.clone()),
            candidate.module.clone(),
            lane.unwrap_or_else(|| Arc::new(Lane::new(LANE, &self.registry.life))),
            candidate.elsewhere,
        ));
        let before: Vec<Arc<Slot>> = table
            .slots
            .values()
            .filter(|slot| replaced.iter().any(|old| old.name == slot.unit.name))
            .cloned()
            .collect();
        for old in &replaced {
            table.remove(&old.name);
        }
        for (context, descriptor) in contexts.into_iter().zip(candidate.ids) {
            context.store.declare(candidate.module.descriptor());
            let operations = settings.operations(&descriptor.id, candidate.module.descriptor());
            let operations = RwLock::new(Arc::new(operations));
            let started = AtomicBool::new(staged.is_some());
            let ready = AtomicBool::new(staged.is_some());
            let slot = Slot { context, unit: unit.clone(), descriptor, operations, started, ready };
            table.slots.insert(slot.descriptor.id.clone(), Arc::new(slot));
        }
        table.units.insert(unit.name.clone(), unit.clone());
        // Before anybody can call the version, because a trap at once leaves a refusal of its own, which must stay.
        self.registry.forget_refusal(&unit.name);
        let stored = staged.iter().flatten();
        let undo: Vec<_> = stored.map(|(store, changes)| (store.clone(), store.commit(changes))).collect();
        let slots: Vec<_> = table.slots.values().filter(|slot| Arc::ptr_eq(&slot.unit, &unit)).cloned().collect();
        drop(table);
        self.turns.schedule();
        // The host may have begun to start its modules since the candidate was looked at.
        if staged.is_none() && self.turns.has_started() {
            self.turns.start_beside(slots);
        }
        if !replaced.is_empty() {
            self.registry.life.tasks.spawn(self.clone().retire(unit, replaced, before, undo));
        }
        Ok(())
    }

    /// Watches a new version for its first seconds, then drains what it replaced. A trap of the new version brings the old one back.
    async fn retire(
        self,
        unit: Arc<Unit>,
        replaced: Vec<Arc<Unit>>,
        before: Vec<Arc<Slot>>,
        undo: Vec<(Arc<Store>, StoreUndo)>,
    ) {
        let drain = self.registry.settings().drain();
        let probation = PROBATION.min(drain);
        let swapped = Instant::now();
        let module = unit.module();
        let trapped = tokio::select! {
            () = self.registry.life.shutdown.cancelled() => false,
            // A built-in module replaces a file that is gone, and that file does not come back.
            () = std::future::ready(()), if unit.origin == Origin::BuiltIn => false,
            () = tokio::time::sleep(probation) => false,
            () = module.is_faulty() => true,
        };
        if trapped && self.take_back(&unit, &replaced, before, undo) {
            unit.module().drain(drain).await;
            return;
        }
        let left = drain.saturating_sub(swapped.elapsed());
        futures_util::future::join_all(replaced.iter().map(|old| async { old.module().drain(left).await })).await;
    }

    /// Puts back what a version replaced, unless something else is in force by now.
    fn take_back(
        &self,
        unit: &Arc<Unit>,
        replaced: &[Arc<Unit>],
        before: Vec<Arc<Slot>>,
        undo: Vec<(Arc<Store>, StoreUndo)>,
    ) -> bool {
        let mut table = self.registry.table.write();
        if !table.units.get(&unit.name).is_some_and(|now| Arc::ptr_eq(now, unit)) {
            return false;
        }
        table.remove(&unit.name);
        for old in replaced {
            // The settings may have changed meanwhile.
            if let Some(under_limits) = self.under_limits(&self.registry.settings(), old) {
                old.replace(under_limits);
            }
            table.units.insert(old.name.clone(), old.clone());
        }
        for slot in before {
            slot.context.store.declare(slot.unit.module().descriptor());
            self.registry.set_operations(&self.registry.settings(), &slot);
            // An id that the new version had given up may be another file's by now.
            table.slots.entry(slot.descriptor.id.clone()).or_insert(slot);
        }
        for (store, undo) in undo {
            store.undo(undo);
        }
        drop(table);
        let why = "it trapped right after it had taken over; the version before it is back";
        tracing::error!(file = %unit.name, "a module was taken back: {why}");
        metrics::counter!("pomelo_modules_taken_back_total").increment(1);
        self.registry.record(Event::new(kind::ROLLBACK, format!("{}.wasm: {why}", unit.name)).module(&unit.name));
        self.registry.refuse(&unit.name, FileRefusal { why: why.into(), conflict: false, settings: false });
        self.turns.schedule();
        true
    }

    /// Removes a file's module: new calls find no such module, calls under way end in the background. A built-in module whose place it had takes
    /// that back in one step, so that no call falls between the two.
    pub async fn remove(&self, name: &str) {
        self.registry.forget_refusal(name);
        self.restore_built_in(|unit| unit == name).await;
        let removed = self.registry.table.write().remove(name);
        tracing::info!(file = name, "a module was removed");
        if let Some(unit) = removed {
            self.registry.record(Event::new(kind::RELOAD, format!("{name}.wasm was removed")).module(name));
            self.turns.schedule();
            let drain = self.registry.settings().drain();
            self.registry.life.tasks.spawn(async move { unit.module().drain(drain).await });
        }
    }

    /// Installs the built-in modules to whose ids no file answers, or only files that are `going`.
    pub(super) async fn restore_built_in(&self, going: impl Fn(&str) -> bool) {
        for built_in in &self.registry.settings().built_in {
            let answered = {
                let table = self.registry.table.read();
                let stays = |unit: &Arc<Unit>| !going(&unit.name);
                built_in.ids.iter().any(|id| table.unit_of(id).is_some_and(stays))
            };
            if answered {
                continue;
            }
            if let Err(error) = self.try_install(built_in.source.clone(), self.turns.has_started()).await {
                tracing::error!(module = %built_in.source.name, %error, "a built-in module could not be brought back");
            }
        }
    }
}
