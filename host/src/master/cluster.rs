//! The capability `cluster` of the modules on the master: requests to the monitors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde_json::value::RawValue;

use super::members::Members;
use crate::exchange::Sent;
use crate::failure::{Failure, code};
use crate::plugin::capability::{Answers, Cluster, Targets};
use crate::plugin::{AnswerBounds, Gathered};
use crate::util::line_budget;

/// Sends the requests of modules to the monitors.
pub struct MasterCluster {
    members: Arc<Members>,
    configured: Configured,
    /// How long the answers to a `tell` are waited for.
    tell_deadline: Duration,
    telling: Arc<AtomicUsize>,
}

/// Says which servers are to run, the master's own among them.
pub type Configured = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// `tell`s whose answers are being collected.
const MAX_TELLING: usize = 4096;

impl MasterCluster {
    /// A `tell`'s answers are waited for `tell_deadline` long.
    pub fn new(members: Arc<Members>, configured: Configured, tell_deadline: Duration) -> Self {
        MasterCluster { members, configured, tell_deadline, telling: Arc::default() }
    }

    /// Sends a request to each server that the targets name, and gives the failure of each target that names nobody.
    fn send(
        &self,
        targets: &[String],
        module: &str,
        msg: &RawValue,
        depth: u8,
        limit: usize,
    ) -> Vec<(String, Result<Sent, Failure>)> {
        let (members, nobody) = self.members.resolve(targets);
        let sent = members.into_iter().map(|member| {
            let sent = match member.is_lost() {
                true => Err(Failure::new(code::DISCONNECTED, "the connection is lost")),
                false => member.exchange.send_bounded(module, msg, depth, limit),
            };
            // `disconnected` is for a server that was asked and left. This one was not asked.
            let sent = sent.map_err(|failure| match &*failure.code {
                code::DISCONNECTED => Failure::new(code::UNREACHABLE, format!("{} cannot be reached", member.id)),
                _ => failure,
            });
            (member.id, sent)
        });
        let missing = nobody.into_iter().map(|target| {
            let message = format!("no server matches `{target}`");
            (target, Err(Failure::new(code::NOT_FOUND, message)))
        });
        sent.chain(missing).collect()
    }
}

/// The answers, as they come.
fn answers(
    sent: Vec<(String, Result<Sent, Failure>)>,
    deadline: Instant,
) -> FuturesUnordered<impl Future<Output = (String, Result<Box<RawValue>, Failure>)>> {
    let answer = |(id, sent): (String, Result<Sent, Failure>)| async move {
        match sent {
            Ok(sent) => (id, sent.answer(deadline).await),
            Err(failure) => (id, Err(failure)),
        }
    };
    sent.into_iter().map(answer).collect()
}

async fn collect(sent: Vec<(String, Result<Sent, Failure>)>, deadline: Instant, bounds: AnswerBounds) -> Answers {
    let (mut answers, mut gathered) = (answers(sent, deadline), Gathered::new(bounds));
    while let Some((id, answer)) = answers.next().await {
        gathered.add(id, answer);
    }
    gathered.into_answers()
}

/// A `tell` whose answers are being collected, counted until it is dropped.
struct Telling(Arc<AtomicUsize>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Cluster for MasterCluster {
    fn servers(&self) -> Arc<RawValue> {
        self.members.to_json()
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
        module: String,
        msg: Arc<RawValue>,
        depth: u8,
        deadline: Instant,
        bounds: AnswerBounds,
    ) -> BoxFuture<'_, Answers> {
        let sent = self.send(&targets, &module, &msg, depth, bounds.each);
        Box::pin(collect(sent, deadline, bounds))
    }

    fn tell(&self, targets: Targets, module: String, msg: Arc<RawValue>, depth: u8) -> Result<(), Failure> {
        if self.telling.fetch_add(1, Ordering::AcqRel) >= MAX_TELLING {
            self.telling.fetch_sub(1, Ordering::AcqRel);
            return Err(Failure::new(
                code::BUSY,
                format!("the answers to {MAX_TELLING} messages are waited for already"),
            ));
        }
        // Nobody reads the answers, so that they are dropped one by one as they come.
        let sent = self.send(&targets, &module, &msg, depth, usize::MAX);
        let (deadline, telling) = (Instant::now() + self.tell_deadline, Telling(self.telling.clone()));
        tokio::spawn(async move {
            let _telling = telling;
            let mut answers = answers(sent, deadline);
            while let Some((id, answer)) = answers.next().await {
                match answer {
                    Ok(_) => {}
                    // A server that has left needs no message, so that this is no failure.
                    Err(failure)
                        if [code::DISCONNECTED, code::UNREACHABLE, code::NOT_FOUND].contains(&&*failure.code) =>
                    {
                        tracing::debug!(server = %id, %module, %failure, "a server left before it could be told");
                    }
                    Err(failure) => line_budget::caused(&id, || {
                        tracing::warn!(server = %id, %module, %failure, "a server could not be told");
                    }),
                }
            }
        });
        Ok(())
    }

    fn notify(&self, targets: Targets, module: String, msg: Arc<RawValue>) -> Result<(), Failure> {
        let (members, nobody) = self.members.resolve(&targets);
        for member in members {
            // A server that is leaving would not have read it.
            if let Err(failure) = member.exchange.notify(&module, &msg) {
                tracing::debug!(server = %member.id, %module, %failure, "a server could not be notified");
            }
        }
        match nobody.first() {
            None => Ok(()),
            Some(target) => Err(Failure::new(code::NOT_FOUND, format!("no server matches `{target}`"))),
        }
    }
}
