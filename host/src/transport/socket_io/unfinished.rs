//! Whether a peer holds a message that it does not complete.
//!
//! The layers above collect a message in memory until it is whole, and say nothing meanwhile. So this part compares, once a second, the bytes that have come
//! with those that had come when a frame was handed up last.

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
    at_frame: u64,
    /// Bytes that have come and belong to no frame that was handed up.
    waiting: u64,
    since: Option<Instant>,
}

impl Unfinished {
    /// Looks once a second, with all bytes that have come and those that had come when a frame was handed up last. True if a message is not completed within
    /// `time` and what its size allows.
    pub fn look(&mut self, total: u64, at_frame: u64, time: Duration, now: Instant) -> bool {
        if at_frame == self.at_frame {
            self.waiting = self.waiting.saturating_sub(PINGS) + total.saturating_sub(self.total);
        } else {
            // Only what has come since then can belong to a message that follows.
            self.waiting = total.saturating_sub(at_frame);
            self.since = None;
        }
        (self.total, self.at_frame) = (total, at_frame);
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

    /// Looks once a second at a peer that sends as `sends` says: bytes with which a frame is completed, if any, and bytes after them. The second in which it
    /// is found to hold a message.
    fn found(sends: impl Fn(u64) -> (Option<u64>, u64)) -> Option<u64> {
        let (start, time) = (Instant::now(), Duration::from_secs(30));
        let (mut unfinished, mut total, mut at_frame) = (Unfinished::default(), 0, 0);
        (0..10_000).find(|second| {
            let (completes, then) = sends(*second);
            if let Some(bytes) = completes {
                total += bytes;
                at_frame = total;
            }
            total += then;
            unfinished.look(total, at_frame, time, start + Duration::from_secs(*second))
        })
    }

    #[test]
    fn a_message_that_is_not_completed_is_found() {
        assert_eq!(found(|second| (None, if second == 0 { 1 << 20 } else { 7 })), Some(46), "30 s and 16 for its MiB");
        let after_whole_ones = |second| if second == 0 { (Some(9 << 20), 1 << 20) } else { (None, 7) };
        assert_eq!(found(after_whole_ones), Some(46), "what came before its beginning gives it no time");
    }

    #[test]
    fn whoever_sends_whole_frames_or_only_answers_pings_is_left_alone() {
        assert_eq!(found(|_| (None, 7)), None);
        assert_eq!(found(|second| if second % 2 == 1 { (Some(1 << 20), 0) } else { (None, 1 << 20) }), None);
        let slow = |second| if second % 40 == 39 { (Some(100_000), 0) } else { (None, 100_000) };
        assert_eq!(found(slow), None, "a slow one of 4 MB");
    }

    #[test]
    fn whoever_has_sent_much_at_once_may_be_quiet_afterwards() {
        assert_eq!(found(|second| if second == 3 { (Some(1 << 20), 0) } else { (None, 7) }), None);
    }
}
