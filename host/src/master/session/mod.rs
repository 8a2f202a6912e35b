//! One connection to the master: registration, then messages to modules. `registration` is who is let in.

mod registration;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::MasterCore;
use super::commands::{MAX_WAITING, Order};
use crate::admin_log::{Kind, Record};
use crate::console::{Asked, Inbound};
use crate::exchange::Exchange;
use crate::failure::{Failure, code};
use crate::journal::{Event, Journal, Report, kind};
use crate::plugin::{Caller, Handler};
use crate::trace::Trace;
use crate::transport::{Accept, Ack, Closed, Peer, Session};
use crate::wire::{Info, Message, Register, Registered, Role, Topic, raw, shown};

/// Makes the sessions of a master's connections.
pub(super) struct Gate(pub Weak<MasterCore>);

/// A connection's side at the master.
struct Connection {
    master: Arc<MasterCore>,
    peer: Peer,
    state: Mutex<State>,
    /// Cancelled when the connection is over: whatever waits on its behalf ends then.
    over: CancellationToken,
    /// For the task that checks a registration.
    this: Weak<Connection>,
    /// Commands of this connection that wait for events.
    waiting: Arc<Semaphore>,
    /// What its monitor has reported in this second.
    reports: PerSecond,
    /// How often its server has come and gone in this second.
    turns: PerSecond,
}

/// How often something has happened in the present second.
struct PerSecond(Mutex<(Instant, u32)>);

impl PerSecond {
    fn new() -> Self {
        PerSecond(Mutex::new((Instant::now(), 0)))
    }

    /// It happens once more: how often it has, with this time.
    fn count(&self) -> u32 {
        let mut second = self.0.lock();
        if second.0.elapsed() >= Duration::from_secs(1) {
            *second = (Instant::now(), 0);
        }
        second.1 = second.1.saturating_add(1);
        second.1
    }
}

/// Events that a monitor may report in a second: as many as it keeps while it cannot.
const MAX_REPORTS: u32 = 200;
/// Times that a monitor's server may come or go in a second. Each is a change that all others are told of.
const MAX_TURNS: u32 = 100;
/// What a registered monitor may say of its server, bytes: others are told all of it.
const MAX_INFO: usize = 64 << 10;

/// What a connection has become. Only a registered one reaches modules.
#[derive(Clone)]
enum State {
    New,
    /// A registration is being checked.
    Registering,
    Registered(Arc<Registration>),
    Over,
}

/// A registered peer.
struct Registration {
    id: String,
    role: Role,
    exchange: Exchange,
    caller: Arc<Caller>,
}

impl Accept for Gate {
    fn accept(&self, peer: Peer) -> Arc<dyn Session> {
        let Some(master) = self.0.upgrade() else {
            peer.cut("the master is shutting down");
            return Arc::new(Nobody);
        };
        let (deadline, over) = (master.options.register_deadline, CancellationToken::new());
        let connection = Arc::new_cyclic(|this| Connection {
            master,
            peer: peer.clone(),
            state: Mutex::new(State::New),
            over: over.clone(),
            this: this.clone(),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            reports: PerSecond::new(),
            turns: PerSecond::new(),
        });
        let waiting = Arc::downgrade(&connection);
        tokio::spawn(async move {
            tokio::select! {
                () = over.cancelled() => return,
                () = tokio::time::sleep(deadline) => {}
            }
            let Some(connection) = waiting.upgrade() else { return };
            if matches!(*connection.state.lock(), State::New) {
                metrics::counter!("pomelo_peers_cut_total", "reason" => "unregistered").increment(1);
                peer.cut(format!("it did not register within {} ms", deadline.as_millis()));
            }
        });
        connection
    }
}

/// The session of a connection that comes too late.
struct Nobody;

impl Session for Nobody {
    fn frame(&self, _: &str, _: &RawValue, _: Option<Ack>) {}
    fn closed(&self, _: Closed) {}
}

