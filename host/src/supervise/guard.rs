//! A small process that kills the host's process groups when the host is gone.
//!
//! A host that is killed with SIGKILL, or aborts, cannot end its programs, which would run on as orphans and keep their ports. Linux can tie a child
//! to its parent (PR_SET_PDEATHSIG), but only by unsafe code in the child between fork and exec, and not what the child starts. So one small process
//! watches instead: a shell in a group of its own, which reads from a pipe what groups there are. However the host ends, the pipe closes. The shell
//! then kills the groups that are left, and ends.
//!
//! If the host dies in the microseconds between a program's start and its line in the pipe, the program is left behind. If there is no `sh`, the log
//! says so once, and programs run unguarded.

use std::collections::BTreeSet;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex;

/// A guard that has not read a line after this time is replaced, because a healthy one reads at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads `+ GROUP` and `- GROUP`, and at the end of input kills the groups that are left. It ignores the signals by which a terminal ends a host.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
groups=
while read -r sign group; do
    rest=
    for known in $groups; do [ "$known" = "$group" ] || rest="$rest $known"; done
    groups=$rest
    [ "$sign" = + ] && groups="$groups $group"
done
for group in $groups; do kill -s KILL -- "-$group"; done
"#;

/// Kills process groups when this host is gone. One guard serves all programs of a host.
#[derive(Default)]
pub struct Guard(Mutex<GuardShell>);

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

    /// Starts the guard's process, so that a group that is started next is unguarded for as short a time as possible.
    pub(super) async fn ready(&self) {
        let mut shell = self.0.lock().await;
        if shell.process.is_none() {
            shell.begin().await;
        }
    }

    /// Adds a group: it is killed when this host ends.
    pub(super) async fn add(&self, group: u32) {
        let mut shell = self.0.lock().await;
        shell.groups.insert(group);
        shell.tell(&format!("+ {group}\n")).await;
    }

    /// Removes a group that has ended, because another group may get its number.
    pub(super) async fn remove(&self, group: u32) {
        let mut shell = self.0.lock().await;
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
