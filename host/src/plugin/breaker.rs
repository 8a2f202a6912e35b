//! Puts a handler aside that keeps trapping, because every trap costs a fresh instance and no caller gets an answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::failure::{Failure, code};

/// Traps in a row after which a handler is put aside.
const TRAPS: u32 = 5;
/// How long it is put aside at first; twice as long each time it traps again at once.
const FIRST: Duration = Duration::from_secs(1);
/// The longest that it is put aside.
const LONGEST: Duration = Duration::from_secs(30);

/// One handler's record of traps.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Whether there is anything in the record. Calls look here first, so that those of a handler that does not trap share no lock. It is
    /// changed while the record is locked.
    troubled: AtomicBool,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    in_a_row: u32,
    aside_until: Option<Instant>,
}

impl Breaker {
    /// Whether the handler may be called now. When its time aside is over, one more trap puts it aside again.
    pub fn check(&self, now: Instant) -> Result<(), Failure> {
        if !self.troubled.load(Ordering::Acquire) {
            return Ok(());
        }
        let record = self.record.lock();
        match record.aside_until {
            Some(until) if now < until => {
                let message = format!(
                    "the handler trapped {} times in a row and is put aside for another {:.1} s",
                    record.in_a_row,
                    (until - now).as_secs_f32()
                );
                Err(Failure::new(code::PUT_ASIDE, message))
            }
            _ => Ok(()),
        }
    }

    /// Counts a trap. Returns how long the handler is put aside for it, if it is.
    pub fn trapped(&self, now: Instant) -> Option<Duration> {
        let mut record = self.record.lock();
        self.troubled.store(true, Ordering::Release);
        record.in_a_row += 1;
        let again = record.in_a_row.checked_sub(TRAPS)?;
        let aside = FIRST.saturating_mul(1 << again.min(10)).min(LONGEST);
        record.aside_until = Some(now + aside);
        Some(aside)
    }

    /// The handler ended without a trap.
    pub fn ended(&self) {
        if self.troubled.load(Ordering::Acquire) {
            let mut record = self.record.lock();
            *record = Record::default();
            self.troubled.store(false, Ordering::Release);
        }
    }

    /// Whether the handler is put aside.
    pub fn is_aside(&self, now: Instant) -> bool {
        self.check(now).is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_that_keeps_trapping_is_put_aside_and_let_in_again() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..TRAPS - 1 {
            assert_eq!(breaker.trapped(start), None);
        }
        assert_eq!(breaker.trapped(start), Some(FIRST));
        assert_eq!(breaker.check(start).unwrap_err().code, code::PUT_ASIDE);
        assert!(breaker.check(start + FIRST).is_ok());
        assert_eq!(breaker.trapped(start + FIRST), Some(FIRST * 2));
        assert!(breaker.is_aside(start + FIRST * 2));
        for _ in 0..100 {
            breaker.trapped(start);
        }
        assert_eq!(breaker.trapped(start), Some(LONGEST));
        breaker.ended();
        assert!(breaker.check(start).is_ok());
        assert_eq!(breaker.trapped(start), None);
    }
}
