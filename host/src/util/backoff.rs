//! Waits between the tries of something that fails.

use std::time::Duration;

/// Waits that double from the shortest to the longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    shortest: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with the shortest wait.
    pub const fn new(shortest: Duration, longest: Duration) -> Self {
        Backoff { shortest, longest, next: shortest }
    }

    /// The wait before the next try. The one after it is twice as long.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next.min(self.longest);
        self.next = wait.saturating_mul(2).min(self.longest);
        wait
    }

    /// Begins anew with the shortest wait, because a try has succeeded.
    pub fn reset(&mut self) {
        self.next = self.shortest;
    }

    /// The wait after so many failures in a row, counted from 1.
    pub fn after(&self, failures: u32) -> Duration {
        let doubled = self.shortest.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        doubled.min(self.longest)
    }
}

/// A wait between half and all of `wait`, by `random` (0 to 1): many that failed together do not try again together.
pub fn jittered(wait: Duration, random: f64) -> Duration {
    wait / 2 + (wait / 2).mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::new(millis(200), millis(700));
        let waits: Vec<_> = (0..4).map(|_| backoff.next_wait()).collect();
        assert_eq!(waits, [200, 400, 700, 700].map(millis));
        backoff.reset();
        assert_eq!(backoff.next_wait(), millis(200));
        assert_eq!(Backoff::new(millis(9), millis(5)).next_wait(), millis(5), "the longest is kept in any case");
    }

    #[test]
    fn waits_by_the_number_of_failures_do_not_overflow_and_jitter_keeps_at_least_half() {
        let backoff = Backoff::new(millis(200), millis(30_000));
        let check = |failures, random, expected| {
            assert_eq!(jittered(backoff.after(failures), random), millis(expected), "{failures}");
        };
        check(1, 1.0, 200);
        check(1, 0.0, 100);
        check(2, 1.0, 400);
        check(4, 0.5, 1200);
        check(9, 1.0, 30_000);
        check(u32::MAX, 1.0, 30_000);
    }
}
