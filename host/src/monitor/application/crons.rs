//! The application's crons: functions of its own that this host calls when they are due.
//!
//! Crons are kept in memory. When this host starts again, the configured crons are there, but those that were added while it ran are not.
//!
//! | a turn comes | what is done |
//! |---|---|
//! | while the action of an earlier turn still runs | it is skipped and counted |
//! | while the server is not ready | it is skipped and counted; an event says so, once a cron until it is fired again |
//! | in a time that the clock, set forward, has left out, or in which the machine slept | it is skipped and counted |
//! | again, because the clock was set back by an hour or less | nothing: it was fired |
//! | again, because the clock was set back by more | it is fired again, because the clock was wrong before |
//!
//! A clock that was set is noticed by comparing it with one that only counts, at least every ten seconds.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Local, TimeDelta};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Reach;
use crate::cron::Schedule;
use crate::failure::{Failure, code};
use crate::journal::{Event, Journal};
use crate::util::lasting;
use crate::wire::{raw, shown};

/// The crons that one application may have.
pub const MAX_CRONS: usize = 256;
/// An action that has not answered after this time has failed. Its next turn is then no longer skipped.
pub(super) const DEADLINE: Duration = Duration::from_secs(600);
/// The longest sleep, so that a changed clock or a machine that was asleep is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// By how much the clock may differ from the one that counts. A larger difference is a clock that was set; smaller ones are how clocks are kept right.
const TOLERANCE: TimeDelta = TimeDelta::seconds(1);
/// If the clock is set back by at most this, turns that were fired are not fired again.
const LITTLE_BACK: TimeDelta = TimeDelta::hours(1);
/// The kind of the event that a cron is not fired.
const NOT_FIRED: &str = "cron-not-fired";
/// The longest name of an action, bytes.
const MAX_ACTION: usize = 256;

/// The crons of an application, and the task that fires them.
pub(super) struct Crons {
    task: Arc<CronTask>,
    stop: CancellationToken,
    _stop: DropGuard,
}

/// The state of the task that fires the crons.
struct CronTask {
    /// The server, for the log.
    id: String,
    reach: Arc<dyn Reach>,
    table: Mutex<Table>,
    changed: Notify,
    clock: Clock,
    /// Absent if the server is always ready.
    readiness: OnceLock<Readiness>,
}

/// Tells the time of the day.
type Clock = Box<dyn Fn() -> DateTime<Local> + Send + Sync>;

/// Whether the server is ready now, and where it is written down that crons were not fired.
struct Readiness {
    is_ready: Box<dyn Fn() -> bool + Send + Sync>,
    journal: Journal,
}

/// A moment by both clocks.
struct Seen {
    wall: DateTime<Local>,
    counted: Instant,
}

impl Seen {
    fn now(clock: &Clock) -> Self {
        Seen { wall: clock(), counted: Instant::now() }
    }

    /// By how much the clock was set forward since `earlier`; negative if it was set back.
    fn set_since(&self, earlier: &Seen) -> Option<TimeDelta> {
        let counted = TimeDelta::from_std(self.counted - earlier.counted).unwrap_or(TimeDelta::MAX);
        let set = (self.wall - earlier.wall).checked_sub(&counted)?;
        (set.abs() > TOLERANCE).then_some(set)
    }
}

#[derive(Default)]
struct Table {
    /// By id. A cron that replaces another gets a new number, because the answer to the old one's action must not be counted for the new one.
    crons: BTreeMap<String, Cron>,
    /// Whether the task runs. The first cron starts it.
    followed: bool,
    last: u64,
}

struct Cron {
    /// Tells it from earlier crons with its id.
    number: u64,
    schedule: Schedule,
    time: String,
    action: String,
    /// The cron as it was given: the argument of its action.
    object: Box<RawValue>,
    next: Option<DateTime<Local>>,
    /// The turn that was fired last.
    last: Option<DateTime<Local>>,
    /// Whether it was said that it is not fired, because the server is not ready.
    held: bool,
    running: bool,
    fired: u64,
    skipped: u64,
    failed: u64,
    last_error: Option<String>,
}

impl Crons {
    pub(super) fn new(id: &str, reach: Arc<dyn Reach>) -> Self {
        Self::by_clock(id, reach, Box::new(Local::now))
    }

