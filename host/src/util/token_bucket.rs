//! How often something may happen.

use std::time::{Duration, Instant};

/// A bucket of tokens: each time that something happens it takes one, and one comes back in every interval. So at most `burst` happen at once, and
/// one in an interval on average.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    burst: u32,
    interval: Duration,
    left: u32,
    /// Until when tokens have been given back.
    filled: Instant,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens (at least one), of which one comes back in every `interval`.
    pub fn new(burst: u32, interval: Duration, now: Instant) -> Self {
        let burst = burst.max(1);
        TokenBucket { burst, interval: interval.max(Duration::from_nanos(1)), left: burst, filled: now }
    }

    /// A full bucket for something that may happen `rate` times in a second, and that often at once.
    pub fn per_second(rate: u32, now: Instant) -> Self {
        TokenBucket::new(rate, Duration::from_secs(1) / rate.max(1), now)
    }

    /// Takes a token, where there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }

    /// Whether all tokens are there: whoever takes them is as one who never has.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left == self.burst
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_nanos() / self.interval.as_nanos();
        match u32::try_from(passed).ok().filter(|passed| *passed < self.burst - self.left) {
            Some(passed) => {
                self.left += passed;
                self.filled += self.interval * passed;
            }
            None => (self.left, self.filled) = (self.burst, self.filled.max(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_one_in_an_interval() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(128, Duration::from_secs(1), start);
        let mut taken = |from: u64, tries: u32| {
            let now = start + Duration::from_millis(from);
            (0..tries).filter(|_| bucket.take(now)).count()
        };
        assert_eq!(taken(0, 10_000), 128);
        assert_eq!(taken(900, 100), 0);
        assert_eq!(taken(1000, 100), 1);
        assert_eq!((1..=100).map(|tenth| taken(1000 + 100 * tenth, 100)).sum::<usize>(), 10, "whenever they come");
        assert_eq!(taken(10_000_000, 10_000), 128, "and no more than a burst after a pause");
        assert_eq!(taken(0, 10), 0, "a clock that seems to go back gives nothing");
    }

    #[test]
    fn a_rate_is_kept_however_fast_something_comes() {
        let start = Instant::now();
        let mut bucket = TokenBucket::per_second(20, start);
        let tries = (0..5000).map(|milli| start + Duration::from_millis(milli));
        let taken = tries.filter(|now| bucket.take(*now)).count();
        assert!((119..=120).contains(&taken), "a burst of 20 and 20 in each of five seconds: {taken}");
    }
}
