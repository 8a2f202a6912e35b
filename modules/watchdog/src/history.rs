//! The changes of the table that the listeners were told last, so that whoever has missed a few is not given all of the table.

use std::collections::{BTreeMap, VecDeque};

use pomelo_sdk::Result;
use serde_json::value::RawValue;

use crate::net_changes::Change;
use crate::protocol::{Changes, Info, Mark};

/// Bytes of changes that are kept.
pub const BYTES: usize = 1 << 20;
/// Batches of changes that are kept.
const BATCHES: usize = 1024;

/// What the listeners were told last, oldest first. Each batch begins where the one before it ends.
#[derive(Debug, Default)]
pub struct History {
    epoch: String,
    batches: VecDeque<Told>,
    bytes: usize,
    /// The difference that was made last, because many ask for the same.
    made: Option<(u64, u64, Box<RawValue>)>,
}

/// A batch of changes.
#[derive(Debug)]
struct Told {
    since: u64,
    rev: u64,
    exact: bool,
    /// What the table holds since then; none where the server has left.
    servers: Vec<(String, Option<Info>)>,
    bytes: usize,
}

impl History {
    /// The listeners are told of these changes.
    pub fn add(&mut self, epoch: &str, since: u64, rev: u64, exact: bool, changes: &BTreeMap<String, Change>) {
        if self.epoch != epoch || self.batches.back().is_some_and(|last| last.rev != since) {
            *self = History { epoch: epoch.to_owned(), ..History::default() };
        }
        let servers: Vec<_> = changes.iter().map(|(id, change)| (id.clone(), change.info().cloned())).collect();
        let bytes = servers.iter().map(|(id, info)| size(id, info.as_ref())).sum();
        self.bytes += bytes;
        self.batches.push_back(Told { since, rev, exact, servers, bytes });
        while self.bytes > BYTES || self.batches.len() > BATCHES {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
    }

    /// The revision that the listeners know when they have been told all of this, and what leads there from a table of that mark. None where that is not known,
    /// takes more than so many bytes, or ends before the revision `told`.
    pub fn since(&mut self, mark: &Mark, told: u64, most: usize) -> Result<Option<(u64, Box<RawValue>)>> {
        let Some(rev) = self.batches.back().map(|last| last.rev) else { return Ok(None) };
        if mark.epoch != self.epoch || mark.rev > rev || rev < told {
            return Ok(None);
        }
        if let Some((since, to, made)) = &self.made
            && (*since, *to) == (mark.rev, rev)
        {
            return Ok((made.get().len() <= most).then(|| (rev, made.clone())));
        }
        let from = self.batches.partition_point(|told| told.rev <= mark.rev);
        let reaches = |first: &Told| if first.exact { first.since == mark.rev } else { first.since <= mark.rev };
        let bytes: usize = self.batches.range(from..).map(|told| told.bytes).sum();
        if bytes > most || !self.batches.get(from).is_some_and(reaches) {
            return Ok(None);
        }
        let told = self.batches.range(from..);
        let exact = told.clone().any(|told| told.exact);
        let net: BTreeMap<&str, Option<&Info>> =
            told.flat_map(|told| &told.servers).map(|(id, info)| (id.as_str(), info.as_ref())).collect();
        let changes = Changes {
            since: mark.rev,
            exact,
            add: net.values().copied().flatten().cloned().collect(),
            remove: net.iter().filter(|(_, info)| info.is_none()).map(|(id, _)| (*id).to_owned()).collect(),
        };
        let text = serde_json::value::to_raw_value(&changes)?;
        self.made = Some((mark.rev, rev, text.clone()));
        Ok(Some((rev, text)))
    }
}

/// Bytes that a change has in a message.
fn size(id: &str, info: Option<&Info>) -> usize {
    info.map_or(id.len() + 3, |info| info.get().len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(text: &str) -> BTreeMap<String, Change> {
        let change = |word: &str| match word.strip_prefix('-') {
            Some(id) => (id.to_owned(), Change::Gone),
            None => {
                let info = RawValue::from_string(format!("{word:?}")).unwrap();
                (word.to_owned(), Change::Registered { info, rev: None })
            }
        };
        text.split(' ').map(change).collect()
    }

    fn told(batches: &[(u64, u64, bool, &str)]) -> History {
        let mut history = History::default();
        batches.iter().for_each(|(since, rev, exact, text)| history.add("e", *since, *rev, *exact, &changes(text)));
        history
    }

    fn since(history: &mut History, rev: u64, told: u64) -> Option<String> {
        let mark = Mark { epoch: "e".into(), rev };
        history.since(&mark, told, 1000).unwrap().map(|(_, text)| text.get().to_owned())
    }

    #[test]
    fn it_tells_the_net_effect_since_a_revision_that_it_knows() {
        let mut history = told(&[(1, 3, false, "a b"), (3, 4, false, "-a"), (4, 6, false, "c -d")]);
        let all = r#"{"since":2,"add":["b","c"],"remove":["a","d"]}"#;
        assert_eq!(since(&mut history, 2, 6).as_deref(), Some(all));
        assert_eq!(since(&mut history, 2, 6).as_deref(), Some(all), "again");
        assert_eq!(since(&mut history, 4, 6).as_deref(), Some(r#"{"since":4,"add":["c"],"remove":["d"]}"#));
        assert_eq!(since(&mut history, 0, 6), None, "it is older than what is kept");
        assert_eq!(since(&mut history, 2, 7), None, "a table that the listeners have not been told of");
        let other = Mark { epoch: "f".into(), rev: 4 };
        assert!(history.since(&other, 6, 1000).unwrap().is_none());
        let mark = Mark { epoch: "e".into(), rev: 2 };
        assert!(history.since(&mark, 6, 10).unwrap().is_none(), "it is longer than the table");
    }

    #[test]
    fn a_batch_that_does_not_tell_all_leads_from_its_own_beginning_only() {
        let mut history = told(&[(1, 3, true, "a"), (3, 4, false, "b")]);
        assert_eq!(
            since(&mut history, 1, 4).as_deref(),
            Some(r#"{"since":1,"exact":true,"add":["a","b"],"remove":[]}"#)
        );
        assert_eq!(since(&mut history, 2, 4), None);
        assert!(since(&mut history, 3, 4).is_some());
    }

    #[test]
    fn it_begins_anew_after_a_gap_and_keeps_a_bounded_number_of_bytes() {
        let mut history = told(&[(1, 2, false, "a"), (3, 4, false, "b")]);
        assert_eq!(since(&mut history, 1, 4), None);
        assert!(since(&mut history, 3, 4).is_some());
        let long = "x".repeat(BYTES / 3);
        for rev in 4..10 {
            history.add("e", rev, rev + 1, false, &changes(&format!("{rev}{long}")));
        }
        assert_eq!(history.batches.len(), 2);
        assert!(history.bytes <= BYTES);
    }
}
