//! How many refused registrations are written down.

use std::time::{Duration, Instant};

/// Refused registrations that are kept when they come all at once.
const BURST: u32 = 128;
/// In this time one more is kept. At about a kilobyte a line, the default files hold more than a day of it.
const EACH: Duration = Duration::from_secs(1);

/// A bucket of tokens: each record that is kept takes one.
pub(super) struct Allowance {
    left: u32,
    /// Until when it has been filled.
    filled: Instant,
}

impl Allowance {
    /// A full one.
    pub fn new(now: Instant) -> Self {
        Allowance { left: BURST, filled: now }
    }

    /// Takes one, where there is one.
    pub fn spend(&mut self, now: Instant) -> bool {
        let whole = u32::try_from(now.duration_since(self.filled).as_secs() / EACH.as_secs()).unwrap_or(u32::MAX);
        if whole >= BURST - self.left {
            (self.left, self.filled) = (BURST, now);
        } else {
            self.left += whole;
            self.filled += EACH * whole;
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a4_refusals_are_kept_in_a_burst_and_then_one_a_second() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let mut kept = |from: u64, tries: u32| {
            let now = start + Duration::from_millis(from);
            (0..tries).filter(|_| allowance.spend(now)).count()
        };
        assert_eq!(kept(0, 10_000), 128);
        assert_eq!(kept(900, 100), 0);
        assert_eq!(kept(1000, 100), 1);
        assert_eq!((1..=100).map(|tenth| kept(1000 + 100 * tenth, 100)).sum::<usize>(), 10, "whenever they come");
        assert_eq!(kept(10_000_000, 10_000), 128, "and no more than a burst after a pause");
    }
}
