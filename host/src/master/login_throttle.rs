//! Slows down those who guess passwords and tokens.
//!
//! A guesser is an address with the name that it tries: a user's name or a server's id. After a wrong guess, the answers to the next logins of this
//! guesser wait longer and longer. Right passwords wait as well, so that nobody learns from the time of an answer which of many guesses was right. Only
//! a few logins may wait; further ones are refused before their password or token is looked at.
//!
//! - An operator at another address is not locked out by a stranger's guesses. Nor, as a rule, is a user by guesses for another user.
//! - A right token does not wait, because tokens cannot be guessed and another server of the same machine may be set up wrongly. For the same reason
//!   servers and users are counted apart.
//! - A name that has logged in from an address is counted by itself there.
//! - Other names are told apart by a hash of a few bits, under a key that no peer knows. So an address can neither fill the table nor gain much by trying
//!   many names.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::util::network;

/// How long the first wrong password's answer waits; twice as long with each further one.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(8);
/// A guesser whose last answer was this long ago begins with the shortest wait again.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Logins of one guesser that may wait. With the longest wait, that is one guess in two seconds.
const MAX_WAITING: u32 = 4;
/// Into how many classes the names that one address tries are hashed.
const NAMES: u64 = 16;
/// Guessers that are remembered: addresses with names.
const MAX_GUESSERS: usize = 16 * 1024;

/// Wrong passwords and tokens by guesser.
#[derive(Default)]
pub(super) struct LoginThrottle {
    guessers: Mutex<HashMap<Guesser, Failures>>,
    hasher: RandomState,
}

/// What is guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Guess {
    /// A user's password.
    Password,
    /// A server's token.
    Token,
}

/// An address, what it guesses, whether the name has logged in from there, and the hash of the name that it tries.
type Guesser = (IpAddr, Guess, bool, u64);

struct Failures {
    count: u32,
    /// When the last answer goes out.
    answered: Instant,
    /// Logins that are under way.
    under_way: u32,
}

impl Failures {
    fn forget(&mut self, now: Instant) {
        if self.answered + FORGOTTEN <= now {
            self.count = 0;
        }
    }
}

/// A login that is under way.
pub(super) struct Attempt<'a> {
    all: &'a LoginThrottle,
    guesser: Guesser,
}

impl LoginThrottle {
    /// A login begins. Absent if too many of that address and name wait already: the password or token must not be looked at then.
    /// `known` says that this name has logged in from there: guesses for other names do not slow it down.
    pub fn begin(&self, address: IpAddr, guess: Guess, name: &str, known: bool, now: Instant) -> Option<Attempt<'_>> {
        let hash = self.hasher.hash_one(name);
        let guesser = (network(address), guess, known, if known { hash } else { hash % NAMES });
        let mut guessers = self.guessers.lock();
        if guessers.len() >= MAX_GUESSERS && !guessers.contains_key(&guesser) {
            guessers.retain(|_, failures| failures.under_way > 0 || failures.answered + FORGOTTEN > now);
            let oldest = guessers.iter().min_by_key(|(_, failures)| failures.answered).map(|(guesser, _)| *guesser);
            if let Some(oldest) = oldest.filter(|_| guessers.len() >= MAX_GUESSERS) {
                guessers.remove(&oldest);
            }
        }
        let failures = guessers.entry(guesser).or_insert(Failures { count: 0, answered: now, under_way: 0 });
        failures.forget(now);
        if failures.count > 0 && failures.under_way >= MAX_WAITING {
            return None;
        }
        failures.under_way += 1;
        Some(Attempt { all: self, guesser })
    }
}

