//! The swap: a candidate takes over in one step. What it replaced is drained, or comes back if the candidate traps soon. Files are removed here too.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::RwLock;

use super::candidate::Candidate;
use super::error::InstallError;
use super::install::{Installer, Staged};
use super::lane::Lane;
use super::registry::FileRefusal;
use super::settings::Settings;
use super::source::Origin;
use super::table::{Slot, Table, Unit};
use crate::journal::{Event, kind};
use crate::plugin::{Context, HostRole, StoreUndo};
use crate::versions::State;

/// The most serial calls of one file that may wait, for each time that as many servers are expected as the built-in modules' limits are made for: a fleet
/// that joins at once asks twice for each server.
const LANE: usize = 4096;
/// For how long after the swap a trap takes a new version back. The drain time counts where it is shorter, because what was replaced is gone then.
const PROBATION: Duration = Duration::from_secs(10);

impl Installer {
    /// The swap: from here on, new calls use the candidate. What it replaced ends in the background, or comes back if the candidate traps soon.
    ///
    /// `staged` is absent where `start` has not been called yet. It is called afterwards, if this host has started by then.
    pub(super) fn put_in_force(&self, candidate: Candidate, staged: Option<Staged>) -> Result<(), InstallError> {
        let mut contexts = BTreeMap::new();
        for id in &candidate.ids {
            contexts.insert(id.id.clone(), self.registry.context(&id.id)?);
        }
        let settings = self.registry.settings();
        let module = candidate.module.clone();
        let operations_of = |settings: &Settings, id: &str| Arc::new(settings.operations(id, module.descriptor()));
        let mut operations: HashMap<&str, _> =
            contexts.keys().map(|id| (id.as_str(), operations_of(&settings, id))).collect();
        // What a module stores is of its own size, so that nothing is done to it while the table is locked. Calls of the version before it see what
        // `start` has stored some moments earlier than they would otherwise.
        let mut undo = Vec::new();
        for (id, context) in &contexts {
            context.store.declare(module.descriptor());
            let changes = staged.iter().flatten().find(|(of, _)| of.id == *id);
            undo.extend(changes.map(|(_, changes)| (context.clone(), context.store.commit(changes))));
        }
        let mut table = self.registry.table.write();
        // What was true at the check may have changed while the candidate started.
        let now = self.registry.settings();
        let replaced = match candidate.check_again(&now).and_then(|()| candidate.replaced(&now, &table)) {
            Ok(replaced) => replaced,
            Err(error) => {
                drop(table);
                self.as_before(&contexts, undo);
                return Err(error);
            }
        };
        if !Arc::ptr_eq(&settings, &now) {
            operations = contexts.keys().map(|id| (id.as_str(), operations_of(&now, id))).collect();
        }
        let lane = replaced.first().map(|unit| unit.lane.clone());
        let unit = Arc::new(Unit::new(
            (candidate.source.name.clone(), candidate.source.origin.clone(), candidate.signer.clone()),
            candidate.module.clone(),
            lane.unwrap_or_else(|| Arc::new(Lane::new(LANE.saturating_mul(now.scale.max(1)), &self.registry.life))),
            candidate.elsewhere,
        ));
        if self.registry.identity.role == HostRole::Master && matches!(unit.origin, Origin::File(_)) {
            *unit.bytes.lock() = Some(candidate.source.bytes.clone());
        }
        let before: Vec<Arc<Slot>> = table
            .slots
            .values()
            .filter(|slot| replaced.iter().any(|old| old.name == slot.unit.name))
            .cloned()
            .collect();
        for old in &replaced {
            table.remove(&old.name);
        }
        for descriptor in candidate.ids {
            let id = descriptor.id.as_str();
            let (Some(context), Some(operations)) = (contexts.get(id).cloned(), operations.remove(id)) else {
                continue;
            };
            let operations = RwLock::new(operations);
            let [started, ready] = [staged.is_some(); 2].map(AtomicBool::new);
            let slot = Slot { context, unit: unit.clone(), descriptor, operations, started, ready };
            table.slots.insert(slot.descriptor.id.clone(), Arc::new(slot));
        }
        table.units.insert(unit.name.clone(), unit.clone());
        // Before anybody can call the version, because a trap at once leaves a refusal of its own, which must stay.
        self.registry.forget_refusal(&unit.name);
        let slots: Vec<_> = table.slots.values().filter(|slot| Arc::ptr_eq(&slot.unit, &unit)).cloned().collect();
        drop(table);
        self.registry.changed();
        // Ids that were given up may be given back now, and others may have them.
        self.registry.give_back();
        self.registry.try_conflicts();
        self.turns.schedule();
        // The host may have begun to start its modules since the candidate was looked at.
        if staged.is_none() && self.turns.has_started() {
            self.turns.start_beside(slots);
        }
        if matches!(unit.origin, Origin::File(_)) && now.versions.is_some() {
            self.registry.life.tasks.spawn(self.clone().outlive(unit.clone()));
        }
        if !replaced.is_empty() {
            self.registry.life.tasks.spawn(self.clone().retire(unit, replaced, before, undo));
        }
        Ok(())
    }

