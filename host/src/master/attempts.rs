//! Slows down those who guess passwords.
//!
//! Each wrong password from an address is answered later than the one before. Right ones are answered at once: nobody can lock an operator out
//! by guessing, not even from the same address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long the first wrong password's answer waits; twice as long with each further one.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(8);
/// An address whose last answer was this long ago begins with the shortest wait again.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 4096;

/// Wrong passwords by where they came from.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, Failures>>);

struct Failures {
    count: u32,
    /// When the last answer goes out.
    answered: Instant,
}

impl Attempts {
    /// Counts a wrong password, and says how long its answer is to wait.
    pub fn failed(&self, address: IpAddr, now: Instant) -> Duration {
        let address = network(address);
        let mut known = self.0.lock();
        if known.len() >= MAX_ADDRESSES && !known.contains_key(&address) {
            known.retain(|_, failures| failures.answered + FORGOTTEN > now);
            let oldest = known.iter().min_by_key(|(_, failures)| failures.answered).map(|(address, _)| *address);
            if let Some(oldest) = oldest.filter(|_| known.len() >= MAX_ADDRESSES) {
                known.remove(&oldest);
            }
        }
        let failures = known.entry(address).or_insert(Failures { count: 0, answered: now });
        if failures.answered + FORGOTTEN <= now {
            failures.count = 0;
        }
        let pause = (FIRST * (1 << failures.count.min(8))).min(LONGEST);
        failures.count = failures.count.saturating_add(1);
        // One after another: guessing over many connections is hardly quicker than over one.
        failures.answered = (failures.answered.max(now) + pause).min(now + LONGEST);
        failures.answered - now
    }
}

/// What one guesser has: an address, or the 64 bits that an IPv6 network shares.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn a1_wrong_passwords_are_answered_later_and_later_for_their_address_alone() {
        let (attempts, mut now) = (Attempts::default(), Instant::now());
        let waits: Vec<u128> = (0..8)
            .map(|_| {
                let wait = attempts.failed(v4(1), now);
                now += wait;
                wait.as_millis()
            })
            .collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(attempts.failed(v4(2), now), FIRST);
        assert_eq!(attempts.failed(v4(1), now + FORGOTTEN), FIRST);
    }

    #[test]
    fn a1_guesses_at_the_same_time_wait_for_each_other() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let same = ["2001:db8::1", "2001:db8::2", "2001:db8::3"];
        let waits = same.map(|address| attempts.failed(address.parse().unwrap(), now).as_millis());
        assert_eq!(waits, [250, 750, 1750]);
        assert_eq!(attempts.failed("2001:db8:0:1::1".parse().unwrap(), now), FIRST);
        assert_eq!(attempts.failed("::ffff:10.0.0.1".parse().unwrap(), now), FIRST);
        assert_eq!(attempts.failed("10.0.0.1".parse().unwrap(), now), 3 * FIRST);
    }

    #[test]
    fn only_so_many_addresses_are_remembered() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        attempts.failed(v4(0), now);
        for number in 1..=5000 {
            attempts.failed(v4(number), now + FIRST);
        }
        assert_eq!(attempts.0.lock().len(), MAX_ADDRESSES);
        assert_eq!(attempts.failed(v4(0), now + FIRST), FIRST, "the oldest went first");
    }
}
