//! The application's crons: functions of its own that this host calls when they are due.
//!
//! Crons are kept in memory. When this host starts again, the configured crons are there, but those that were added while it ran are not. A turn is
//! skipped and counted while the action of an earlier turn still runs. Turns that passed while the machine slept are not made up for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Local};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Reach;
use crate::cron::Schedule;
use crate::failure::{Failure, code};
use crate::wire::{raw, shown};

/// The crons that one application may have.
pub const MAX_CRONS: usize = 256;
/// An action that has not answered after this time has failed. Its next turn is then no longer skipped.
pub(super) const DEADLINE: Duration = Duration::from_secs(600);
/// The longest sleep, so that a changed clock or a machine that was asleep is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
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
    running: bool,
    fired: u64,
    skipped: u64,
    failed: u64,
    last_error: Option<String>,
}

impl Crons {
    pub(super) fn new(id: &str, reach: Arc<dyn Reach>) -> Self {
        let task = CronTask { id: id.to_owned(), reach, table: Mutex::default(), changed: Notify::new() };
        let stop = CancellationToken::new();
        Crons { task: Arc::new(task), _stop: stop.clone().drop_guard(), stop }
    }

    /// Adds crons, or replaces those of the same id. If one of them is refused, none is added.
    pub(super) fn add(&self, objects: Vec<Map<String, Value>>) -> Result<(), Failure> {
        let now = Local::now();
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
            tokio::spawn(self.stop.clone().run_until_cancelled_owned(follow(self.task.clone())));
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
    loop {
        let now = Local::now();
        let mut due = Vec::new();
        let wait = {
            let mut table = task.table.lock();
            for (id, cron) in &mut table.crons {
                if cron.next.is_none_or(|next| next > now) {
                    continue;
                }
                cron.next = cron.schedule.next(&now);
                if cron.running {
                    cron.skipped += 1;
                    metrics::counter!("pomelo_crons_total", "outcome" => "skipped").increment(1);
                    tracing::warn!(server = task.id, cron = %shown(id), "a turn was skipped: its action still runs");
                    continue;
                }
                (cron.running, cron.fired) = (true, cron.fired + 1);
                due.push((id.clone(), cron.number, cron.action.clone(), cron.object.clone()));
            }
            let next = table.crons.values().filter_map(|cron| cron.next).min();
            next.map_or(LONGEST_SLEEP, |next| (next - now).to_std().unwrap_or_default())
        };
        for (id, number, action, object) in due {
            tracing::debug!(server = task.id, cron = %shown(&id), action, "due");
            let answer = task.reach.call(&action, &object, DEADLINE);
            let task = task.clone();
            tokio::spawn(async move { task.answered(&id, number, answer.await.err()) });
        }
        tokio::select! {
            () = tokio::time::sleep(wait.min(LONGEST_SLEEP)) => {}
            () = task.changed.notified() => {}
        }
    }
}

impl CronTask {
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
}
