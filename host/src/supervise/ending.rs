//! Ends a running program: asks it, and kills it when the deadline has passed.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::group::Group;
use super::task::{Command, EndRequest, Next, Reply, Task};
use super::{DownReason, Exit, Happened, Phase};
use crate::failure::{Failure, code};

/// How long the task waits for a killed process to end. A process that hangs in the kernel ends only when the kernel lets it go.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// How a program is being ended.
enum Means {
    /// Only the group's leader was asked, by a call. Its answer may still come.
    Call(BoxFuture<'static, Result<(), Failure>>),
    /// The whole group was sent SIGTERM, or its leader's input has ended.
    Signal,
    /// The whole group was sent SIGKILL.
    Kill,
}

impl Task {
    /// Ends the group. Meanwhile it takes commands, which can make `asked` stronger. `stopping` is answered when the program has ended. `why` says
    /// what is wrong with a program that is not well.
    pub(super) async fn end(
        &mut self,
        mut group: Group,
        mut asked: EndRequest,
        stopping: Option<Reply<()>>,
        why: Option<String>,
    ) -> Next {
        let ran = self.status.borrow().since.map(|since| since.elapsed()).unwrap_or_default();
        self.phase(Phase::Stopping(group.pid()));
        let mut stopping: Vec<_> = stopping.into_iter().collect();
        let mut means = self.begin_end(&mut group, asked);
        let deadline = sleep(match means {
            Means::Kill => KILL_DEADLINE,
            Means::Call(_) | Means::Signal => self.spec.policy.stop_deadline,
        });
        tokio::pin!(deadline);
        let outcome = loop {
            let leader_only = !matches!(means, Means::Signal);
            let ended = async {
                // After a signal, processes that the leader left behind have the same deadline as the leader.
                if leader_only { group.leader_ended().await } else { group.all_ended().await }
            };
            tokio::select! {
                () = ended => {
                    if !matches!(means, Means::Call(_)) {
                        break Ok(());
                    }
                    // Only the leader was asked, so the processes that it left behind are sent SIGTERM.
                    group.terminate();
                    means = Means::Signal;
                    continue;
                }
                failure = refused(&mut means) => {
                    tracing::warn!(id = self.spec.id, %failure, "could not be asked to end, and is sent a signal");
                    group.terminate();
                    means = Means::Signal;
                    continue;
                }
                () = &mut deadline => {
                    if matches!(means, Means::Kill) {
                        let what = format!("{} was killed and does not end; the system holds it", self.spec.id);
                        tracing::error!("{what}");
                        break Err(Failure::new(code::TIMEOUT, what));
                    }
                    tracing::warn!(id = self.spec.id, "did not end when asked, and is killed");
                }
                command = self.inbox.recv(), if asked != EndRequest::HostEnds => {
                    let more = self.asked_meanwhile(command, asked, &mut stopping);
                    asked = asked.max(more);
                    if asked < EndRequest::Kill || matches!(means, Means::Kill) {
                        continue;
                    }
                }
            }
            group.kill();
            means = Means::Kill;
            deadline.set(sleep(KILL_DEADLINE));
        };
        let exit = self.sweep(group).await;
        if asked == EndRequest::Unhealthy {
            // Nobody who asks for the end of a program can have come meanwhile, because that would be more than this.
            return self.ended(Exit { why, ..exit }, ran);
        }
        tracing::info!(id = self.spec.id, "{}", exit.how);
        (self.watcher)(&Happened::Ended { exit: &exit, asked: true, back: asked == EndRequest::Restart });
        self.status.send_modify(|status| (status.last_exit, status.since) = (Some(exit), None));
        // The state changes before the replies are sent, so that whoever gets a reply sees the new state.
        let next = match asked {
            EndRequest::Unhealthy | EndRequest::Restart => self.at_once().await,
            EndRequest::Stop | EndRequest::Kill => {
                self.phase(Phase::Exited(DownReason::Stopped));
                Next::Down(DownReason::Stopped)
            }
            EndRequest::HostEnds => Next::Over,
        };
        for reply in stopping {
            let _ = reply.send(outcome.clone());
        }
        next
    }

    /// Begins the end by the mildest means that `asked` permits.
    fn begin_end(&self, group: &mut Group, asked: EndRequest) -> Means {
        if asked >= EndRequest::Kill {
            group.kill();
            return Means::Kill;
        }
        let call = self.contact.as_ref().and_then(|contact| contact.ask_to_end(self.spec.policy.stop_deadline));
        match call {
            Some(call) => Means::Call(call),
            None => {
                group.terminate();
                Means::Signal
            }
        }
    }

    /// Takes a command that comes while the program ends, and returns what it asks for.
    fn asked_meanwhile(
        &mut self,
        command: Option<Command>,
        asked: EndRequest,
        stopping: &mut Vec<Reply<()>>,
    ) -> EndRequest {
        let (more, reply) = match command {
            Some(Command::Start(reply) | Command::Restart(reply)) => {
                if asked <= EndRequest::Restart {
                    self.starting.push(reply);
                } else {
                    let what = format!("{} is being stopped", self.spec.id);
                    let _ = reply.send(Err(Failure::new(code::BUSY, what)));
                }
                return EndRequest::Restart;
            }
            Some(Command::Stop(reply)) => (EndRequest::Stop, reply),
            Some(Command::Kill(reply)) => (EndRequest::Kill, reply),
            Some(Command::Unhealthy { pid, reply, .. }) => {
                self.too_late(pid, reply);
                return asked;
            }
            None => return EndRequest::HostEnds,
        };
        self.answer_stopped();
        stopping.push(reply);
        more
    }
}

/// Waits until a program that was asked to end by a call refuses, and returns why. If the program agrees, this never returns.
async fn refused(means: &mut Means) -> Failure {
    if let Means::Call(call) = means {
        match call.as_mut().await {
            Ok(()) => *call = std::future::pending().boxed(),
            Err(failure) => return failure,
        }
    }
    std::future::pending().await
}
