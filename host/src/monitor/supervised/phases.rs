//! The phase of a server, made from what its program's supervisor says, from its drain, and from its health.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::drain::Draining;
use super::health::Verdict;
use crate::supervise::{self, DownReason, How, Status, TURN};
use crate::util::lasting;
use crate::wire::{Phase, PhaseExit, PhaseName};

/// What a monitor's link follows.
pub(super) struct Followed {
    /// What the server does.
    pub phase: watch::Receiver<Phase>,
    /// Why the program stays down; absent until it does.
    pub ended: watch::Receiver<Option<DownReason>>,
}

/// Follows a program for as long as it is supervised.
pub(super) fn follow(
    status: watch::Receiver<Status>,
    drain: watch::Receiver<Option<Draining>>,
    health: watch::Receiver<Verdict>,
) -> Followed {
    let (told, phase) = watch::channel(phase_of(&status.borrow()));
    let (end, ended) = watch::channel(None);
    tokio::spawn(lasting::lasting("what tells of the program's phases", move || {
        let (mut status, mut drain, mut health) = (status.clone(), drain.clone(), health.clone());
        let (told, end) = (told.clone(), end.clone());
        async move {
            loop {
                let now = status.borrow_and_update().clone();
                let phase = drained(phase_of(&now), drain.borrow_and_update().as_ref());
                let phase = unready(phase, &health.borrow_and_update());
                told.send_if_modified(|told| {
                    let changed = *told != phase;
                    if changed {
                        *told = phase;
                    }
                    changed
                });
                // After the phase, because whoever learns of the end closes the connection over which the phase is told.
                if let supervise::Phase::Exited(why) = now.phase {
                    end.send_replace(Some(why));
                }
                tokio::select! {
                    changed = status.changed() => if changed.is_err() { return },
                    // There can be none any more, and the program goes on to its end.
                    Ok(()) = drain.changed() => {}
                    Ok(()) = health.changed() => {}
                }
            }
        }
    }));
    Followed { phase, ended }
}

/// The phase of a program that is in that state.
fn phase_of(status: &Status) -> Phase {
    let exit = status.last_exit.as_ref();
    let (name, wait) = match &status.phase {
        supervise::Phase::Starting(_) => (PhaseName::Starting, None),
        supervise::Phase::Running(_) => (PhaseName::Running, None),
        supervise::Phase::Stopping(_) => (PhaseName::Stopping, None),
        supervise::Phase::BackingOff(wait) => (PhaseName::BackingOff, Some(*wait)),
        // One that has ended still backs off, a little longer.
        supervise::Phase::Waiting(wait) if exit.is_some() => (PhaseName::BackingOff, Some(*wait)),
        supervise::Phase::Waiting(_) => (PhaseName::Starting, None),
        // A program that ended with code 0 and is not to be started again has done what it was for.
        supervise::Phase::Exited(DownReason::GivenUp)
            if exit.is_some_and(|exit| exit.how != How::Code(0) || exit.why.is_some()) =>
        {
            (PhaseName::Failed, None)
        }
        supervise::Phase::Exited(_) => (PhaseName::Stopped, None),
    };
    let why = matches!(name, PhaseName::BackingOff | PhaseName::Failed).then_some(exit).flatten();
    let why = why.map(|exit| exit.why.clone().unwrap_or_else(|| exit.how.to_string()));
    let why = match status.phase {
        supervise::Phase::Waiting(_) => Some(why.map_or_else(|| TURN.to_owned(), |why| format!("{why}; {TURN}"))),
        _ => why,
    };
    let phase = Phase {
        why,
        pid: status.pid(),
        restarts: status.restarts,
        retry_ms: wait.map(millis),
        exit: exit.map(|exit| PhaseExit {
            how: exit.how.to_string(),
            at: exit.time,
            id: identity(exit),
            lines: exit.last_lines.clone(),
        }),
        ..Phase::new(name)
    };
    phase.bounded()
}

/// What tells an end from others: when it was, by this host's clock in microseconds.
fn identity(exit: &supervise::Exit) -> u64 {
    let since = exit.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_micros().try_into().unwrap_or(u64::MAX)
}

