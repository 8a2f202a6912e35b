//! Keeps a module that logs without pause from filling the host's log.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::util::TokenBucket;

/// Lines that a module may log in a second.
pub(super) const LINES: u32 = 100;
/// Time between two lines that tell of a loss. A bucket of tokens refuses a module that logs too much again and again, every few lines.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(1);

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineFate {
    /// It is logged.
    Logged,
    /// It is lost, and the log shall say that lines are lost.
    LostAndTold,
    /// It is lost.
    Lost,
}

/// The lines that a module id may still log.
#[derive(Debug)]
pub(super) struct LogBudget(Mutex<Buckets>);

#[derive(Debug)]
struct Buckets {
    lines: TokenBucket,
    warnings: TokenBucket,
}

impl LogBudget {
    pub fn new(now: Instant) -> Self {
        let lines = TokenBucket::per_second(LINES, now);
        LogBudget(Mutex::new(Buckets { lines, warnings: TokenBucket::new(1, BETWEEN_WARNINGS, now) }))
    }

    /// Counts a line that the module logs.
    pub fn take(&self, now: Instant) -> LineFate {
        let mut buckets = self.0.lock();
        match buckets.lines.take(now) {
            true => LineFate::Logged,
            false if buckets.warnings.take(now) => LineFate::LostAndTold,
            false => LineFate::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_logs_without_pause_is_cut_to_its_rate_and_its_loss_is_told_once_a_second() {
        let start = Instant::now();
        let budget = LogBudget::new(start);
        // Three seconds with a line every millisecond.
        let fates: Vec<_> = (0..3000).map(|milli| budget.take(start + Duration::from_millis(milli))).collect();
        let count = |wanted: LineFate| fates.iter().filter(|fate| **fate == wanted).count();
        assert!(
            (398..=400).contains(&count(LineFate::Logged)),
            "a burst and three seconds: {}",
            count(LineFate::Logged)
        );
        assert_eq!(count(LineFate::LostAndTold), 3);
        assert_eq!(
            fates.iter().position(|fate| *fate != LineFate::Logged).map(|at| fates[at]),
            Some(LineFate::LostAndTold)
        );
    }
}
