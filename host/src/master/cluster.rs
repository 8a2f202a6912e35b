//! The capability `cluster` of the modules on the master: requests to the monitors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::FuturesUnordered;
use serde_json::value::RawValue;

use super::members::{Member, Members};
use crate::budget::SharedText;
use crate::exchange::{Asked, Notice, Sent};
use crate::failure::{Failure, code};
use crate::plugin::capability::{Cluster, Targets};
use crate::plugin::{AnswerBounds, Gathered, ModuleMessage};
use crate::transport::Transport;
use crate::util::{Share, Shares, line_budget};

/// Sends the requests of modules to the monitors.
pub struct MasterCluster {
    members: Arc<Members>,
    configured: Configured,
    /// How long the answers to a `tell` are waited for.
    tell_deadline: Duration,
    telling: Arc<AtomicUsize>,
    /// The same of modules that the host does not carry, by module.
    telling_of_others: Shares,
}

/// Says which servers are to run, the master's own among them.
pub type Configured = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// `tell`s whose answers are being collected: of the modules that the host carries, and of all others, of which one module may have an eighth.
const MAX_TELLING: usize = 4096;
const TELLING_OF_OTHERS: usize = 2048;
/// What is kept for each server that is told something, until it has answered. Bytes.
const TOLD: usize = 1 << 10;

impl MasterCluster {
    /// A `tell`'s answers are waited for `tell_deadline` long.
    pub fn new(members: Arc<Members>, configured: Configured, tell_deadline: Duration) -> Self {
        let telling_of_others = Shares::new(TELLING_OF_OTHERS, TELLING_OF_OTHERS / 8);
        MasterCluster { members, configured, tell_deadline, telling: Arc::default(), telling_of_others }
    }

    /// A place for a `tell` whose answers are to be collected.
    async fn telling(&self, message: &ModuleMessage) -> Result<Telling, Failure> {
        if !message.from.is_carried() {
            let wanted = self.telling_of_others.take(message.from.name(), 1);
            let late = |_| {
                let message = format!(
                    "the answers to too many messages of module {} are waited for already",
                    message.from.name()
                );
                Failure::new(code::BUSY, message)
            };
            return Ok(Telling::Others(tokio::time::timeout_at(message.deadline.into(), wanted).await.map_err(late)?));
        }
        let more = |telling: usize| (telling < MAX_TELLING).then_some(telling + 1);
        self.telling.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).map_err(|_| {
            Failure::new(code::BUSY, format!("the answers to {MAX_TELLING} messages are waited for already"))
        })?;
        Ok(Telling::Carried(self.telling.clone()))
    }
}

/// Sends a request to a server when there is room for it.
async fn send(
    member: &Member,
    message: &ModuleMessage,
    shared: Option<&Arc<SharedText>>,
    limit: usize,
) -> Result<Sent, Failure> {
    let asked = Asked { module: &message.module, body: &message.msg, shared, depth: message.depth, limit };
    let sent = match member.is_lost() {
        true => Err(Failure::new(code::DISCONNECTED, "the connection is lost")),
        false => member.exchange.send_for(&message.from, asked, message.deadline).await,
    };
    // `disconnected` is for a server that was asked and left. This one was not asked.
    sent.map_err(|failure| match &*failure.code {
        code::DISCONNECTED => Failure::new(code::UNREACHABLE, format!("{} cannot be reached", member.id)),
        _ => failure,
    })
}

/// The message as one text for all that are sent it, where that is worth it.
fn share(members: &[Member], message: &ModuleMessage) -> Option<Arc<SharedText>> {
    if members.len() < 2 {
        return None;
    }
    // The master's own monitor is in this process, and has no account.
    let other = members.iter().find(|member| member.exchange.peer().transport() != Transport::Memory)?;
    other.exchange.shared(&message.msg)
}

/// The failure of a target that names nobody.
fn nobody(target: &str) -> Failure {
    Failure::new(code::NOT_FOUND, format!("no server matches `{target}`"))
}