/// The phase of a program that may drain. Only a process that serves can drain, and a drain of another process is over.
fn drained(phase: Phase, drain: Option<&Draining>) -> Phase {
    match drain {
        Some(draining) if phase.phase == PhaseName::Running && phase.pid == Some(draining.pid) => {
            Phase { phase: PhaseName::Draining, connections: draining.connections, ..phase }
        }
        _ => phase,
    }
}

/// The phase of a program that may not be well. One that drains is hidden in any case, and what is found of another process is over.
fn unready(phase: Phase, health: &Verdict) -> Phase {
    match health.hides(phase.pid) {
        Some(why) if phase.phase == PhaseName::Running => {
            Phase { phase: PhaseName::Unready, why: Some(why.to_owned()), ..phase }.bounded()
        }
        _ => phase,
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::Exit;

    fn status(phase: supervise::Phase, how: Option<How>) -> Status {
        let last_exit =
            how.map(|how| Exit { how, why: None, time: SystemTime::now(), last_lines: vec!["last".into()] });
        Status { phase, restarts: 3, last_exit, since: None }
    }

    #[test]
    fn a_program_that_is_not_well_is_unready_while_it_runs_and_does_not_drain() {
        use crate::monitor::supervised::Problem;
        let why = "no answer, 3 times in a row";
        let verdict = |hides| Verdict { pid: Some(7), problems: vec![Problem { why: why.into(), hides }] };
        let of = |phase: supervise::Phase, hides, drain: Option<Draining>| {
            let phase = unready(drained(phase_of(&status(phase, None)), drain.as_ref()), &verdict(hides));
            (phase.phase, phase.why)
        };
        use supervise::Phase::{Running, Stopping};
        assert_eq!(of(Running(7), true, None), (PhaseName::Unready, Some(why.to_owned())));
        assert_eq!(of(Running(7), false, None), (PhaseName::Running, None));
        assert_eq!(of(Running(8), true, None), (PhaseName::Running, None), "another process");
        assert_eq!(of(Running(7), true, Some(Draining::of(7))), (PhaseName::Draining, None));
        assert_eq!(of(Stopping(7), true, None), (PhaseName::Stopping, None));
    }

    #[test]
    fn a_phase_says_why_and_what_comes_next() {
        use supervise::Phase::{BackingOff, Exited, Running, Starting, Stopping, Waiting};
        let check = |phase, how: Option<How>, name, pid, why: Option<&str>| {
            let phase = phase_of(&status(phase, how));
            assert_eq!((phase.phase, phase.pid, phase.why.as_deref()), (name, pid, why));
            phase
        };
        check(Starting(None), None, PhaseName::Starting, None, None);
        check(Starting(Some(7)), None, PhaseName::Starting, Some(7), None);
        let running = check(Running(7), Some(How::Code(1)), PhaseName::Running, Some(7), None);
        assert_eq!((running.restarts, running.exit.unwrap().lines), (3, vec!["last".to_owned()]));
        check(Stopping(7), None, PhaseName::Stopping, Some(7), None);
        let wait = BackingOff(Duration::from_millis(400));
        let waits = check(wait, Some(How::Code(1)), PhaseName::BackingOff, None, Some("ended with code 1"));
        assert_eq!(waits.retry_ms, Some(400));
        check(Waiting(Duration::from_millis(50)), None, PhaseName::Starting, None, Some(TURN));
        let why = format!("ended with code 1; {TURN}");
        let waits = check(
            Waiting(Duration::from_millis(50)),
            Some(How::Code(1)),
            PhaseName::BackingOff,
            None,
            Some(why.as_str()),
        );
        assert_eq!(waits.retry_ms, Some(50));
        let given_up = Exited(DownReason::GivenUp);
        check(given_up.clone(), Some(How::Signal(9)), PhaseName::Failed, None, Some("was ended by signal 9"));
        check(given_up.clone(), Some(How::Code(0)), PhaseName::Stopped, None, None);
        let mut late = status(given_up, Some(How::Code(0)));
        let said = "nobody listened on 127.0.0.1:4050 for 60 s";
        late.last_exit.as_mut().unwrap().why = Some(said.into());
        let phase = phase_of(&late);
        assert_eq!(
            (phase.phase, phase.why.as_deref()),
            (PhaseName::Failed, Some(said)),
            "it was ended because it failed"
        );
        check(Exited(DownReason::Stopped), Some(How::Code(1)), PhaseName::Stopped, None, None);
    }
}
