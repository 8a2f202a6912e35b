//! Whether a peer holds a message that it does not complete.
//!
//! The layers above collect a message in memory until it is whole, and say nothing meanwhile. So this part compares, once a second, the bytes that have come
//! with the frames that were handed up.

use std::time::{Duration, Instant};

use crate::transport::options::allowed;

/// Bytes that need no frame: answers to pings, and what is about to be handed up. A peer may hold so much for as long as it stays.
const FREE: u64 = 64 << 10;
/// What a peer that only answers pings sends in a second, generously, bytes.
const PINGS: u64 = 128;

/// What is known of a message that has begun.
#[derive(Debug, Default)]
pub(in crate::transport) struct Unfinished {
    total: u64,
    heard: u64,
    /// Bytes that have come and belong to no frame that was handed up.
    waiting: u64,
    since: Option<Instant>,
}

impl Unfinished {
    /// Looks once a second, with all bytes and frames that have come. True if a message is not completed within `time` and what its size allows.
    pub fn look(&mut self, total: u64, heard: u64, time: Duration, now: Instant) -> bool {
        let came = total.saturating_sub(self.total);
        // Only what has come since the last look can belong to a message that followed the last whole one.
        let before = if heard == self.heard { self.waiting.saturating_sub(PINGS) } else { 0 };
        if heard != self.heard {
            self.since = None;
        }
        (self.total, self.heard, self.waiting) = (total, heard, before + came);
        if self.waiting <= FREE {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let bytes = usize::try_from(self.waiting).unwrap_or(usize::MAX);
        now.saturating_duration_since(since) > allowed(time, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second at a peer that sends as `sends` says, bytes and whole frames; the second in which it is found to hold a message.
    fn found(sends: impl Fn(u64) -> (u64, u64)) -> Option<u64> {
        let (start, time) = (Instant::now(), Duration::from_secs(30));
        let (mut unfinished, mut total, mut heard) = (Unfinished::default(), 0, 0);
        (0..10_000).find(|second| {
            let (bytes, frames) = sends(*second);
            (total, heard) = (total + bytes, heard + frames);
            unfinished.look(total, heard, time, start + Duration::from_secs(*second))
        })
    }

    #[test]
    fn a_message_that_is_not_completed_is_found() {
        assert_eq!(found(|second| (if second == 0 { 1 << 20 } else { 7 }, 0)), Some(46), "30 s and 16 for its MiB");
    }

    #[test]
    fn whoever_sends_whole_frames_or_only_answers_pings_is_left_alone() {
        assert_eq!(found(|_| (7, 0)), None);
        assert_eq!(found(|second| (1 << 20, second % 2)), None);
        assert_eq!(found(|second| (100_000, u64::from(second % 40 == 39))), None, "a slow one of 4 MB");
    }
}