    /// Undoes what a version has changed of its stores that cannot take over after all.
    fn as_before(&self, contexts: &BTreeMap<String, Arc<Context>>, undo: Vec<(Arc<Context>, StoreUndo)>) {
        for (context, undo) in undo {
            context.store.undo(undo);
        }
        for (id, context) in contexts {
            let slot = self.registry.table.read().slots.get(id).cloned();
            if let Some(slot) = slot {
                context.store.declare(slot.unit.module().descriptor());
            }
        }
    }

    /// For how long a trap takes a new version back.
    pub(super) fn probation(&self) -> Duration {
        PROBATION.min(self.registry.settings().drain())
    }

    /// Watches a new version for its first seconds, then drains what it replaced. A trap of the new version brings the old one back.
    async fn retire(
        self,
        unit: Arc<Unit>,
        replaced: Vec<Arc<Unit>>,
        before: Vec<Arc<Slot>>,
        undo: Vec<(Arc<Context>, StoreUndo)>,
    ) {
        let (drain, probation) = (self.registry.settings().drain(), self.probation());
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
            self.keep(&unit, SystemTime::now(), State::TakenBack).await;
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
        undo: Vec<(Arc<Context>, StoreUndo)>,
    ) -> bool {
        let in_force = |table: &Table| table.units.get(&unit.name).is_some_and(|now| Arc::ptr_eq(now, unit));
        if !in_force(&self.registry.table.read()) {
            return false;
        }
        // Before the version is back, because its next call must find the store as it was; and while the table is not locked, because what a module
        // stores is of its own size. If another version takes over right now, it keeps what it has changed itself.
        for slot in &before {
            slot.context.store.declare(slot.unit.module().descriptor());
        }
        for (context, undo) in undo {
            context.store.undo(undo);
        }
        let mut table = self.registry.table.write();
        if !in_force(&table) {
            return false;
        }
        table.remove(&unit.name);
        let settings = self.registry.settings();
        let mut before = before;
        let mut is_short = false;
        for old in replaced {
            // The settings may have changed meanwhile.
            if let Err(error) = old.check(&settings) {
                tracing::error!(file = %old.name, %error, "the version before may not come back");
                before.retain(|slot| slot.unit.name != old.name);
                is_short = true;
                continue;
            }
            if let Some(under_limits) = self.under_limits(&self.registry.settings(), old) {
                old.replace(under_limits);
            }
            table.units.insert(old.name.clone(), old.clone());
        }
        for slot in before {
            self.registry.set_operations(&self.registry.settings(), &slot);
            // An id that the new version had given up may be another file's by now.
            table.slots.entry(slot.descriptor.id.clone()).or_insert(slot);
        }
        drop(table);
        self.registry.changed();
        if is_short {
            let installer = self.clone();
            self.registry.life.tasks.spawn(async move { installer.restore_built_in(|_| false).await });
        }
        let why = "it trapped right after it had taken over; the version before it is back";
        tracing::error!(file = %unit.name, "a module was taken back: {why}");
        metrics::counter!("pomelo_modules_taken_back_total").increment(1);
        self.registry.record(Event::new(kind::ROLLBACK, format!("{}.wasm: {why}", unit.name)).module(&unit.name));
        let digest = Some(unit.module().inspection().digest.clone());
        let refusal = FileRefusal { why: why.into(), digest, ..FileRefusal::default() };
        self.registry.refuse(&unit.name, refusal);
        self.turns.schedule();
        true
    }

    /// Removes a file's module: new calls find no such module, calls under way end in the background. A built-in module whose place it had takes
    /// that back in one step, so that no call falls between the two.
    ///
    /// A file of the same name in another directory that has taken over stays.
    pub async fn remove(&self, name: &str, path: &Path) {
        let is_another = |unit: &Arc<Unit>| matches!(&unit.origin, Origin::File(of) if of != path);
        if self.registry.table.read().units.get(name).is_some_and(is_another) {
            // What was refused of that name may have been this file. The other directory's follower tells what is to be said of its own.
            self.registry.forget_refusal(name);
            self.registry.again.add([name.to_owned()]);
            return;
        }
        self.registry.forget_refusal(name);
        self.restore_built_in(|unit| unit == name).await;
        let removed = {
            let mut table = self.registry.table.write();
            if table.units.get(name).is_some_and(is_another) {
                return;
            }
            table.remove(name)
        };
        self.registry.changed();
        tracing::info!(file = name, "a module was removed");
        if let Some(unit) = removed {
            if !self.registry.is_from_master(&unit.origin) {
                self.registry.record(Event::new(kind::RELOAD, format!("{name}.wasm was removed")).module(name));
            }
            self.registry.give_back();
            self.registry.try_conflicts();
            // Another directory may have a file of that name, whose place this one had.
            self.registry.again.add([name.to_owned()]);
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
