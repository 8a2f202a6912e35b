//! Requests and answers over one connection: between a peer that carries frames and whoever asks or answers.
//!
//! Knows the envelope, and no module.

mod pending;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::budget::{Account, ModuleAccount, SHARED_FROM, SharedText};
use crate::failure::{Failure, code};
use crate::trace::Trace;
use crate::transport::{Ack, Frame, NoRoom, Payload, Peer, Room, SendError};
use crate::util::{Share, Shares, line_budget};
use crate::wire::{Command, Notify, ReqId, Request, Response, ResponseInError, Topic, raw};

pub use pending::{Pending, Waiting};

/// A connection over which one side asks the other. Clones are the same connection.
#[derive(Clone)]
pub struct Exchange {
    peer: Peer,
    topic: Topic,
    pending: Pending,
    /// Of the places for requests under way, for modules: half of them, and an eighth for each.
    shares: Arc<Shares>,
    /// Whether the peer takes `depth` and `trace`.
    traces: Arc<AtomicBool>,
}

/// What a module is asked over a connection.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The module.
    pub module: &'a str,
    /// The message.
    pub body: &'a RawValue,
    /// The same, where others are asked it as well: see [`Exchange::shared`].
    pub shared: Option<&'a Arc<SharedText>>,
    /// In how many calls the request is nested.
    pub depth: u8,
    /// Bytes that the answer may have. A larger one becomes the failure `bad-answer`.
    pub limit: usize,
}

/// Bytes that an envelope adds to a message and to the id of its module.
const ENVELOPE: usize = 256;

/// A request that has been sent.
pub struct Sent {
    waiting: Waiting,
    _share: Option<Share>,
    /// What was asked, for the message of a timeout.
    asked: String,
}

/// A message that is not answered. Its text is made once, and shared by all who get it.
pub struct Notice<'a> {
    module: &'a str,
    body: &'a RawValue,
    /// Made when there is room for it somewhere.
    payload: OnceLock<Payload>,
}

impl<'a> Notice<'a> {
    /// A message to a module.
    pub fn new(module: &'a str, body: &'a RawValue) -> Self {
        Notice { module, body, payload: OnceLock::new() }
    }

    fn payload(&self, account: &Account) -> Payload {
        let text = || -> Arc<RawValue> { raw(&Notify { module_id: self.module, body: self.body }).into() };
        // The master's own monitor has no account with which the others could share it.
        if account.is_free() {
            return self.payload.get().cloned().unwrap_or_else(|| Payload::Own(text()));
        }
        let make = || {
            let text = text();
            let shared = account.share(&text, || text.clone());
            shared.map_or(Payload::Own(text), Payload::Shared)
        };
        self.payload.get_or_init(make).clone()
    }
}

impl Exchange {
    /// `topic` is that of the messages; at most `limit` requests may be under way.
    pub fn new(peer: Peer, topic: Topic, limit: usize) -> Self {
        let shares = Arc::new(Shares::new(limit / 2, limit / 8));
        Exchange { peer, topic, pending: Pending::new(limit), shares, traces: Arc::default() }
    }

    /// Waits for room for a message of a module to another, until the deadline. The modules that the host carries need none.
    ///
    /// # Errors
    /// `busy`, `disconnected`.
    pub async fn room(
        &self,
        of: &ModuleAccount,
        to: &str,
        body: &RawValue,
        until: Instant,
    ) -> Result<Option<Room>, Failure> {
        let bytes = body.get().len().saturating_add(to.len()).saturating_add(ENVELOPE);
        self.peer.room(of, bytes, until).await.map_err(|no_room| match no_room {
            NoRoom::Closed => disconnected(SendError::Closed),
            no_room => Failure::new(code::BUSY, no_room.to_string()),
        })
    }

    /// Sends a request of a module when there is room for it. An answer of more than `limit` bytes is dropped as it comes.
    ///
    /// # Errors
    /// `busy`, also where there was no room until the deadline; `disconnected`.
    pub async fn send_for(&self, of: &ModuleAccount, asked: Asked<'_>, until: Instant) -> Result<Sent, Failure> {
        let Asked { module, body, .. } = asked;
        let share = match of.is_carried() {
            true => None,
            false => {
                let late = |_| {
                    let message =
                        format!("too many requests of module {} to this peer are under way already", of.name());
                    Failure::new(code::BUSY, message)
                };
                Some(tokio::time::timeout_at(until.into(), self.shares.take(of.name(), 1)).await.map_err(late)?)
            }
        };
        let room = self.room(of, module, body, until).await?;
        let sent = self.send_in(room, asked)?;
        Ok(Sent { _share: share, ..sent })
    }

