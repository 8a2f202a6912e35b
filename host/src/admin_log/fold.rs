//! Which records have a line of their own, and which are folded into one line with a count.
//!
//! - What level 1 asks and does not only look at, and whatever else a client was allowed to change, has a line each.
//! - Looks, refusals, failures of those below level 1 and their logins have a line each as long as they are few. Those of a user that are alike (the same
//!   kind, module, operation and result) are folded when they are many: the line is that of the newest, with their number and the time of the first.
//!
//! So the first of each sort is always there, and no flood has more than a bounded number of lines. Nothing here knows a file or a thread.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use super::record::{Kind, Record};
use crate::failure::code;
use crate::util::TokenBucket;

/// How many records that are alike have lines of their own, and how long others wait to be told.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// At once.
    burst: u32,
    /// The time after which one more has its own line.
    interval: Duration,
    /// The longest time until folded ones are told. It begins with [`SHORTEST`], and doubles while the flood lasts.
    longest: Duration,
}

/// Of looks. They have a file of their own.
const LOOKS: Bounds = Bounds { burst: 60, interval: Duration::from_secs(1), longest: Duration::from_secs(60) };
/// Of the rest.
const REST: Bounds = Bounds { burst: 10, interval: Duration::from_secs(3600), longest: Duration::from_secs(3600) };
/// The shortest time until folded records are told.
const SHORTEST: Duration = Duration::from_secs(10);
/// Sorts of records that are told apart for one user; the others count as one sort.
const MAX_SORTS: usize = 128;
/// Users that are told apart.
const MAX_USERS: usize = 1024;
/// The time after which a user of whom nothing came is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// A record as it is written: in which file, and for how many it stands.
#[derive(Debug)]
pub(super) struct Written {
    pub record: Record,
    /// For how many records the line stands, and when the first of them came; absent for a record of its own.
    pub folded: Option<(u64, SystemTime)>,
}

impl Written {
    pub fn alone(record: Record) -> Self {
        Written { record, folded: None }
    }

    /// Whether it stands in the file of looks. A look that was refused is a refusal.
    pub fn is_look(&self) -> bool {
        is_look(&self.record)
    }

    /// How many records are lost if it is.
    pub fn records(&self) -> u64 {
        self.folded.map_or(1, |(count, _)| count)
    }
}

fn is_look(record: &Record) -> bool {
    record.reads && record.failure.as_deref() != Some(code::FORBIDDEN)
}

/// What makes records alike, beside their user.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Sort {
    kind: Kind,
    look: bool,
    module: Option<String>,
    operation: Option<String>,
    failure: Option<String>,
}

struct Fold {
    lines: TokenBucket,
    /// How long folded ones wait.
    wait: Duration,
    folded: Option<Folded>,
}

struct Folded {
    newest: Record,
    first: SystemTime,
    count: u64,
    due: Instant,
}

struct User {
    sorts: HashMap<Sort, Fold>,
    seen: Instant,
}

/// The records that wait to be told together.
#[derive(Default)]
pub(super) struct Folds {
    users: HashMap<Option<String>, User>,
}

impl Folds {
    /// Takes a record. Gives what is to be written now: nothing, the record, or before it those that were folded.
    pub fn take(&mut self, record: Record, now: Instant) -> Vec<Written> {
        if has_its_own_line(&record) {
            return vec![Written::alone(record)];
        }
        let bounds = if is_look(&record) { LOOKS } else { REST };
        let fold = self.fold(&record, bounds, now);
        if fold.lines.is_full(now) {
            fold.wait = SHORTEST;
        }
        if fold.lines.take(now) {
            let before = fold.folded.take().map(Folded::written);
            return before.into_iter().chain([Written::alone(record)]).collect();
        }
        metrics::counter!("pomelo_admin_log_folded_total").increment(1);
        match &mut fold.folded {
            Some(folded) => {
                folded.count += 1;
                folded.newest = record;
            }
            None => {
                fold.folded = Some(Folded { first: record.time, newest: record, count: 1, due: now + fold.wait });
                fold.wait = (2 * fold.wait).min(bounds.longest);
            }
        }
        Vec::new()
    }

    /// Those whose time has come.
    pub fn due(&mut self, now: Instant) -> Vec<Written> {
        self.told(|folded| folded.due <= now)
    }

    /// All that wait.
    pub fn all(&mut self) -> Vec<Written> {
        self.told(|_| true)
    }

    fn told(&mut self, is_due: impl Fn(&Folded) -> bool) -> Vec<Written> {
        let folds = self.users.values_mut().flat_map(|user| user.sorts.values_mut());
        folds.filter_map(|fold| fold.folded.take_if(|folded| is_due(folded))).map(Folded::written).collect()
    }

