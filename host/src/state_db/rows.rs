//! Which rows the file has, or may have. A row that it has not need not be removed from it, so that what waits for the disk is bounded, however many keys
//! come and go meanwhile.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// Those rows, by a number of 64 bits for each. It never lacks a row that the file has.
#[derive(Default)]
pub(super) struct Rows {
    numbers: HashSet<u64>,
    hasher: RandomState,
}

impl Rows {
    fn number(&self, scope: &str, key: &str) -> u64 {
        self.hasher.hash_one((scope, key))
    }

    /// The file has it, or may have it.
    pub fn add(&mut self, scope: &str, key: &str) {
        let number = self.number(scope, key);
        self.numbers.insert(number);
    }

    /// The file has it no more.
    pub fn remove(&mut self, scope: &str, key: &str) {
        let number = self.number(scope, key);
        self.numbers.remove(&number);
    }

    pub fn may_have(&self, scope: &str, key: &str) -> bool {
        self.numbers.contains(&self.number(scope, key))
    }
}
