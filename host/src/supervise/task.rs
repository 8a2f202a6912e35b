//! The task that runs one program, watches it, and starts it again.
//!
//! One task owns the process, so that stop, kill, restart and the program's own end meet in one place and in one order. A stop or a kill always wins:
//! if it comes while a restart is under way, the restart fails, and only [`Command::Start`] starts the program again.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Sleep, sleep};

use super::group::Group;
use super::starts::Why;
use super::{Contact, DownReason, Exit, Guard, Happened, How, Phase, Restart, Spec, Status, Watcher, kill_leftovers};
use crate::failure::{Failure, code};
use crate::util::{in_words, lasting};

/// Takes the answer to a command.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// What the task is told. When the last sender is dropped, the program is killed.
pub(super) enum Command {
    /// Start a program that does not run. The answer is its process id.
    Start(Reply<u32>),
    /// End the program and start it again. The answer is the new process id.
    Restart(Reply<u32>),
    /// Ask the program to end, and leave it down.
    Stop(Reply<()>),
    /// Kill the program, and leave it down.
    Kill(Reply<()>),
    /// End the program, which counts as failed. Its policy says whether it is started again. The answer comes when it begins to be ended.
    Unhealthy {
        /// The process that is not well. Another one is not ended.
        pid: u32,
        /// Why, in words.
        why: String,
        /// Takes the answer.
        reply: Reply<()>,
    },
}

/// What was asked of a program that runs, from the weakest to the strongest. A weaker one that comes later does not replace a stronger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EndRequest {
    /// To end, because it is not well. Its policy says whether it is started again.
    Unhealthy,
    /// To end, and to be started again.
    Restart,
    /// To end, and to stay down.
    Stop,
    /// To be killed, and to stay down.
    Kill,
    /// To be killed, because nobody supervises it any more.
    HostEnds,
}

pub(super) struct Task {
    pub(super) spec: Spec,
    guard: Arc<Guard>,
    pub(super) contact: Option<Arc<dyn Contact>>,
    pub(super) watcher: Watcher,
    pub(super) inbox: mpsc::Receiver<Command>,
    pub(super) status: watch::Sender<Status>,
    /// Failures in a row: ends before [`super::Policy::healthy_after`].
    pub(super) failures: u32,
    /// Told when a program that was only prepared is to be started; absent if it is started at once.
    pub(super) prepared: Option<Arc<Notify>>,
    /// Whether a first start was tried. Later starts are restarts.
    launched: bool,
    /// Replies to those who wait for the program to be started.
    pub(super) starting: Vec<Reply<u32>>,
}

/// What the task does next.
#[derive(Clone, Copy)]
pub(super) enum Next {
    /// It waits for the program's turn.
    Turn(Why),
    /// It starts the program.
    Launch,
    /// It waits before it starts the program.
    BackOff,
    /// It waits for a command to start the program, which is down for that reason.
    Down(DownReason),
    /// Nothing: nobody supervises the program any more.
    Over,
}

impl Task {
    pub(super) fn new(
        spec: Spec,
        guard: Arc<Guard>,
        contact: Option<Arc<dyn Contact>>,
        watcher: Watcher,
        inbox: mpsc::Receiver<Command>,
        status: watch::Sender<Status>,
        prepared: Option<Arc<Notify>>,
    ) -> Self {
        let starting = Vec::new();
        Task { spec, guard, contact, watcher, inbox, status, failures: 0, prepared, launched: false, starting }
    }

    /// Runs the program until nobody supervises it any more.
    pub(super) async fn run(mut self) {
        let mut next = self.first().await;
        loop {
            // A program that is to be down stays down. Any other is started again after a pause, because its process has ended with what panicked.
            let otherwise = match next {
                Next::Down(reason) => Next::Down(reason),
                Next::Over => return,
                Next::Turn(_) | Next::Launch | Next::BackOff => Next::BackOff,
            };
            const WHAT: &str = "what supervises a program";
            next = match lasting::step(WHAT, self.step(next)).await {
                Some(next) => next,
                None => lasting::step(WHAT, self.without_process(otherwise)).await.unwrap_or(otherwise),
            };
        }
    }