    fn fold(&mut self, record: &Record, bounds: Bounds, now: Instant) -> &mut Fold {
        let mut name = record.caller.user.clone();
        if !self.users.contains_key(&name) && self.users.len() >= MAX_USERS {
            self.users.retain(|_, user| {
                now.saturating_duration_since(user.seen) < FORGOTTEN
                    || user.sorts.values().any(|fold| fold.folded.is_some())
            });
            if self.users.len() >= MAX_USERS {
                name = None;
            }
        }
        let user = self.users.entry(name).or_insert_with(|| User { sorts: HashMap::new(), seen: now });
        user.seen = now;
        let mut sort = Sort {
            kind: record.kind,
            look: is_look(record),
            module: record.module.clone(),
            operation: record.operation.clone(),
            failure: record.failure.as_deref().map(str::to_owned),
        };
        if !user.sorts.contains_key(&sort) && user.sorts.len() >= MAX_SORTS {
            user.sorts.retain(|_, fold| fold.folded.is_some() || !fold.lines.is_full(now));
            if user.sorts.len() >= MAX_SORTS {
                // Two more at most, for there are as many kinds of bounds.
                sort = Sort { kind: Kind::Request, module: None, operation: None, failure: None, ..sort };
            }
        }
        user.sorts.entry(sort).or_insert_with(|| Fold {
            lines: TokenBucket::new(bounds.burst, bounds.interval, now),
            wait: SHORTEST,
            folded: None,
        })
    }
}

impl Folded {
    fn written(self) -> Written {
        // Each of them may have named other servers.
        let record = Record { targets: Vec::new(), target_count: 0, ..self.newest };
        Written { record, folded: Some((self.count, self.first)) }
    }
}

/// Whether a record is never folded: what was changed, and all that level 1 asks and does not only look at.
fn has_its_own_line(record: &Record) -> bool {
    if is_look(record) {
        return false;
    }
    let is_first_level = record.caller.level.is_some_and(|level| level <= 1);
    is_first_level || (record.failure.is_none() && record.kind != Kind::Register)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plugin::{Caller, CallerRole};

    fn record(level: u32, operation: &str, failure: Option<&'static str>) -> Record {
        let caller =
            Caller { user: Some(format!("user-{level}")), level: Some(level), ..Caller::of(CallerRole::Client) };
        let record = Record::new(Kind::Notify, Arc::new(caller));
        let reads = operation.starts_with("list");
        Record { operation: Some(operation.to_owned()), failure: failure.map(Into::into), reads, ..record }
    }

    #[test]
    fn what_is_changed_and_what_level_1_asks_has_a_line_each() {
        let (mut folds, now) = (Folds::default(), Instant::now());
        for _ in 0..10_000 {
            assert_eq!(folds.take(record(1, "stop", None), now).len(), 1);
            assert_eq!(folds.take(record(1, "stop", Some(code::BUSY)), now).len(), 1);
            assert_eq!(folds.take(record(2, "restart", None), now).len(), 1, "the configuration lets it");
        }
        assert!(folds.all().is_empty());
    }

    #[test]
    fn a_flood_has_its_first_lines_and_then_one_with_the_number_of_all_others() {
        let (mut folds, start) = (Folds::default(), Instant::now());
        for (operation, failure, bounds) in [("list", None, LOOKS), ("stop", Some(code::FORBIDDEN), REST)] {
            let lines: usize = (0..50_000).map(|_| folds.take(record(2, operation, failure), start).len()).sum();
            assert_eq!(lines, bounds.burst as usize);
            // The first of another sort is there all the same.
            assert_eq!(folds.take(record(2, operation, Some(code::BAD_MESSAGE)), start).len(), 1);
            assert!(folds.due(start + SHORTEST / 2).is_empty());
            let told = folds.due(start + SHORTEST);
            let [Written { record, folded: Some((count, _)) }] = &told[..] else { panic!("{told:?}") };
            assert_eq!((record.operation.as_deref(), *count), (Some(operation), 50_000 - u64::from(bounds.burst)));
            assert_eq!(told[0].is_look(), failure.is_none());
        }
    }

    #[test]
    fn a_flood_that_lasts_or_has_many_names_has_few_lines() {
        let (mut folds, start) = (Folds::default(), Instant::now());
        let mut lines = 0;
        for second in 0..24 * 60 * 60 {
            let now = start + Duration::from_secs(second);
            // Each message names another operation.
            let operation = format!("made-up-{second}");
            lines += folds.take(record(2, &operation, Some(code::FORBIDDEN)), now).len() + folds.due(now).len();
        }
        assert!(lines < 5000, "{lines} lines in a day");
        let sorts = folds.users.values().map(|user| user.sorts.len()).max();
        assert!(sorts <= Some(MAX_SORTS + 2), "{sorts:?}");
        for n in 0..5000 {
            let caller = Caller { user: Some(format!("u{n}")), level: Some(2), ..Caller::of(CallerRole::Client) };
            folds.take(Record::new(Kind::Register, Arc::new(caller)), start);
        }
        assert!(folds.users.len() <= MAX_USERS + 1);
    }
}
