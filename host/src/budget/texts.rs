//! Large texts that several peers are sent at the same time, each held once.
//!
//! A fleet that joins asks for the same table, and a change of it is told to every server. What goes to many is therefore one text with many holders, and
//! is charged to none of them: all such texts together have a bound of their own. Where they have reached it, a text is not shared, and whoever is sent it
//! is charged for it as for any other.
//!
//! It knows nothing of what a text says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use serde_json::value::RawValue;

/// Bytes from which on a text is shared. Below it a copy costs less than looking for one that is the same.
pub const SHARED_FROM: usize = 8 << 10;

/// Texts that were shared last and may be asked for again. A table that changes while a fleet joins has about so many revisions under way.
const REMEMBERED: usize = 8;

/// How many times its length is counted for a text: once for itself, and twice for the form inside a string, in which every byte may have an escape.
const FORMS: usize = 3;

/// The texts that are shared now.
#[derive(Debug)]
pub(super) struct Texts {
    /// Bytes that all may have together.
    limit: usize,
    held: Arc<AtomicUsize>,
    /// The last ones, the newest last.
    last: Mutex<Vec<Weak<SharedText>>>,
}

/// A JSON text with many holders.
#[derive(Debug)]
pub struct SharedText {
    text: Arc<RawValue>,
    quoted: OnceLock<Box<str>>,
    /// What is counted for it, and where.
    bytes: usize,
    held: Arc<AtomicUsize>,
}

impl Texts {
    /// Texts of at most `limit` bytes together.
    pub fn new(limit: usize) -> Self {
        Texts { limit, held: Arc::default(), last: Mutex::default() }
    }

    /// Bytes that they have together.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The text that is there, if somebody is being sent the same.
    pub fn known(&self, text: &RawValue) -> Option<Arc<SharedText>> {
        if text.get().len() < SHARED_FROM {
            return None;
        }
        let known: Vec<_> = self.last.lock().iter().filter_map(Weak::upgrade).collect();
        // Compared without the lock: a text has megabytes.
        known.into_iter().find(|known| known.text.get() == text.get())
    }

    /// The text as one that is shared: the one that is there, or a new one. Absent where it is small, or where there is no room.
    pub fn share(&self, text: &RawValue, make: impl FnOnce() -> Arc<RawValue>) -> Option<Arc<SharedText>> {
        if text.get().len() < SHARED_FROM {
            return None;
        }
        if let Some(same) = self.known(text) {
            return Some(same);
        }
        let bytes = text.get().len().saturating_mul(FORMS);
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.limit);
        self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        let text = make();
        let shared = SharedText { text, quoted: OnceLock::new(), bytes, held: self.held.clone() };
        let shared = Arc::new(shared);
        let mut last = self.last.lock();
        last.retain(|known| known.strong_count() > 0);
        if last.len() >= REMEMBERED {
            last.remove(0);
        }
        last.push(Arc::downgrade(&shared));
        Some(shared)
    }
}

impl SharedText {
    /// The text.
    pub fn text(&self) -> &RawValue {
        &self.text
    }

    /// The text as it stands inside a JSON string, without the quotation marks. It is made once.
    pub fn quoted(&self) -> &str {
        self.quoted.get_or_init(|| {
            // A text always has a JSON form, with a quotation mark at both ends.
            let string = serde_json::to_string(self.text.get()).unwrap_or_default();
            string.get(1..string.len().saturating_sub(1)).unwrap_or_default().into()
        })
    }
}

impl Drop for SharedText {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::raw;

    fn share(texts: &Texts, text: &RawValue) -> Option<Arc<SharedText>> {
        texts.share(text, || Arc::from(text.to_owned()))
    }

    #[test]
    fn the_same_text_is_held_once_for_as_long_as_anybody_has_it() {
        let texts = Texts::new(1 << 20);
        let (one, other) = (raw(&"a\"".repeat(SHARED_FROM)), raw(&"b".repeat(SHARED_FROM)));
        let (first, second) = (share(&texts, &one).unwrap(), share(&texts, &one.clone()).unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&first, &share(&texts, &other).unwrap()), "what differs is another text");
        assert_eq!(texts.held(), FORMS * one.get().len(), "the other one is gone");
        let in_string: String = serde_json::from_str(&format!("\"{}\"", first.quoted())).unwrap();
        assert_eq!(in_string, one.get());
        assert!(texts.held() >= one.get().len() + second.quoted().len());
        assert!(texts.known(&one).is_some() && texts.known(&other).is_none());
        drop((first, second));
        assert_eq!(texts.held(), 0);
    }

    #[test]
    fn texts_beyond_the_bound_and_small_ones_are_not_shared() {
        let texts = Texts::new((FORMS + 1) * SHARED_FROM);
        let text = |letter: &str| raw(&letter.repeat(SHARED_FROM));
        assert!(share(&texts, &raw(&"small")).is_none());
        let first = share(&texts, &text("a")).unwrap();
        assert!(share(&texts, &text("b")).is_none(), "there is no room for a second one");
        assert!(share(&texts, &text("a")).is_some(), "what is there needs none");
        drop(first);
        assert!(share(&texts, &text("b")).is_some());
    }
}
