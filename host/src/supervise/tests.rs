//! Real programs under supervision. The tests wait for conditions, and none asserts how long something takes.

use std::path::Path;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::failure::{Failure, code};

/// No condition of a healthy run takes this long.
pub(super) const LONG: Duration = Duration::from_secs(30);

pub(super) fn policy(restart: Restart) -> Policy {
    Policy {
        restart,
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(40),
        healthy_after: Duration::from_secs(60),
        ready_delay: Duration::ZERO,
        stop_deadline: LONG,
    }
}

pub(super) fn shell(script: &str, policy: Policy) -> (Spec, mpsc::Receiver<Line>) {
    let (sink, lines) = mpsc::channel(64);
    let spec = Spec {
        id: "x".into(),
        command: ["sh", "-c", script].map(str::to_owned).into(),
        cwd: None,
        env: BTreeMap::new(),
        env_remove: Vec::new(),
        policy,
        final_codes: Vec::new(),
        output: Output::Lines(sink),
        input: Input::Empty,
        cpus: Vec::new(),
        leftovers: Vec::new(),
        starts: Starts::unlimited(),
    };
    (spec, lines)
}

pub(super) fn launch(spec: Spec) -> Supervisor {
    Supervisor::launch(spec, Guard::new().into())
}

pub(super) async fn line(lines: &mut mpsc::Receiver<Line>) -> String {
    timeout(LONG, lines.recv()).await.expect("a line comes").expect("the program writes").text
}

pub(super) async fn until(supervisor: &Supervisor, wanted: impl FnMut(&Status) -> bool) -> Status {
    let mut status = supervisor.status();
    timeout(LONG, status.wait_for(wanted)).await.expect("the state is reached").expect("the task lives").clone()
}

pub(super) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let held = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, held).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Whether a process exists and is not a zombie.
pub(super) fn runs(pid: &str) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("status")).unwrap_or_default();
    status.contains("State:") && !status.contains("State:\tZ") && !status.contains("State:\tX")
}

#[tokio::test]
async fn a_program_runs_and_is_stopped_for_good() {
    let (spec, mut lines) =
        shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done", policy(Restart::Always));
    let supervisor = launch(spec);
    assert_eq!(line(&mut lines).await, "up");
    let pid = until(&supervisor, |s| matches!(s.phase, Phase::Running(_))).await.pid().unwrap();
    assert!(runs(&pid.to_string()));
    assert_eq!(supervisor.start().await.unwrap_err().code, code::BUSY);
    supervisor.stop().await.unwrap();
    // The shell may tell of its `sleep` first.
    while line(&mut lines).await != "bye" {}
    let status = supervisor.status().borrow().clone();
    assert_eq!(
        (status.phase, status.last_exit.map(|e| e.how)),
        (Phase::Exited(DownReason::Stopped), Some(How::Code(0)))
    );
    assert!(!runs(&pid.to_string()));
    assert_eq!(supervisor.restart().await.unwrap_err().code, code::NOT_AVAILABLE);
    supervisor.stop().await.unwrap();
    let again = supervisor.start().await.unwrap();
    assert_ne!(again, pid);
    supervisor.kill().await.unwrap();
    assert_eq!(supervisor.status().borrow().phase, Phase::Exited(DownReason::Stopped));
}

#[tokio::test]
async fn a_program_that_dies_is_brought_back_and_its_last_words_are_kept() {
    let (spec, _lines) =
        shell("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $i >&2; done; exit 3", policy(Restart::Always));
    let supervisor = launch(spec);
    let status = until(&supervisor, |s| s.restarts >= 3 && s.last_exit.is_some()).await;
    let exit = status.last_exit.unwrap();
    assert_eq!((exit.how, exit.last_lines.len()), (How::Code(3), 10));
    assert_eq!(exit.last_lines.last().map(String::as_str), Some("12"));
    supervisor.stop().await.unwrap();
}