    /// As [`Crons::new`], by a clock that may be set.
    fn by_clock(id: &str, reach: Arc<dyn Reach>, clock: Clock) -> Self {
        let (table, changed, readiness) = (Mutex::default(), Notify::new(), OnceLock::new());
        let task = CronTask { id: id.to_owned(), reach, table, changed, clock, readiness };
        let stop = CancellationToken::new();
        Crons { task: Arc::new(task), _stop: stop.clone().drop_guard(), stop }
    }

    /// From now on crons are fired only while `is_ready` says so. `journal` is told of those that are not. Only the first call counts.
    pub(super) fn only_while(&self, is_ready: impl Fn() -> bool + Send + Sync + 'static, journal: Journal) {
        let _ = self.task.readiness.set(Readiness { is_ready: Box::new(is_ready), journal });
    }

    /// Adds crons, or replaces those of the same id. If one of them is refused, none is added.
    pub(super) fn add(&self, objects: Vec<Map<String, Value>>) -> Result<(), Failure> {
        let now = (self.task.clock)();
        let mut new = BTreeMap::new();
        for object in objects {
            let (id, cron) = Cron::read(object, &now)?;
            if new.contains_key(&id) {
                return Err(bad(format!("the cron `{}` is given twice", shown(&id))));
            }
            new.insert(id, cron);
        }
        let mut table = self.task.table.lock();
        let added = new.keys().filter(|id| !table.crons.contains_key(*id)).count();
        if table.crons.len() + added > MAX_CRONS {
            let what = format!("an application has at most {MAX_CRONS} crons; there are {} already", table.crons.len());
            return Err(Failure::new(code::BUSY, what));
        }
        for (id, mut cron) in new {
            table.last += 1;
            cron.number = table.last;
            tracing::info!(server = self.task.id, cron = %shown(&id), time = cron.time, action = cron.action, "a cron was added");
            table.crons.insert(id, cron);
        }
        if !table.followed && !table.crons.is_empty() {
            table.followed = true;
            let task = self.task.clone();
            let following = lasting::lasting("crons", move || follow(task.clone()));
            tokio::spawn(self.stop.clone().run_until_cancelled_owned(following));
        }
        drop(table);
        self.task.changed.notify_one();
        Ok(())
    }

    /// Removes crons and returns the ids of those that were there.
    pub(super) fn remove(&self, ids: Vec<String>) -> Vec<String> {
        let mut table = self.task.table.lock();
        let there: Vec<String> = ids.into_iter().filter(|id| table.crons.remove(id).is_some()).collect();
        if !there.is_empty() {
            tracing::info!(server = self.task.id, crons = ?there, "crons were removed");
        }
        there
    }

    /// The crons with their figures, in the order of their ids.
    pub(super) fn list(&self) -> Vec<Value> {
        let table = self.task.table.lock();
        let show = |(id, cron): (&String, &Cron)| {
            let mut shown = json!({
                "id": id, "time": cron.time, "action": cron.action,
                "next": cron.next.map(|next| next.timestamp_millis()),
                "fired": cron.fired, "skipped": cron.skipped, "failed": cron.failed,
            });
            if let Some(error) = &cron.last_error {
                shown["lastError"] = error.as_str().into();
            }
            shown
        };
        table.crons.iter().map(show).collect()
    }
}

fn bad(what: impl Into<String>) -> Failure {
    Failure::new(code::BAD_MESSAGE, what)
}

