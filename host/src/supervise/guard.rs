//! A small process that kills the host's process groups when the host is gone.
//!
//! A host that is killed with SIGKILL, or aborts, cannot end its programs, which would run on as orphans and keep their ports. Linux can tie a child
//! to its parent (PR_SET_PDEATHSIG), but not what the child starts, and the child would end with the thread that started it. So one small process
//! watches instead: a shell in a group of its own, which reads from a pipe what groups there are. However the host ends, the pipe closes. The shell
//! then kills the groups that are left, and ends.
//!
//! A program is in the pipe before it runs: its process writes its own line between fork and exec ([`Announcement`]), because the host may be killed as soon as
//! it has forked. If there is no `sh`, the log says so once, and programs run unguarded.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{SigHandler, Signal, signal};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex;

/// A guard that has not read a line after this time is replaced, because a healthy one reads at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads `+ GROUP`, `+ GROUP KEY` (of a process that is still to run its program, whose key tells it apart), `- GROUP` and `- - KEY`, and at the end of input
/// kills the groups that are left. It ignores the signals by which a terminal ends a host.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
groups=
while read -r sign group key; do
    rest=
    for known in $groups; do
        case $known in
            "$group" | "$group"/* | */"$key") ;;
            *) rest="$rest $known" ;;
        esac
    done
    groups=$rest
    [ "$sign" = + ] && groups="$groups $group${key:+/$key}"
done
for group in $groups; do kill -s KILL -- "-${group%%/*}"; done
"#;

/// What tells a guard of a program before it runs.
#[derive(Debug)]
pub(super) struct Announcement {
    pipe: OwnedFd,
    key: u64,
}

impl Announcement {
    /// Has the process of a command, which has to lead a group, tell the guard of itself before it runs the program.
    pub(super) fn put_before(self, command: &mut Command) {
        let announce = move || {
            let mut line = [0; 64];
            let mut rest = &mut line[..];
            writeln!(rest, "+ {} {}", std::process::id(), self.key)?;
            let left = rest.len();
            // Where the guard is gone or stuck, this host replaces it, and tells the new one of all programs that it has started. The signal that a pipe
            // without a reader sends would end this process, and the program must not inherit that it is ignored.
            //
            // SAFETY: what must be proven of a signal's action is that the code it runs may run at any moment. Neither of these runs any.
            let before = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
            let _ = nix::unistd::write(&self.pipe, &line[..line.len() - left]);
            if let Ok(before) = before {
                // SAFETY: as above; it is the action that was there, for which nothing of this program has put a function since the fork.
                let _ = unsafe { signal(Signal::SIGPIPE, before) };
            }
            Ok(())
        };
        // SAFETY: what must be proven is that the closure may run in a process that was forked from one with several threads. It asks for its process id,
        // writes two integers into an array of its own and that to a pipe, and sets the action of a signal. It allocates nothing, takes no lock and touches nothing of other threads. The
        // pipe is open, for the closure owns it.
        unsafe { command.pre_exec(announce) };
    }
}

/// Kills process groups when this host is gone. One guard serves all programs of a host.
#[derive(Default)]
pub struct Guard {
    shell: Mutex<GuardShell>,
    /// The key of the next announcement.
    next: AtomicU64,
}

/// The process that watches, and the groups that it must know of.
#[derive(Default)]
struct GuardShell {
    process: Option<(Child, ChildStdin)>,
    groups: BTreeSet<u32>,
    warned: bool,
}

impl Guard {
    /// A guard whose process has not been started yet.
    pub fn new() -> Self {
        Guard::default()
    }

    /// Ends the guard's process, as somebody else might.
    #[cfg(test)]
    pub(super) async fn end(&self) {
        let mut shell = self.shell.lock().await;
        let (child, _) = shell.process.as_mut().expect("it runs");
        child.kill().await.expect("it can be killed");
    }

    /// What the program that is started next has to say; absent where there is no guard. The guard's process is started where it does not run.
    pub(super) async fn announcement(&self) -> Option<(u64, Announcement)> {
        let mut shell = self.shell.lock().await;
        let runs = shell.process.as_mut().is_some_and(|(child, _)| matches!(child.try_wait(), Ok(None)));
        if !runs {
            // One that is gone is replaced, and told of all groups.
            shell.process = None;
            shell.begin().await;
        }
        let (_, pipe) = shell.process.as_ref()?;
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        // Without a file descriptor to spare no program can be started either, which is told where that is tried.
        let pipe = pipe.as_fd().try_clone_to_owned().ok()?;
        Some((key, Announcement { pipe, key }))
    }

    /// Takes back what was announced with this key, because the program was not started.
    pub(super) async fn take_back(&self, key: u64) {
        self.shell.lock().await.tell(&format!("- - {key}\n")).await;
    }

    /// Adds a group: it is killed when this host ends.
    pub(super) async fn add(&self, group: u32) {
        let mut shell = self.shell.lock().await;
        shell.groups.insert(group);
        shell.tell(&format!("+ {group}\n")).await;
    }

    /// Removes a group that has ended, because another group may get its number.
    pub(super) async fn remove(&self, group: u32) {
        let mut shell = self.shell.lock().await;
        shell.groups.remove(&group);
        shell.tell(&format!("- {group}\n")).await;
    }
}

impl GuardShell {
    async fn tell(&mut self, line: &str) {
        if !cfg!(unix) {
            return;
        }
        if let Some((child, pipe)) = &mut self.process {
            let alive = matches!(child.try_wait(), Ok(None));
            let told = tokio::time::timeout(PATIENCE, pipe.write_all(line.as_bytes()));
            if alive && matches!(told.await, Ok(Ok(()))) {
                return;
            }
            tracing::warn!("the process that guards against orphans is gone; it is started again");
        }
        // The old process is killed before its pipe closes, because it would kill the groups that it knows.
        if let Some((mut child, _pipe)) = self.process.take() {
            let _ = child.start_kill();
            let _ = tokio::time::timeout(PATIENCE, child.wait()).await;
        }
        if self.groups.is_empty() {
            return;
        }
        self.begin().await;
    }

    /// Starts the process, or says once in the log that it cannot be started.
    async fn begin(&mut self) {
        if !cfg!(unix) {
            return;
        }
        match self.start().await {
            Ok(process) => self.process = Some(process),
            Err(error) if !self.warned => {
                self.warned = true;
                tracing::warn!(%error, "no `sh` guards against orphans: programs outlive this host if it is killed");
            }
            Err(_) => {}
        }
    }

    /// Starts the process and tells it all groups.
    async fn start(&self) -> io::Result<(Child, ChildStdin)> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(SCRIPT).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // The guard has a group of its own, because a kill of this host's group would end the guard too.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn()?;
        let mut pipe = child.stdin.take().ok_or_else(|| io::Error::other("the guard has no input"))?;
        let lines: String = self.groups.iter().map(|group| format!("+ {group}\n")).collect();
        tokio::time::timeout(PATIENCE, pipe.write_all(lines.as_bytes())).await??;
        Ok((child, pipe))
    }
}
