//! The module's store: text by key, held by the host, one for each module id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::{Descriptor, Keeper};
use crate::failure::{Failure, code};

/// Bytes that a key may have.
const MAX_KEY: usize = 256;
/// Bytes that are counted for a key beside its own and those of its value, so that keys with empty values are not free.
const OVERHEAD: usize = 64;

/// The store of one module id on one host. It outlives calls, traps and versions of the module. Keys that the module declared durable also
/// outlive the process, where the host has a [`Keeper`].
pub struct Store {
    limit: AtomicUsize,
    pub(super) contents: Mutex<Contents>,
    pub(super) durable: Option<DurableKeys>,
}

/// The keys that outlive the process, and where they are kept.
pub(super) struct DurableKeys {
    id: String,
    keeper: Arc<dyn Keeper>,
    /// The durable keys by the descriptor in force.
    descriptor: RwLock<Option<Descriptor>>,
}

/// What is in a store.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub entries: BTreeMap<String, Arc<str>>,
    /// Bytes in use.
    pub bytes: usize,
}

impl DurableKeys {
    fn is_durable(&self, key: &str) -> bool {
        self.descriptor.read().as_ref().is_some_and(|descriptor| descriptor.is_durable(key))
    }
}

/// Changes of a store that are not carried out yet: those of a new version's `start`, until that version takes over.
#[derive(Debug, Default)]
pub struct StagedChanges(pub(super) Mutex<BTreeMap<String, Option<Arc<str>>>>);

/// What undoes a commit.
pub struct StoreUndo(Vec<Undone>);

/// A key that a commit changed.
struct Undone {
    key: String,
    wrote: Option<Arc<str>>,
    before: Option<Arc<str>>,
}

fn cost(key: &str, value: &str) -> usize {
    key.len() + value.len() + OVERHEAD
}

impl Contents {
    /// Bytes that the store would hold if these changes were carried out.
    pub fn bytes_with(&self, changes: &BTreeMap<String, Option<Arc<str>>>) -> usize {
        let cost_of = |key: &str, value: Option<&Arc<str>>| value.map_or(0, |value| cost(key, value));
        let added: usize = changes.iter().map(|(key, change)| cost_of(key, change.as_ref())).sum();
        let gone: usize = changes.keys().map(|key| cost_of(key, self.entries.get(key))).sum();
        self.bytes + added - gone
    }

    /// Sets or removes a key, and keeps it where it is durable.
    pub fn put(&mut self, durable: Option<&DurableKeys>, key: &str, value: Option<Arc<str>>) {
        if let Some(durable) = durable.filter(|durable| durable.is_durable(key)) {
            durable.keeper.put(&durable.id, key, value.clone());
        }
        let old = match value {
            Some(value) => {
                self.bytes += cost(key, &value);
                self.entries.insert(key.to_owned(), value)
            }
            None => self.entries.remove(key),
        };
        if let Some(old) = old {
            self.bytes -= cost(key, &old);
        }
    }

    /// Checks that there is room for a key.
    pub fn check(&self, limit: usize, key: &str, value: &str) -> Result<(), Failure> {
        if key.len() > MAX_KEY {
            return Err(Failure::new(
                code::BAD_MESSAGE,
                format!("a key has at most {MAX_KEY} bytes, this one {}", key.len()),
            ));
        }
        let old = self.entries.get(key).map_or(0, |old| cost(key, old));
        let after = self.bytes - old + cost(key, value);
        // A store may be over its limit because that was lowered. Then it may still shrink.
        if after > limit && after > self.bytes {
            let message = format!("the module's store would hold {after} bytes; its limit is {limit}");
            return Err(Failure::new(code::STORE_FULL, message));
        }
        Ok(())
    }
}

impl Store {
    /// An empty store for at most `limit` bytes. Nothing of it outlives the process.
    pub fn new(limit: usize) -> Self {
        Store { limit: AtomicUsize::new(limit), contents: Mutex::default(), durable: None }
    }

    /// A store with the keys that the keeper has of the module `id`.
    ///
    /// # Errors
    /// `failed` where the keeper cannot read them.
    pub fn with_keeper(limit: usize, id: &str, keeper: Arc<dyn Keeper>) -> Result<Self, Failure> {
        let mut contents = Contents::default();
        for (key, value) in keeper.load(id)? {
            contents.put(None, &key, Some(value.into()));
        }
        let durable = DurableKeys { id: id.to_owned(), keeper, descriptor: RwLock::default() };
        Ok(Store { limit: AtomicUsize::new(limit), contents: Mutex::new(contents), durable: Some(durable) })
    }

    /// From now on the keys that this descriptor declares durable are kept. Keys that only the descriptor before it declared are no longer kept.
    pub fn declare(&self, descriptor: &Descriptor) {
        let Some(durable) = &self.durable else { return };
        let contents = self.contents.lock();
        let before = durable.descriptor.write().replace(descriptor.clone());
        for (key, value) in &contents.entries {
            // Before the first descriptor, everything in the store was loaded from the keeper.
            let was = before.as_ref().is_none_or(|before| before.is_durable(key));
            match (was, descriptor.is_durable(key)) {
                (false, true) => durable.keeper.put(&durable.id, key, Some(value.clone())),
                (true, false) => durable.keeper.put(&durable.id, key, None),
                _ => {}
            }
        }
    }

    /// The most bytes that it may hold.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the most bytes that it may hold. What it holds beyond that stays, but it may only shrink then.
    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Arc<str>> {
        self.contents.lock().entries.get(key).cloned()
    }

    /// Whether what is set under a key outlives the process.
    pub fn is_durable(&self, key: &str) -> bool {
        self.durable.as_ref().is_some_and(|durable| durable.is_durable(key))
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.contents.lock().bytes
    }

    /// Carries out staged changes, and returns what undoes them.
    pub fn commit(&self, staged: &StagedChanges) -> StoreUndo {
        let mut contents = self.contents.lock();
        let mut undo = Vec::new();
        for (key, value) in std::mem::take(&mut *staged.0.lock()) {
            let before = contents.entries.get(&key).cloned();
            contents.put(self.durable.as_ref(), &key, value.clone());
            undo.push(Undone { key, wrote: value, before });
        }
        StoreUndo(undo)
    }

    /// Undoes a commit, except for keys that were changed again after it.
    pub fn undo(&self, StoreUndo(changes): StoreUndo) {
        let mut contents = self.contents.lock();
        for Undone { key, wrote, before } in changes {
            let untouched = match (contents.entries.get(&key), &wrote) {
                (Some(now), Some(wrote)) => Arc::ptr_eq(now, wrote),
                (now, wrote) => now.is_none() && wrote.is_none(),
            };
            if untouched {
                contents.put(self.durable.as_ref(), &key, before);
            }
        }
    }
}