impl Session for Connection {
    fn frame(&self, topic: &str, payload: &RawValue, ack: Option<Ack>) {
        let topic = Topic::parse(topic);
        let state = self.state.lock().clone();
        match (state, topic) {
            (State::New, Some(topic @ (Topic::Register | Topic::Reconnect))) => self.register(topic, payload, ack),
            (State::New | State::Registering, _) => {
                let failure = Failure::new(
                    code::NOT_REGISTERED,
                    "nothing but `register` is accepted before registration is answered",
                );
                self.refuse_message(topic, payload, ack, failure);
            }
            (State::Registered(peer), Some(Topic::Monitor)) if peer.role == Role::Monitor => {
                self.monitor(&peer, payload)
            }
            (State::Registered(peer), Some(Topic::Deregister | Topic::Reconnect))
                if peer.role == Role::Monitor && self.turns.count() > MAX_TURNS =>
            {
                metrics::counter!("pomelo_peers_cut_total", "reason" => "turns").increment(1);
                self.peer.close("its server comes and goes too often");
            }
            (State::Registered(peer), Some(Topic::Deregister)) if peer.role == Role::Monitor => {
                self.master.members.absent(&peer.id, self.peer.id());
            }
            (State::Registered(peer), Some(Topic::Event)) if peer.role == Role::Monitor => {
                self.reported(&peer, payload)
            }
            (State::Registered(peer), Some(Topic::Reconnect)) if peer.role == Role::Monitor => {
                self.present(&peer, payload)
            }
            (State::Registered(peer), Some(Topic::Client)) if peer.role == Role::Client => {
                self.client(&peer, payload, ack)
            }
            (State::Registered(_), _) => self.peer.close("it sent a frame of a topic that is not for it"),
            (State::Over, _) => {}
        }
    }

    fn closed(&self, how: Closed) {
        self.over.cancel();
        let state = std::mem::replace(&mut *self.state.lock(), State::Over);
        let State::Registered(peer) = state else { return };
        tracing::debug!(id = %peer.id, role = ?peer.role, ?how, "a peer has gone");
        match peer.role {
            Role::Client => self.master.members.client_leaves(&peer.id, self.peer.id()),
            Role::Monitor => {
                // Before the requests under way fail: whoever looks then finds that it has left, or that it may come back.
                self.master.members.leave(&peer.id, self.peer.id(), how != Closed::Left);
                peer.exchange.over("the monitor's connection is over");
            }
        }
    }
}

impl Connection {
    /// Answers a message with a failure where it wants an answer, and closes the connection.
    fn refuse_message(&self, topic: Option<Topic>, payload: &RawValue, ack: Option<Ack>, failure: Failure) {
        let why = failure.message.clone();
        let exchange = Exchange::new(self.peer.clone(), topic.unwrap_or(Topic::Client), 0);
        let id = match Message::parse(payload) {
            Ok(Message::Request { id, .. }) => Some(id),
            Ok(Message::Command { id, .. }) => id,
            _ => None,
        };
        exchange.reply(id, ack)(Err(failure));
        self.peer.close(why);
    }

    fn register(&self, topic: Topic, payload: &RawValue, ack: Option<Ack>) {
        let register: Register = match serde_json::from_str(payload.get()) {
            Ok(register) => register,
            // A server of pomelo 2.x that is told no when it comes back never does again; one whose connection ends tries again.
            Err(error) if topic == Topic::Reconnect => return self.malformed(error),
            Err(error) => return self.refuse(topic, ack, format!("malformed registration: {error}")),
        };
        *self.state.lock() = State::Registering;
        let Some(this) = self.this.upgrade() else { return };
        // Checking a password takes tens of milliseconds; meanwhile nothing else of this peer is accepted.
        tokio::spawn(async move {
            let (came, who) = (Instant::now(), this.claimed(&register));
            let stranded = topic == Topic::Reconnect && register.is_pomelos();
            if let Err(refusal) = this.admit(topic, register, ack.clone()).await {
                let registration::Refusal { code, why } = refusal;
                tracing::warn!(peer = ?this.peer, id = who.id, %why, "a registration was refused");
                metrics::counter!("pomelo_registrations_refused_total").increment(1);
                let from = this.peer.remote().map_or_else(String::new, |remote| format!(" from {}", remote.ip()));
                let id = who.id.as_deref().unwrap_or_default();
                let event = Event::new(kind::REFUSAL, format!("the registration of `{id}`{from} was refused: {why}"));
                this.master.options.journal.record_some(event);
                let record = Record::new(Kind::Register, Arc::new(who));
                let (failure, reason) = (Some(code.into()), Some(why.clone()));
                this.master.options.admin_log.take_refusal(Record { failure, reason, took: came.elapsed(), ..record });
                if stranded {
                    // A server of pomelo 2.x that is told no never comes back; one whose connection ends tries again.
                    this.peer.cut(why);
                } else {
                    this.refuse(topic, ack, why);
                }
            }
        });
    }

