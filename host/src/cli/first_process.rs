//! A host as process 1, as in a container.
//!
//! The kernel gives process 1 every process whose parent has ended, and it stays in the process table until it is waited for. A host waits for its
//! own children alone. So the process that was started keeps number 1 as an init, and runs the host as its child: it hands on signals, waits for
//! everything, and ends as the host does. Then nothing in the host has to know which process waits for which child.
//!
//! Knows nothing of what a host does. Without number 1, as under `docker run --init`, there is nothing to be done.

use std::future::poll_fn;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::task::Poll;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use crate::util::proc::ignores_hangup;

/// Signals that somebody may send to process 1, and that are meant for the host. The system's own about a process, such as SIGSEGV, and those that
/// nobody can catch are not among them.
const HANDED_ON: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];
/// A process that was ended by a signal has this and the signal's number as its code, because process 1 cannot end itself by a signal.
const BY_SIGNAL: u8 = 128;

/// Whether this is process 1, which has to run the host as a child.
pub(super) fn is_first() -> bool {
    std::process::id() == 1
}

/// Runs this very command as a child, and ends as it does. Call it before there is a second thread.
///
/// # Errors
/// Where the child cannot be started, or signals cannot be received.
pub(super) fn run() -> io::Result<ExitCode> {
    // One that runs in this thread alone, because an init has nothing to do beside waiting.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let code = runtime.block_on(async {
        // Signals come first, so that none is lost. In the child they have their default again, because it is another program.
        let mut ended = signal(SignalKind::child())?;
        let mut handed_on = handed_on()?;
        let host = start()?;
        loop {
            if let Some(code) = reap(host) {
                return io::Result::Ok(code);
            }
            tokio::select! {
                _ = ended.recv() => {}
                signal = next(&mut handed_on) => {
                    // It may have ended just now.
                    let _ = kill(host, signal);
                }
            }
        }
    })?;
    Ok(ExitCode::from(code))
}

/// Starts the host in a process group of its own, in front if there is a terminal. So Ctrl-C goes to the host, and only once.
fn start() -> io::Result<Pid> {
    let mut arguments = std::env::args_os();
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // It names this process, and its child would not give the sign of life that it stands for.
    command.args(arguments).env_remove("WATCHDOG_PID").process_group(0);
    let host = command.spawn()?;
    let host = Pid::from_raw(host.id().cast_signed());
    let terminal = io::stdin();
    // Without a terminal there is no group in front.
    if tcgetpgrp(&terminal) == Ok(getpgrp()) {
        let _ = tcsetpgrp(&terminal, host);
    }
    Ok(host)
}

fn handed_on() -> io::Result<Vec<(Signal, Signals)>> {
    // What is ignored, as under `nohup`, stays ignored.
    let meant = HANDED_ON.into_iter().filter(|signal| *signal != Signal::SIGHUP || !ignores_hangup());
    meant.map(|meant| Ok((meant, signal(SignalKind::from_raw(meant as i32))?))).collect()
}

/// The next signal.
async fn next(signals: &mut [(Signal, Signals)]) -> Signal {
    poll_fn(|context| {
        let came = signals.iter_mut().find_map(|(signal, came)| came.poll_recv(context).is_ready().then_some(*signal));
        came.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Waits for all children that have ended. The code to end with, if the host is one of them.
fn reap(host: Pid) -> Option<u8> {
    let mut code = None;
    loop {
        let (pid, ended) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, BY_SIGNAL.saturating_add(signal as u8)),
            Ok(WaitStatus::StillAlive) => return code,
            // Another change of a child, which ends nothing.
            Ok(_) | Err(Errno::EINTR) => continue,
            // There are no more children.
            Err(_) => return code,
        };
        if pid == host {
            code = Some(ended);
        }
    }
}