    /// Sends a message of a module that is not answered when there is room for it.
    ///
    /// # Errors
    /// `busy` where there was no room until the deadline; `disconnected`.
    pub async fn notify_for(&self, of: &ModuleAccount, notice: &Notice<'_>, until: Instant) -> Result<(), Failure> {
        let room = self.room(of, notice.module, notice.body, until).await?;
        let frame = Frame { topic: self.topic, payload: notice.payload(self.peer.account()), quoted: false };
        self.peer.send_in(room, frame).map_err(disconnected)
    }

    /// A message that several peers are sent, held once for all of them. Absent where each has a copy of its own.
    pub fn shared(&self, body: &Arc<RawValue>) -> Option<Arc<SharedText>> {
        self.peer.account().share(body, || body.clone())
    }

    /// Requests that have not been answered.
    pub fn under_way(&self) -> usize {
        self.pending.len()
    }

    /// From now on requests carry `depth` and `trace`, because the peer has said that it takes them.
    pub fn carry_traces(&self) {
        self.traces.store(true, Ordering::Relaxed);
    }

    /// The peer.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Sends a request; it is on its way, behind all that was sent before, when this returns.
    ///
    /// # Errors
    /// `busy` where too many are under way, `disconnected`.
    pub fn send(&self, module: &str, body: &RawValue, depth: u8) -> Result<Sent, Failure> {
        self.send_in(None, Asked { module, body, shared: None, depth, limit: usize::MAX })
    }

    fn send_in(&self, room: Option<Room>, asked: Asked<'_>) -> Result<Sent, Failure> {
        let Asked { module, body, shared, depth, limit } = asked;
        let waiting = self.pending.wait(limit)?;
        // Neither is part of pomelo's format: both are for peers of our own kind alone.
        let (depth, trace) = if self.traces.load(Ordering::Relaxed) { (depth, Trace::current()) } else { (0, None) };
        let body = if shared.is_none() { Some(body) } else { None };
        let request = Request { req_id: waiting.id, module_id: module, body, depth, trace };
        let payload = match shared {
            Some(shared) => Payload::around(&request, shared.clone()),
            None => raw(&request).into(),
        };
        let frame = Frame { topic: self.topic, payload, quoted: true };
        self.peer.send_in(room, frame).map_err(disconnected)?;
        Ok(Sent { waiting, _share: None, asked: module.to_owned() })
    }

    /// Sends a command that is answered.
    ///
    /// # Errors
    /// `busy` where too many requests are under way, `disconnected`.
    pub fn send_command(&self, command: &str, module: Option<&str>, body: &RawValue) -> Result<Sent, Failure> {
        let waiting = self.pending.wait(usize::MAX)?;
        let frame = Command { req_id: Some(waiting.id), command, module_id: module, body };
        self.peer.send_quoted(self.topic, raw(&frame)).map_err(disconnected)?;
        Ok(Sent { waiting, _share: None, asked: command.to_owned() })
    }

    /// Sends a message that is not answered.
    ///
    /// # Errors
    /// `disconnected`.
    pub fn notify(&self, module: &str, body: &RawValue) -> Result<(), Failure> {
        self.peer.send(self.topic, raw(&Notify { module_id: module, body })).map_err(disconnected)
    }

    /// Sends a command that is not answered.
    ///
    /// # Errors
    /// `disconnected`.
    pub fn command(&self, command: &str, module: Option<&str>, body: &RawValue) -> Result<(), Failure> {
        let command = Command { req_id: None, command, module_id: module, body };
        self.peer.send_quoted(self.topic, raw(&command)).map_err(disconnected)
    }

