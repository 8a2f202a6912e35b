//! What a monitor knows of the cluster: which of the simulated servers are there, and of which revision that is.
//!
//! A view is a set of numbers. Servers are named `bench-NUMBER`, so that a message is searched for these names however it is built. What a master tells many
//! monitors in the same words is read once: [`Known`] keeps it by its revision.

use std::collections::HashMap;
use std::rc::Rc;

use anyhow::{Context, Result};
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::scan::{digits, unquoted};

/// What every server's id begins with.
pub const NAME: &str = "bench-";
/// No name, with what ends it, is longer.
const LONGEST: usize = 16;

/// A set of servers, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    words: Vec<u64>,
    count: usize,
}

impl Servers {
    /// Room for so many.
    pub fn none(most: usize) -> Servers {
        Servers { words: vec![0; most.div_ceil(64)], count: 0 }
    }

    pub fn insert(&mut self, number: usize) {
        if let Some(word) = self.words.get_mut(number / 64) {
            let bit = 1 << (number % 64);
            self.count += usize::from(*word & bit == 0);
            *word |= bit;
        }
    }

    /// Adds all of the others.
    pub fn extend(&mut self, others: &Servers) {
        for (word, more) in self.words.iter_mut().zip(&others.words) {
            *word |= more;
        }
        self.count = self.words.iter().map(|word| word.count_ones() as usize).sum();
    }

    pub fn remove(&mut self, number: usize) {
        if let Some(word) = self.words.get_mut(number / 64) {
            let bit = 1 << (number % 64);
            self.count -= usize::from(*word & bit != 0);
            *word &= !bit;
        }
    }
}

/// Searches text that comes in pieces for the names of servers.
pub struct Search {
    pub found: Servers,
    finder: Finder<'static>,
    /// The end of the last piece: a name may have begun in it.
    carried: Vec<u8>,
}

impl Search {
    pub fn new(most: usize) -> Search {
        Search { found: Servers::none(most), finder: Finder::new(NAME), carried: Vec::with_capacity(2 * LONGEST) }
    }

    pub fn piece(&mut self, piece: &[u8]) {
        // A piece may be shorter than a name.
        let mut across = std::mem::take(&mut self.carried);
        across.extend_from_slice(&piece[..piece.len().min(LONGEST)]);
        self.names(&across);
        self.names(piece);
        if piece.len() >= LONGEST {
            across.clear();
            across.extend_from_slice(&piece[piece.len() - LONGEST..]);
        } else {
            across.drain(..across.len().saturating_sub(LONGEST));
        }
        self.carried = across;
    }

    fn names(&mut self, text: &[u8]) {
        for at in self.finder.find_iter(text) {
            // A name whose end is not here is found with the next piece.
            if let Some((number, length)) = digits(&text[at + NAME.len()..])
                && at + NAME.len() + length < text.len()
            {
                self.found.insert(usize::try_from(number).unwrap_or(usize::MAX));
            }
        }
    }
}

/// The first server that a text names.
pub fn first_name(text: &[u8]) -> Option<usize> {
    let at = memchr::memmem::find(text, NAME.as_bytes())?;
    digits(&text[at + NAME.len()..]).and_then(|(number, _)| usize::try_from(number).ok())
}

/// Changes between two revisions.
pub struct Update {
    pub since: u64,
    pub rev: u64,
    /// Whether they count from `since` alone.
    exact: bool,
    add: Vec<usize>,
    remove: Vec<usize>,
}

/// What to do with an update.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The view is as new.
    Ignored,
    Applied,
    /// Changes between the view and the update are missing.
    Gap,
}

