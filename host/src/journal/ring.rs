//! The newest events, and their numbers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use serde::{Serialize, Serializer};

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
    /// How many events before the page the reader has not seen, because they are no longer kept.
    pub missed: u64,
}

fn each<S: Serializer>(events: &[Arc<Event>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(events.iter().map(|event| &**event))
}

/// The newest events, the oldest first.
pub(super) struct Ring {
    events: VecDeque<Arc<Event>>,
    limit: usize,
    last: u64,
    /// The events that strangers may still cause.
    strangers: TokenBucket,
}

impl Ring {
    pub fn new(limit: usize) -> Self {
        Ring {
            events: VecDeque::new(),
            limit: limit.max(1),
            last: 0,
            strangers: TokenBucket::per_second(STRANGERS, Instant::now()),
        }
    }

    /// Adds an event, and gives its number.
    pub fn push(&mut self, event: Event) -> u64 {
        self.last += 1;
        if self.events.len() == self.limit {
            self.events.pop_front();
        }
        self.events.push_back(Arc::new(event.numbered(self.last)));
        self.last
    }

    /// Whether one more event that a stranger causes may be kept. It counts as kept then.
    pub fn has_room_for_one_more(&mut self) -> bool {
        self.strangers.take(Instant::now())
    }

    /// The events after number `since`, as many as fit into one page.
    pub fn page(&self, since: u64) -> Page {
        let since = if since > self.last { 0 } else { since };
        let before = self.last - self.events.len() as u64;
        let skipped = usize::try_from(since.saturating_sub(before)).unwrap_or(usize::MAX);
        let mut room = PAGE_TEXT;
        let fits = |event: &&Arc<Event>| {
            let fits = room > 0;
            room = room.saturating_sub(event.size());
            fits
        };
        let events: Vec<_> = self.events.iter().skip(skipped).take_while(fits).cloned().collect();
        let last = events.last().map_or(since, |event| event.n);
        Page { events, last, missed: before.saturating_sub(since) }
    }
}
