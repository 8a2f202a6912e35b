//! Lines of the log that others may cause.
//!
//! A peer that is refused without pause must neither fill the disk with lines nor hide what the log says of others. Each cause, such as an address or a
//! server, may write some lines at once and then one in a while, and so may all causes together. What is left out is counted. A line says how many it
//! were: at the next line that is written, or [`TOLD_AFTER`] later where somebody asks ([`LineBudget::due`]).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::TokenBucket;

/// Lines that one cause may write at once.
pub const BURST: u32 = 20;
/// The time after which a cause may write one more.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// Lines that all causes together may write at once.
pub const BURST_OF_ALL: u32 = 200;
/// The time after which all causes together may write one more.
pub const INTERVAL_OF_ALL: Duration = Duration::from_millis(200);
/// The longest time from a line that is left out to the line that says so, as long as somebody asks.
pub const TOLD_AFTER: Duration = Duration::from_secs(10);
/// Causes that are remembered. Beyond them, all new ones count as one.
const MAX_CAUSES: usize = 16 * 1024;
/// The time between two looks for causes that need not be remembered any more.
const SWEPT: Duration = Duration::from_secs(1);
/// Bytes of a cause that tell it from others.
const MAX_CAUSE: usize = 64;

/// The budget of one log.
#[derive(Debug)]
pub struct LineBudget(Mutex<Budget>);

#[derive(Debug)]
struct Budget {
    causes: HashMap<String, TokenBucket>,
    /// Of the causes that have found no place.
    others: TokenBucket,
    all: TokenBucket,
    swept: Instant,
    left_out: u64,
    /// Since when lines are left out that no line tells of.
    since: Option<Instant>,
}

impl LineBudget {
    /// A budget of which nothing is spent.
    pub fn new(now: Instant) -> Self {
        LineBudget(Mutex::new(Budget {
            causes: HashMap::new(),
            others: TokenBucket::new(BURST, INTERVAL, now),
            all: TokenBucket::new(BURST_OF_ALL, INTERVAL_OF_ALL, now),
            swept: now,
            left_out: 0,
            since: None,
        }))
    }

    /// Counts a line that a cause would write. If it may be written, gives how many lines were left out before it that no line tells of yet.
    pub fn take(&self, cause: &str, now: Instant) -> Option<u64> {
        self.count(cause, now, false)
    }

    /// As [`LineBudget::take`], for a cause of which there are only so many, and which the operator knows: it counts for itself alone.
    pub fn take_alone(&self, cause: &str, now: Instant) -> Option<u64> {
        self.count(cause, now, true)
    }

    fn count(&self, cause: &str, now: Instant, alone: bool) -> Option<u64> {
        let mut budget = self.0.lock();
        // The cause first: a line that it may not write takes nothing from the others.
        if budget.of(cause, now).take(now) && (alone || budget.all.take(now)) {
            budget.since = None;
            return Some(std::mem::take(&mut budget.left_out));
        }
        budget.left_out += 1;
        budget.since.get_or_insert(now);
        None
    }

    /// How many lines were left out, where the first of them is [`TOLD_AFTER`] old and no line tells of them yet. They count as told from then on.
    pub fn due(&self, now: Instant) -> Option<u64> {
        let mut budget = self.0.lock();
        let since = budget.since?;
        (now.saturating_duration_since(since) >= TOLD_AFTER).then(|| {
            budget.since = None;
            std::mem::take(&mut budget.left_out)
        })
    }
}

impl Budget {
    fn of(&mut self, cause: &str, now: Instant) -> &mut TokenBucket {
        let cause = &cause[..cause.floor_char_boundary(MAX_CAUSE)];
        if !self.causes.contains_key(cause) {
            if self.causes.len() >= MAX_CAUSES && now.saturating_duration_since(self.swept) >= SWEPT {
                self.swept = now;
                self.causes.retain(|_, bucket| !bucket.is_full(now));
            }
            if self.causes.len() >= MAX_CAUSES {
                return &mut self.others;
            }
        }
        self.causes.entry(cause.to_owned()).or_insert_with(|| TokenBucket::new(BURST, INTERVAL, now))
    }
}