    /// Sends a command that is not answered, and that others are sent as well: its body is held once for all of them.
    ///
    /// # Errors
    /// `disconnected`.
    pub fn command_for_many(&self, command: &str, body: &Arc<RawValue>) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Head<'a> {
            command: &'a str,
        }
        let Some(shared) = self.shared(body) else { return self.command(command, None, body) };
        let payload = Payload::around(&Head { command }, shared);
        let frame = Frame { topic: self.topic, payload, quoted: true };
        self.peer.send_in(None, frame).map_err(disconnected)
    }

    /// Takes an answer that came; one that nobody waits for is counted and dropped.
    pub fn complete(&self, id: Option<u64>, outcome: Result<Box<RawValue>, Failure>) {
        if !id.is_some_and(|id| self.pending.complete(id, outcome)) {
            metrics::counter!("pomelo_unknown_answers_total").increment(1);
            tracing::debug!(peer = ?self.peer, ?id, "an answer came that nobody waits for");
        }
    }

    /// Fails all requests under way, and those to come: the connection is over.
    pub fn over(&self, why: &str) {
        self.pending.fail_all(&Failure::new(code::DISCONNECTED, why));
    }

    /// What sends an outcome back to a master of pomelo 2.x that looks for the answer in `error`. A failure is sent as 0, as pomelo's servers do,
    /// because the master would take an object or a text for the answer. An object in answer to `restart` would have it start a server itself.
    pub fn reply_in_error(&self, id: ReqId) -> impl FnOnce(Result<Box<RawValue>, Failure>) + Send + use<> {
        let (peer, topic) = (self.peer.clone(), self.topic);
        move |outcome| {
            let answer = outcome.unwrap_or_else(|failure| {
                line_budget::caused(
                    "the master",
                    || tracing::warn!(?peer, %failure, "a request of the master's failed"),
                );
                raw(&0)
            });
            // A master that has left gets no answer, and nobody else wants it.
            let _ = peer.send_quoted(topic, raw(&ResponseInError { resp_id: &id, error: &answer }));
        }
    }

    /// What sends an outcome back: as a response where the message had an id, and through the acknowledgement where one was asked for.
    pub fn reply(
        &self,
        id: Option<ReqId>,
        ack: Option<Ack>,
    ) -> impl FnOnce(Result<Box<RawValue>, Failure>) + Send + use<> {
        let (peer, topic) = (self.peer.clone(), self.topic);
        move |outcome| {
            // A peer that has left gets no answer, and nobody else wants it.
            if let Some(ack) = ack {
                let _ = ack.send(raw(&Acknowledged::new(&outcome)));
            }
            if let Some(id) = id {
                let _ = peer.send_quoted(topic, response(peer.account(), &id, outcome));
            }
        }
    }
}

impl Sent {
    /// Waits for the answer until a deadline.
    ///
    /// # Errors
    /// What the peer failed with; `timeout`; `disconnected`.
    pub async fn answer(self, deadline: Instant) -> Result<Box<RawValue>, Failure> {
        let began = Instant::now();
        let asked = self.asked.clone();
        tokio::time::timeout_at(deadline.into(), self).await.unwrap_or_else(|_| {
            let waited = deadline.saturating_duration_since(began).max(Duration::from_millis(1));
            Err(Failure::new(code::TIMEOUT, format!("no answer to {asked} within {} ms", waited.as_millis())))
        })
    }
}

/// Waits for the answer for as long as the connection lasts.
impl Future for Sent {
    type Output = Result<Box<RawValue>, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.waiting).poll(context)
    }
}

/// A response. A large answer is shared with whoever is being given the same.
fn response(account: &Account, id: &ReqId, outcome: Result<Box<RawValue>, Failure>) -> Payload {
    match outcome {
        Ok(body) if body.get().len() >= SHARED_FROM => match account.share_answer(&body, || body.clone().into()) {
            Some(shared) => Payload::around(&Response { resp_id: id, error: None, body: None }, shared),
            None => raw(&Response { resp_id: id, error: None, body: Some(&body) }).into(),
        },
        outcome => raw(&Response::new(id, &outcome)).into(),
    }
}

/// What an acknowledgement carries: a response without an id.
#[derive(Serialize)]
struct Acknowledged<'a> {
    error: Option<&'a Failure>,
    body: Option<&'a RawValue>,
}

impl<'a> Acknowledged<'a> {
    fn new(outcome: &'a Result<Box<RawValue>, Failure>) -> Self {
        match outcome {
            Ok(body) => Acknowledged { error: None, body: Some(body) },
            Err(failure) => Acknowledged { error: Some(failure), body: None },
        }
    }
}

fn disconnected(error: SendError) -> Failure {
    Failure::new(code::DISCONNECTED, error.to_string())
}