    fn answer(&self, topic: Topic, ack: Option<Ack>, answer: &Registered) {
        let topic = if topic == Topic::Reconnect { Topic::ReconnectOk } else { Topic::Register };
        // A peer that has left meanwhile needs no answer.
        let _ = self.peer.send(topic, raw(answer));
        if let Some(ack) = ack {
            let _ = ack.send(raw(answer));
        }
    }

    fn refuse(&self, topic: Topic, ack: Option<Ack>, why: String) {
        self.answer(topic, ack, &Registered::refused(why.clone()));
        self.peer.close(why);
    }

    /// A monitor that is registered says that its server runs again. Who it is stays as it was authenticated.
    fn present(&self, peer: &Registration, payload: &RawValue) {
        if payload.get().len() > MAX_INFO {
            return self.malformed(format!("what it says of its server has more than {MAX_INFO} bytes"));
        }
        match serde_json::from_str::<Register>(payload.get()) {
            Ok(register) => {
                let server_type = peer.caller.server_type.as_deref().unwrap_or_default();
                let info = described(register.info, &peer.id, server_type, register.pid);
                self.answer(Topic::Reconnect, None, &Registered::ok(self.master.console.disabled()));
                self.master.members.present(&peer.id, self.peer.id(), info);
            }
            Err(error) => self.malformed(error),
        }
    }

    /// Something happened where a monitor stands.
    fn reported(&self, peer: &Registration, payload: &RawValue) {
        let report: Report = match serde_json::from_str(payload.get()) {
            Ok(report) => report,
            Err(error) => return self.malformed(error),
        };
        if self.reports.count() > MAX_REPORTS {
            metrics::counter!("pomelo_events_dropped_total").increment(1);
            return;
        }
        let event = report.received(&peer.id);
        tracing::info!(server = %peer.id, kind = %event.kind, module = event.module, "{}", event.message);
        self.master.options.journal.record(event);
    }

    /// From now on the peer's messages reach modules.
    fn enter(&self, state: &mut State, registration: Registration) -> Result<(), String> {
        if matches!(*state, State::Over) {
            return Err("the connection is over".into());
        }
        self.peer.set_frame_limit(self.master.options.max_frame);
        *state = State::Registered(Arc::new(registration));
        Ok(())
    }

    fn malformed(&self, error: impl std::fmt::Display) {
        tracing::warn!(peer = ?self.peer, %error, "a peer sent a malformed message");
        metrics::counter!("pomelo_peers_cut_total", "reason" => "malformed").increment(1);
        self.peer.close(format!("it sent a malformed message: {error}"));
    }

    fn monitor(&self, peer: &Registration, payload: &RawValue) {
        match Message::parse(payload) {
            Err(error) => self.malformed(error),
            Ok(Message::Response { id, outcome }) => peer.exchange.complete(id, outcome),
            Ok(Message::Request { id, module, body, depth, trace }) => {
                let reply = peer.exchange.reply(Some(id), None);
                self.master
                    .console
                    .dispatch(self.inbound(peer, Handler::Master, &module, body, true, depth, trace), Box::new(reply));
            }
            Ok(Message::Notify { module, body }) => {
                let inbound = self.inbound(peer, Handler::Master, &module, body, false, 0, None);
                self.master.console.dispatch(inbound, Box::new(unanswered(module.to_string(), peer.id.clone())));
            }
            Ok(Message::Command { .. }) => {
                tracing::debug!(peer = ?self.peer, "a monitor sent a command, which it may not")
            }
        }
    }

