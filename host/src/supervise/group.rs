//! One run of a program: its process, the group that it leads, and its output.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

#[cfg(unix)]
use process_wrap::tokio::ProcessGroup;
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop};

use tokio::process::ChildStdin;

use super::affinity;
use super::output::Readers;
use super::{Exit, How, Input, Output, Spec};

/// How often a group whose leader has ended is looked at until it is empty: nothing tells of the end of others' children.
const LOOK: Duration = Duration::from_millis(20);

/// A process group and its leader. Dropping it kills the group.
pub(super) struct Group {
    child: Box<dyn ChildWrapper>,
    pid: u32,
    ended: Option<ExitStatus>,
    swept: bool,
    readers: Readers,
    /// Open until the program is asked to end, where that is how it is asked.
    input: Option<ChildStdin>,
}

impl Group {
    /// Starts the program as the leader of a new group.
    pub(super) fn spawn(spec: &Spec) -> io::Result<Self> {
        let (program, arguments) =
            spec.command.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
        // A relative program is looked for by the parent or by the child, as the platform likes: name it in full.
        let program = match &spec.cwd {
            Some(cwd) if Path::new(program).components().count() > 1 => cwd.join(program),
            _ => program.into(),
        };
        let mut command = CommandWrap::with_new(program, |command| {
            let input = match spec.input {
                Input::Empty => Stdio::null(),
                Input::Held => Stdio::piped(),
            };
            command.args(arguments).stdin(input);
            command.stdout(spec.output.stdio()).stderr(spec.output.stdio());
            // First what is inherited: what the program is given on purpose stays.
            spec.env_remove.iter().for_each(|name| {
                command.env_remove(name);
            });
            command.envs(&spec.env);
            if let Some(cwd) = &spec.cwd {
                command.current_dir(cwd);
            }
        });
        #[cfg(unix)]
        command.wrap(ProcessGroup::leader());
        command.wrap(KillOnDrop);
        let mut child = affinity::on(&spec.cpus, || command.spawn())?;
        let pid = child.id().ok_or_else(|| io::Error::other("it ended at once"))?;
        let mut readers = Readers::default();
        if let Output::Lines(sink) | Output::Kept(sink, _) = &spec.output {
            let id: Arc<str> = spec.id.as_str().into();
            let ring = match &spec.output {
                Output::Kept(_, ring) => Some(ring),
                _ => None,
            };
            if let Some(stream) = child.stdout().take() {
                readers.read(stream, id.clone(), false, sink.clone(), ring.cloned());
            }
            if let Some(stream) = child.stderr().take() {
                readers.read(stream, id, true, sink.clone(), ring.cloned());
            }
        }
        let input = child.stdin().take();
        Ok(Group { child, pid, ended: None, swept: false, readers, input })
    }

    /// The leader's process id, which is the group's.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the leader has ended. Can be dropped and called again.
    pub(super) async fn leader_ended(&mut self) {
        if self.ended.is_some() {
            return;
        }
        // The wrapper's own `wait` would go on until the whole group has ended by itself.
        match self.child.inner_mut().wait().await {
            Ok(status) => self.ended = Some(status),
            Err(error) => {
                tracing::error!(pid = self.pid, %error, "cannot wait for a process");
                self.ended = Some(ExitStatus::default());
            }
        }
    }

    /// Waits until the leader and all that it started in its group have ended. Can be dropped and called again.
    pub(super) async fn all_ended(&mut self) {
        self.leader_ended().await;
        while !self.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks the whole group to end: by a signal, or by the end of its input.
    pub(super) fn terminate(&mut self) {
        if self.input.take().is_some() {
            return;
        }
        #[cfg(unix)]
        let asked = self.child.signal(nix::sys::signal::Signal::SIGTERM as i32);
        #[cfg(not(unix))]
        let asked = self.child.start_kill();
        if let Err(error) = asked {
            tracing::debug!(pid = self.pid, %error, "cannot ask a process group to end");
        }
    }

    /// Kills the whole group.
    pub(super) fn kill(&mut self) {
        // An empty group is the usual case here, and no error.
        let _ = self.child.start_kill();
    }

    /// Kills what the leader left behind and tells how the leader ended. The leader must have ended.
    pub(super) async fn sweep(mut self) -> Exit {
        self.kill();
        // Where this host is the system's first process the killed ones are now its children, and this reaps them.
        let _ = self.child.try_wait();
        self.swept = true;
        Exit::now(how(self.ended), self.readers.finish().await)
    }

    #[cfg(unix)]
    fn is_empty(&mut self) -> bool {
        use nix::sys::signal::killpg;
        let _ = self.child.try_wait();
        i32::try_from(self.pid).is_ok_and(|pid| killpg(nix::unistd::Pid::from_raw(pid), None).is_err())
    }

    #[cfg(not(unix))]
    fn is_empty(&mut self) -> bool {
        true
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.swept {
            self.kill();
        }
    }
}

fn how(status: Option<ExitStatus>) -> How {
    let Some(status) = status else { return How::NotStarted("it cannot be killed".into()) };
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return How::Signal(signal);
    }
    How::Code(status.code().unwrap_or(-1))
}
