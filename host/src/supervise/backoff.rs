//! How long to wait before the next try.

use std::time::Duration;

use super::Policy;

/// The wait before try `failures` (from 1): doubling from the least to the most, the upper half of it scaled by `random` (0 to 1).
pub(super) fn wait(policy: &Policy, failures: u32, random: f64) -> Duration {
    let doubled = policy.backoff_min.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    let full = doubled.min(policy.backoff_max);
    full / 2 + (full / 2).mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::Restart;

    #[test]
    fn waits_double_up_to_the_most_and_are_at_least_half() {
        let policy = Policy {
            restart: Restart::Always,
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
            healthy_after: Duration::from_secs(60),
            ready_delay: Duration::ZERO,
            stop_deadline: Duration::ZERO,
        };
        let check = |failures, random, millis| {
            assert_eq!(wait(&policy, failures, random), Duration::from_millis(millis), "{failures}");
        };
        check(1, 1.0, 200);
        check(1, 0.0, 100);
        check(2, 1.0, 400);
        check(4, 0.5, 1200);
        check(9, 1.0, 30_000);
        check(u32::MAX, 1.0, 30_000);
    }
}
