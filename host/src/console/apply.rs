//! Other settings for a host that runs: permissions at once, limits at the next call, options when a module asks for them, timers from now on.
//!
//! Nothing is loaded here. A file that needs to be installed again, because it was refused or has other ids now, is named to whoever reads files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::candidate::{allows, here, limits};
use super::error::InstallError;
use super::install::Installer;
use super::kept::blocking;
use super::registry::{FileRefusal, Registry};
use super::settings::{ModuleSettings, Settings};
use super::source::Origin;
use super::table::{Slot, Table, Unit};
use crate::journal::{Event, kind};
use crate::plugin::{Grants, HostRole, Module};

/// How long calls may go on under the limits that they began with.
const LONGEST_CALL: Duration = Duration::from_secs(24 * 60 * 60);

/// What came of other settings on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Applied {
    /// By module id: what is new for it, any of `options`, `interval`, `delay`, `limits`, `grants`, `levels`, `server_types`, `enabled`, `file`.
    pub modules: BTreeMap<String, Vec<String>>,
    /// What is new for all modules, any of `limits`, `commands`, `allow_replace_builtin`, `drain_ms`.
    pub common: Vec<String>,
    /// By module id: whether it was enabled (true) or disabled. Always empty on a monitor, because its master tells it.
    pub enabled: BTreeMap<String, bool>,
    /// By file: why a version that was in force is so no longer.
    pub refused: BTreeMap<String, String>,
    /// Files that are being installed again, because they were refused before or have other ids now.
    pub again: Vec<String>,
    /// What this host cannot take over while it runs, a sentence each.
    pub not_applied: Vec<String>,
}

impl Applied {
    /// Whether there was nothing to be done.
    pub fn is_empty(&self) -> bool {
        *self == Applied::default()
    }
}

impl Registry {
    /// Gives an id what clients may ask for, by those settings.
    pub(super) fn set_operations(&self, settings: &Settings, slot: &Slot) {
        let operations = settings.operations(&slot.descriptor.id, slot.unit.module().descriptor());
        *slot.operations.write() = Arc::new(operations);
    }

    /// Whether a file in force answers to the ids that it has by the settings in force.
    pub(super) fn has_its_ids(&self, table: &Table, unit: &Unit) -> bool {
        let settings = self.settings();
        let all = settings.ids(&unit.name, &unit.module().descriptor().ids);
        let (ids, elsewhere) = here(&settings, &self.identity, all);
        let mut ids: Vec<String> = ids.into_iter().map(|id| id.id).collect();
        ids.sort();
        ids == table.ids_of(&unit.name) && elsewhere == unit.elsewhere
    }
}

/// Files that may stay in force no longer, each with the reason, and versions that are put under other limits.
type Judged = (Vec<(Arc<Unit>, String)>, Vec<Arc<Module>>);

