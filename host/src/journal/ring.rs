//! The newest events, and their numbers.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use serde::{Serialize, Serializer};

use super::archive::Archive;
use super::event::Event;
use crate::util::TokenBucket;

/// The text that one page holds, bytes. More goes into the next page, because an answer has to fit into a frame of a client.
const PAGE_TEXT: usize = 256 << 10;
/// Events that strangers cause: as many are kept at once, and as many in a second.
const STRANGERS: u32 = 20;

/// Some of the events in a journal.
#[derive(Clone, Debug, Serialize)]
pub struct Page {
    /// The events, the oldest first.
    #[serde(serialize_with = "each")]
    pub events: Vec<Arc<Event>>,
    /// Number of the last event of the page, after which the next page begins.
    pub last: u64,
    /// Number of the newest event that there is. Who wants what has happened until now is done when `last` has reached it.
    pub newest: u64,
    /// How many events before the page the reader has not seen, because they are no longer kept.
    pub missed: u64,
    /// Whether numbers go on over a restart of this process.
    pub durable: bool,
}

fn each<S: Serializer>(events: &[Arc<Event>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(events.iter().map(|event| &**event))
}

/// How long after an event another one with the same cause is folded into it, milliseconds.
const FOLD_WITHIN: u64 = 600_000;
/// Numbers that are reserved at a time, so that a master that was killed gives none twice.
const RESERVED: u64 = 1000;
/// Numbers without an event that are remembered, to tell how many events a reader has missed.
const MAX_HOLES: usize = 4096;

/// The newest events, the oldest first. Their numbers grow, with holes where events were folded.
pub(super) struct Ring {
    events: VecDeque<Arc<Event>>,
    limit: usize,
    last: u64,
    /// The number up to which all are reserved.
    reserved: u64,
    /// The newest event of each cause that is kept.
    causes: HashMap<String, u64>,
    /// Numbers before the oldest event that no reader has missed, because the event goes on under another number.
    holes: BTreeSet<u64>,
    /// Where the events are kept too.
    archive: Option<Arc<dyn Archive>>,
    folds: bool,
    /// The events that strangers may still cause.
    strangers: TokenBucket,
}

impl Ring {
    pub fn new(limit: usize) -> Self {
        Ring {
            events: VecDeque::new(),
            limit: limit.max(1),
            last: 0,
            reserved: 0,
            causes: HashMap::new(),
            holes: BTreeSet::new(),
            archive: None,
            folds: false,
            strangers: TokenBucket::per_second(STRANGERS, Instant::now()),
        }
    }

    /// A ring that folds events with the same cause, and goes on with those that are kept.
    pub fn folding(limit: usize, archive: Option<Arc<dyn Archive>>) -> Self {
        let mut ring = Ring { folds: true, ..Ring::new(limit) };
        let Some(archive) = archive else { return ring };
        let mut kept = archive.load();
        kept.sort_unstable_by_key(|(number, _)| *number);
        for (number, json) in kept {
            match serde_json::from_str::<Event>(&json) {
                Ok(event) => ring.keep(Event { n: number, ..event }),
                Err(error) => {
                    tracing::warn!(number, %error, "an event that was kept is not understood and is left out");
                    archive.put(number, None);
                }
            }
        }
        // Numbers that were given before a crash are not given again.
        ring.last = ring.last.max(archive.reserved().unwrap_or(0));
        ring.archive = Some(archive);
        // What a lower bound leaves no room for is removed from the disk too.
        while ring.events.len() > ring.limit {
            ring.push_out();
        }
        ring.reserve();
        ring
    }

    /// Number of the newest event; 0 if there was none yet.
    pub fn last(&self) -> u64 {
        self.last
    }

    pub fn is_durable(&self) -> bool {
        self.archive.is_some()
    }

    /// Says that the process ends in order, so that the next one goes on with the next number.
    pub fn close(&mut self) {
        if let Some(archive) = &self.archive {
            archive.reserve(self.last);
            self.reserved = self.last;
        }
    }

    fn reserve(&mut self) {
        if let Some(archive) = &self.archive
            && self.last >= self.reserved
        {
            self.reserved = self.last + RESERVED;
            archive.reserve(self.reserved);
        }
    }

    /// Adds an event, and gives its number. If it repeats one that was a short time ago, it takes that one's place, with a new number.
    pub fn push(&mut self, event: Event) -> u64 {
        self.last += 1;
        self.reserve();
        let mut event = event.numbered(self.last);
        if self.folds
            && let Some(index) = event.cause().and_then(|cause| self.index(*self.causes.get(&cause)?))
            && self.events[index].time.abs_diff(event.time) <= FOLD_WITHIN
            && let Some(earlier) = self.events.remove(index)
        {
            self.forget(&earlier);
            self.hole(earlier.n);
            event = event.after(&earlier);
        } else if self.events.len() >= self.limit {
            self.push_out();
        }
        if let Some(archive) = &self.archive {
            match serde_json::to_string(&event) {
                Ok(json) => archive.put(event.n, Some(json)),
                Err(error) => tracing::error!(%error, "an event is not kept"),
            }
        }
        self.keep(event);
        self.last
    }

    fn keep(&mut self, event: Event) {
        self.last = self.last.max(event.n);
        if self.folds
            && let Some(cause) = event.cause()
        {
            self.causes.insert(cause, event.n);
        }
        self.events.push_back(Arc::new(event));
    }

    /// Removes the oldest event.
    fn push_out(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.forget(&event);
        }
    }

    fn forget(&mut self, event: &Event) {
        if let Some(archive) = &self.archive {
            archive.put(event.n, None);
        }
        if let Some(cause) = event.cause()
            && self.causes.get(&cause) == Some(&event.n)
        {
            self.causes.remove(&cause);
        }
    }

    fn hole(&mut self, number: u64) {
        self.holes.insert(number);
        if self.holes.len() > MAX_HOLES {
            self.holes.pop_first();
        }
    }

    fn index(&self, number: u64) -> Option<usize> {
        self.events.binary_search_by_key(&number, |event| event.n).ok()
    }

    /// Whether one more event that a stranger causes may be kept. It counts as kept then.
    pub fn has_room_for_one_more(&mut self) -> bool {
        self.strangers.take(Instant::now())
    }

    /// The events after number `since`, as many as fit into one page.
    pub fn page(&self, since: u64) -> Page {
        let since = if since > self.last { 0 } else { since };
        let before = self.events.front().map_or(self.last, |oldest| oldest.n - 1);
        let holes = if since < before { self.holes.range(since + 1..=before).count() as u64 } else { 0 };
        let missed = before.saturating_sub(since).saturating_sub(holes);
        let skipped = self.events.partition_point(|event| event.n <= since);
        let mut room = PAGE_TEXT;
        let fits = |event: &&Arc<Event>| {
            let fits = room > 0;
            room = room.saturating_sub(event.size());
            fits
        };
        let events: Vec<_> = self.events.iter().skip(skipped).take_while(fits).cloned().collect();
        let last = events.last().map_or(since, |event| event.n);
        Page { events, last, newest: self.last, missed, durable: self.is_durable() }
    }
}