#[tokio::test]
async fn policies_decide_who_comes_back() {
    let check = async |restart, script: &str, back: bool| {
        let (spec, _lines) = shell(script, policy(restart));
        let supervisor = launch(spec);
        let status = until(&supervisor, |s| s.restarts > 0 || s.phase == Phase::Exited(DownReason::GivenUp)).await;
        assert_eq!(status.restarts > 0, back, "{restart:?} {script}");
    };
    check(Restart::Always, "exit 0", true).await;
    check(Restart::OnFailure, "exit 0", false).await;
    check(Restart::OnFailure, "exit 1", true).await;
    check(Restart::OnFailure, "kill -9 $$", true).await;
    check(Restart::Never, "exit 1", false).await;
    let (spec, _lines) = shell("exit 6", policy(Restart::Always));
    let supervisor = launch(Spec { final_codes: vec![5, 6], ..spec });
    assert_eq!(until(&supervisor, |s| matches!(s.phase, Phase::Exited(_))).await.restarts, 0);
}

/// A program that never says that it is ready.
struct NeverReady;

impl Contact for NeverReady {
    fn starting(&self) {}

    fn ready(&self, _: u32) -> Option<BoxFuture<'static, ()>> {
        Some(std::future::pending().boxed())
    }

    fn ready_timeout(&self) -> Duration {
        Duration::from_millis(50)
    }

    fn awaited(&self) -> String {
        "it did not say that it is ready".into()
    }

    fn ask_to_end(&self, _: Duration) -> Option<BoxFuture<'static, Result<(), Failure>>> {
        None
    }
}