impl Installer {
    /// Takes over other settings.
    pub async fn apply(&self, settings: Settings) -> Applied {
        let before = self.registry.settings();
        // What belongs to the process stays.
        let (keeper, built_in) = (before.keeper.clone(), before.built_in.clone());
        let mut applied = differing(&before, &settings);
        let names = |built_in: &[super::BuiltIn]| -> BTreeSet<String> {
            built_in.iter().map(|built_in| built_in.source.name.clone()).collect()
        };
        if names(&built_in) != names(&settings.built_in) {
            applied.not_applied.push("which built-in modules there are: a new host has others".to_owned());
        }
        // A table that has grown with the configured servers is no other frame by itself.
        if before.scale == settings.scale && before.max_answer != settings.max_answer {
            applied.not_applied.push("the largest frame: a new host has another".to_owned());
        }
        self.name_memory(&settings, &mut applied);
        let settings = Arc::new(Settings {
            keeper,
            built_in,
            versions: before.versions.clone(),
            max_answer: before.max_answer,
            ..settings
        });
        if applied.modules.is_empty() && applied.common.is_empty() {
            return applied;
        }
        if before.keys != settings.keys {
            self.look_for_signers(&settings).await;
        }
        self.registry.replace_settings(settings.clone());
        if self.registry.identity.role == HostRole::Master {
            for (id, keys) in &applied.modules {
                let enabled = settings.modules.get(id).is_none_or(|module| module.enabled);
                if keys.iter().any(|key| key == "enabled") && self.registry.set_enabled(id, enabled) {
                    applied.enabled.insert(id.clone(), enabled);
                }
            }
        }
        let mut again: BTreeSet<String> = self.registry.refused_by_settings().into_iter().collect();
        let (taken_out, under_other_limits) = self.judge(&settings, &mut again);
        let drain = settings.drain();
        for (unit, why) in taken_out {
            tracing::error!(file = %unit.name, %why, "a module was taken out because settings have changed");
            metrics::counter!("pomelo_modules_refused_total").increment(1);
            let event = Event::new(kind::REFUSAL, format!("{}.wasm was taken out: {why}", unit.name));
            self.registry.record(event.module(&unit.name));
            again.remove(&unit.name);
            applied.refused.insert(unit.name.clone(), why);
            self.registry.life.tasks.spawn(async move { unit.module().drain(drain).await });
        }
        for module in under_other_limits {
            // It is the same code, so that calls under way end by their own deadlines. One may wait for a job for as long as that takes.
            self.registry.life.tasks.spawn(async move { module.drain(LONGEST_CALL).await });
        }
        self.restore_built_in(|_| false).await;
        self.turns.schedule();
        applied.again = again.iter().cloned().collect();
        self.registry.again.add(again);
        applied
    }

    /// Verifies the signatures of files in force with keys that were not known before, so that none is taken out for want of them.
    async fn look_for_signers(&self, settings: &Arc<Settings>) {
        let units: Vec<Arc<Unit>> = self.registry.table.read().units.values().cloned().collect();
        let unknown =
            |unit: &&Arc<Unit>| unit.origin != Origin::BuiltIn && settings.keys.name_of(&unit.signer.read()).is_none();
        for unit in units.iter().filter(unknown) {
            let digest = unit.module().inspection().digest.clone();
            // Where the bytes are there no longer, the file is read when it is tried again.
            let Ok(bytes) = self.registry.bytes_of(&unit.name, &digest).await else { continue };
            let settings = settings.clone();
            if let Ok(Ok(signer)) = blocking(move || settings.keys.signer(&bytes)).await {
                *unit.signer.write() = signer;
            }
        }
    }

    /// Looks at each file in force, in one step: takes out those that import what is no longer granted, and puts the others under their limits and
    /// levels. Returns what was taken out, and the versions that were put under other limits as they were. Files with other ids go to `again`.
    fn judge(&self, settings: &Settings, again: &mut BTreeSet<String>) -> Judged {
        let (mut taken_out, mut before) = (Vec::new(), Vec::new());
        let mut table = self.registry.table.write();
        let units: Vec<Arc<Unit>> = table.units.values().cloned().collect();
        for unit in units {
            if let Some(why) = refusal(settings, &unit) {
                table.remove(&unit.name);
                // While the table is locked, because a file that is neither in force nor refused is taken for one that is gone.
                let digest = Some(unit.module().inspection().digest.clone());
                let refused = FileRefusal { why: why.clone(), digest, settings: true, ..FileRefusal::default() };
                self.registry.refuse(&unit.name, refused);
                taken_out.push((unit, why));
                continue;
            }
            if unit.origin != Origin::BuiltIn && !self.registry.has_its_ids(&table, &unit) {
                again.insert(unit.name.clone());
            }
            if let Some(module) = self.under_limits(settings, &unit) {
                before.push(unit.replace(module));
            }
        }
        for slot in table.slots.values() {
            self.registry.set_operations(settings, slot);
        }
        (taken_out, before)
    }

