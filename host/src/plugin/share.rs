//! How much CPU time the calls of one file have used lately, and in all.
//!
//! *Lately* is a window without edges: what was used counts half after [`HALF_LIFE`], a quarter after twice as long. So one number is enough, and no clock
//! has to run for it. The number and its time are one word, so that a call which is polled takes no lock to be charged.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// After this time what was used counts half.
const HALF_LIFE: Duration = Duration::from_secs(1);
/// What a file that runs without pause on one thread has used lately, seconds: the half-life over the natural logarithm of two.
pub(super) const WINDOW: f32 = HALF_LIFE.as_secs() as f32 / std::f32::consts::LN_2;

/// What one file uses of the CPU. All versions of the file under the same weight share it, on all hosts of the engine.
#[derive(Debug)]
pub(super) struct CpuShare {
    /// By this it is told from others.
    pub number: u64,
    /// How much it may use beside others; [`super::Limits::WEIGHT`] is as much as any other.
    pub weight: u32,
    /// Times are counted from here; the same for all shares of an engine.
    origin: Instant,
    /// Seconds that were used lately, an `f32`, and milliseconds since `origin` at which that was so.
    recent: AtomicU64,
    /// Nanoseconds that were used in all.
    total: AtomicU64,
    /// Its calls that wait for a turn, or have one. Written under the scheduler's lock, and read without it.
    pub in_turns: AtomicUsize,
}

impl CpuShare {
    pub fn new(number: u64, weight: u32, origin: Instant) -> Self {
        CpuShare {
            number,
            weight: weight.max(1),
            origin,
            recent: AtomicU64::new(pack(0.0, 0)),
            total: AtomicU64::new(0),
            in_turns: AtomicUsize::new(0),
        }
    }

    fn now(&self) -> u32 {
        // It comes round after 49 days. Whoever has not run for so long counts for a moment as if it had.
        self.origin.elapsed().as_millis() as u32
    }

    /// Counts what was used.
    pub fn charge(&self, time: Duration) {
        self.total.fetch_add(time.as_nanos().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        let now = self.now();
        let more = |recent: u64| Some(pack(left(recent, now) + time.as_secs_f32(), now));
        // The closure always gives a value, so that this cannot fail.
        let _ = self.recent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Seconds that were used lately, for the weight of any other.
    pub fn recent(&self) -> f32 {
        let seconds = left(self.recent.load(Ordering::Relaxed), self.now());
        seconds * super::Limits::WEIGHT as f32 / self.weight as f32
    }

    /// What was used in all.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.total.load(Ordering::Relaxed))
    }
}

fn pack(seconds: f32, at: u32) -> u64 {
    u64::from(seconds.to_bits()) << 32 | u64::from(at)
}

/// What counts by now of what was used.
fn left(recent: u64, now: u32) -> f32 {
    let (seconds, at) = (f32::from_bits((recent >> 32) as u32), recent as u32);
    // A clock that two threads read may seem to go back by a millisecond.
    let passed = now.wrapping_sub(at).cast_signed().max(0);
    seconds * (-(passed as f32) / HALF_LIFE.as_millis() as f32).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_forgotten_by_and_by() {
        let used = pack(0.8, 1000);
        assert_eq!(left(used, 1000), 0.8);
        assert_eq!(left(used, 999), 0.8, "a clock that seems to go back");
        assert!((left(used, 2000) - 0.4).abs() < 1e-6);
        assert!((left(used, 4000) - 0.1).abs() < 1e-6);
        assert!(left(used, 60_000) < 1e-9);
        let round = pack(0.8, u32::MAX - 499);
        assert!((left(round, 500) - 0.4).abs() < 1e-6, "milliseconds come round");
    }

    #[test]
    fn without_a_pause_the_window_is_used_up() {
        let mut recent = pack(0.0, 0);
        for now in 0..20_000_u32 {
            recent = pack(left(recent, now) + 0.001, now);
        }
        assert!((left(recent, 20_000) / WINDOW - 1.0).abs() < 0.01, "{}", left(recent, 20_000));
    }

    #[test]
    fn twice_the_weight_has_used_half() {
        let share = |weight| CpuShare::new(1, weight, Instant::now());
        let (one, other) = (share(100), share(200));
        one.charge(Duration::from_millis(100));
        other.charge(Duration::from_millis(200));
        assert!((one.recent() - other.recent()).abs() < 0.01);
        assert_eq!(other.total(), Duration::from_millis(200));
    }
}
