//! The compiled files of an engine. The hosts of one engine share code: a master and its own monitor, or a thousand monitors of a test, load
//! the same files.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Compiled;

/// The compiled files that are in use, by their SHA-256.
#[derive(Default)]
pub(super) struct Shelf(Mutex<HashMap<[u8; 32], CompileSlot>>);

/// A file's compiled form. It is locked while the file is compiled, so that nobody else compiles the same file.
pub(super) type CompileSlot = Arc<tokio::sync::Mutex<Weak<Compiled>>>;

impl Shelf {
    /// The slot of a file. Slots that nobody uses, and whose files are no longer in use, are removed.
    pub fn slot(&self, digest: [u8; 32]) -> CompileSlot {
        let mut slots = self.0.lock();
        let in_use =
            |slot: &CompileSlot| Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|it| it.strong_count() > 0);
        slots.retain(|_, slot| in_use(slot));
        slots.entry(digest).or_default().clone()
    }
}
