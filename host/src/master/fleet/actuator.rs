//! How a job acts on a server: through its monitor, or on the process that the starter has begun.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::failure::{Failure, code};
use crate::fleet::job::{Actuator, Messages, NotEnded, Times};
use crate::fleet::{Fleet, State};
use crate::master::members::{Member, Members};
use crate::master::starter::ServerStarter;
use crate::plugin::capability::Process;
use crate::wire::{Capabilities, raw};

/// Time on top of a server's own until its monitor must have answered, or must have ended after it has answered: it ends the calls under way first.
const MARGIN: Duration = Duration::from_secs(7);
/// How often a server whose connection breaks while it is asked to end is asked.
const TRIES: usize = 3;

pub(super) struct MasterActuator {
    pub fleet: Arc<Fleet>,
    pub starter: Arc<ServerStarter>,
    pub members: Arc<Members>,
    pub own: String,
    pub process: Arc<dyn Process>,
}

impl MasterActuator {
    /// Asks a server's module through its monitor.
    async fn ask(
        &self,
        member: &Member,
        messages: &Messages,
        body: &RawValue,
        within: Duration,
    ) -> Result<Box<RawValue>, Failure> {
        if member.is_lost() {
            return Err(Failure::new(code::UNREACHABLE, format!("{} cannot be reached", member.id)));
        }
        member.exchange.send(&messages.module, body, 0)?.answer(Instant::now() + within).await
    }

    async fn end(&self, id: &str, kill: bool, messages: &Messages) -> Result<(), NotEnded> {
        let body = if kill { &messages.kill } else { &messages.stop };
        let times = self.times(id);
        let begun = self.starter.has_begun(id);
        let mut asked = None;
        for _ in 0..TRIES {
            let Some(member) = self.members.first(id) else { break };
            let Some(body) = body else { break };
            let answer = self.ask(&member, messages, body, times.stop + MARGIN).await;
            match answer {
                Ok(_) => {}
                // A server of pomelo 2.x answers `kill` with its id in the place of an error.
                Err(failure) if failure.message == id => {}
                Err(failure) if failure.code == code::DISCONNECTED => {}
                // Whoever began it can end it without being heard.
                Err(failure) if begun => {
                    tracing::warn!(server = id, %failure, "did not end when asked");
                    break;
                }
                Err(failure) => {
                    let doubt = [code::UNREACHABLE, code::TIMEOUT].contains(&&*failure.code);
                    return Err(NotEnded { failure, refused: !doubt });
                }
            }
            if begun {
                asked = Some(times.stop + MARGIN);
                break;
            }
            // Nothing but the end of its connection shows that it has ended. A connection that broke may come back.
            let over = self.members.over(id, member.connection());
            if tokio::time::timeout(MARGIN, over).await.is_err() {
                let what = format!("{id} has answered that it ends, and is still connected");
                return Err(NotEnded { failure: Failure::new(code::TIMEOUT, what), refused: false });
            }
        }
        if begun {
            let ended = self.starter.end(id, kill, asked).await;
            return ended.map_err(|failure| NotEnded { failure, refused: false });
        }
        match self.members.first(id) {
            None if self.fleet.state(id) == Some(State::Lost) => {
                let what = format!("{id} cannot be reached: its connection is lost, so that it may still run");
                Err(NotEnded { failure: Failure::new(code::UNREACHABLE, what), refused: false })
            }
            None => Ok(()),
            Some(_) if body.is_none() => {
                let what = format!("{id} was not begun by this master, and nobody has said yet how it is asked to end");
                Err(NotEnded { failure: Failure::new(code::NOT_AVAILABLE, what), refused: false })
            }
            Some(_) => {
                let what = format!("{id} was asked to end {TRIES} times, and its connection broke each time");
                Err(NotEnded { failure: Failure::new(code::UNREACHABLE, what), refused: false })
            }
        }
    }
}

impl Actuator for MasterActuator {
    fn launch(&self, id: String) -> BoxFuture<'_, Result<(), Failure>> {
        async move { self.starter.start(&id).await }.boxed()
    }

    fn end<'a>(&'a self, id: String, kill: bool, messages: &'a Messages) -> BoxFuture<'a, Result<(), NotEnded>> {
        async move {
            if id == self.own {
                // Answers at once: the calls under way are answered before the master ends.
                return self.process.stop().await.map_err(|failure| NotEnded { failure, refused: true });
            }
            MasterActuator::end(self, &id, kill, messages).await
        }
        .boxed()
    }

    fn restart<'a>(&'a self, id: String, messages: &'a Messages) -> BoxFuture<'a, Result<bool, Failure>> {
        async move {
            let (Some(member), Some(body)) = (self.members.first(&id), &messages.restart) else { return Ok(false) };
            // A server of pomelo 2.x has no monitor that could start it. One whose spec has changed needs a new monitor.
            if !member.capabilities.has(Capabilities::COMMANDS) || self.starter.has_changed(&id) {
                return Ok(false);
            }
            match self.ask(&member, messages, body, self.times(&id).stop + MARGIN).await {
                Ok(_) => Ok(true),
                // The monitor was just ending, or does not answer. Whoever began it ends it and begins another.
                Err(failure) if failure.code == code::DISCONNECTED || self.starter.has_begun(&id) => {
                    tracing::info!(server = id, %failure, "is not restarted by its monitor, but ended and started");
                    Ok(false)
                }
                Err(failure) => Err(failure),
            }
        }
        .boxed()
    }

    fn drain<'a>(&'a self, id: String, messages: &'a Messages) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let time = self.times(&id).drain;
            let Some(member) = self.members.first(&id) else { return Ok(()) };
            let body = messages.drain.as_deref().filter(|_| member.capabilities.has(Capabilities::COMMANDS));
            let Some(body) = body else {
                // A server of pomelo 2.x leaves the views. It cannot be asked for its connections.
                self.members.absent(&id, member.connection());
                return Ok(());
            };
            let mut message: Value = serde_json::from_str(body.get())
                .map_err(|error| Failure::new(code::BAD_MESSAGE, format!("the message for `drain`: {error}")))?;
            if let Value::Object(members) = &mut message {
                members.insert("deadlineMs".into(), u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into());
            }
            self.ask(&member, messages, &raw(&message), time + MARGIN).await.map(drop)
        }
        .boxed()
    }

    fn undrain<'a>(&'a self, id: String, messages: &'a Messages) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let Some(member) = self.members.first(&id) else { return Ok(()) };
            let body = messages.undrain.as_deref().filter(|_| member.capabilities.has(Capabilities::COMMANDS));
            let Some(body) = body else {
                self.members.present(&id, member.connection(), (*member.info).clone(), None);
                return Ok(());
            };
            self.ask(&member, messages, body, MARGIN).await.map(drop)
        }
        .boxed()
    }

    fn is_present(&self, id: &str) -> bool {
        self.members.is_present(id)
    }

    fn times(&self, id: &str) -> Times {
        self.starter.times(id)
    }
}