/// A `tell` whose answers are being collected, counted until it is dropped.
enum Telling {
    Carried(Arc<AtomicUsize>),
    Others(#[expect(dead_code, reason = "it is held")] Share),
}

impl Drop for Telling {
    fn drop(&mut self) {
        if let Telling::Carried(telling) = self {
            telling.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Logs what became of a message to a server that was told something.
fn log_told(id: &str, module: &str, answer: Result<Box<RawValue>, Failure>) {
    match answer {
        Ok(_) => {}
        // A server that has left needs no message, so that this is no failure.
        Err(failure) if [code::DISCONNECTED, code::UNREACHABLE, code::NOT_FOUND].contains(&&*failure.code) => {
            tracing::debug!(server = %id, %module, %failure, "a server left before it could be told");
        }
        Err(failure) => line_budget::caused(id, || {
            tracing::warn!(server = %id, %module, %failure, "a server could not be told");
        }),
    }
}

impl Cluster for MasterCluster {
    fn servers(&self) -> Arc<RawValue> {
        self.members.to_json()
    }

    fn server(&self, id: &str) -> Option<Arc<RawValue>> {
        self.members.info(id)
    }

    fn revision(&self) -> (String, u64) {
        (self.members.epoch().to_owned(), *self.members.revision().borrow())
    }

    fn configured(&self) -> Vec<String> {
        (self.configured)()
    }

    fn request_many(
        &self,
        targets: Targets,
        message: ModuleMessage,
        bounds: AnswerBounds,
    ) -> BoxFuture<'_, Result<Gathered, Failure>> {
        Box::pin(async move {
            let (members, missing) = self.members.resolve(&targets);
            let gathered = Gathered::new(bounds, &message.from, members.len());
            let mut gathered = gathered.map_err(|over| Failure::new(code::BUSY, over.to_string()))?;
            for target in missing {
                let failure = nobody(&target);
                gathered.add(target, Err(failure));
            }
            let (message, shared) = (&message, share(&members, &message));
            let shared = shared.as_ref();
            let ask = |member: Member| async move {
                let answer = match send(&member, message, shared, bounds.each).await {
                    Ok(sent) => sent.answer(message.deadline).await,
                    Err(failure) => Err(failure),
                };
                (member.id, answer)
            };
            let mut answers: FuturesUnordered<_> = members.into_iter().map(ask).collect();
            while let Some((id, answer)) = answers.next().await {
                gathered.add(id, answer);
            }
            Ok(gathered)
        })
    }

    fn tell(&self, targets: Targets, message: ModuleMessage) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let telling = self.telling(&message).await?;
            let (members, missing) = self.members.resolve(&targets);
            let charge = message.from.charge(members.len().saturating_mul(TOLD));
            let charge = charge.map_err(|over| Failure::new(code::BUSY, over.to_string()))?;
            for target in missing {
                log_told(&target, &message.module, Err(nobody(&target)));
            }
            // All at once, so that a server for which there is no room does not keep the others waiting.
            let shared = share(&members, &message);
            let sent = join_all(members.iter().map(|member| send(member, &message, shared.as_ref(), usize::MAX))).await;
            let mut busy = None;
            let mut told: FuturesUnordered<_> = FuturesUnordered::new();
            let deadline = Instant::now() + self.tell_deadline;
            for (member, sent) in members.into_iter().zip(sent) {
                match sent {
                    // Nobody reads the answers, so that they are dropped one by one as they come.
                    Ok(sent) => told.push(async move { (member.id, sent.answer(deadline).await) }),
                    Err(failure) if failure.code == code::BUSY => {
                        busy.get_or_insert_with(|| about(&member.id, &failure));
                    }
                    Err(failure) => log_told(&member.id, &message.module, Err(failure)),
                }
            }
            let module = message.module;
            tokio::spawn(async move {
                let _held = (telling, charge);
                while let Some((id, answer)) = told.next().await {
                    log_told(&id, &module, answer);
                }
            });
            busy.map_or(Ok(()), Err)
        })
    }

    fn notify(&self, targets: Targets, message: ModuleMessage) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let (members, missing) = self.members.resolve(&targets);
            let ModuleMessage { from, module, msg, depth: _, deadline } = &message;
            let notice = &Notice::new(module, msg);
            let notify = |member: Member| async move {
                let sent = member.exchange.notify_for(from, notice, *deadline).await;
                (member.id, sent)
            };
            let mut busy = None;
            for (id, sent) in join_all(members.into_iter().map(notify)).await {
                match sent {
                    Ok(()) => {}
                    Err(failure) if failure.code == code::BUSY => {
                        busy.get_or_insert_with(|| about(&id, &failure));
                    }
                    // A server that is leaving would not have read it.
                    Err(failure) => {
                        tracing::debug!(server = %id, %module, %failure, "a server could not be notified");
                    }
                }
            }
            match (busy, missing.first()) {
                (Some(busy), _) => Err(busy),
                (None, Some(target)) => Err(nobody(target)),
                (None, None) => Ok(()),
            }
        })
    }
}

/// A failure of one of several servers.
fn about(id: &str, failure: &Failure) -> Failure {
    Failure::new(failure.code.clone(), format!("{id}: {}", failure.message))
}
