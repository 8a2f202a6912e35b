//! One run of a program: its process, the group that it leads, and its output.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::{ChildStdin, Command};

use super::affinity;
use super::guard::Announcement;
use super::output::Readers;
use super::{Exit, How, Input, Output, Spec};
use crate::util::process_group::ProcessGroup;

/// How often a group whose leader has ended is looked at until it is empty. The system does not tell of the end of other processes' children.
const LOOK: Duration = Duration::from_millis(20);

/// Variables by which this process tells its service manager how it is. No program inherits them, because it would speak for this process.
pub const SERVICE_MANAGER: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// A process group and its leader. Dropping it kills the group.
pub(super) struct Group {
    processes: ProcessGroup,
    ended: Option<ExitStatus>,
    readers: Readers,
    /// The program's standard input, open until the program is asked to end. Absent if it is asked by a signal.
    input: Option<ChildStdin>,
}

impl Group {
    /// Starts the program as the leader of a new group, which is announced before it runs.
    pub(super) fn spawn(spec: &Spec, announcement: Option<Announcement>) -> io::Result<Self> {
        let (program, arguments) =
            spec.command.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
        // A relative program is named in full, because platforms differ in whether the parent or the child looks for it.
        let program = match &spec.cwd {
            Some(cwd) if Path::new(program).components().count() > 1 => cwd.join(program),
            _ => program.into(),
        };
        let mut command = Command::new(program);
        command.args(arguments).stdout(spec.output.stdio()).stderr(spec.output.stdio());
        command.stdin(match spec.input {
            Input::Empty => Stdio::null(),
            Input::Open => Stdio::piped(),
        });
        // Inherited variables are removed first, so that variables of the program's own `env` stay.
        spec.env_remove.iter().map(String::as_str).chain(SERVICE_MANAGER).for_each(|name| {
            command.env_remove(name);
        });
        command.envs(&spec.env);
        if let Some(cwd) = &spec.cwd {
            command.current_dir(cwd);
        }
        if let Some(announcement) = announcement {
            announcement.put_before(&mut command);
        }
        let mut processes = affinity::on(&spec.cpus, || ProcessGroup::spawn(command))?;
        let input = processes.take_stdin();
        Ok(Group { processes, ended: None, readers: Readers::default(), input })
    }

    /// Begins to read what the program writes. Nothing of it is told before, so that whoever is told a line can know of the process already.
    pub(super) fn read_output(&mut self, spec: &Spec) {
        let Group { processes, readers, .. } = self;
        if let Output::Lines(sink) | Output::Kept(sink, _) = &spec.output {
            let id: Arc<str> = spec.id.as_str().into();
            let ring = match &spec.output {
                Output::Kept(_, ring) => Some(ring),
                _ => None,
            };
            if let Some(stream) = processes.take_stdout() {
                readers.read(stream, id.clone(), false, sink.clone(), ring.cloned());
            }
            if let Some(stream) = processes.take_stderr() {
                readers.read(stream, id, true, sink.clone(), ring.cloned());
            }
        }
    }

    /// The leader's process id, which is the group's.
    pub(super) fn pid(&self) -> u32 {
        self.processes.id()
    }

    /// Waits until the leader has ended. Can be dropped and called again.
    pub(super) async fn leader_ended(&mut self) {
        if self.ended.is_some() {
            return;
        }
        match self.processes.leader_ended().await {
            Ok(status) => self.ended = Some(status),
            Err(error) => {
                tracing::error!(pid = self.pid(), %error, "cannot wait for a process");
                self.ended = Some(ExitStatus::default());
            }
        }
    }

    /// Waits until the leader and all that it started in its group have ended. Can be dropped and called again.
    pub(super) async fn all_ended(&mut self) {
        self.leader_ended().await;
        while !self.processes.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks the whole group to end, by SIGTERM or by the end of its input.
    pub(super) fn terminate(&mut self) {
        if self.input.take().is_some() {
            return;
        }
        if let Err(error) = self.processes.signal(Signal::SIGTERM) {
            tracing::debug!(pid = self.pid(), %error, "cannot ask a process group to end");
        }
    }

    /// Kills the whole group.
    pub(super) fn kill(&mut self) {
        self.processes.kill();
    }

    /// Kills what the leader left behind and tells how the leader ended. The leader must have ended.
    pub(super) async fn sweep(self) -> Exit {
        let Group { processes, ended, mut readers, .. } = self;
        // What is killed here has the system's first process as its parent, which waits for it.
        processes.kill();
        processes.let_go();
        Exit::now(how(ended), readers.finish().await)
    }
}

fn how(status: Option<ExitStatus>) -> How {
    let Some(status) = status else { return How::NotStarted("it cannot be killed".into()) };
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return How::Signal(signal);
    }
    How::Code(status.code().unwrap_or(-1))
}