/// The budget of this process's log.
fn of_process() -> &'static LineBudget {
    static BUDGET: OnceLock<LineBudget> = OnceLock::new();
    BUDGET.get_or_init(|| LineBudget::new(Instant::now()))
}

/// Writes a line that a peer has caused to this process's log, by calling `write`, unless there were too many. `cause` is what its lines are counted
/// under: an address ([`address`]), or the id of a server or a user that has registered.
pub fn caused(cause: &str, write: impl FnOnce()) {
    counted(of_process().take(cause, Instant::now()), write);
}

/// As [`caused`], for what a server does that has registered, such as that it joins. A fleet has as many such lines as servers, so that they are counted
/// for each server alone.
pub fn of_server(id: &str, write: impl FnOnce()) {
    counted(of_process().take_alone(id, Instant::now()), write);
}

/// The cause that an address is. Of IPv6 the first 64 bits count, because one peer has all that follow.
pub fn address(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).to_string(),
    }
}

fn counted(taken: Option<u64>, write: impl FnOnce()) {
    match taken {
        Some(left_out) => {
            tell(left_out);
            write();
        }
        None => metrics::counter!("pomelo_log_lines_left_out_total").increment(1),
    }
}

/// Says in the log how many lines were left out, where no line has said so in time. To be called now and then.
pub fn tell_due() {
    if let Some(left_out) = of_process().due(Instant::now()) {
        tell(left_out);
    }
}

fn tell(left_out: u64) {
    if left_out > 0 {
        tracing::warn!(left_out, "lines about peers were left out, because there were too many");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(budget: &LineBudget, cause: &str, lines: u32, now: Instant) -> u32 {
        (0..lines).map(|_| u32::from(budget.take(cause, now).is_some())).sum()
    }

    #[test]
    fn one_cause_cannot_hide_the_lines_of_another_and_what_is_left_out_is_counted() {
        let start = Instant::now();
        let budget = LineBudget::new(start);
        assert_eq!(written(&budget, "a", 1000, start), BURST);
        assert_eq!(budget.take("b", start), Some(u64::from(1000 - BURST)), "the next line says how many");
        assert_eq!(budget.take("b", start), Some(0));
        assert_eq!(written(&budget, "a", 10, start + INTERVAL), 1);
        assert_eq!(budget.due(start + INTERVAL), None);
        assert_eq!(budget.due(start + INTERVAL + TOLD_AFTER), Some(9), "also where no line follows");
        assert_eq!(budget.due(start + 10 * TOLD_AFTER), None);
    }

    #[test]
    fn all_causes_together_have_a_bound_however_many_they_are() {
        let start = Instant::now();
        let budget = LineBudget::new(start);
        let causes = |second: u64| (0..100_000_u64).map(move |n| (format!("{n}"), start + Duration::from_secs(second)));
        let all = causes(0).filter(|(cause, now)| budget.take(cause, *now).is_some()).count();
        assert_eq!(all, BURST_OF_ALL as usize);
        let later = causes(10).filter(|(cause, now)| budget.take(cause, *now).is_some()).count();
        assert_eq!(later, 50, "as many as have come back in ten seconds");
        assert!(budget.0.lock().causes.len() <= MAX_CAUSES);
    }

    #[test]
    fn servers_count_for_themselves_and_addresses_of_one_peer_together() {
        let start = Instant::now();
        let budget = LineBudget::new(start);
        assert!((0..10_000).all(|n| budget.take_alone(&format!("chat-{n}"), start).is_some()));
        let said = |ip: &str| address(ip.parse().unwrap());
        assert_eq!(said("2001:db8::1:2:3:4"), said("2001:db8::5"));
        assert_eq!(said("::ffff:10.0.0.1"), "10.0.0.1");
    }
}
