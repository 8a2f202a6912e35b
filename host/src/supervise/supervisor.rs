//! The task that runs one program, watches it, and brings it back.
//!
//! One task owns the process, so that stop, kill, restart and the program's own end meet in one place and in one order. «For good» always
//! wins: a stop that comes while a restart is under way turns the restart into a failure, and nothing brings the program back after a
//! stop but [`Supervisor::start`].

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Sleep, sleep};

use super::group::Group;
use super::{Contact, Ended, Exit, Guard, Happened, How, Phase, Restart, Spec, Status, Watcher, kill_leftovers};
use crate::failure::{Failure, code};
use crate::util::Backoff;
use crate::util::backoff::jittered;

/// Commands that wait for the task.
const QUEUE: usize = 16;
/// How long a killed process is waited for: one that hangs in the kernel cannot be killed before the kernel lets it go.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// A program under supervision. When the last clone is dropped, the program's group is killed.
#[derive(Clone)]
pub struct Supervisor {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
}

enum Command {
    Start(Reply<u32>),
    Restart(Reply<u32>),
    End { kill: bool, reply: Reply<()> },
}

impl Supervisor {
    /// Starts the program, in the background: [`Supervisor::status`] tells how it goes. One that cannot be started is tried again as its
    /// policy says.
    pub fn launch(spec: Spec, guard: Arc<Guard>) -> Self {
        Self::watched(spec, guard, Arc::new(|_: &Happened<'_>| {}))
    }

    /// As [`Supervisor::launch`]; `watcher` is told of every start and every end, in their order.
    pub fn watched(spec: Spec, guard: Arc<Guard>, watcher: Watcher) -> Self {
        Self::launch_in_contact(spec, guard, None, watcher)
    }

    /// As [`Supervisor::watched`], with a program that can be talked with.
    pub fn launch_in_contact(
        spec: Spec,
        guard: Arc<Guard>,
        contact: Option<Arc<dyn Contact>>,
        watcher: Watcher,
    ) -> Self {
        let (commands, inbox) = mpsc::channel(QUEUE);
        let first = Status { phase: Phase::Starting(None), restarts: 0, last_exit: None, since: None };
        let (sender, status) = watch::channel(first);
        let task = Task {
            spec,
            guard,
            contact,
            watcher,
            inbox,
            status: sender,
            failures: 0,
            launched: false,
            for_good: false,
            starting: Vec::new(),
        };
        tokio::spawn(task.run());
        Supervisor { commands, status }
    }

    /// How the program is; changes are told.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Starts a program that is down or waits to be brought back; answers with its process id when it runs.
    ///
    /// # Errors
    /// `busy` where it runs already or is being stopped, `failed` where it cannot be started.
    pub async fn start(&self) -> Result<u32, Failure> {
        self.ask(Command::Start).await
    }

    /// Stops the program and starts it again; answers with the new process id when it runs.
    ///
    /// # Errors
    /// `busy` where it is being stopped, `not-available` where it was stopped for good, `failed` where it cannot be started.
    pub async fn restart(&self) -> Result<u32, Failure> {
        self.ask(Command::Restart).await
    }

    /// Stops the program for good: SIGTERM to its group, SIGKILL when [`super::Policy::stop_deadline`] has passed. Answers when it has ended; at
    /// once where nothing runs.
    ///
    /// # Errors
    /// `timeout` where even a killed process does not end.
    pub async fn stop(&self) -> Result<(), Failure> {
        self.ask(|reply| Command::End { kill: false, reply }).await
    }

    /// Kills the program's group for good. As [`Supervisor::stop`] otherwise.
    ///
    /// # Errors
    /// As [`Supervisor::stop`].
    pub async fn kill(&self) -> Result<(), Failure> {
        self.ask(|reply| Command::End { kill: true, reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .try_send(command(reply))
            .map_err(|_| Failure::new(code::BUSY, "too many commands for this program are under way"))?;
        answer.await.unwrap_or_else(|_| Err(Failure::new(code::NOT_AVAILABLE, "this host is ending")))
    }
}

struct Task {
    spec: Spec,
    guard: Arc<Guard>,
    contact: Option<Arc<dyn Contact>>,
    watcher: Watcher,
    inbox: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    /// Ends in a row that came too soon.
    failures: u32,
    /// Whether a first start was tried: later ones are restarts.
    launched: bool,
    /// Whether it was stopped on purpose.
    for_good: bool,
    /// Who waits for it to run.
    starting: Vec<Reply<u32>>,
}

/// What the task does next.
enum Next {
    Launch,
    BackOff,
    Down,
    Over,
}

impl Task {
    async fn run(mut self) {
        let mut next = Next::Launch;
        loop {
            next = match next {
                Next::Launch => self.launch().await,
                Next::BackOff => self.back_off().await,
                Next::Down => self.down().await,
                Next::Over => return,
            };
        }
    }

    /// Starts the program and stays with it until it has ended.
    async fn launch(&mut self) -> Next {
        let again = mem::replace(&mut self.launched, true);
        self.status.send_modify(|status| {
            status.phase = Phase::Starting(None);
            status.restarts += u64::from(again);
        });
        kill_leftovers(&self.spec.leftovers).await;
        self.guard.ready().await;
        if let Some(contact) = &self.contact {
            contact.starting();
        }
        let mut group = match Group::spawn(&self.spec) {
            Ok(group) => group,
            Err(error) => {
                let program = self.spec.command.first().map_or("", String::as_str);
                let why = format!("`{program}` cannot be started: {error}");
                self.answer_starting(&Err(Failure::new(code::FAILED, format!("{}: {why}", self.spec.id))));
                return self.ended(Exit::now(How::NotStarted(why), Vec::new()), Duration::ZERO, false);
            }
        };
        let (pid, since) = (group.pid(), Instant::now());
        self.guard.add(pid).await;
        (self.watcher)(&Happened::Started { pid, again });
        tracing::debug!(id = self.spec.id, pid, "started");
        self.status.send_modify(|status| (status.phase, status.since) = (Phase::Starting(Some(pid)), Some(since)));
        self.answer_starting(&Ok(pid));
        let (mut ready, late) = self.ready(pid);
        tokio::pin!(late);
        let (mut is_ready, mut is_late) = (false, false);
        loop {
            tokio::select! {
                () = group.leader_ended() => {
                    let exit = self.sweep(group).await;
                    return self.ended(exit, since.elapsed(), is_late);
                }
                () = &mut ready, if !is_ready && !is_late => {
                    is_ready = true;
                    self.phase(Phase::Running(pid));
                }
                () = &mut late, if !is_ready => {
                    if mem::replace(&mut is_late, true) {
                        group.kill();
                    } else {
                        tracing::warn!(id = self.spec.id, "is not ready in time, and is ended");
                        group.terminate();
                    }
                    late.set(sleep(self.spec.policy.stop_deadline));
                }
                command = self.inbox.recv() => match command {
                    Some(Command::Start(reply)) => {
                        let _ = reply.send(Err(Failure::new(code::BUSY, format!("{} runs already, as process {pid}", self.spec.id))));
                    }
                    Some(Command::Restart(reply)) => {
                        self.starting.push(reply);
                        return self.end(group, false, Vec::new()).await;
                    }
                    Some(Command::End { kill, reply }) => {
                        self.for_good = true;
                        return self.end(group, kill, vec![reply]).await;
                    }
                    None => {
                        self.end(group, true, Vec::new()).await;
                        return Next::Over;
                    }
                },
            }
        }
    }

    /// What says that the program is ready, and when that is too late.
    fn ready(&self, pid: u32) -> (BoxFuture<'static, ()>, Sleep) {
        let waits = self.contact.as_ref().and_then(|contact| Some((contact.ready(pid)?, contact.ready_deadline())));
        match waits {
            Some((ready, deadline)) => (ready, sleep(deadline)),
            // A delay is never late.
            None => (sleep(self.spec.policy.ready_delay).boxed(), sleep(Duration::MAX)),
        }
    }

    /// Ends the group, and listens meanwhile: a restart under way can become an end for good, and an asking can become a killing.
    async fn end(&mut self, mut group: Group, mut kill: bool, mut stopping: Vec<Reply<()>>) -> Next {
        // While the leader is asked otherwise, no signal is sent.
        let mut asked = None;
        if kill {
            group.kill();
        } else {
            asked = self.contact.as_ref().and_then(|contact| contact.ask_to_end(self.spec.policy.stop_deadline));
            if asked.is_none() {
                group.terminate();
            }
        }
        let mut over = false;
        let deadline = sleep(if kill { KILL_DEADLINE } else { self.spec.policy.stop_deadline });
        tokio::pin!(deadline);
        let outcome = loop {
            let leader_only = kill || asked.is_some();
            let ended = async {
                // Those that the leader left behind have as long to end as the leader has, unless they were killed.
                if leader_only { group.leader_ended().await } else { group.all_ended().await }
            };
            tokio::select! {
                () = ended => {
                    if asked.take().is_none() || kill {
                        break Ok(());
                    }
                    // Only the leader knew.
                    group.terminate();
                    continue;
                }
                answer = Self::answered(&mut asked) => {
                    if let Err(failure) = answer {
                        tracing::warn!(id = self.spec.id, %failure, "could not be asked to end, and is sent a signal");
                        group.terminate();
                        asked = None;
                    }
                    continue;
                }
                () = &mut deadline => {
                    if kill {
                        let what = format!("{} was killed and does not end; the system holds it", self.spec.id);
                        tracing::error!("{what}");
                        break Err(Failure::new(code::TIMEOUT, what));
                    }
                    tracing::warn!(id = self.spec.id, "did not end when asked, and is killed");
                    kill = true;
                }
                command = self.inbox.recv(), if !over => match command {
                    Some(Command::Start(reply) | Command::Restart(reply)) => {
                        if self.for_good {
                            let what = format!("{} is being stopped", self.spec.id);
                            let _ = reply.send(Err(Failure::new(code::BUSY, what)));
                        } else {
                            self.starting.push(reply);
                        }
                        continue;
                    }
                    Some(Command::End { kill: now, reply }) => {
                        self.stop_for_good();
                        stopping.push(reply);
                        if kill || !now {
                            continue;
                        }
                        kill = true;
                    }
                    None => (over, kill) = (true, true),
                },
            }
            if kill {
                group.kill();
                deadline.set(sleep(KILL_DEADLINE));
            }
        };
        let exit = self.sweep(group).await;
        tracing::info!(id = self.spec.id, "{}", exit.how);
        (self.watcher)(&Happened::Ended { exit: &exit, asked: true, back: !over && !self.for_good });
        self.status.send_modify(|status| (status.last_exit, status.since) = (Some(exit), None));
        // The state changes before anybody is told, so that whoever was told finds it changed.
        let next = if over {
            Next::Over
        } else if self.for_good {
            self.phase(Phase::Exited(Ended::Stopped));
            Next::Down
        } else {
            Next::Launch
        };
        for reply in stopping {
            let _ = reply.send(outcome.clone());
        }
        next
    }

    /// Waits for the answer of a program that was asked to end. One that has agreed is waited for as if it had not answered.
    async fn answered(asked: &mut Option<BoxFuture<'static, Result<(), Failure>>>) -> Result<(), Failure> {
        let Some(asking) = asked else { return std::future::pending().await };
        let answer = (&mut *asking).await;
        if answer.is_ok() {
            *asking = std::future::pending().boxed();
        }
        answer
    }

    /// Waits until it is time to try again.
    async fn back_off(&mut self) -> Next {
        let policy = &self.spec.policy;
        let backoff = Backoff::new(policy.backoff_min, policy.backoff_max);
        let wait = jittered(backoff.after(self.failures), rand::random());
        self.phase(Phase::BackingOff(wait));
        tokio::select! {
            () = sleep(wait) => Next::Launch,
            command = self.inbox.recv() => match command {
                Some(Command::Start(reply) | Command::Restart(reply)) => {
                    self.starting.push(reply);
                    Next::Launch
                }
                Some(Command::End { reply, .. }) => self.stay_down(reply),
                None => Next::Over,
            },
        }
    }

    /// Nothing runs until somebody wishes so.
    async fn down(&mut self) -> Next {
        match self.inbox.recv().await {
            Some(Command::Restart(reply)) if self.for_good => {
                let what = format!("{} was stopped for good", self.spec.id);
                let _ = reply.send(Err(Failure::new(code::NOT_AVAILABLE, what)));
                Next::Down
            }
            Some(Command::Start(reply) | Command::Restart(reply)) => {
                (self.for_good, self.failures) = (false, 0);
                self.starting.push(reply);
                Next::Launch
            }
            Some(Command::End { reply, .. }) => self.stay_down(reply),
            None => Next::Over,
        }
    }

    fn stay_down(&mut self, reply: Reply<()>) -> Next {
        self.for_good = true;
        self.phase(Phase::Exited(Ended::Stopped));
        let _ = reply.send(Ok(()));
        Next::Down
    }

    /// The program ended by itself, or was ended since it was not ready in time: decides whether it comes back. One that was late has failed,
    /// whatever it says.
    fn ended(&mut self, exit: Exit, ran: Duration, late: bool) -> Next {
        let policy = &self.spec.policy;
        let back = match policy.restart {
            _ if self.spec.final_code.is_some_and(|code| exit.how == How::Code(code)) => false,
            Restart::Always => true,
            Restart::OnFailure => late || exit.how != How::Code(0),
            Restart::Never => false,
        };
        if exit.how == How::Code(0) && !back {
            tracing::info!(id = self.spec.id, "{}", exit.how);
        } else {
            tracing::warn!(id = self.spec.id, last = exit.last_lines.last(), back, "{}", exit.how);
        }
        (self.watcher)(&Happened::Ended { exit: &exit, asked: false, back });
        self.failures = if ran >= policy.healthy_after && !late { 1 } else { self.failures.saturating_add(1) };
        self.status.send_modify(|status| {
            (status.last_exit, status.since) = (Some(exit), None);
            if !back {
                status.phase = Phase::Exited(Ended::GivenUp);
            }
        });
        if back { Next::BackOff } else { Next::Down }
    }

    async fn sweep(&mut self, group: Group) -> Exit {
        let pid = group.pid();
        let exit = group.sweep().await;
        self.guard.remove(pid).await;
        exit
    }

    /// Whoever waited for a start is told that there will be none.
    fn stop_for_good(&mut self) {
        self.for_good = true;
        self.answer_starting(&Err(Failure::new(
            code::NOT_AVAILABLE,
            format!("{} was stopped meanwhile", self.spec.id),
        )));
    }

    fn answer_starting(&mut self, answer: &Result<u32, Failure>) {
        for reply in self.starting.drain(..) {
            let _ = reply.send(answer.clone());
        }
    }

    fn phase(&self, phase: Phase) {
        self.status.send_modify(|status| status.phase = phase);
    }
}
