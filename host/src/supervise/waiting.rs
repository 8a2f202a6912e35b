//! What the task does while the program does not run: it waits until the program may be started, and takes commands meanwhile.

use tokio::time::sleep;

use super::starts::{Waits, Why};
use super::task::{Command, Next, Reply, Task};
use super::{DownReason, Happened, Phase};
use crate::failure::{Failure, code};
use crate::util::Backoff;
use crate::util::backoff::jittered;

impl Task {
    /// Waits until a program that was only prepared may be started. A stop that comes before that wins.
    pub(super) async fn first(&mut self) -> Next {
        let Some(prepared) = self.prepared.take() else { return Next::Turn(Why::Asked) };
        loop {
            tokio::select! {
                () = prepared.notified() => return Next::Turn(Why::Asked),
                command = self.inbox.recv() => if let Some(next) = self.while_it_waits(command).await {
                    return next;
                },
            }
        }
    }

    /// Waits until it is the program's turn to be started. A stop that comes before that wins.
    pub(super) async fn turn(&mut self, why: Why) -> Next {
        let starts = self.spec.starts.clone();
        let wait = match self.unless_told(why, starts.turn(why)).await {
            Ok(wait) => wait,
            Err(next) => return next,
        };
        if wait.is_zero() {
            return Next::Launch;
        }
        let _waits = Waits::begin();
        tracing::debug!(id = self.spec.id, ?wait, "waits for its turn to be started");
        self.phase(Phase::Waiting(wait));
        (self.watcher)(&Happened::Waits);
        match self.unless_told(why, sleep(wait)).await {
            Ok(()) => Next::Launch,
            Err(next) => next,
        }
    }

    /// Waits for something on the way to a start. If a command comes first, the error is what is done next.
    async fn unless_told<T>(&mut self, why: Why, something: impl Future<Output = T>) -> Result<T, Next> {
        let mut something = std::pin::pin!(something);
        loop {
            tokio::select! {
                done = &mut something => return Ok(done),
                command = self.inbox.recv() => match command {
                    // Another turn would only be later.
                    Some(Command::Start(reply)) if why == Why::Asked => self.starting.push(reply),
                    command => if let Some(next) = self.while_it_waits(command).await {
                        return Err(next);
                    },
                },
            }
        }
    }

    /// Takes a command that comes before the program is started. Absent if the wait goes on.
    async fn while_it_waits(&mut self, command: Option<Command>) -> Option<Next> {
        Some(match command {
            Some(Command::Start(reply)) => {
                self.starting.push(reply);
                Next::Turn(Why::Asked)
            }
            Some(Command::Restart(reply)) => {
                self.starting.push(reply);
                self.at_once().await
            }
            Some(Command::Stop(reply) | Command::Kill(reply)) => self.stay_down(reply),
            Some(Command::Unhealthy { pid, reply, .. }) => {
                self.too_late(pid, reply);
                return None;
            }
            None => Next::Over,
        })
    }

    /// What comes next where somebody waits for the answer to a restart: the start. It takes a turn and does not wait for it, because whoever waits
    /// has a deadline.
    pub(super) async fn at_once(&self) -> Next {
        self.spec.starts.turn(Why::Asked).await;
        Next::Launch
    }

    /// Waits until it is time to try again.
    pub(super) async fn back_off(&mut self) -> Next {
        let policy = &self.spec.policy;
        let backoff = Backoff::new(policy.backoff_min, policy.backoff_max);
        let wait = jittered(backoff.after(self.failures), rand::random());
        self.phase(Phase::BackingOff(wait));
        let mut over = std::pin::pin!(sleep(wait));
        loop {
            tokio::select! {
                () = &mut over => return Next::Turn(Why::Again),
                command = self.inbox.recv() => if let Some(next) = self.while_it_waits(command).await {
                    return next;
                },
            }
        }
    }

    /// Waits for a command to start the program.
    pub(super) async fn down(&mut self, reason: DownReason) -> Next {
        match self.inbox.recv().await {
            Some(Command::Restart(reply)) if reason == DownReason::Stopped => {
                let what = format!("{} was stopped for good", self.spec.id);
                let _ = reply.send(Err(Failure::new(code::NOT_AVAILABLE, what)));
                Next::Down(reason)
            }
            Some(Command::Start(reply)) => {
                self.failures = 0;
                self.starting.push(reply);
                Next::Turn(Why::Asked)
            }
            Some(Command::Restart(reply)) => {
                self.failures = 0;
                self.starting.push(reply);
                self.at_once().await
            }
            Some(Command::Stop(reply) | Command::Kill(reply)) => self.stay_down(reply),
            Some(Command::Unhealthy { pid, reply, .. }) => {
                self.too_late(pid, reply);
                Next::Down(reason)
            }
            None => Next::Over,
        }
    }

    fn stay_down(&mut self, reply: Reply<()>) -> Next {
        self.phase(Phase::Exited(DownReason::Stopped));
        // Those who ordered a start whose turn has not come.
        self.answer_stopped();
        let _ = reply.send(Ok(()));
        Next::Down(DownReason::Stopped)
    }
}
