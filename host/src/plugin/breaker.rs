//! Puts a handler aside that keeps trapping, because every trap costs a fresh instance and no caller gets an answer.
//!
//! A trap is charged to whoever caused it. Each class of callers (`Class`) has a record of its own, so that a user of level 2 whose messages trap the
//! handler does not keep level 1 from it. Within the classes of untrusted callers each user and each server has one as well, and the handler is put aside for
//! the whole class only after several of them have trapped it, with no answer to any of the class between.
//!
//! Traps of calls that ran beside each other have one cause, and count as one: a call that began before the last trap was counted adds nothing. When the time
//! aside is over, one call is let in to see whether the handler works again. Others are refused until it has ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::caller::Caller;
use crate::budget::Class;
use crate::failure::{Failure, code};
use crate::wire::shown;

/// Traps in a row after which a handler is put aside.
const TRAPS: u32 = 5;
/// So many different callers of an untrusted class must have trapped before the handler is put aside for the whole class.
const CALLERS: usize = 3;
/// How long it is put aside at first; twice as long each time it traps again at once.
const FIRST: Duration = Duration::from_secs(1);
/// The longest that it is put aside.
const LONGEST: Duration = Duration::from_secs(30);
/// Callers of one class whose traps are remembered. If there are more, the one that trapped longest ago is forgotten.
const MAX_CALLERS: usize = 256;

/// One handler's record of traps.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Whether there is anything in the records. Calls look here first, so that those of a handler that does not trap share no lock. It is
    /// changed while the records are locked.
    troubled: AtomicBool,
    classes: Mutex<[ClassRecord; Class::ALL.len()]>,
}

/// The traps of a class of callers.
#[derive(Debug, Default)]
struct ClassRecord {
    record: Record,
    /// The callers that trapped since the handler answered one of the class, at most [`CALLERS`].
    trapped: Vec<String>,
    /// By user or server id; only of untrusted classes.
    callers: BTreeMap<String, Record>,
}

#[derive(Debug, Default)]
struct Record {
    in_a_row: u32,
    /// When the last trap was counted.
    counted: Option<Instant>,
    aside_until: Option<Instant>,
    /// Whether a call is under way that was let in after the time aside.
    probed: bool,
}

/// For whom a handler is put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsideFor {
    /// The class of callers.
    pub class: Class,
    /// The one user or server of it; absent where it is put aside for the whole class.
    pub caller: Option<String>,
}

impl std::fmt::Display for AsideFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.caller, self.class) {
            (None, class) => f.write_str(class.peers()),
            (Some(id), Class::Monitor) => write!(f, "the monitor `{}`", shown(id)),
            (Some(user), _) => write!(f, "the user `{}`", shown(user)),
        }
    }
}

/// What comes of a trap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PutAside {
    pub of: AsideFor,
    pub time: Duration,
}

/// A call's leave to enter the handler. Dropping it without having said how the call ended makes room for another probe.
pub(super) struct Entry<'a> {
    breaker: &'a Breaker,
    class: Class,
    caller: Option<&'a str>,
    began: Instant,
    /// Whether this call is the probe of the class, and of the caller.
    probes: [bool; 2],
}

impl Record {
    /// Whether a call may enter, and if so, whether it does so as the probe.
    fn check(&self, of: impl Fn() -> AsideFor, now: Instant) -> Result<bool, Failure> {
        let Some(until) = self.aside_until else { return Ok(false) };
        let left = until.saturating_duration_since(now);
        if left.is_zero() && !self.probed {
            return Ok(true);
        }
        let how_long = match left.is_zero() {
            true => "until a call that is under way has shown whether it works again".to_owned(),
            false => format!("for another {:.1} s", left.as_secs_f32()),
        };
        let message =
            format!("the handler trapped {} times in a row and is put aside for {} {how_long}", self.in_a_row, of());
        Err(Failure::new(code::PUT_ASIDE, message))
    }