    /// The version of a file under the limits that it has by those settings; absent if it has them already.
    pub(super) fn under_limits(&self, settings: &Settings, unit: &Unit) -> Option<Arc<Module>> {
        let module = unit.module();
        let all = settings.ids(&unit.name, &module.descriptor().ids);
        let limits = limits(settings, &self.engine, &unit.origin, &all, module.descriptor());
        if limits == *module.limits() {
            return None;
        }
        match module.with_limits(limits) {
            Ok(module) => Some(Arc::new(module)),
            Err(error) => {
                // The file was linked before, so that this does not happen unless the machine has no memory left.
                tracing::error!(file = %unit.name, %error, "a module keeps its limits");
                None
            }
        }
    }

    /// Names the modules that are to have more memory than this engine can give.
    fn name_memory(&self, settings: &Settings, applied: &mut Applied) {
        let most = self.engine.limits().max_memory;
        let common = [("[limits]".to_owned(), &settings.limits)];
        let own = settings.modules.iter().filter_map(|(id, module)| {
            Some((format!("[module.{id}.limits]"), module.limits.as_ref()?))
                .filter(|(_, limits)| **limits != settings.limits)
        });
        for (place, limits) in common.into_iter().chain(own).filter(|(_, limits)| limits.memory > most) {
            let (wanted, most) = (limits.memory >> 20, most >> 20);
            let what =
                format!("{place} memory_mib = {wanted}: this host began with at most {most}; a new one can give more");
            applied.not_applied.push(what);
        }
    }
}

/// Why a file in force would be refused under those settings; absent if it would not.
fn refusal(settings: &Settings, unit: &Unit) -> Option<String> {
    unit.check(settings).err().map(|error| error.to_string())
}

impl Unit {
    /// Whether the file may be in force under those settings.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), InstallError> {
        let module = self.module();
        if self.origin == Origin::BuiltIn {
            return Ok(());
        }
        let all = settings.ids(&self.name, &module.descriptor().ids);
        allows(
            settings,
            (&self.name, &self.origin),
            &self.signer.read(),
            &Grants::default(),
            (module.descriptor(), module.inspection()),
        )?;
        match all.iter().find(|id| settings.built_in(&id.id).is_some() && !settings.replace_builtin) {
            Some(replaces) => Err(InstallError::BuiltIn(replaces.id.clone())),
            None => Ok(()),
        }
    }
}

/// What is new, without what became of it.
fn differing(before: &Settings, after: &Settings) -> Applied {
    let mut applied = Applied::default();
    let mut common = |key: &str, differs: bool| {
        if differs {
            applied.common.push(key.to_owned());
        }
    };
    common("limits", before.limits != after.limits || before.scale != after.scale);
    common("commands", before.commands != after.commands);
    common("allow_replace_builtin", before.replace_builtin != after.replace_builtin);
    common("keys", before.keys != after.keys);
    common("require_signature", before.require_signature != after.require_signature);
    common("drain_ms", before.drain() != after.drain());
    let none = ModuleSettings::default();
    let ids: BTreeSet<&String> = before.modules.keys().chain(after.modules.keys()).collect();
    for id in ids {
        let [before, after] = [before, after].map(|settings| settings.modules.get(id).unwrap_or(&none));
        let ModuleSettings { options, interval, delay, limits, grants, levels, server_types, enabled, key, file } =
            before;
        let keys = [
            ("options", *options != after.options),
            ("interval", *interval != after.interval),
            ("delay", *delay != after.delay),
            ("limits", *limits != after.limits),
            ("grants", *grants != after.grants),
            ("levels", *levels != after.levels),
            ("server_types", *server_types != after.server_types),
            ("enabled", *enabled != after.enabled),
            ("key", *key != after.key),
            ("file", *file != after.file),
        ];
        let keys: Vec<String> =
            keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned()).collect();
        if !keys.is_empty() {
            applied.modules.insert(id.clone(), keys);
        }
    }
    applied
}
