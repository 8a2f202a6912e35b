//! What a call sees of its module's store.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::{StagedChanges, Store};
use crate::failure::{Failure, code};

/// What a call sees of a store: the store itself, or the store with staged changes.
#[derive(Clone)]
pub struct StoreView {
    store: Arc<Store>,
    staged: Option<Arc<StagedChanges>>,
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
        let mut contents = self.store.contents.lock();
        let mut staged = self.staged.as_ref().map(|staged| staged.0.lock());
        let over = staged.as_ref().and_then(|changes| changes.get(key));
        let now = over.map_or_else(|| contents.entries.get(key), |change| change.as_ref());
        if !wanted(now.map(|value| &**value)) {
            return Ok(false);
        }
        if let Some(value) = new {
            contents.check(self.store.limit(), key, value)?;
        }
        let new = new.map(Arc::from);
        match staged.as_mut() {
            Some(changes) => {
                let before = changes.insert(key.to_owned(), new);
                if contents.bytes_with(changes) > self.store.limit().max(contents.bytes) {
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