impl Attempt<'_> {
    /// How long the answer must wait. The attempt must be kept until then.
    pub fn answer_after(&self, guessed_wrong: bool, now: Instant) -> Duration {
        let mut guessers = self.all.guessers.lock();
        // Other guessers may have pushed this one out of the table.
        let failures = guessers.entry(self.guesser).or_insert(Failures { count: 0, answered: now, under_way: 1 });
        failures.forget(now);
        if failures.count == 0 && !guessed_wrong {
            return Duration::ZERO;
        }
        let pause = (FIRST * (1 << failures.count.min(8))).min(LONGEST);
        failures.count = failures.count.saturating_add(u32::from(guessed_wrong));
        // The waits follow one another, so that guessing over many connections is hardly quicker than over one.
        failures.answered = (failures.answered.max(now) + pause).min(now + LONGEST);
        failures.answered - now
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut guessers = self.all.guessers.lock();
        if let Some(failures) = guessers.get_mut(&self.guesser) {
            failures.under_way = failures.under_way.saturating_sub(1);
            if failures.under_way == 0 && failures.count == 0 {
                guessers.remove(&self.guesser);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    /// A login that is answered at once, as far as the test is concerned.
    fn wait(throttle: &LoginThrottle, address: IpAddr, name: &str, wrong: bool, now: Instant) -> u128 {
        throttle.begin(address, Guess::Password, name, false, now).expect("room").answer_after(wrong, now).as_millis()
    }

    #[test]
    fn a1_wrong_passwords_are_answered_later_and_later_for_their_address_alone() {
        let (throttle, mut now) = (LoginThrottle::default(), Instant::now());
        let waits: Vec<u128> = (0..8)
            .map(|_| {
                let waited = wait(&throttle, v4(1), "admin", true, now);
                now += Duration::from_millis(u64::try_from(waited).unwrap());
                waited
            })
            .collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(wait(&throttle, v4(2), "admin", true, now), 250);
        assert_eq!(wait(&throttle, v4(1), "admin", true, now + FORGOTTEN), 250);
    }

    #[test]
    fn a1_guesses_at_the_same_time_wait_for_each_other() {
        let (throttle, now) = (LoginThrottle::default(), Instant::now());
        let wrong = |address: &str| wait(&throttle, address.parse().unwrap(), "admin", true, now);
        assert_eq!(["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(wrong), [250, 750, 1750]);
        assert_eq!(wrong("2001:db8:0:1::1"), 250);
        assert_eq!(wrong("::ffff:10.0.0.1"), 250);
        assert_eq!(wrong("10.0.0.1"), 750);
    }

    #[test]
    fn a1_a_right_password_among_guesses_is_not_told_by_when_it_is_answered() {
        let (throttle, now) = (LoginThrottle::default(), Instant::now());
        assert_eq!(wait(&throttle, v4(1), "admin", false, now), 0, "nobody has guessed");
        assert_eq!(wait(&throttle, v4(1), "admin", true, now), 250);
        assert_eq!(wait(&throttle, v4(1), "admin", false, now), 750, "as long as a wrong one would");
        assert_eq!(wait(&throttle, v4(2), "admin", false, now), 0, "from elsewhere");
        let other = (0..).map(|n| format!("user-{n}"));
        let bits = |name: &str| throttle.hasher.hash_one(name) % NAMES;
        let other = other.into_iter().find(|name| bits(name) != bits("admin")).unwrap();
        assert_eq!(wait(&throttle, v4(1), &other, false, now), 0, "another user");
        assert_eq!(wait(&throttle, v4(1), "admin", false, now + FORGOTTEN + LONGEST), 0, "later");
    }

    #[test]
    fn a1_only_so_many_guesses_wait_and_others_are_not_looked_at() {
        let (throttle, now) = (LoginThrottle::default(), Instant::now());
        // As long as nobody guesses, any number may log in at once.
        let crowd: Vec<Attempt<'_>> =
            (0..100).map(|_| throttle.begin(v4(1), Guess::Password, "admin", false, now).unwrap()).collect();
        assert!(crowd.iter().all(|attempt| attempt.answer_after(false, now).is_zero()));
        drop(crowd);
        assert!(throttle.guessers.lock().is_empty(), "nothing is remembered of them");

        wait(&throttle, v4(1), "admin", true, now);
        let mut waiting: Vec<_> =
            (0..MAX_WAITING).map(|_| throttle.begin(v4(1), Guess::Password, "admin", false, now).unwrap()).collect();
        assert!(throttle.begin(v4(1), Guess::Password, "admin", false, now).is_none());
        assert!(throttle.begin(v4(2), Guess::Password, "admin", false, now).is_some());
        assert!(throttle.begin(v4(1), Guess::Token, "admin", false, now).is_some(), "servers are counted apart");
        waiting.pop();
        assert!(throttle.begin(v4(1), Guess::Password, "admin", false, now).is_some(), "one has been answered");
    }

    #[test]
    fn only_so_many_guessers_are_remembered() {
        let (throttle, now) = (LoginThrottle::default(), Instant::now());
        wait(&throttle, v4(0), "admin", true, now);
        for number in 1..=20_000 {
            wait(&throttle, v4(number), "admin", true, now + FIRST);
        }
        assert_eq!(throttle.guessers.lock().len(), MAX_GUESSERS);
        assert_eq!(wait(&throttle, v4(0), "admin", true, now + FIRST), 250, "the oldest went first");
        let held = throttle.begin(v4(7), Guess::Password, "admin", false, now).unwrap();
        drop(throttle.guessers.lock().drain());
        assert_eq!(held.answer_after(true, now), FIRST, "one that was pushed out begins anew");
    }
}
