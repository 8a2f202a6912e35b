//! What a call sees of its module's store.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::store::{Staged, check_key, recharge, staged_cost};
use super::{StagedChanges, Store};
use crate::budget::ModuleAccount;
use crate::failure::{Failure, code};

/// What a call sees of a store: the store itself, or the store with staged changes.
#[derive(Clone)]
pub struct StoreView {
    store: Arc<Store>,
    staged: Option<Arc<StagedChanges>>,
    /// What is stored is charged to it. Absent outside calls.
    account: Option<ModuleAccount>,
}

impl StoreView {
    /// A view that reads and writes the store itself.
    pub fn direct(store: Arc<Store>) -> Self {
        StoreView { store, staged: None, account: None }
    }

    /// A view that reads the store with the staged changes, and stages what it changes.
    pub fn staged(store: Arc<Store>, staged: Arc<StagedChanges>) -> Self {
        StoreView { store, staged: Some(staged), account: None }
    }

    /// Charges what is stored to a module from now on.
    pub(super) fn charged_to(&mut self, account: &ModuleAccount) {
        self.account = Some(account.clone());
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Arc<str>> {
        let over = self.staged.as_ref().and_then(|staged| staged.0.lock().changes.get(key).cloned());
        over.unwrap_or_else(|| self.store.get(key))
    }

    /// Sets a key, or removes it.
    ///
    /// # Errors
    /// `store-full`, or `bad-message` for a key that is too long.
    pub fn set(&self, key: &str, value: Option<&str>) -> Result<(), Failure> {
        self.change(key, value, |_| true).map(|_| ())
    }

    /// Sets or removes a key if its value is `expected`. Returns whether it was.
    ///
    /// # Errors
    /// As [`StoreView::set`].
    pub fn compare_and_swap(&self, key: &str, expected: Option<&str>, new: Option<&str>) -> Result<bool, Failure> {
        self.change(key, new, |now| now == expected)
    }

    /// Removes a key. Returns whether it was there.
    pub fn delete(&self, key: &str) -> bool {
        // Removing never meets a limit.
        self.change(key, None, |now| now.is_some()).unwrap_or(false)
    }

    /// Changes a key if `wanted` is true of its present value, in one step. Returns whether it was.
    fn change(&self, key: &str, new: Option<&str>, wanted: impl Fn(Option<&str>) -> bool) -> Result<bool, Failure> {
        check_key(key)?;
        let mut contents = self.store.contents.lock();
        let mut staged = self.staged.as_ref().map(|staged| staged.0.lock());
        let over = staged.as_ref().and_then(|staged| staged.changes.get(key));
        let now = over.map_or_else(|| contents.entries.get(key), |change| change.as_ref());
        if !wanted(now.map(|value| &**value)) {
            return Ok(false);
        }
        if now.is_none() && new.is_none() {
            return Ok(true);
        }
        if let Some(value) = new {
            contents.check(self.store.limit(), key, value)?;
        }
        match staged.as_mut() {
            // What removes a key that is not there need not be kept.
            Some(staged) if new.is_none() && !contents.entries.contains_key(key) => {
                if let Some(change) = staged.changes.remove(key) {
                    staged.bytes -= staged_cost(key, change.as_ref());
                }
                staged.is_charged();
            }
            Some(staged) => {
                let Staged { changes, bytes, charge } = &mut **staged;
                let change = new.map(Arc::from);
                let old = changes.get(key).map_or(0, |old| staged_cost(key, old.as_ref()));
                let after = *bytes - old + staged_cost(key, change.as_ref());
                if let Some(account) = &self.account {
                    recharge(charge, account, after)?;
                }
                let before = changes.insert(key.to_owned(), change);
                *bytes = after;
                if contents.bytes_with(changes) > self.store.limit().max(contents.bytes) {
                    *bytes = after + old;
                    let refused = match before {
                        Some(before) => changes.insert(key.to_owned(), before),
                        None => changes.remove(key),
                    };
                    *bytes -= refused.map_or(0, |refused| staged_cost(key, refused.as_ref()));
                    staged.is_charged();
                    return Err(Failure::new(
                        code::STORE_FULL,
                        "`start` changes more than the module's store may hold",
                    ));
                }
            }
            None => {
                // What shrinks is never refused.
                let after = contents.bytes_after(key, new);
                if let Some(account) = self.account.as_ref().filter(|_| after > contents.bytes) {
                    recharge(&mut contents.charge, account, after)?;
                }
                contents.put(self.store.durable.as_ref(), key, new.map(Arc::from));
                contents.is_charged();
            }
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
        for (key, change) in staged.iter().flat_map(|staged| staged.changes.iter()).filter(|(key, _)| from(key)) {
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
    use crate::budget::ModulesBudget;

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
    fn what_a_start_stages_is_bounded_whatever_it_does() {
        let store = Arc::new(Store::new(10_000));
        StoreView::direct(store.clone()).set("there", Some("x")).unwrap();
        let staged = Arc::new(StagedChanges::default());
        let start = StoreView::staged(store.clone(), staged.clone());
        // A key is looked at before it is kept, whatever is done with it.
        let long = "k".repeat(6 << 20);
        assert_eq!(start.compare_and_swap(&long, None, None).unwrap_err().code, code::BAD_MESSAGE);
        assert_eq!(start.compare_and_swap(&long, Some("x"), None).unwrap_err().code, code::BAD_MESSAGE);
        // Keys that are not there leave nothing behind when they are removed.
        for number in 0..1000 {
            let key = format!("key-{number}");
            assert!(start.compare_and_swap(&key, None, None).unwrap());
            start.set(&key, Some("short")).unwrap();
            assert!(start.delete(&key));
        }
        assert_eq!(staged.0.lock().changes.len(), 0);
        assert_eq!(staged.0.lock().bytes, 0);
        assert!(start.delete("there"));
        assert_eq!(staged.0.lock().changes.len(), 1);
        // A change that is refused is not counted.
        let before = staged.0.lock().bytes;
        assert_eq!(start.set("large", Some(&"x".repeat(10_000))).unwrap_err().code, code::STORE_FULL);
        assert_eq!(staged.0.lock().bytes, before);
        store.commit(&staged);
        assert_eq!(store.bytes(), 0);
    }

    #[test]
    fn what_is_stored_is_charged_to_the_module() {
        let budget = ModulesBudget::new(usize::MAX);
        let account = budget.open("kept", Some(5000));
        let store = Arc::new(Store::new(100_000));
        let mut now = StoreView::direct(store.clone());
        now.charged_to(&account);
        now.set("a", Some(&"x".repeat(1000))).unwrap();
        assert_eq!(account.held(), store.bytes());
        assert_eq!(now.set("b", Some(&"x".repeat(10_000))).unwrap_err().code, code::STORE_FULL);
        let staged = Arc::new(StagedChanges::default());
        let mut start = StoreView::staged(store.clone(), staged.clone());
        start.charged_to(&account);
        start.set("a", Some(&"y".repeat(500))).unwrap();
        let before = store.bytes();
        let bytes = staged.0.lock().bytes;
        assert_eq!(account.held(), before + bytes);
        let undo = store.commit(&staged);
        // What undoes it is held as well.
        assert_eq!(account.held(), before + store.bytes());
        store.undo(undo);
        assert_eq!((account.held(), store.bytes()), (before, before));
        now.delete("a");
        assert_eq!(account.held(), 0);
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
