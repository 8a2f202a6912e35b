//! The course of the checks of a program that is fake, with paused time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::patient::Patient;
use super::*;
use crate::config::{Health, HealthCheck, Then};
use crate::failure::{Failure, code};
use crate::journal::{Journal, kind};
use crate::monitor::supervised::drain::Draining;
use crate::supervise::{DownReason, Phase, Status};

const SECOND: Duration = Duration::from_secs(1);

/// What a test says of its program, and what was done with it.
#[derive(Default)]
struct Fake {
    /// Why it is not well.
    ill: Mutex<Option<String>>,
    /// How long a check takes.
    takes: Mutex<Duration>,
    memory: AtomicU64,
    checks: AtomicUsize,
    /// Checks that are under way, and the most that were.
    under_way: AtomicUsize,
    most: AtomicUsize,
    /// How often an order is refused as `busy`.
    busy: AtomicUsize,
    restarts: Mutex<Vec<(u32, String)>>,
    profiles: Mutex<Vec<(u32, Duration)>>,
}

impl Patient for Arc<Fake> {
    fn name(&self) -> (&'static str, String) {
        ("http", "it answers".into())
    }

    async fn check(&self, _: Duration) -> Result<(), String> {
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(under_way, Ordering::SeqCst);
        let takes = *self.takes.lock();
        tokio::time::sleep(takes).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        self.checks.fetch_add(1, Ordering::SeqCst);
        self.ill.lock().clone().map_or(Ok(()), Err)
    }

    async fn memory(&self, _: u32) -> Option<u64> {
        Some(self.memory.load(Ordering::SeqCst))
    }

    async fn last_lines(&self) -> Vec<String> {
        vec!["last words".into()]
    }

    async fn profile(&self, pid: u32, time: Duration) -> Result<PathBuf, Failure> {
        self.profiles.lock().push((pid, time));
        Ok("profiles/1.json".into())
    }

    async fn restart(&self, pid: u32, why: String) -> Result<(), Failure> {
        if self.busy.load(Ordering::SeqCst) > 0 {
            self.busy.fetch_sub(1, Ordering::SeqCst);
            return Err(Failure::new(code::BUSY, "later"));
        }
        self.restarts.lock().push((pid, why));
        Ok(())
    }
}

/// A course of checks of a program that is fake.
struct Ward {
    fake: Arc<Fake>,
    status: watch::Sender<Status>,
    drain: watch::Sender<Option<Draining>>,
    verdict: watch::Receiver<Verdict>,
    journal: Journal,
    course: JoinHandle<()>,
}

fn status(phase: Phase) -> Status {
    Status { phase, restarts: 0, last_exit: None, since: None }
}

fn health(then: Then) -> Health {
    Health {
        check: Some(HealthCheck::Control("health".into())),
        interval: SECOND,
        timeout: SECOND,
        failures: 3,
        then,
        max_memory: None,
        memory_then: then,
        profile: None,
    }
}

impl Ward {
    /// Process 7 runs.
    fn of(health: Health) -> Ward {
        let (status, seen) = watch::channel(status(Phase::Running(7)));
        let (drain, drains) = watch::channel(None);
        let (verdict, fake, journal) = (Arc::new(watch::Sender::default()), Arc::<Fake>::default(), Journal::new(100));
        let course = Course {
            id: "chat-1".into(),
            health,
            patient: fake.clone(),
            status: seen,
            drain: drains,
            verdict: verdict.clone(),
            journal: journal.clone(),
        };
        let course = tokio::spawn(async move { course.run().await });
        Ward { fake, status, drain, verdict: verdict.subscribe(), journal, course }
    }

    fn is(&self, phase: Phase) {
        self.status.send_replace(status(phase));
    }

    fn ill(&self, why: &str) {
        *self.fake.ill.lock() = Some(why.to_owned());
    }

    fn well(&self) {
        *self.fake.ill.lock() = None;
    }

