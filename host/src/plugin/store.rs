//! The module's store: text by key, held by the host, one for each module id.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::{Descriptor, Keeper};
use crate::failure::{Failure, code};

/// Bytes that a key may have.
const MAX_KEY: usize = 256;
/// What a key costs beside its own bytes and those of its value, so that empty values are not free.
const OVERHEAD: usize = 64;

/// The store of one module id on one host. It outlives calls, traps and versions of the module; keys that the module declared durable outlive
/// the process as well, where the host has a [`Keeper`].
pub struct Store {
    limit: usize,
    contents: Mutex<Contents>,
    durable: Option<DurableKeys>,
}

/// The keys that outlive the process, and where they are kept.
struct DurableKeys {
    id: String,
    keeper: Arc<dyn Keeper>,
    /// The durable keys by the descriptor in force.
    descriptor: RwLock<Option<Descriptor>>,
}

#[derive(Debug, Default)]
struct Contents {
    entries: BTreeMap<String, Arc<str>>,
    bytes: usize,
}

impl DurableKeys {
    fn is_durable(&self, key: &str) -> bool {
        self.descriptor.read().as_ref().is_some_and(|descriptor| descriptor.is_durable(key))
    }
}

/// Changes of a store that are not carried out yet: those of a new version's `start`, until that version takes over.
#[derive(Debug, Default)]
pub struct StagedChanges(Mutex<BTreeMap<String, Option<Arc<str>>>>);

/// What undoes a commit.
pub struct StoreUndo(Vec<Undone>);

/// A key that a commit changed.
struct Undone {
    key: String,
    wrote: Option<Arc<str>>,
    before: Option<Arc<str>>,
}

/// What a call sees of a store: the store itself, or the store with staged changes.
#[derive(Clone)]
pub struct StoreView {
    store: Arc<Store>,
    staged: Option<Arc<StagedChanges>>,
}

fn cost(key: &str, value: &str) -> usize {
    key.len() + value.len() + OVERHEAD
}

impl Contents {
    /// What the store would hold with changes carried out, bytes.
    fn bytes_with(&self, changes: &BTreeMap<String, Option<Arc<str>>>) -> usize {
        let cost_of = |key: &str, value: Option<&Arc<str>>| value.map_or(0, |value| cost(key, value));
        let added: usize = changes.iter().map(|(key, change)| cost_of(key, change.as_ref())).sum();
        let gone: usize = changes.keys().map(|key| cost_of(key, self.entries.get(key))).sum();
        self.bytes + added - gone
    }

    fn put(&mut self, durable: Option<&DurableKeys>, key: &str, value: Option<Arc<str>>) {
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

    fn check(&self, limit: usize, key: &str, value: &str) -> Result<(), Failure> {
        if key.len() > MAX_KEY {
            return Err(Failure::new(
                code::BAD_MESSAGE,
                format!("a key has at most {MAX_KEY} bytes, this one {}", key.len()),
            ));
        }
        let old = self.entries.get(key).map_or(0, |old| cost(key, old));
        let after = self.bytes - old + cost(key, value);
        // A store that is over its limit, since that was lowered, may shrink.
        if after > limit && after > self.bytes {
            let message = format!("the module's store would hold {after} bytes; its limit is {limit}");
            return Err(Failure::new(code::STORE_FULL, message));
        }
        Ok(())
    }
}

impl Store {
    /// An empty store for at most `limit` bytes, which nothing outlives.
    pub fn new(limit: usize) -> Self {
        Store { limit, contents: Mutex::default(), durable: None }
    }

    /// A store with what the keeper has of the module `id`.
    pub fn with_keeper(limit: usize, id: &str, keeper: Arc<dyn Keeper>) -> Self {
        let mut contents = Contents::default();
        for (key, value) in keeper.load(id) {
            contents.put(None, &key, Some(value.into()));
        }
        let durable = DurableKeys { id: id.to_owned(), keeper, descriptor: RwLock::default() };
        Store { limit, contents: Mutex::new(contents), durable: Some(durable) }
    }

    /// From now on the durable keys are those of this descriptor.
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

    /// Undoes a commit, but for keys that were changed again since.
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

impl StoreView {
    /// A view that reads and writes the store itself.
    pub fn direct(store: Arc<Store>) -> Self {
        StoreView { store, staged: None }
    }