    /// Counts a trap of a call that began at `began`, unless it ran beside the one that was counted last. Returns whether it was counted.
    fn count(&mut self, began: Instant, now: Instant) -> bool {
        if self.counted.is_some_and(|counted| began <= counted) {
            return false;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.counted = Some(now);
        true
    }

    /// Puts the handler aside if it has trapped often enough. Returns for how long.
    fn put_aside(&mut self, now: Instant) -> Option<Duration> {
        let again = self.in_a_row.checked_sub(TRAPS)?;
        let time = FIRST.saturating_mul(1 << again.min(10)).min(LONGEST);
        self.aside_until = Some(now + time);
        Some(time)
    }

    fn is_aside(&self, now: Instant) -> bool {
        self.aside_until.is_some_and(|until| now < until || self.probed)
    }
}

impl Breaker {
    /// Lets a call in, or says that the handler is put aside for its caller.
    pub fn enter<'a>(&'a self, caller: &'a Caller, now: Instant) -> Result<Entry<'a>, Failure> {
        let (class, caller) = (caller.class(), caller.name());
        let mut entry = Entry { breaker: self, class, caller, began: now, probes: [false; 2] };
        if self.troubled.load(Ordering::Acquire) {
            let mut classes = self.classes.lock();
            let records = &mut classes[class.index()];
            let of_class = records.record.check(|| AsideFor { class, caller: None }, now)?;
            let own = caller.and_then(|caller| records.callers.get_mut(caller));
            let of_caller = match &own {
                None => false,
                Some(own) => own.check(|| AsideFor { class, caller: caller.map(str::to_owned) }, now)?,
            };
            if let Some(own) = own {
                own.probed |= of_caller;
            }
            records.record.probed |= of_class;
            entry.probes = [of_class, of_caller];
        }
        Ok(entry)
    }

    /// For whom the handler is put aside.
    pub fn aside(&self, now: Instant) -> Vec<AsideFor> {
        if !self.troubled.load(Ordering::Acquire) {
            return Vec::new();
        }
        let classes = self.classes.lock();
        let mut aside = Vec::new();
        for (class, records) in Class::ALL.into_iter().zip(classes.iter()) {
            if records.record.is_aside(now) {
                aside.push(AsideFor { class, caller: None });
            }
            let callers = records.callers.iter().filter(|(_, record)| record.is_aside(now));
            aside.extend(callers.map(|(caller, _)| AsideFor { class, caller: Some(caller.clone()) }));
        }
        aside
    }
}

impl Entry<'_> {
    /// The call trapped. Returns for whom the handler is put aside for it, if it is.
    pub fn trapped(mut self, now: Instant) -> Option<PutAside> {
        let mut classes = self.breaker.classes.lock();
        self.breaker.troubled.store(true, Ordering::Release);
        let (class, began) = (self.class, self.began);
        let records = &mut classes[class.index()];
        self.give_back(records);
        self.probes = [false; 2];
        let mut aside = None;
        if let Some(caller) = self.caller.filter(|_| !class.is_trusted()) {
            if !records.trapped.iter().any(|known| known == caller) && records.trapped.len() < CALLERS {
                records.trapped.push(caller.to_owned());
            }
            records.make_room(caller);
            let own = records.callers.entry(caller.to_owned()).or_default();
            if own.count(began, now) {
                let of = || AsideFor { class, caller: Some(caller.to_owned()) };
                aside = own.put_aside(now).map(|time| PutAside { of: of(), time });
            }
        }
        let is_the_handlers = class.is_trusted() || records.trapped.len() >= CALLERS;
        if records.record.count(began, now)
            && is_the_handlers
            && let Some(time) = records.record.put_aside(now)
        {
            aside = Some(PutAside { of: AsideFor { class, caller: None }, time });
        }
        aside
    }

    /// The handler ended without a trap.
    pub fn ended(mut self) {
        let probes = std::mem::take(&mut self.probes);
        if !self.breaker.troubled.load(Ordering::Acquire) {
            return;
        }
        let mut classes = self.breaker.classes.lock();
        let records = &mut classes[self.class.index()];
        // An answer shows that the handler works for the class. While it is put aside, only the probe shows that: other calls began before.
        if records.record.aside_until.is_none() || probes[0] {
            records.record = Record::default();
            records.trapped.clear();
        }
        if let Some(caller) = self.caller
            && records.callers.get(caller).is_some_and(|own| own.aside_until.is_none() || probes[1])
        {
            records.callers.remove(caller);
        }
        let untroubled = |class: &ClassRecord| class.record.counted.is_none() && class.callers.is_empty();
        if classes.iter().all(untroubled) {
            self.breaker.troubled.store(false, Ordering::Release);
        }
    }

    fn give_back(&self, records: &mut ClassRecord) {
        if self.probes[0] {
            records.record.probed = false;
        }
        if self.probes[1]
            && let Some(own) = self.caller.and_then(|caller| records.callers.get_mut(caller))
        {
            own.probed = false;
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // The call ended in another way, such as by its deadline, and has shown nothing.
        if self.probes != [false; 2] {
            let mut classes = self.breaker.classes.lock();
            self.give_back(&mut classes[self.class.index()]);
        }
    }
}

impl ClassRecord {
    /// Makes room for one more caller.
    fn make_room(&mut self, caller: &str) {
        if self.callers.len() < MAX_CALLERS || self.callers.contains_key(caller) {
            return;
        }
        let oldest = self.callers.iter().min_by_key(|(_, record)| record.counted).map(|(caller, _)| caller.clone());
        if let Some(oldest) = oldest {
            self.callers.remove(&oldest);
        }
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