    fn client(&self, peer: &Registration, payload: &RawValue, ack: Option<Ack>) {
        match Message::parse(payload) {
            Err(error) => self.malformed(error),
            Ok(Message::Request { id, module, body, depth: _, trace }) => {
                let reply = peer.exchange.reply(Some(id), ack);
                self.client_request(peer, &module, body, true, trace, reply);
            }
            Ok(Message::Notify { module, body }) if ack.is_some() => {
                let reply = peer.exchange.reply(None, ack);
                self.client_request(peer, &module, body, true, None, reply);
            }
            Ok(Message::Notify { module, body }) => {
                self.client_request(peer, &module, body, false, None, unanswered(module.to_string(), peer.id.clone()));
            }
            Ok(Message::Command { id, command, module, body }) => {
                let came = Instant::now();
                let record = Record {
                    module: module.as_deref().map(shown),
                    operation: Some(shown(&command)),
                    ..Record::new(Kind::Command, peer.caller.clone())
                };
                let (master, caller) = (self.master.clone(), peer.caller.clone());
                let (reply, name) = (peer.exchange.reply(id, ack), module.as_deref().map(str::to_owned));
                let logged = move |outcome: Result<Box<RawValue>, Failure>| {
                    master.options.admin_log.take(ended(record, came, &outcome));
                    refused(&master.options.journal, &caller, name.as_deref(), outcome.as_ref().err());
                    reply(outcome);
                };
                let order = Order { command: &command, module: module.as_deref(), body, caller: &peer.caller };
                self.master.command(order, &self.waiting, &self.over, Box::new(logged));
            }
            Ok(Message::Response { .. }) => {
                tracing::debug!(peer = ?self.peer, "a client answered, though nothing is asked of clients")
            }
        }
    }

    /// Hands a client's message to its module, and the outcome to the admin log as well.
    fn client_request(
        &self,
        peer: &Registration,
        module: &str,
        body: Option<&RawValue>,
        wants_answer: bool,
        trace: Option<Trace>,
        reply: impl FnOnce(Result<Box<RawValue>, Failure>) + Send + 'static,
    ) {
        let (master, came) = (self.master.clone(), Instant::now());
        let Asked { operation, targets } = master.console.asked(module, body);
        let kind = if wants_answer { Kind::Request } else { Kind::Notify };
        let record = Record {
            module: Some(shown(module)),
            operation: operation.as_deref().map(shown),
            targets: targets.iter().map(|target| shown(target)).collect(),
            ..Record::new(kind, peer.caller.clone())
        };
        let (caller, id) = (peer.caller.clone(), module.to_owned());
        let logged = move |outcome: Result<Box<RawValue>, Failure>| {
            master.options.admin_log.take(ended(record, came, &outcome));
            refused(&master.options.journal, &caller, Some(&id), outcome.as_ref().err());
            reply(outcome);
        };
        // Here a request begins, unless the client has begun it.
        let trace = Some(trace.unwrap_or_else(Trace::begin));
        let inbound = self.inbound(peer, Handler::Client, module, body, wants_answer, 0, trace);
        self.master.console.dispatch(inbound, Box::new(logged));
    }

    #[allow(clippy::too_many_arguments)]
    fn inbound<'a>(
        &self,
        peer: &Registration,
        handler: Handler,
        module: &'a str,
        body: Option<&'a RawValue>,
        wants_answer: bool,
        depth: u8,
        trace: Option<Trace>,
    ) -> Inbound<'a> {
        Inbound { handler, module, body, caller: peer.caller.clone(), wants_answer, depth, trace }
    }
}

/// What others are told about a server: what its monitor says, but for what is known better.
fn described(info: Option<Info>, id: &str, server_type: &str, pid: Option<u32>) -> Info {
    let mut info = info.unwrap_or_default();
    info.insert("id".into(), id.into());
    info.insert("serverType".into(), server_type.into());
    if let Some(pid) = pid {
        info.insert("pid".into(), pid.into());
    }
    info
}

/// The record with what came of it. Of a failure only the code: its sentence may repeat parts of the message.
fn ended<T>(record: Record, came: Instant, outcome: &Result<T, Failure>) -> Record {
    let failure = outcome.as_ref().err().map(|failure| failure.code.clone());
    Record { failure, took: came.elapsed(), ..record }
}

/// Writes down what a client was not allowed to do.
fn refused(journal: &Journal, caller: &Caller, module: Option<&str>, failure: Option<&Failure>) {
    if let Some(failure) = failure.filter(|failure| failure.code == code::FORBIDDEN) {
        let event = Event::new(kind::REFUSAL, failure.message.clone()).client(caller.user.as_deref());
        journal.record_some(Event { module: module.map(str::to_owned), ..event });
    }
}

/// Takes what comes of a message that is not answered.
fn unanswered(module: String, from: String) -> impl FnOnce(Result<Box<RawValue>, Failure>) + Send {
    move |outcome| {
        if let Err(failure) = outcome {
            tracing::warn!(%module, %from, %failure, "a notify failed");
        }
    }
}
