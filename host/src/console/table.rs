//! Module ids, and the files that answer to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use super::lane::Lane;
use super::source::Origin;
use parking_lot::{Mutex, RwLock};

use crate::plugin::{Context, Handler, IdDescriptor, Lease, Module, Operations};
use crate::trust::Signer;

/// The modules in force. Changed only in one step, under the lock that it stands in.
#[derive(Default)]
pub(super) struct Table {
    /// By the file's name, without its ending.
    pub units: BTreeMap<String, Arc<Unit>>,
    /// By module id.
    pub slots: HashMap<String, Arc<Slot>>,
}

/// A file in force: a version, and what stays when the version changes.
pub(super) struct Unit {
    pub name: String,
    pub origin: Origin,
    /// By whom the file is signed.
    pub signer: RwLock<Signer>,
    /// The version. Replaced by the same version under other limits, while the table is locked for writing.
    module: RwLock<Arc<Module>>,
    /// Serial calls. Shared by all versions, so that their order holds over a reload.
    pub lane: Arc<Lane>,
    pub since: SystemTime,
    /// Whether it was there at the start of this host.
    pub was_present: AtomicBool,
    /// Whether the version was kept from before, and is in the place of the file, which was refused.
    pub is_kept: AtomicBool,
    /// The file, on a master that hands it on to monitors, until it is kept on disk.
    pub bytes: Mutex<Option<Arc<[u8]>>>,
    /// Ids that the file has only on other hosts: those of the other role, or of other server types. They are known here, and cannot be called.
    pub elsewhere: BTreeSet<String>,
}

impl Unit {
    pub fn new(
        (name, origin, signer): (String, Origin, Signer),
        module: Arc<Module>,
        lane: Arc<Lane>,
        elsewhere: BTreeSet<String>,
    ) -> Self {
        Unit {
            name,
            origin,
            signer: RwLock::new(signer),
            module: RwLock::new(module),
            lane,
            since: SystemTime::now(),
            was_present: AtomicBool::new(false),
            is_kept: AtomicBool::new(false),
            bytes: Mutex::default(),
            elsewhere,
        }
    }

    /// The version.
    pub fn module(&self) -> Arc<Module> {
        self.module.read().clone()
    }

    /// Puts the version under other limits, and returns it as it was. To be called while the table is locked for writing.
    pub fn replace(&self, module: Arc<Module>) -> Arc<Module> {
        std::mem::replace(&mut *self.module.write(), module)
    }
}

/// A module id in force.
pub(super) struct Slot {
    pub context: Arc<Context>,
    pub unit: Arc<Unit>,
    /// What the file says of the id. What the configuration says instead is looked up where it is used.
    pub descriptor: IdDescriptor,
    /// What clients may ask for: what the descriptor says, overridden by what the configuration says.
    pub operations: RwLock<Arc<Operations>>,
    /// Whether this version's `start` has been called under this id, or is being called.
    pub started: AtomicBool,
    /// Whether that call has succeeded.
    pub ready: AtomicBool,
}

impl Slot {
    /// A lease of the version. To be called while the table is locked for reading, because the version cannot have been replaced then.
    pub fn lease(&self) -> Lease {
        self.unit.module().lease()
    }

    /// What clients may ask for.
    pub fn operations(&self) -> Arc<Operations> {
        self.operations.read().clone()
    }

    /// Whether calls of a handler run one at a time.
    pub fn is_serial(&self, handler: Handler) -> bool {
        self.unit.module().descriptor().is_serial(handler)
    }
}

impl Table {
    /// All versions in force.
    pub fn modules(&self) -> Vec<Arc<Module>> {
        self.units.values().map(|unit| unit.module()).collect()
    }

    /// The ids that a file answers to on this host, in order.
    pub fn ids_of(&self, unit: &str) -> Vec<String> {
        let own = self.slots.values().filter(|slot| slot.unit.name == unit);
        let mut ids: Vec<_> = own.map(|slot| slot.descriptor.id.clone()).collect();
        ids.sort();
        ids
    }

    /// The file that answers to an id, here or only on other hosts.
    pub fn unit_of(&self, id: &str) -> Option<&Arc<Unit>> {
        let here = self.slots.get(id).map(|slot| &slot.unit);
        here.or_else(|| self.units.values().find(|unit| unit.elsewhere.contains(id)))
    }

    /// Whether an id is known, here or only on other hosts.
    pub fn knows(&self, id: &str) -> bool {
        self.unit_of(id).is_some()
    }

    /// Takes a file and its ids out.
    pub fn remove(&mut self, unit: &str) -> Option<Arc<Unit>> {
        self.slots.retain(|_, slot| slot.unit.name != unit);
        self.units.remove(unit)
    }
}