    async fn step(&mut self, next: Next) -> Next {
        match next {
            Next::Turn(why) => self.turn(why).await,
            Next::Launch => self.launch().await,
            Next::BackOff => self.back_off().await,
            Next::Down(reason) => self.down(reason).await,
            Next::Over => Next::Over,
        }
    }

    /// What comes after a step that panicked: its process was killed when the step let go of it.
    async fn without_process(&mut self, next: Next) -> Next {
        let (pid, stopping) = {
            let status = self.status.borrow();
            (status.pid(), matches!(status.phase, Phase::Stopping(_)))
        };
        if let Some(pid) = pid {
            self.guard.remove(pid).await;
            let why = format!("{} has ended, because this host has failed to supervise it", self.spec.id);
            self.answer_starting(&Err(Failure::new(code::FAILED, why.clone())));
            let exit = Exit { why: Some(why), ..Exit::now(How::Signal(9), Vec::new()) };
            let ended = self.ended(exit, Duration::ZERO);
            // Somebody may have wanted it down, and was not answered.
            return if stopping { self.given_up() } else { ended };
        }
        next
    }

    fn given_up(&mut self) -> Next {
        self.phase(Phase::Exited(DownReason::GivenUp));
        Next::Down(DownReason::GivenUp)
    }

    /// Starts the program and stays with it until it has ended.
    async fn launch(&mut self) -> Next {
        let again = mem::replace(&mut self.launched, true);
        self.status.send_modify(|status| {
            status.phase = Phase::Starting(None);
            status.restarts += u64::from(again);
        });
        kill_leftovers(&self.spec.leftovers).await;
        let (key, announcement) = self.guard.announcement().await.unzip();
        if let Some(contact) = &self.contact {
            contact.starting();
        }
        // On a thread that may wait, because a fork copies the page tables of this process.
        let spec = self.spec.clone();
        let spawned = tokio::task::spawn_blocking(move || Group::spawn(&spec, announcement)).await;
        let mut group = match spawned.unwrap_or_else(|ended| Err(io::Error::other(ended))) {
            Ok(group) => group,
            Err(error) => {
                if let Some(key) = key {
                    self.guard.take_back(key).await;
                }
                let program = self.spec.command.first().map_or("", String::as_str);
                let why = format!("`{program}` cannot be started: {error}");
                self.answer_starting(&Err(Failure::new(code::FAILED, format!("{}: {why}", self.spec.id))));
                return self.ended(Exit::now(How::NotStarted(why), Vec::new()), Duration::ZERO);
            }
        };
        let (pid, since) = (group.pid(), Instant::now());
        self.guard.add(pid).await;
        self.status.send_modify(|status| (status.phase, status.since) = (Phase::Starting(Some(pid)), Some(since)));
        (self.watcher)(&Happened::Started { pid, again });
        group.read_output(&self.spec);
        tracing::debug!(id = self.spec.id, pid, "started");
        self.answer_starting(&Ok(pid));
        let (mut ready, late) = self.ready(pid);
        tokio::pin!(late);
        let (mut is_ready, mut is_late) = (false, false);
        loop {
            tokio::select! {
                () = group.leader_ended() => {
                    let exit = self.sweep(group).await;
                    // One that was never ready has not run well, however long it ran.
                    let (why, ran) = if is_late { (self.not_ready(), Duration::ZERO) } else { (None, since.elapsed()) };
                    return self.ended(Exit { why, ..exit }, ran);
                }
                () = &mut ready, if !is_ready && !is_late => {
                    is_ready = true;
                    self.phase(Phase::Running(pid));
                }
                () = &mut late, if !is_ready => {
                    if mem::replace(&mut is_late, true) {
                        group.kill();
                    } else {
                        let why = self.not_ready().unwrap_or_default();
                        tracing::warn!(id = self.spec.id, "is ended, because {why}");
                        self.phase(Phase::Stopping(pid));
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
                        return self.end(group, EndRequest::Restart, None, None).await;
                    }
                    Some(Command::Stop(reply)) => return self.end(group, EndRequest::Stop, Some(reply), None).await,
                    Some(Command::Kill(reply)) => return self.end(group, EndRequest::Kill, Some(reply), None).await,
                    Some(Command::Unhealthy { pid: process, why, reply }) if process == pid => {
                        tracing::warn!(id = self.spec.id, "is ended, because {why}");
                        let _ = reply.send(Ok(()));
                        return self.end(group, EndRequest::Unhealthy, None, Some(why)).await;
                    }
                    Some(Command::Unhealthy { pid, reply, .. }) => self.too_late(pid, reply),
                    None => return self.end(group, EndRequest::HostEnds, None, None).await,
                },
            }
        }
    }