    /// A view that reads the store with the staged changes, and stages what it changes.
    pub fn staged(store: Arc<Store>, staged: Arc<StagedChanges>) -> Self {
        StoreView { store, staged: Some(staged) }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Arc<str>> {
        let over = self.staged.as_ref().and_then(|staged| staged.0.lock().get(key).cloned());
        over.unwrap_or_else(|| self.store.get(key))
    }

    /// Sets a key, or removes it.
    ///
    /// # Errors
    /// `store-full`, or `bad-message` for a key that is too long.
    pub fn set(&self, key: &str, value: Option<&str>) -> Result<(), Failure> {
        self.change(key, value, |_| true).map(|_| ())
    }

    /// Sets or removes a key if its value is `expected`; whether it was.
    ///
    /// # Errors
    /// As [`StoreView::set`].
    pub fn compare_and_swap(&self, key: &str, expected: Option<&str>, new: Option<&str>) -> Result<bool, Failure> {
        self.change(key, new, |now| now == expected)
    }

    /// Removes a key; whether it was there.
    pub fn delete(&self, key: &str) -> bool {
        // Removing never meets a limit.
        self.change(key, None, |now| now.is_some()).unwrap_or(false)
    }

    /// Changes a key where `wanted` agrees to its present value, in one step.
    fn change(&self, key: &str, new: Option<&str>, wanted: impl Fn(Option<&str>) -> bool) -> Result<bool, Failure> {
        let mut contents = self.store.contents.lock();
        let mut staged = self.staged.as_ref().map(|staged| staged.0.lock());
        let over = staged.as_ref().and_then(|changes| changes.get(key));
        let now = over.map_or_else(|| contents.entries.get(key), |change| change.as_ref());
        if !wanted(now.map(|value| &**value)) {
            return Ok(false);
        }
        if let Some(value) = new {
            contents.check(self.store.limit, key, value)?;
        }
        let new = new.map(Arc::from);
        match staged.as_mut() {
            Some(changes) => {
                let before = changes.insert(key.to_owned(), new);
                if contents.bytes_with(changes) > self.store.limit.max(contents.bytes) {
                    match before {
                        Some(before) => changes.insert(key.to_owned(), before),
                        None => changes.remove(key),
                    };
                    return Err(Failure::new(
                        code::STORE_FULL,
                        "`start` changes more than the module's store may hold",
                    ));
                }
            }
            None => contents.put(self.store.durable.as_ref(), key, new),
        }
        Ok(true)
    }

    /// Keys that begin with `prefix` and their values, ordered by key.
    pub fn entries(&self, prefix: &str) -> Vec<(String, String)> {
        let contents = self.store.contents.lock();
        let from = |key: &String| key.starts_with(prefix);
        let mut found: BTreeMap<&String, &Arc<str>> = contents
            .entries
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| from(key))
            .collect();
        let staged = self.staged.as_ref().map(|staged| staged.0.lock());
        for (key, change) in staged.iter().flat_map(|changes| changes.iter()).filter(|(key, _)| from(key)) {
            match change {
                Some(value) => found.insert(key, value),
                None => found.remove(key),
            };
        }
        found.into_iter().map(|(key, value)| (key.clone(), value.to_string())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m4_keys_are_set_swapped_listed_and_removed() {
        let view = StoreView::direct(Arc::new(Store::new(10_000)));
        view.set("time:b", Some("2")).unwrap();
        view.set("time:a", Some("1")).unwrap();
        view.set("timf", Some("x")).unwrap();
        assert_eq!(view.entries("time:"), [("time:a".into(), "1".into()), ("time:b".into(), "2".into())]);
        assert!(view.compare_and_swap("time:a", Some("1"), Some("3")).unwrap());
        assert!(!view.compare_and_swap("time:a", Some("1"), Some("4")).unwrap());
        assert!(view.compare_and_swap("new", None, Some("n")).unwrap());
        assert!(view.compare_and_swap("new", Some("n"), None).unwrap());
        assert_eq!((view.get("time:a").as_deref(), view.get("new")), (Some("3"), None));
    }

    #[test]
    fn the_limit_holds_and_what_is_removed_is_given_back() {
        let store = Arc::new(Store::new(300));
        let view = StoreView::direct(store.clone());
        view.set("k", Some(&"x".repeat(200))).unwrap();
        assert_eq!(view.set("l", Some("yyyyyyyyy")).unwrap_err().code, code::STORE_FULL);
        view.set("k", Some("small")).unwrap();
        view.set("l", Some("y")).unwrap();
        view.set("k", None).unwrap();
        view.set("l", None).unwrap();
        assert_eq!(store.bytes(), 0);
        assert_eq!(view.set(&"k".repeat(257), Some("")).unwrap_err().code, code::BAD_MESSAGE);
    }

    #[test]
    fn what_a_start_changes_is_seen_after_the_commit_and_can_be_undone() {
        let store = Arc::new(Store::new(10_000));
        let now = StoreView::direct(store.clone());
        now.set("kept", Some("old")).unwrap();
        now.set("gone", Some("old")).unwrap();
        let staged = Arc::new(StagedChanges::default());
        let start = StoreView::staged(store.clone(), staged.clone());
        start.set("kept", Some("new")).unwrap();
        start.set("gone", None).unwrap();
        start.set("made", Some("new")).unwrap();
        assert_eq!(start.entries("").len(), 2);
        assert_eq!((start.get("gone"), now.get("gone").as_deref()), (None, Some("old")));
        let undo = store.commit(&staged);
        assert_eq!((now.get("kept").as_deref(), now.get("gone")), (Some("new"), None));
        store.undo(undo);
        assert_eq!(now.entries(""), [("gone".into(), "old".into()), ("kept".into(), "old".into())]);
    }
}
