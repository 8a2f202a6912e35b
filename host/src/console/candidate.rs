//! What can be told of a file without running it: which ids it has here, what it may import, its limits, whose place it would take.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::InstallError;
use super::registry::{MAX_UNITS, Registry};
use super::settings::{Settings, Untrusted};
use super::source::{Origin, Source};
use super::table::{Table, Unit};
use crate::plugin::{
    Compiled, Descriptor, Engine, Grants, IdDescriptor, Identity, Inspection, Limits, LoadError, Module,
};
use crate::trust::Signer;

/// How many times as much of the CPU a built-in module may use beside others, where nothing else is configured for it.
const BUILT_IN: u32 = 10;

/// A version that has passed every check and waits for the swap.
pub(super) struct Candidate {
    pub source: Source,
    pub signer: Signer,
    pub module: Arc<Module>,
    /// The module ids on this host.
    pub ids: Vec<IdDescriptor>,
    /// The module ids on other hosts: those of the other role, or of other server types.
    pub elsewhere: BTreeSet<String>,
}

impl Candidate {
    /// Makes every check that does not run the file.
    pub fn check(
        registry: &Registry,
        engine: &Engine,
        source: Source,
        signer: Signer,
        compiled: &Arc<Compiled>,
    ) -> Result<Candidate, InstallError> {
        let settings = &*registry.settings();
        let all = settings.ids(&source.name, &compiled.descriptor().ids);
        allows(
            settings,
            (&source.name, &source.origin),
            &signer,
            &source.grants,
            (compiled.descriptor(), compiled.inspection()),
        )?;
        let limits = limits(settings, engine, &source.origin, &all, compiled.descriptor());
        let module = Arc::new(Module::new(engine, &source.name, compiled, limits)?);
        let (ids, elsewhere) = here(settings, &registry.identity, all);
        let candidate = Candidate { source, signer, module, ids, elsewhere };
        candidate.replaced(settings, &registry.table.read())?;
        Ok(candidate)
    }

    /// Whether it may still be installed, because settings may have changed since it was looked at.
    pub fn check_again(&self, settings: &Settings) -> Result<(), InstallError> {
        let Source { name, origin, grants, .. } = &self.source;
        let said = (self.module.descriptor(), self.module.inspection());
        allows(settings, (name, origin), &self.signer, grants, said)
    }