    /// A future that is done when the program is ready, and one that is done when it is too late for that.
    fn ready(&self, pid: u32) -> (BoxFuture<'static, ()>, Sleep) {
        let waits = self.contact.as_ref().and_then(|contact| Some((contact.ready(pid)?, contact.ready_timeout())));
        match waits {
            Some((ready, deadline)) => (ready, sleep(deadline)),
            // With a delay the program cannot be late.
            None => (sleep(self.spec.policy.ready_delay).boxed(), sleep(Duration::MAX)),
        }
    }

    /// Why a program counts as failed that is not ready in time.
    fn not_ready(&self) -> Option<String> {
        let contact = self.contact.as_ref()?;
        Some(format!("{} for {}", contact.awaited(), in_words(contact.ready_timeout())))
    }

    /// Refuses to end a process that does not run, or that is being ended already.
    pub(super) fn too_late(&self, pid: u32, reply: Reply<()>) {
        let what = format!("process {pid} of {} does not run any more, or is being ended", self.spec.id);
        let _ = reply.send(Err(Failure::new(code::NOT_AVAILABLE, what)));
    }

    /// Decides whether a program is started again that ended by itself, or that was ended because it failed. A program that was ended because it failed
    /// has failed, whatever its exit code. `ran` is how long it ran well.
    pub(super) fn ended(&mut self, exit: Exit, ran: Duration) -> Next {
        let failed = exit.why.is_some();
        let policy = &self.spec.policy;
        let back = match policy.restart {
            _ if matches!(exit.how, How::Code(code) if self.spec.final_codes.contains(&code)) => false,
            Restart::Always => true,
            Restart::OnFailure => failed || exit.how != How::Code(0),
            Restart::Never => false,
        };
        if exit.how == How::Code(0) && !back && !failed {
            tracing::info!(id = self.spec.id, "{}", exit.how);
        } else {
            tracing::warn!(id = self.spec.id, last = exit.last_lines.last(), back, "{}", exit.how);
        }
        (self.watcher)(&Happened::Ended { exit: &exit, asked: false, back });
        self.failures = if ran >= policy.healthy_after { 1 } else { self.failures.saturating_add(1) };
        self.status.send_modify(|status| {
            (status.last_exit, status.since) = (Some(exit), None);
            if !back {
                status.phase = Phase::Exited(DownReason::GivenUp);
            }
        });
        if back { Next::BackOff } else { Next::Down(DownReason::GivenUp) }
    }

    /// Kills what is left of the group, whose leader has ended, and tells how the leader ended.
    pub(super) async fn sweep(&mut self, group: Group) -> Exit {
        let pid = group.pid();
        let exit = group.sweep().await;
        self.guard.remove(pid).await;
        exit
    }

    /// Answers those who wait for the program to be started.
    pub(super) fn answer_starting(&mut self, answer: &Result<u32, Failure>) {
        for reply in self.starting.drain(..) {
            let _ = reply.send(answer.clone());
        }
    }

    /// Answers those who wait for the program to be started that it was stopped.
    pub(super) fn answer_stopped(&mut self) {
        let what = format!("{} was stopped meanwhile", self.spec.id);
        self.answer_starting(&Err(Failure::new(code::NOT_AVAILABLE, what)));
    }

    pub(super) fn phase(&self, phase: Phase) {
        self.status.send_modify(|status| status.phase = phase);
    }
}
