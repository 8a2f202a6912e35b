//! [`Store`]: what a module keeps.

use serde::{Serialize, de::DeserializeOwned};

use crate::bindings::store;
use crate::failure::{Result, from_host};
use crate::json;

/// What a module keeps on this host: JSON text by key. It outlives calls, traps and reloads of the module.
///
/// Every module id has a store of its own on every host. A key has at most 256 bytes, and the size of the whole store is limited. Several
/// instances of a module may use the store at once. So that they do not undo each other's changes, declare the callback `serial`, use a key
/// for each thing, or use [`compare_and_swap`](Store::compare_and_swap).
#[derive(Debug)]
pub struct Store {
    _private: (),
}

impl Store {
    pub(crate) const fn new() -> Self {
        Self { _private: () }
    }

    /// The value of a key. Fails with `bad-value` where what is there is not of this type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        store::get(key).map(|text| value(&text)).transpose()
    }

    /// Sets a key. Fails with `store-full` where the store has no room left, with `not-json` for a value that JSON cannot hold.
    pub fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result {
        self.set_text(key, &json::encode(value)?)
    }

    /// The text of a key.
    pub fn get_text(&self, key: &str) -> Option<String> {
        store::get(key)
    }

    /// Sets the text of a key. Fails with `store-full` where the store has no room left.
    pub fn set_text(&self, key: &str, text: &str) -> Result {
        store::set(key, text).map_err(from_host)
    }

    /// Removes a key. Returns whether the key was there.
    pub fn delete(&self, key: &str) -> bool {
        store::delete(key)
    }

    /// Keys that begin with `prefix` and their values, ordered by key. Fails with `bad-value` where one is not of this type.
    pub fn entries<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, T)>> {
        store::entries(prefix).into_iter().map(|(key, text)| Ok((key, value(&text)?))).collect()
    }

    /// Keys that begin with `prefix` and their texts, ordered by key.
    pub fn entries_text(&self, prefix: &str) -> Vec<(String, String)> {
        store::entries(prefix)
    }

    /// Sets a key's text to `new` if its text is `expected`. `None` stands for a key that is not there, so that `new: None` removes the key.
    /// Returns whether the key's text was `expected`. Fails with `store-full` where the store has no room left.
    pub fn compare_and_swap(&self, key: &str, expected: Option<&str>, new: Option<&str>) -> Result<bool> {
        store::compare_and_swap(key, expected, new).map_err(from_host)
    }

    /// Whether the value of this key outlives the host's process. It does where `#[module(durable(…))]` names the key and the host has a data
    /// directory.
    pub fn durable(&self, key: &str) -> bool {
        store::durable(key)
    }

    /// The value of a key of another module's store on this host. Fails with `forbidden` without the grant `store:ID`, with `bad-value`
    /// where what is there is not of this type.
    pub fn read<T: DeserializeOwned>(&self, module_id: &str, key: &str) -> Result<Option<T>> {
        store::read(module_id, key).map_err(from_host)?.map(|text| value(&text)).transpose()
    }
}

fn value<T: DeserializeOwned>(text: &str) -> Result<T> {
    json::decode(text, "bad-value", "What the store holds is not of the expected form")
}
