//! The handle of a program under supervision.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::task::{Command, Reply, Task};
use super::{Contact, Guard, Happened, Phase, Spec, Status, Watcher};
use crate::failure::{Failure, code};

/// Commands that wait for the task.
const QUEUE: usize = 16;

/// A program under supervision. When the last clone is dropped, the program's group is killed.
#[derive(Clone)]
pub struct Supervisor {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
}

impl Supervisor {
    /// Starts the program in the background; [`Supervisor::status`] tells its state. A program that cannot be started is tried again as its policy
    /// says.
    pub fn launch(spec: Spec, guard: Arc<Guard>) -> Self {
        Self::watched(spec, guard, Arc::new(|_: &Happened<'_>| {}))
    }

    /// As [`Supervisor::launch`]; `watcher` is told of every start and every end, in their order.
    pub fn watched(spec: Spec, guard: Arc<Guard>, watcher: Watcher) -> Self {
        Self::launch_in_contact(spec, guard, None, watcher)
    }

    /// As [`Supervisor::watched`], with a program that can be reached by `contact`.
    pub fn launch_in_contact(
        spec: Spec,
        guard: Arc<Guard>,
        contact: Option<Arc<dyn Contact>>,
        watcher: Watcher,
    ) -> Self {
        Self::run(spec, guard, contact, watcher, None)
    }

    /// As [`Supervisor::launch_in_contact`], but the program is started only when `prepared` is told, or by a command. Until then its phase is
    /// [`Phase::Starting`] without a process.
    pub fn prepare(
        spec: Spec,
        guard: Arc<Guard>,
        contact: Option<Arc<dyn Contact>>,
        watcher: Watcher,
        prepared: Arc<Notify>,
    ) -> Self {
        Self::run(spec, guard, contact, watcher, Some(prepared))
    }

    fn run(
        spec: Spec,
        guard: Arc<Guard>,
        contact: Option<Arc<dyn Contact>>,
        watcher: Watcher,
        prepared: Option<Arc<Notify>>,
    ) -> Self {
        let (commands, inbox) = mpsc::channel(QUEUE);
        let first = Status { phase: Phase::Starting(None), restarts: 0, last_exit: None, since: None };
        let (sender, status) = watch::channel(first);
        tokio::spawn(Task::new(spec, guard, contact, watcher, inbox, sender, prepared).run());
        Supervisor { commands, status }
    }

    /// How the program is.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Starts a program that is down or waits to be started again. Answers with its process id when it is started.
    ///
    /// # Errors
    /// `busy` where it runs already or is being stopped, `failed` where it cannot be started.
    pub async fn start(&self) -> Result<u32, Failure> {
        self.ask(Command::Start).await
    }

    /// Stops the program and starts it again. Answers with the new process id when it is started.
    ///
    /// # Errors
    /// `busy` where it is being stopped, `not-available` where it was stopped for good, `failed` where it cannot be started.
    pub async fn restart(&self) -> Result<u32, Failure> {
        self.ask(Command::Restart).await
    }

    /// Stops the program for good: asks it to end, and kills its group when [`super::Policy::stop_deadline`] has passed. Answers when the program has
    /// ended, at once if it does not run.
    ///
    /// # Errors
    /// `timeout` where even a killed process does not end.
    pub async fn stop(&self) -> Result<(), Failure> {
        self.ask(Command::Stop).await
    }

    /// Kills the program's group for good. As [`Supervisor::stop`] otherwise.
    ///
    /// # Errors
    /// As [`Supervisor::stop`].
    pub async fn kill(&self) -> Result<(), Failure> {
        self.ask(Command::Kill).await
    }

    /// Ends a process that is not well: asks it to end, and kills its group when [`super::Policy::stop_deadline`] has passed. It counts as failed, so
    /// that the program is started again as its policy says, after a wait. Answers when the process begins to be ended.
    ///
    /// # Errors
    /// `not-available` where that process does not run any more or is being ended.
    pub async fn unhealthy(&self, pid: u32, why: String) -> Result<(), Failure> {
        self.ask(|reply| Command::Unhealthy { pid, why, reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .try_send(command(reply))
            .map_err(|_| Failure::new(code::BUSY, "too many commands for this program are under way"))?;
        answer.await.unwrap_or_else(|_| Err(Failure::new(code::NOT_AVAILABLE, "this host is ending")))
    }
}
