//! A small process that kills the host's process groups when the host is gone.
//!
//! A host that is killed with SIGKILL, or aborts, cannot end its programs, which would run on as orphans and keep their ports.
//! Linux can tie a child to its parent (PR_SET_PDEATHSIG), but only by unsafe code in the child between fork and exec, and not what the child
//! starts. So one small process watches instead: a shell in a group of its own that reads
//! from a pipe which groups there are. However the host ends, the pipe closes; the shell then kills the groups that are left, and ends.
//!
//! Between a program's start and its line in the pipe lie some microseconds in which the host's death would leave it behind. Where there is
//! no `sh` this is said once in the log, and programs run unguarded.

use std::collections::BTreeSet;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex;

/// A guard that has not read a line after this time is replaced, because a healthy one reads at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads `+ GROUP` and `- GROUP`, and at the end kills what is left. It outlives the signals that end hosts from a terminal.
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

/// The process that watches, and the groups that it is to know.
#[derive(Default)]
struct GuardShell {
    process: Option<(Child, ChildStdin)>,
    groups: BTreeSet<u32>,
    warned: bool,
}

impl Guard {
    /// A guard; its process is started with the first group.
    pub fn new() -> Self {
        Guard::default()
    }

    /// Starts the guard's process, so that a group started next is unguarded for as short as can be.
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
        // The old one must not act on what it knows when its pipe closes.
        if let Some((mut child, _pipe)) = self.process.take() {
            let _ = child.start_kill();
            let _ = tokio::time::timeout(PATIENCE, child.wait()).await;
        }
        if self.groups.is_empty() {
            return;
        }
        self.begin().await;
    }

    /// Starts the process where it can be started.
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
        // In this host's group it would be killed together with the host.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn()?;
        let mut pipe = child.stdin.take().ok_or_else(|| io::Error::other("the guard has no input"))?;
        let lines: String = self.groups.iter().map(|group| format!("+ {group}\n")).collect();
        tokio::time::timeout(PATIENCE, pipe.write_all(lines.as_bytes())).await??;
        Ok((child, pipe))
    }
}