    /// The files in force whose place the candidate would take: its own earlier version, and a built-in module where that is allowed. A built-in
    /// module takes its place back from whatever file has it.
    pub fn replaced(&self, settings: &Settings, table: &Table) -> Result<Vec<Arc<Unit>>, InstallError> {
        let name = &self.source.name;
        self.check_claims(settings, table)?;
        let mut replaced: Vec<Arc<Unit>> = table.units.get(name).cloned().into_iter().collect();
        for id in &self.ids {
            let Some(unit) = table.slots.get(&id.id).map(|slot| &slot.unit) else { continue };
            if replaced.iter().any(|known| known.name == unit.name) {
                continue;
            }
            match &unit.origin {
                Origin::File(_) if self.source.origin == Origin::BuiltIn => replaced.push(unit.clone()),
                Origin::File(path) => {
                    return Err(InstallError::Conflict { id: id.id.clone(), other: path.display().to_string() });
                }
                Origin::BuiltIn if !settings.replace_builtin => {
                    return Err(InstallError::BuiltIn(id.id.clone()));
                }
                Origin::BuiltIn => replaced.push(unit.clone()),
            }
        }
        let lost = |unit: &Arc<Unit>| {
            let mut lost = table.slots.values().filter(|slot| slot.unit.name == unit.name);
            lost.find(|slot| !self.ids.iter().any(|id| id.id == slot.descriptor.id)).map(|s| s.descriptor.id.clone())
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

    /// Refuses ids that belong to others. Ids that the file has only on other hosts count as well, because a file must not get what is granted to a
    /// built-in module by naming that module's id.
    fn check_claims(&self, settings: &Settings, table: &Table) -> Result<(), InstallError> {
        let Source { name, origin, .. } = &self.source;
        if *origin == Origin::BuiltIn {
            return Ok(());
        }
        let here = self.ids.iter().map(|id| &id.id);
        for id in here.clone().chain(&self.elsewhere) {
            if settings.built_in(id).is_some() && !settings.replace_builtin {
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
}

/// Whether settings let a file be in force: it is signed as it has to be, and what it imports is granted to it, by itself (`own`) or by the settings.
pub(super) fn allows(
    settings: &Settings,
    (name, origin): (&str, &Origin),
    signer: &Signer,
    own: &Grants,
    (descriptor, inspection): (&Descriptor, &Inspection),
) -> Result<(), InstallError> {
    let all = settings.ids(name, &descriptor.ids);
    if *origin != Origin::BuiltIn {
        settings.check_signer(&all, signer)?;
    }
    let first = all.first().map_or("", |id| &id.id);
    Ok(grants(settings, own, &all).check(first, &inspection.imports)?)
}

/// By whom a file is signed, if it may be compiled at all: a host that wants files signed compiles no others. What has to be known of its ids is read off the
/// section in which it says them. One without that section must be run to say them, and is not if it is signed by nobody who is known.
pub(super) fn signer(settings: &Settings, name: &str, bytes: &[u8]) -> Result<Signer, InstallError> {
    let signer = settings.keys.signer(bytes)?;
    settings.check_signed(&signer)?;
    if settings.binds_ids() {
        let inspection = Inspection::new(bytes).map_err(LoadError::from)?;
        match inspection.descriptor.as_deref() {
            Some(descriptor) => {
                let descriptor = Descriptor::parse(descriptor).map_err(LoadError::from)?;
                settings.check_signer(&settings.ids(name, &descriptor.ids), &signer)?;
            }
            None if settings.keys.name_of(&signer).is_none() => return Err(Untrusted::Unsaid.into()),
            None => {}
        }
    }
    Ok(signer)
}

/// The ids of a file on this host, and those that it has only on others.
pub(super) fn here(
    settings: &Settings,
    identity: &Identity,
    all: Vec<IdDescriptor>,
) -> (Vec<IdDescriptor>, BTreeSet<String>) {
    let here = |id: &IdDescriptor| id.applies_to(identity.role) && settings.applies_to(&id.id, &identity.server_type);
    let (ids, elsewhere): (Vec<_>, Vec<_>) = all.into_iter().partition(here);
    (ids, elsewhere.into_iter().map(|id| id.id).collect())
}

/// Limits of a file: those of the first of its ids for which the configuration has limits, else the common ones. What a built-in module wants
/// itself counts where the configuration does not say otherwise.
pub(super) fn limits(
    settings: &Settings,
    engine: &Engine,
    origin: &Origin,
    ids: &[IdDescriptor],
    descriptor: &Descriptor,
) -> Limits {
    let own = ids.iter().find_map(|id| settings.modules.get(&id.id).and_then(|module| module.limits.clone()));
    let mut limits = own.unwrap_or_else(|| settings.limits.clone());
    if *origin == Origin::BuiltIn {
        descriptor.limits.raise(&mut limits, &settings.limits, settings.scale);
        limits.module = None;
        if limits.weight == settings.limits.weight {
            limits.weight = limits.weight.saturating_mul(BUILT_IN);
        }
    }
    limits.answer = limits.answer.min(settings.max_answer.unwrap_or(usize::MAX));
    limits.memory = limits.memory.min(engine.limits().max_memory);
    limits
}

/// What the file may import: what was granted to any of its ids. Where it takes a built-in module's place, also what that module may import.
pub(super) fn grants(settings: &Settings, own: &Grants, ids: &[IdDescriptor]) -> Grants {
    let mut grants = own.clone();
    for id in ids {
        if let Some(module) = settings.modules.get(&id.id) {
            grants.extend(&module.grants);
        }
        if let Some(built_in) = settings.built_in(&id.id).filter(|_| settings.replace_builtin) {
            grants.extend(&built_in.source.grants);
        }
    }
    grants
}
