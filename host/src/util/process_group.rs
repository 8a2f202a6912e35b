//! A child process that leads a process group of its own: what it starts can be ended together with it.

use std::io;
use std::process::ExitStatus;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};

/// A process group and the process that leads it. Dropping it kills the group, unless it was let go ([`ProcessGroup::let_go`]).
#[derive(Debug)]
pub struct ProcessGroup {
    child: Box<dyn ChildWrapper>,
    id: u32,
    let_go: bool,
}

impl ProcessGroup {
    /// Starts a command as the leader of a new group.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn(command: Command) -> io::Result<Self> {
        let mut command = CommandWrap::from(command);
        command.wrap(process_wrap::tokio::ProcessGroup::leader()).wrap(KillOnDrop);
        let child = command.spawn()?;
        let id = child.id().ok_or_else(|| io::Error::other("it ended at once"))?;
        Ok(ProcessGroup { child, id, let_go: false })
    }

    /// The leader's process id, which is the group's.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The leader's standard input, where it is a pipe and was not taken before.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin().take()
    }

    /// The leader's standard output, where it is a pipe and was not taken before.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout().take()
    }

    /// The leader's standard error, where it is a pipe and was not taken before.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr().take()
    }

    /// Waits until the leader has ended; others of its group may run on. Can be dropped and called again.
    ///
    /// # Errors
    /// Where the system does not let it be waited for.
    pub async fn leader_ended(&mut self) -> io::Result<ExitStatus> {
        // The wrapper's own `wait` would go on until the whole group has ended.
        self.child.inner_mut().wait().await
    }

    /// Whether nothing of the group is left, not even a process that has ended and that its parent has not waited for.
    pub fn is_empty(&self) -> bool {
        i32::try_from(self.id).is_ok_and(|id| killpg(Pid::from_raw(id), None).is_err())
    }

    /// Sends a signal to the whole group.
    ///
    /// # Errors
    /// Where there is no such group any more.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.child.signal(signal as i32)
    }

    /// Kills the whole group. An empty group is the usual case, and no error.
    pub fn kill(&self) {
        let _ = self.signal(Signal::SIGKILL);
    }

    /// Gives the group up without killing what is left of it. Wait for its leader before, because otherwise the leader is killed, alone.
    pub fn let_go(mut self) {
        self.let_go = true;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if !self.let_go {
            self.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::Duration;

    use tokio::io::{AsyncBufReadExt, BufReader};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A shell and a `sleep` that it has started; the ids of both.
    async fn two_processes(and_then: &str) -> (ProcessGroup, [i32; 2]) {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("sleep 1000 & echo $$ $!; {and_then}")).stdout(Stdio::piped());
        let mut group = ProcessGroup::spawn(command).unwrap();
        let mut line = String::new();
        BufReader::new(group.take_stdout().unwrap()).read_line(&mut line).await.unwrap();
        let ids: Vec<i32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert_eq!(ids[0].unsigned_abs(), group.id());
        (group, [ids[0], ids[1]])
    }

    fn runs(id: i32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.contains("State:") && !status.contains("State:\tZ") && !status.contains("State:\tX")
    }

    async fn until_over(ids: &[i32]) {
        let over = async {
            while ids.iter().any(|id| runs(*id)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, over).await.expect("they end");
    }

    #[tokio::test]
    async fn a_dropped_group_is_killed_whole_even_where_its_leader_has_ended() {
        let (group, ids) = two_processes("wait").await;
        assert!(ids.iter().all(|id| runs(*id)));
        drop(group);
        until_over(&ids).await;
        let (mut group, ids) = two_processes("exit 3").await;
        assert_eq!(group.leader_ended().await.unwrap().code(), Some(3));
        assert!(runs(ids[1]) && !group.is_empty());
        drop(group);
        until_over(&ids).await;
    }

    #[tokio::test]
    async fn what_is_left_of_a_group_that_was_let_go_runs_on() {
        let (mut group, ids) = two_processes("exit 0").await;
        group.leader_ended().await.unwrap();
        group.let_go();
        assert!(runs(ids[1]));
        nix::sys::signal::kill(Pid::from_raw(ids[1]), Signal::SIGKILL).unwrap();
        until_over(&ids).await;
    }

    #[tokio::test]
    async fn a_signal_reaches_all_and_the_end_of_all_is_seen() {
        let (mut group, ids) = two_processes("wait").await;
        assert!(!group.is_empty());
        group.signal(Signal::SIGTERM).unwrap();
        group.leader_ended().await.unwrap();
        until_over(&ids).await;
        let empty = async {
            // One that nobody has waited for yet is still there.
            while !group.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, empty).await.expect("nothing is left");
    }
}