    /// Waits for so many more checks.
    async fn checks(&self, more: usize) {
        let wanted = self.fake.checks.load(Ordering::SeqCst) + more;
        while self.fake.checks.load(Ordering::SeqCst) < wanted {
            tokio::time::sleep(SECOND / 10).await;
        }
    }

    async fn verdict(&mut self, wanted: impl FnMut(&Verdict) -> bool) -> Verdict {
        let found = tokio::time::timeout(SECOND * 3600, self.verdict.wait_for(wanted)).await;
        found.expect("the verdict comes").unwrap().clone()
    }

    /// Kind and sentence of all events.
    fn events(&self) -> Vec<(String, String)> {
        let events = self.journal.page(0).events;
        events.iter().map(|event| (event.kind.to_string(), event.message.clone())).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_make_unhealthy_and_one_success_makes_well() {
    let mut ward = Ward::of(health(Then::Unready));
    ward.verdict(Verdict::is_healthy).await;
    for _ in 0..3 {
        ward.ill("no answer");
        ward.checks(2).await;
        ward.well();
        ward.checks(1).await;
    }
    assert!(ward.verdict.borrow().is_healthy(), "never three in a row");
    ward.ill("no answer");
    let verdict = ward.verdict(|verdict| !verdict.is_healthy()).await;
    assert_eq!(verdict.hides(Some(7)), Some("no answer, 3 times in a row"));
    assert_eq!((verdict.hides(Some(8)), verdict.hides(None)), (None, None), "it is about one process");
    // Another reason is no news.
    ward.ill("still no answer");
    ward.checks(5).await;
    assert_eq!(*ward.verdict.borrow(), verdict);
    ward.well();
    ward.verdict(Verdict::is_healthy).await;
    let said = |kind: &str, message: &str| (kind.to_owned(), message.to_owned());
    let hidden =
        "the program is unhealthy: no answer, 3 times in a row; others do not see its server until it is healthy again";
    let expected = [said(kind::UNHEALTHY, hidden), said(kind::HEALTHY, "the program is healthy again: it answers")];
    assert_eq!(ward.events(), expected);
    assert!(ward.fake.restarts.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_report_hides_nothing_and_ends_nothing() {
    let mut ward = Ward::of(Health { failures: 1, ..health(Then::Report) });
    ward.ill("no answer");
    let verdict = ward.verdict(|verdict| !verdict.problems.is_empty()).await;
    assert_eq!((verdict.hides(Some(7)), verdict.is_healthy()), (None, false));
    assert_eq!(verdict.whys(), ["the program is unhealthy: no answer"]);
    ward.checks(20).await;
    assert_eq!(ward.events().len(), 1, "once");
    assert!(ward.fake.restarts.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_last_lines_and_a_profile_and_is_ordered_once() {
    let mut ward = Ward::of(Health { failures: 1, profile: Some(SECOND * 5), ..health(Then::Restart) });
    ward.fake.busy.store(2, Ordering::SeqCst);
    ward.ill("no answer");
    let verdict = ward.verdict(|verdict| !verdict.problems.is_empty()).await;
    assert_eq!(verdict.hides(Some(7)), Some("no answer"), "others do not see it while its profile is taken");
    while ward.fake.restarts.lock().is_empty() {
        tokio::time::sleep(SECOND).await;
    }
    // The process takes its time to end.
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(*ward.fake.restarts.lock(), [(7, "no answer".to_owned())]);
    assert_eq!(*ward.fake.profiles.lock(), [(7, SECOND * 5)]);
    let events = ward.journal.page(0).events;
    let last = events.last().unwrap();
    assert_eq!((&*last.kind, events.len()), (kind::HEALTH_RESTART, 2));
    let said = "the program is ended, because no answer; what it did for 5 s is in profiles/1.json";
    assert_eq!((&*last.message, &*last.lines), (said, &["last words".to_owned()][..]));
    // The next process begins anew.
    ward.well();
    ward.is(Phase::Stopping(7));
    ward.verdict(|verdict| verdict.pid.is_none() && verdict.problems.is_empty()).await;
    ward.is(Phase::Running(8));
    ward.verdict(|verdict| verdict.pid == Some(8) && verdict.is_healthy()).await;
    ward.checks(5).await;
    assert_eq!(ward.fake.restarts.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_checked_while_it_runs_and_does_not_drain() {
    let mut ward = Ward::of(Health { failures: 2, ..health(Then::Unready) });
    ward.checks(1).await;
    for phase in [Phase::Starting(Some(7)), Phase::Stopping(7), Phase::Exited(DownReason::Stopped)] {
        ward.is(phase);
        // Who has looked at the state once has ended the check that was under way.
        ward.verdict(|verdict| verdict.pid.is_none()).await;
        let before = ward.fake.checks.load(Ordering::SeqCst);
        tokio::time::sleep(SECOND * 60).await;
        assert_eq!(ward.fake.checks.load(Ordering::SeqCst), before);
        ward.is(Phase::Running(7));
        ward.checks(1).await;
    }
    // One failure before another process is none of that process.
    ward.ill("no answer");
    ward.checks(1).await;
    ward.is(Phase::Running(8));
    ward.verdict(|verdict| verdict.pid == Some(8)).await;
    ward.checks(1).await;
    assert!(ward.verdict.borrow().is_healthy());
    ward.verdict(|verdict| verdict.hides(Some(8)).is_some()).await;
    // A drain leaves what was found.
    ward.drain.send_replace(Some(Draining::of(8)));
    tokio::time::sleep(SECOND).await;
    let before = ward.fake.checks.load(Ordering::SeqCst);
    ward.well();
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(ward.fake.checks.load(Ordering::SeqCst), before);
    assert!(ward.verdict.borrow().hides(Some(8)).is_some());
    ward.drain.send_replace(None);
    ward.verdict(Verdict::is_healthy).await;
    let Ward { status, course, .. } = ward;
    drop(status);
    course.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn slow_checks_never_run_beside_each_other() {
    let ward = Ward::of(health(Then::Report));
    *ward.fake.takes.lock() = SECOND * 7;
    ward.checks(10).await;
    assert_eq!(ward.fake.most.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_beside_the_check_or_without_one() {
    let health = Health {
        check: None,
        max_memory: Some(512 << 20),
        memory_then: Then::Restart,
        failures: 2,
        ..health(Then::Report)
    };
    let mut ward = Ward::of(health.clone());
    ward.fake.memory.store(512 << 20, Ordering::SeqCst);
    tokio::time::sleep(SECOND * 10).await;
    assert!(ward.verdict.borrow().is_healthy(), "as much as it may have");
    ward.fake.memory.store((512 << 20) + 1, Ordering::SeqCst);
    ward.verdict(|verdict| !verdict.problems.is_empty()).await;
    let why = "its memory is 513 MiB, more than `max_memory_mib` = 512, 2 times in a row";
    while ward.fake.restarts.lock().is_empty() {
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(*ward.fake.restarts.lock(), [(7, why.to_owned())]);
    assert_eq!(ward.fake.checks.load(Ordering::SeqCst), 0);

    let mut both = Ward::of(Health { check: self::health(Then::Report).check, memory_then: Then::Unready, ..health });
    both.ill("no answer");
    both.fake.memory.store(1 << 30, Ordering::SeqCst);
    let verdict = both.verdict(|verdict| verdict.problems.len() == 2).await;
    assert!(verdict.hides(Some(7)).unwrap().starts_with("its memory is 1024 MiB"), "the other only reports");
    both.fake.memory.store(0, Ordering::SeqCst);
    both.verdict(|verdict| verdict.problems.len() == 1 && verdict.hides(Some(7)).is_none()).await;
}