#[tokio::test]
async fn p_a_program_that_was_not_ready_in_time_has_failed_even_if_it_ends_well() {
    let mut short = policy(Restart::OnFailure);
    // Shorter than the deadline for being ready, because waiting for that long does not make a program healthy.
    short.healthy_after = Duration::from_millis(1);
    let (spec, _lines) = shell("trap 'exit 0' TERM; while :; do sleep 0.01; done", short);
    let watcher: Watcher = Arc::new(|_: &Happened<'_>| {});
    let supervisor = Supervisor::launch_in_contact(spec, Guard::new().into(), Some(Arc::new(NeverReady)), watcher);
    let status = until(&supervisor, |s| s.restarts >= 2 || s.phase == Phase::Exited(DownReason::GivenUp)).await;
    assert!(status.restarts >= 2, "{:?}", status.phase);
    assert_eq!(status.last_exit.unwrap().why.as_deref(), Some("it did not say that it is ready for 50 ms"));
    supervisor.kill().await.unwrap();
}

#[tokio::test]
async fn a_program_that_is_not_well_has_failed_even_if_it_ends_well() {
    let graceful = "trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done";
    let running = |s: &Status| matches!(s.phase, Phase::Running(_));
    for (restart, back) in [(Restart::Always, true), (Restart::OnFailure, true), (Restart::Never, false)] {
        let slow = Policy { backoff_min: LONG * 100, backoff_max: LONG * 100, ..policy(restart) };
        let (spec, mut lines) = shell(graceful, slow);
        let supervisor = launch(spec);
        let pid = until(&supervisor, running).await.pid().unwrap();
        assert_eq!(line(&mut lines).await, "up", "it takes the signal");
        let other = supervisor.unhealthy(pid + 1, "no answer".into()).await.unwrap_err();
        assert_eq!((other.code.as_ref(), supervisor.status().borrow().pid()), (code::NOT_AVAILABLE, Some(pid)));
        supervisor.unhealthy(pid, "no answer".into()).await.unwrap();
        let down = |s: &Status| matches!(s.phase, Phase::BackingOff(_) | Phase::Exited(_));
        let status = until(&supervisor, down).await;
        assert_eq!(matches!(status.phase, Phase::BackingOff(_)), back, "{restart:?}");
        let exit = status.last_exit.unwrap();
        assert_eq!((exit.how, exit.why.as_deref()), (How::Code(0), Some("no answer")));
        // It is too late for more, and the state stays as it is.
        assert_eq!(supervisor.unhealthy(pid, "no answer".into()).await.unwrap_err().code, code::NOT_AVAILABLE);
        assert_eq!(supervisor.status().borrow().phase, status.phase);
        assert_ne!(supervisor.start().await.unwrap(), pid);
        supervisor.kill().await.unwrap();
        assert_eq!(supervisor.unhealthy(pid, "no answer".into()).await.unwrap_err().code, code::NOT_AVAILABLE);
    }
}

#[tokio::test]
async fn a_program_that_ran_well_for_long_waits_shortly_when_it_is_unwell() {
    let slow =
        |healthy_after| Policy { backoff_min: LONG, backoff_max: LONG * 100, healthy_after, ..policy(Restart::Always) };
    for (healthy_after, shortest) in [(Duration::ZERO, true), (LONG * 100, false)] {
        let (spec, _lines) = shell("exec sleep 1000", slow(healthy_after));
        let supervisor = launch(spec);
        let mut waits = Vec::new();
        for _ in 0..3 {
            let pid = until(&supervisor, |s| matches!(s.phase, Phase::Running(_))).await.pid().unwrap();
            supervisor.unhealthy(pid, "no answer".into()).await.unwrap();
            let status = until(&supervisor, |s| matches!(s.phase, Phase::BackingOff(_))).await;
            let Phase::BackingOff(wait) = status.phase else { panic!("it waits") };
            waits.push(wait);
            supervisor.start().await.unwrap();
        }
        assert_eq!(waits[2] <= LONG, shortest, "{waits:?}");
    }
}

#[tokio::test]
async fn a_program_that_is_ended_for_its_health_is_killed_in_the_end_and_a_stop_or_a_restart_overrules_it() {
    let deaf = "trap '' TERM; echo up; while :; do sleep 0.01; done";
    let (spec, mut lines) = shell(deaf, Policy { stop_deadline: Duration::from_millis(50), ..policy(Restart::Always) });
    let supervisor = launch(spec);
    let running = |s: &Status| matches!(s.phase, Phase::Running(_));
    let pid = until(&supervisor, running).await.pid().unwrap();
    assert_eq!(line(&mut lines).await, "up");
    supervisor.unhealthy(pid, "no answer".into()).await.unwrap();
    let status = until(&supervisor, |s| s.restarts > 0 && matches!(s.phase, Phase::Running(_))).await;
    assert_eq!(status.last_exit.unwrap().how, How::Signal(9));
    supervisor.stop().await.unwrap();

    let (spec, mut lines) = shell(deaf, policy(Restart::Always));
    let supervisor = launch(spec);
    let pid = until(&supervisor, running).await.pid().unwrap();
    assert_eq!(line(&mut lines).await, "up");
    supervisor.unhealthy(pid, "no answer".into()).await.unwrap();
    assert_eq!(supervisor.unhealthy(pid, "no answer".into()).await.unwrap_err().code, code::NOT_AVAILABLE);
    let starting = tokio::spawn({
        let supervisor = supervisor.clone();
        async move { supervisor.start().await }
    });
    eventually("it is asked to start again", || supervisor.status().borrow().phase == Phase::Stopping(pid)).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_ne!(starting.await.unwrap().unwrap(), pid);
    let pid = until(&supervisor, running).await.pid().unwrap();
    supervisor.unhealthy(pid, "no answer".into()).await.unwrap();
    supervisor.kill().await.unwrap();
    let status = supervisor.status().borrow().clone();
    assert_eq!((status.phase, status.last_exit.unwrap().why), (Phase::Exited(DownReason::Stopped), None));
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_told_and_tried_again() {
    let (mut spec, _lines) = shell("", policy(Restart::Always));
    spec.command = vec!["/no/such/program".into()];
    let supervisor = launch(spec);
    let status = until(&supervisor, |s| s.restarts >= 2 && s.last_exit.is_some()).await;
    assert!(
        matches!(&status.last_exit.unwrap().how, How::NotStarted(why) if why.contains("`/no/such/program` cannot be started"))
    );
    let failure = supervisor.restart().await.unwrap_err();
    assert!(failure.code == code::FAILED && failure.message.contains("x: `/no/such/program`"), "{failure}");
    supervisor.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_during_back_off_holds_and_a_start_ends_it() {
    let mut slow = policy(Restart::Always);
    (slow.backoff_min, slow.backoff_max) = (LONG * 10, LONG * 10);
    let (spec, _lines) = shell("[ -e \"$0\" ] && exit 1; sleep 1000", slow);
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "").unwrap();
    let mut spec = spec;
    spec.command.push(flag.to_string_lossy().into_owned());
    let supervisor = launch(spec);
    until(&supervisor, |s| matches!(s.phase, Phase::BackingOff(_))).await;
    supervisor.stop().await.unwrap();
    assert_eq!(supervisor.status().borrow().phase, Phase::Exited(DownReason::Stopped));
    supervisor.start().await.unwrap();
    until(&supervisor, |s| matches!(s.phase, Phase::BackingOff(_))).await;
    std::fs::remove_file(&flag).unwrap();
    let pid = supervisor.restart().await.unwrap();
    until(&supervisor, |s| s.phase == Phase::Running(pid)).await;
    supervisor.kill().await.unwrap();
}

#[tokio::test]
async fn a_restart_gives_another_process_and_a_stop_overrules_it() {
    let script = "trap 'echo asked' TERM; echo up; while :; do sleep 0.01; done";
    let mut patient = policy(Restart::Always);
    patient.stop_deadline = Duration::from_millis(50);
    let (spec, mut lines) = shell(script, patient);
    let supervisor = launch(spec);
    assert_eq!(line(&mut lines).await, "up");
    let first = supervisor.status().borrow().pid().unwrap();
    let second = supervisor.restart().await.unwrap();
    assert_ne!(first, second);
    assert_eq!(supervisor.status().borrow().restarts, 1);
    assert_eq!(supervisor.status().borrow().last_exit.as_ref().map(|e| e.how.clone()), Some(How::Signal(9)));
    supervisor.kill().await.unwrap();

    let (spec, mut lines) = shell(script, policy(Restart::Always));
    let supervisor = launch(spec);
    assert_eq!(line(&mut lines).await, "up");
    let restarting = tokio::spawn({
        let supervisor = supervisor.clone();
        async move { supervisor.restart().await }
    });
    // The program ignores SIGTERM, and its deadline is long. The shell may tell of its `sleep` first.
    while line(&mut lines).await != "asked" {}
    let stopping = tokio::spawn({
        let supervisor = supervisor.clone();
        async move { supervisor.stop().await }
    });
    assert_eq!(restarting.await.unwrap().unwrap_err().code, code::NOT_AVAILABLE);
    assert_eq!(supervisor.restart().await.unwrap_err().code, code::BUSY);
    supervisor.kill().await.unwrap();
    stopping.await.unwrap().unwrap();
    assert_eq!(supervisor.status().borrow().phase, Phase::Exited(DownReason::Stopped));
}

#[tokio::test]
async fn what_a_program_started_ends_with_it() {
    // The grandchild ignores SIGTERM. It does so once its number has been told.
    let start = "sh -c \"trap '' TERM; echo \\$\\$; while :; do sleep 0.01; done\" & ";
    let mut short = policy(Restart::Never);
    short.stop_deadline = Duration::from_millis(50);
    for (how, script) in [
        ("exit", format!("{start} sleep 0.2; exit 0")),
        ("stop", format!("{start} wait")),
        ("kill", format!("{start} wait")),
        ("drop", format!("{start} wait")),
    ] {
        let (spec, mut lines) = shell(&script, short.clone());
        let supervisor = launch(spec);
        let grandchild = line(&mut lines).await;
        match how {
            "stop" => supervisor.stop().await.unwrap(),
            "kill" => supervisor.kill().await.unwrap(),
            "exit" => drop(until(&supervisor, |s| s.phase == Phase::Exited(DownReason::GivenUp)).await),
            _ => drop(supervisor),
        }
        eventually(how, || !runs(&grandchild)).await;
    }
}

#[tokio::test]
async fn a_program_waits_for_its_turn_and_whoever_acts_on_it_does_not() {
    let (later, free) = (LONG * 20, Duration::ZERO);
    let waits = |status: &Status| matches!(status.phase, Phase::Waiting(_));
    let script = "echo up; while :; do sleep 0.01; done";

    // A first start waits. A stop wins at once, a kill too.
    let (spec, _lines) = shell(script, policy(Restart::Always));
    let starts = Starts::per_second(5, None).used_up(later, free);
    let supervisor = launch(Spec { starts: starts.clone(), ..spec });
    assert_eq!(until(&supervisor, waits).await.pid(), None);
    supervisor.stop().await.unwrap();
    assert_eq!(supervisor.status().borrow().phase, Phase::Exited(DownReason::Stopped));
    // One that is ordered waits as well, and is answered once it is started or stopped.
    let ordered = {
        let supervisor = supervisor.clone();
        tokio::spawn(async move { supervisor.start().await })
    };
    until(&supervisor, waits).await;
    supervisor.kill().await.unwrap();
    assert_eq!(ordered.await.unwrap().unwrap_err().code, code::NOT_AVAILABLE);

    // A restart is answered at once.
    let (spec, _lines) = shell(script, policy(Restart::Always));
    let supervisor = launch(Spec { starts, ..spec });
    until(&supervisor, waits).await;
    let pid = supervisor.restart().await.unwrap();
    assert_ne!(supervisor.restart().await.unwrap(), pid, "also while it runs");
    supervisor.stop().await.unwrap();

    // One that has ended waits, and an order does not wait behind such.
    let (spec, _lines) = shell("exit 3", policy(Restart::Always));
    let supervisor = launch(Spec { starts: Starts::per_second(5, None).used_up(free, later), ..spec });
    let status = until(&supervisor, waits).await;
    assert_eq!((status.restarts, status.last_exit.map(|exit| exit.how)), (0, Some(How::Code(3))));
    supervisor.start().await.unwrap();
    until(&supervisor, |status| status.restarts == 1).await;
    drop(supervisor);
}

#[tokio::test]
async fn a_fault_of_what_supervises_a_program_ends_no_supervision() {
    let (spec, _lines) = shell("while :; do sleep 0.01; done", policy(Restart::Always));
    let panics = std::sync::atomic::AtomicU32::new(2);
    let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let pids = told.clone();
    // The first two starts meet a fault of this host.
    let watcher: Watcher = Arc::new(move |happened: &Happened<'_>| {
        if let Happened::Started { pid, .. } = happened {
            pids.lock().push(*pid);
            let left = panics.load(std::sync::atomic::Ordering::Relaxed);
            panics.store(left.saturating_sub(1), std::sync::atomic::Ordering::Relaxed);
            assert!(left == 0, "a fault for the test");
        }
    });
    let supervisor = Supervisor::watched(spec, Guard::new().into(), watcher);
    let running = until(&supervisor, |status| matches!(status.phase, Phase::Running(_))).await;
    let started = told.lock().clone();
    assert_eq!((started.len(), running.pid()), (3, started.last().copied()));
    eventually("their processes are gone", || started[..2].iter().all(|pid| !runs(&pid.to_string()))).await;
    assert!(running.last_exit.unwrap().why.unwrap().contains("has failed to supervise it"));
    supervisor.stop().await.unwrap();
}
