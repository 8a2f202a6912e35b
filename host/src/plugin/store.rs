//! The module's store: text by key, held by the host, one for each module id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::{Descriptor, Keeper};
use crate::budget::{ModuleAccount, ModuleCharge};
use crate::failure::{Failure, code};

/// Bytes that a key may have.
pub(super) const MAX_KEY: usize = 256;
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
    patterns: RwLock<Option<Patterns>>,
}

/// The patterns of durable keys, so that a key is looked up in some steps, however many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Patterns {
    whole: BTreeSet<String>,
    /// Beginnings, in order. None begins with another, so that at most one of them can be the beginning of a key: the last that is not after it.
    beginnings: Vec<String>,
}

impl Patterns {
    fn of(descriptor: &Descriptor) -> Self {
        let mut patterns = Patterns::default();
        for pattern in &descriptor.durable {
            match pattern.strip_suffix('*') {
                Some(beginning) => patterns.beginnings.push(beginning.to_owned()),
                None => drop(patterns.whole.insert(pattern.clone())),
            }
        }
        patterns.beginnings.sort();
        // What begins with another stands behind it.
        patterns.beginnings.dedup_by(|later, earlier| later.starts_with(earlier.as_str()));
        patterns
    }

    fn has(&self, key: &str) -> bool {
        let after = self.beginnings.partition_point(|beginning| beginning.as_str() <= key);
        let begins = after.checked_sub(1).is_some_and(|at| key.starts_with(self.beginnings[at].as_str()));
        begins || self.whole.contains(key)
    }
}

/// What is in a store.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub entries: BTreeMap<String, Arc<str>>,
    /// Bytes in use.
    pub bytes: usize,
    /// The same, charged to the module that changed it last. Absent until one does.
    pub charge: Option<ModuleCharge>,
}

impl DurableKeys {
    fn is_durable(&self, key: &str) -> bool {
        self.patterns.read().as_ref().is_some_and(|patterns| patterns.has(key))
    }
}

/// Changes of a store that are not carried out yet: those of a new version's `start`, until that version takes over.
#[derive(Debug, Default)]
pub struct StagedChanges(pub(super) Mutex<Staged>);

/// What is staged, by key: the value, or that the key is removed.
#[derive(Debug, Default)]
pub(super) struct Staged {
    pub changes: BTreeMap<String, Option<Arc<str>>>,
    /// Bytes of it.
    pub bytes: usize,
    /// The same, charged to the module whose `start` it is.
    pub charge: Option<ModuleCharge>,
}

/// What undoes a commit. What is kept for that is charged to the module.
pub struct StoreUndo(Vec<Undone>, Option<ModuleCharge>);

/// A key that a commit changed.
struct Undone {
    key: String,
    wrote: Option<Arc<str>>,
    before: Option<Arc<str>>,
}

fn cost(key: &str, value: &str) -> usize {
    key.len() + value.len() + OVERHEAD
}

/// What a staged change of a key takes.
pub(super) fn staged_cost(key: &str, change: Option<&Arc<str>>) -> usize {
    cost(key, change.map_or("", |value| value))
}

/// Checks the length of a key.
pub(super) fn check_key(key: &str) -> Result<(), Failure> {
    if key.len() <= MAX_KEY {
        return Ok(());
    }
    Err(Failure::new(code::BAD_MESSAGE, format!("a key has at most {MAX_KEY} bytes, this one {}", key.len())))
}

/// Charges to a module that something has so many bytes from now on. What was charged to another module for it is given back.
pub(super) fn recharge(
    charge: &mut Option<ModuleCharge>,
    account: &ModuleAccount,
    bytes: usize,
) -> Result<(), Failure> {
    let over = |over| Failure::new(code::STORE_FULL, format!("the module's store cannot grow: {over}"));
    match charge {
        Some(charge) if charge.account().is(account) => charge.resize(bytes).map_err(over),
        _ => {
            *charge = Some(account.charge(bytes).map_err(over)?);
            Ok(())
        }
    }
}

impl Staged {
    /// Brings the charge up to date.
    pub fn is_charged(&mut self) {
        if let Some(charge) = &mut self.charge {
            charge.is_now(self.bytes);
        }
    }
}

impl Contents {
    /// Brings the charge up to date.
    pub fn is_charged(&mut self) {
        if let Some(charge) = &mut self.charge {
            charge.is_now(self.bytes);
        }
    }

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

    /// Bytes in use after a key was set, or removed.
    pub fn bytes_after(&self, key: &str, value: Option<&str>) -> usize {
        let old = self.entries.get(key).map_or(0, |old| cost(key, old));
        self.bytes - old + value.map_or(0, |value| cost(key, value))
    }

    /// Checks that there is room for a key.
    pub fn check(&self, limit: usize, key: &str, value: &str) -> Result<(), Failure> {
        let after = self.bytes_after(key, Some(value));
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
        let durable = DurableKeys { id: id.to_owned(), keeper, patterns: RwLock::default() };
        Ok(Store { limit: AtomicUsize::new(limit), contents: Mutex::new(contents), durable: Some(durable) })
    }

    /// From now on the keys that this descriptor declares durable are kept. Keys that only the descriptor before it declared are no longer kept.
    pub fn declare(&self, descriptor: &Descriptor) {
        let Some(durable) = &self.durable else { return };
        let contents = self.contents.lock();
        let now = Patterns::of(descriptor);
        let before = durable.patterns.write().replace(now.clone());
        if before.as_ref() == Some(&now) {
            return;
        }
        for (key, value) in &contents.entries {
            // Before the first descriptor, everything in the store was loaded from the keeper.
            let was = before.as_ref().is_none_or(|before| before.has(key));
            match (was, now.has(key)) {
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
        let Staged { changes, bytes: _, charge } = std::mem::take(&mut *staged.0.lock());
        let before = contents.bytes;
        for (key, value) in changes {
            let before = contents.entries.get(&key).cloned();
            contents.put(self.durable.as_ref(), &key, value.clone());
            undo.push(Undone { key, wrote: value, before });
        }
        // What was staged is in the store now, and what was in the store is kept for the undoing.
        let account = charge.map(|charge| charge.account().clone());
        if let Some(account) = &account {
            let mut charge = account.nothing();
            charge.is_now(contents.bytes);
            contents.charge = Some(charge);
        }
        let kept = account.map(|account| {
            let mut kept = account.nothing();
            kept.is_now(before);
            kept
        });
        StoreUndo(undo, kept)
    }

    /// Undoes a commit, except for keys that were changed again after it.
    pub fn undo(&self, StoreUndo(changes, _kept): StoreUndo) {
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
        contents.is_charged();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_find_what_the_descriptor_declares() {
        let durable = ["one", "time:*", "time:of:*", "a*", "ab*", "abc", "*z"];
        let descriptor = Descriptor { durable: durable.map(str::to_owned).to_vec(), ..Descriptor::default() };
        let patterns = Patterns::of(&descriptor);
        for key in ["one", "on", "one more", "time:", "time:of:x", "tim", "a", "abc", "abd", "b", "*z", "z", ""] {
            assert_eq!(patterns.has(key), descriptor.is_durable(key), "{key}");
        }
        let all = Patterns::of(&Descriptor { durable: vec!["x*".into(), "*".into()], ..Descriptor::default() });
        assert_eq!(all.beginnings, [""]);
        assert!(all.has("") && all.has("anything"));
    }
}