/// A cron's id: a text, or a number as in pomelo.
fn id_of(object: &Map<String, Value>) -> Option<String> {
    match object.get("id")? {
        Value::String(id) if !id.is_empty() && id.len() <= crate::wire::MAX_ID => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

impl Cron {
    /// Counts a turn that is not fired.
    fn skip(&mut self) {
        self.skipped += 1;
        metrics::counter!("pomelo_crons_total", "outcome" => "skipped").increment(1);
    }

    fn read(object: Map<String, Value>, now: &DateTime<Local>) -> Result<(String, Cron), Failure> {
        let id = id_of(&object).ok_or_else(|| bad("a cron without an `id`, a number or a text"))?;
        let text = |name: &str| {
            let text = object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            text.map(str::to_owned).ok_or_else(|| bad(format!("the cron `{}` has no `{name}`", shown(&id))))
        };
        let (time, action) = (text("time")?, text("action")?);
        if action.len() > MAX_ACTION {
            return Err(bad(format!("the action of the cron `{}` is longer than {MAX_ACTION} bytes", shown(&id))));
        }
        let schedule = Schedule::parse(&time).map_err(|error| bad(format!("the cron `{}`: {error}", shown(&id))))?;
        let next = schedule.next(now);
        let object = raw(&object);
        let cron = Cron {
            number: 0,
            schedule,
            time,
            action,
            object,
            next,
            last: None,
            held: false,
            running: false,
            fired: 0,
            skipped: 0,
            failed: 0,
            last_error: None,
        };
        Ok((id, cron))
    }
}

/// Fires the crons that are due, and sleeps until the next one is.
async fn follow(task: Arc<CronTask>) {
    let mut seen = Seen::now(&task.clock);
    loop {
        let now = Seen::now(&task.clock);
        if let Some(set) = now.set_since(&seen) {
            task.clock_was_set(&now.wall, set);
        }
        seen = now;
        let (due, next) = task.due(&seen.wall);
        for (id, number, action, object) in due {
            tracing::debug!(server = task.id, cron = %shown(&id), action, "due");
            let answer = task.reach.call(&action, &object, DEADLINE);
            let task = task.clone();
            tokio::spawn(async move { task.answered(&id, number, answer.await.err()) });
        }
        let wait = next.map_or(LONGEST_SLEEP, |next| (next - seen.wall).to_std().unwrap_or_default());
        tokio::select! {
            () = tokio::time::sleep(wait.min(LONGEST_SLEEP)) => {}
            () = task.changed.notified() => {}
        }
    }
}

/// A turn to be fired: the cron's id, its number, its action, and what the action is given.
type Turn = (String, u64, String, Box<RawValue>);

impl CronTask {
    /// The turns that are due, and when the next one is.
    fn due(&self, now: &DateTime<Local>) -> (Vec<Turn>, Option<DateTime<Local>>) {
        let readiness = self.readiness.get().filter(|readiness| !(readiness.is_ready)());
        let mut due = Vec::new();
        let mut table = self.table.lock();
        for (id, cron) in &mut table.crons {
            let Some(turn) = cron.next.filter(|next| next <= now) else { continue };
            cron.next = cron.schedule.next(now);
            if let Some(not_ready) = readiness {
                self.hold(id, cron, &not_ready.journal);
                continue;
            }
            if cron.running {
                cron.skip();
                tracing::warn!(server = self.id, cron = %shown(id), "a turn was skipped: its action still runs");
                continue;
            }
            (cron.running, cron.held, cron.last, cron.fired) = (true, false, Some(turn), cron.fired + 1);
            due.push((id.clone(), cron.number, cron.action.clone(), cron.object.clone()));
        }
        (due, table.crons.values().filter_map(|cron| cron.next).min())
    }

    /// Skips a turn, because the server is not ready. It is said once until the cron is fired again, because it may be due every second.
    fn hold(&self, id: &str, cron: &mut Cron, journal: &Journal) {
        cron.skip();
        if std::mem::replace(&mut cron.held, true) {
            return;
        }
        let id = shown(id);
        tracing::warn!(server = self.id, cron = %id, action = cron.action, "the cron is not fired: the server is not ready");
        let what = format!("the cron `{id}` ({}) is not fired while the server is not ready", shown(&cron.action));
        journal.record_some(Event::new(NOT_FIRED, what).server(&self.id));
    }

    /// Finds the next turns anew.
    fn clock_was_set(&self, now: &DateTime<Local>, set: TimeDelta) {
        let mut left_out = 0;
        let mut table = self.table.lock();
        for cron in table.crons.values_mut() {
            if cron.next.is_some_and(|next| next <= *now) {
                cron.skip();
                left_out += 1;
            }
            let fired = cron.last.filter(|last| last > now && *last - now <= LITTLE_BACK);
            cron.next = cron.schedule.next(&fired.unwrap_or(*now));
        }
        let (way, seconds) = (if set < TimeDelta::zero() { "back" } else { "forward" }, set.num_seconds().abs());
        tracing::warn!(
            server = self.id,
            seconds,
            left_out,
            "the clock was set {way}; the next times of crons were found anew"
        );
    }

    fn answered(&self, id: &str, number: u64, failure: Option<Failure>) {
        let outcome = if failure.is_some() { "failed" } else { "done" };
        metrics::counter!("pomelo_crons_total", "outcome" => outcome).increment(1);
        let mut table = self.table.lock();
        let Some(cron) = table.crons.get_mut(id).filter(|cron| cron.number == number) else { return };
        cron.running = false;
        let error = failure.map(|failure| failure.to_string());
        cron.failed += u64::from(error.is_some());
        // The same error is logged once, because a cron may fail every second.
        if let Some(error) = error.as_deref().filter(|error| cron.last_error.as_deref() != Some(error)) {
            tracing::warn!(server = self.id, cron = %shown(id), action = cron.action, error, "a cron failed");
        }
        cron.last_error = error;
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::super::functions::Runner;
    use super::super::{Functions, Nobody};
    use super::*;

    fn crons() -> Crons {
        Crons::new("chat-1", Arc::new(Nobody))
    }

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[tokio::test]
    async fn c6_all_crons_are_checked_before_any_is_added() {
        let crons = crons();
        let good = object(json!({"id": 1, "time": "0 30 10 * * *", "action": "chatCron.send"}));
        let check = |bad: Value, part: &str| {
            let failure = crons.add(vec![good.clone(), object(bad)]).unwrap_err();
            assert_eq!((failure.code.as_ref(), failure.message.contains(part)), (code::BAD_MESSAGE, true), "{failure}");
            assert_eq!(crons.list(), Vec::<Value>::new());
        };
        check(json!({"time": "* * * * * *", "action": "a"}), "without an `id`");
        check(json!({"id": "2", "action": "a"}), "the cron `2` has no `time`");
        check(json!({"id": "2", "time": "* * * * * *", "action": ""}), "has no `action`");
        check(json!({"id": "2", "time": "* * * * *", "action": "a"}), "the cron `2`: the time `* * * * *`");
        check(json!({"id": "1", "time": "* * * * * *", "action": "a"}), "given twice");
        crons.add(vec![good]).unwrap();
        let listed = crons.list();
        assert_eq!((&listed[0]["id"], &listed[0]["action"]), (&json!("1"), &json!("chatCron.send")));
        assert!(listed[0]["next"].as_i64().unwrap() > Local::now().timestamp_millis());
        assert_eq!(crons.remove(vec!["1".into(), "2".into()]), ["1"]);
    }

    #[tokio::test]
    async fn c6_a_turn_whose_action_still_runs_is_skipped_and_counted() {
        let (sent, mut fired) = tokio::sync::mpsc::unbounded_channel();
        let go = Arc::new(Notify::new());
        let going = go.clone();
        let functions = Functions::new().on("slow", move |cron: Value| {
            let (sent, going) = (sent.clone(), going.clone());
            async move {
                let _ = sent.send(cron);
                going.notified().await;
                Ok(())
            }
        });
        let crons = Crons::new("chat-1", Arc::new(Runner::new("chat-1", functions)));
        let cron = json!({"id": 1, "time": "* * * * * *", "action": "slow", "more": true});
        crons.add(vec![object(cron.clone())]).unwrap();
        assert_eq!(fired.recv().await, Some(cron), "the action is given the cron as it came");
        let until = async |member: &str| {
            let seen = async {
                while crons.list()[0][member] == 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), seen).await.expect(member);
        };
        until("skipped").await;
        assert_eq!((fired.try_recv().is_err(), &crons.list()[0]["fired"]), (true, &json!(1)));
        go.notify_one();
        assert!(fired.recv().await.is_some(), "it has its next turn when it has answered");
    }

    #[tokio::test]
    async fn c6_there_are_only_so_many() {
        let crons = crons();
        let many = |ids: std::ops::Range<usize>| {
            ids.map(|id| object(json!({"id": id, "time": "0 0 0 1 1 *", "action": "a"}))).collect::<Vec<_>>()
        };
        crons.add(many(0..MAX_CRONS)).unwrap();
        assert_eq!(crons.add(many(MAX_CRONS..MAX_CRONS + 1)).unwrap_err().code, code::BUSY);
        crons.add(many(0..1)).unwrap();
        assert_eq!(crons.list().len(), MAX_CRONS);
    }

    /// Crons whose actions are told of, by a clock that counts as tokio's does and is off by what is set.
    struct Clocked {
        crons: Crons,
        off: Arc<Mutex<TimeDelta>>,
        fired: tokio::sync::mpsc::UnboundedReceiver<DateTime<Local>>,
    }

    /// It is a minute after noon on a day without a change of summer time.
    fn clocked(time: &str) -> Clocked {
        let off = Arc::new(Mutex::new(TimeDelta::zero()));
        let (noon, begun) = (Local.with_ymd_and_hms(2030, 5, 1, 12, 1, 0).unwrap(), Instant::now());
        let read = off.clone();
        let clock = Arc::new(move || noon + TimeDelta::from_std(begun.elapsed()).unwrap() + *read.lock());
        let (sent, fired) = tokio::sync::mpsc::unbounded_channel();
        let telling = clock.clone();
        let functions = Functions::new().on("tell", move |_: Value| {
            let _ = sent.send(telling());
            async { Ok(()) }
        });
        let runner = Arc::new(Runner::new("chat-1", functions));
        let crons = Crons::by_clock("chat-1", runner, Box::new(move || clock()));
        crons.add(vec![object(json!({"id": 1, "time": time, "action": "tell"}))]).unwrap();
        Clocked { crons, off, fired }
    }

    impl Clocked {
        /// The turns of the next `seconds`, as minutes of the day and seconds, by the clock.
        async fn turns(&mut self, seconds: u64) -> Vec<String> {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let told = std::iter::from_fn(|| self.fired.try_recv().ok());
            told.map(|time| time.format("%H:%M:%S").to_string()).collect()
        }

        fn set(&self, by: TimeDelta) {
            *self.off.lock() += by;
        }

        fn skipped(&self) -> Value {
            self.crons.list()[0]["skipped"].clone()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_clock_set_forward_leaves_out_is_skipped() {
        let mut clocked = clocked("0 * * * * *");
        assert_eq!(clocked.turns(90).await, ["12:02:00"]);
        clocked.set(TimeDelta::minutes(30));
        // It is 12:32:30, and the turn of 12:03 was waited for.
        assert_eq!(clocked.turns(60).await, ["12:33:00"]);
        assert_eq!(clocked.skipped(), 1);
        clocked.set(TimeDelta::days(10_000));
        assert_eq!(clocked.turns(60).await, ["12:34:00"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_not_fired_twice_where_the_clock_is_set_back_a_little() {
        let mut clocked = clocked("0 * * * * *");
        assert_eq!(clocked.turns(130).await, ["12:02:00", "12:03:00"]);
        clocked.set(TimeDelta::seconds(-90));
        // It is 12:01:40.
        assert_eq!(clocked.turns(120).await, [] as [String; 0], "12:02 and 12:03 were fired");
        assert_eq!(clocked.turns(60).await, ["12:04:00"]);
        clocked.set(TimeDelta::milliseconds(-400));
        assert_eq!(clocked.turns(60).await, ["12:05:00"], "a clock that is kept right changes nothing");
        assert_eq!(clocked.skipped(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_far_ahead_does_not_hold_crons_back() {
        let mut clocked = clocked("0 * * * * *");
        assert_eq!(clocked.turns(70).await, ["12:02:00"]);
        clocked.set(TimeDelta::days(-365));
        assert_eq!(clocked.turns(60).await, ["12:03:00"]);
        clocked.set(TimeDelta::hours(-2));
        assert_eq!(clocked.turns(60).await, ["10:04:00"]);
        assert_eq!(clocked.skipped(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn crons_of_a_server_that_is_not_ready_are_not_fired_and_that_is_said_once() {
        let mut clocked = clocked("0 * * * * *");
        let (ready, journal) = (tokio::sync::watch::Sender::new(false), Journal::new(10));
        let is_ready = ready.subscribe();
        clocked.crons.only_while(move || *is_ready.borrow(), journal.clone());
        assert_eq!(clocked.turns(150).await, [] as [String; 0]);
        assert_eq!(clocked.skipped(), 2);
        let said = journal.page(0).events;
        assert_eq!((said.len(), said[0].kind.as_ref(), said[0].server.as_deref()), (1, NOT_FIRED, Some("chat-1")));
        assert!(said[0].message.contains("the cron `1` (tell) is not fired"), "{}", said[0].message);
        ready.send_replace(true);
        assert_eq!(clocked.turns(60).await, ["12:04:00"]);
        ready.send_replace(false);
        assert_eq!(clocked.turns(60).await, [] as [String; 0]);
        assert_eq!(journal.page(0).events.len(), 2, "once an outage");
    }
}
