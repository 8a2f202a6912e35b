//! Records on their way to the thread that writes them.
//!
//! The thread is woken by the first record that comes to it, and takes those together that come within some milliseconds, because waking it costs whoever
//! has a record more than all the rest.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::fold::Written;

/// How long records are gathered. A crash of the process loses those that came within it.
const GATHERED: Duration = Duration::from_millis(20);

/// A bounded queue with one thread that takes from it.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Told when the thread is to take what there is.
    wake: Condvar,
    /// Records that may wait.
    room: usize,
}

#[derive(Default)]
struct Waiting {
    records: Vec<Written>,
    /// Whether the thread waits for a first record.
    idle: bool,
    ended: bool,
}

impl Queue {
    /// A queue for so many records, at least one.
    pub fn new(room: usize) -> Self {
        Queue { waiting: Mutex::default(), wake: Condvar::new(), room: room.max(1) }
    }

    /// Takes in a record, unless there is no room, or the last one has come: the error is how many records are lost by that. Never waits for the thread.
    pub fn push(&self, written: Written) -> Result<(), u64> {
        let mut waiting = self.waiting.lock();
        if waiting.ended || waiting.records.len() >= self.room {
            return Err(written.records());
        }
        waiting.records.push(written);
        let is_half_full = waiting.records.len() == self.room.div_ceil(2);
        let wakes = std::mem::take(&mut waiting.idle) || is_half_full;
        drop(waiting);
        if wakes {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// What was taken in so far is the last that is written.
    pub fn end(&self) {
        self.waiting.lock().ended = true;
        self.wake.notify_one();
    }

    /// Moves all records into `batch`, which is empty, once there are some, at most after that time. Returns whether these are the last.
    pub fn take(&self, batch: &mut Vec<Written>, at_most: Duration) -> bool {
        let mut waiting = self.waiting.lock();
        let until = Instant::now() + at_most;
        waiting.idle = true;
        while waiting.records.is_empty() && !waiting.ended {
            if self.wake.wait_until(&mut waiting, until).timed_out() {
                break;
            }
        }
        waiting.idle = false;
        if !waiting.records.is_empty() {
            let until = Instant::now() + GATHERED;
            while waiting.records.len() < self.room.div_ceil(2) && !waiting.ended {
                if self.wake.wait_until(&mut waiting, until).timed_out() {
                    break;
                }
            }
        }
        std::mem::swap(&mut waiting.records, batch);
        waiting.ended
    }
}