impl Update {
    /// Reads the payload of an order or an answer.
    pub fn read(payload: &[u8]) -> Result<Update> {
        #[derive(Deserialize)]
        struct Message<'a> {
            #[serde(borrow)]
            body: Body<'a>,
        }
        /// An order has the changes among its own members.
        #[derive(Deserialize)]
        struct Body<'a> {
            rev: u64,
            since: Option<u64>,
            #[serde(default)]
            exact: bool,
            #[serde(borrow)]
            add: Option<&'a RawValue>,
            remove: Option<Vec<String>>,
            #[serde(borrow)]
            changes: Option<Changes<'a>>,
        }
        #[derive(Deserialize)]
        struct Changes<'a> {
            since: u64,
            #[serde(default)]
            exact: bool,
            #[serde(borrow)]
            add: Option<&'a RawValue>,
            remove: Option<Vec<String>>,
        }
        let text = unquoted(payload);
        let Message { body } = serde_json::from_slice(&text).context("an update")?;
        let Body { rev, since, exact, add, remove, changes } = body;
        let changes = match changes {
            Some(changes) => changes,
            None => Changes { since: since.context("an update without `since`")?, exact, add, remove },
        };
        let mut added = Search::new(1 << 20);
        if let Some(add) = changes.add {
            added.piece(add.get().as_bytes());
        }
        let numbers = |servers: &Servers| {
            let of_word = |(place, word): (usize, &u64)| {
                let word = *word;
                (0..64).filter(move |bit| word & 1 << bit != 0).map(move |bit| place * 64 + bit)
            };
            servers.words.iter().enumerate().filter(|(_, word)| **word != 0).flat_map(of_word).collect()
        };
        Ok(Update {
            since: changes.since,
            rev,
            exact: changes.exact,
            add: numbers(&added.found),
            remove: changes.remove.unwrap_or_default().iter().filter_map(|id| first_name(id.as_bytes())).collect(),
        })
    }

    /// Applies it to a view of that revision, as a monitor of ours does.
    pub fn apply(&self, servers: &mut Servers, rev: &mut Option<u64>) -> Step {
        match *rev {
            Some(own) if self.rev <= own => Step::Ignored,
            Some(own) if self.since == own || !self.exact && self.since <= own => {
                self.remove.iter().for_each(|number| servers.remove(*number));
                self.add.iter().for_each(|number| servers.insert(*number));
                *rev = Some(self.rev);
                Step::Applied
            }
            _ => Step::Gap,
        }
    }
}

/// What the master has told before, of the process of it that runs now.
#[derive(Default)]
pub struct Known {
    epoch: Vec<u8>,
    tables: HashMap<u64, Rc<Servers>>,
    updates: HashMap<(u64, u64), Rc<Update>>,
}

impl Known {
    /// Another process of the master counts anew.
    pub fn of_epoch(&mut self, epoch: &[u8]) {
        if self.epoch != epoch {
            *self = Known { epoch: epoch.to_vec(), ..Known::default() };
        }
    }

    /// The process's word, as it stands in messages.
    pub fn epoch(&self) -> &[u8] {
        &self.epoch
    }

    pub fn table(&self, rev: u64) -> Option<Rc<Servers>> {
        self.tables.get(&rev).cloned()
    }

    pub fn keep_table(&mut self, rev: u64, servers: Servers) -> Rc<Servers> {
        let servers = Rc::new(servers);
        self.tables.insert(rev, servers.clone());
        servers
    }

    pub fn update(&self, since: u64, rev: u64) -> Option<Rc<Update>> {
        self.updates.get(&(since, rev)).cloned()
    }

    pub fn keep_update(&mut self, update: Update) -> Rc<Update> {
        let update = Rc::new(update);
        self.updates.insert((update.since, update.rev), update.clone());
        update
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_however_the_text_is_cut() {
        let text = br#"{"bench-1":{"id":"bench-1"},"bench-234":{},"x":"bench-","bench-77\":1"}"#;
        let mut expected = Servers::none(1000);
        [1, 234, 77].into_iter().for_each(|number| expected.insert(number));
        for size in 1..text.len() {
            let mut search = Search::new(1000);
            text.chunks(size).for_each(|piece| search.piece(piece));
            assert_eq!(search.found, expected, "{size}");
        }
    }

    #[test]
    fn an_update_is_applied_only_where_nothing_is_missing() {
        let text = br#"{"reqId":1,"moduleId":"m","body":{"action":"update","epoch":"e","rev":7,"since":5,"add":[{"id":"bench-3"}],"remove":["bench-4"]}}"#;
        let update = Update::read(text).unwrap();
        let mut view = Servers::none(10);
        view.insert(4);
        let (mut behind, mut at, mut ahead) = (Some(4), Some(6), Some(7));
        assert_eq!(update.apply(&mut view, &mut behind), Step::Gap);
        assert_eq!(update.apply(&mut view, &mut ahead), Step::Ignored);
        assert_eq!(update.apply(&mut view, &mut at), Step::Applied);
        let mut expected = Servers::none(10);
        expected.insert(3);
        assert_eq!((&view, at), (&expected, Some(7)));
        expected.insert(9);
        view.extend(&expected);
        assert_eq!(view, expected);
        let text = br#"{"respId":1,"body":{"epoch":"e","rev":9,"changes":{"since":7,"exact":true,"add":[],"remove":["bench-9"]},"listener":true}}"#;
        let answer = Update::read(text).unwrap();
        assert_eq!((answer.since, answer.rev, answer.exact), (7, 9, true));
        assert_eq!(answer.apply(&mut view, &mut Some(6)), Step::Gap);
        assert_eq!(answer.apply(&mut view, &mut at), Step::Applied);
        expected.remove(9);
        assert_eq!((view, at), (expected, Some(9)));
    }
}
