//! One connection to the master: registration, then messages to modules.

use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::members::Member;
use super::{Access, Inner};
use crate::auth::Refused;
use crate::console::Inbound;
use crate::exchange::Exchange;
use crate::failure::{Failure, code};
use crate::plugin::{Caller, CallerRole, Handler, Progress};
use crate::transport::{Accept, Ack, Closed, Peer, Session, Transport};
use crate::wire::{Info, MAX_ID, Message, Register, Registered, Role, Topic, check_id, null, raw, shown};

/// Makes the sessions of a master's connections.
pub(super) struct Gate(pub Weak<Inner>);

/// A connection's side at the master.
struct Connection {
    master: Arc<Inner>,
    peer: Peer,
    state: Mutex<State>,
    /// Cancelled when the connection is over: whatever waits on its behalf ends then.
    over: CancellationToken,
    /// For the task that checks a registration.
    this: Weak<Connection>,
}

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
            (State::Registered(peer), Some(Topic::Deregister)) if peer.role == Role::Monitor => {
                self.master.members.absent(&peer.id, self.peer.id());
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
            Err(error) => return self.refuse(topic, ack, format!("malformed registration: {error}")),
        };
        *self.state.lock() = State::Registering;
        let Some(this) = self.this.upgrade() else { return };
        // Checking a password takes tens of milliseconds; meanwhile nothing else of this peer is accepted.
        tokio::spawn(async move {
            let (id, stranded) = (shown(&register.id), topic == Topic::Reconnect && register.is_pomelos());
            if let Err(why) = this.admit(topic, register, ack.clone()).await {
                tracing::warn!(peer = ?this.peer, %id, %why, "a registration was refused");
                metrics::counter!("pomelo_registrations_refused_total").increment(1);
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

    /// Checks a registration and lets the peer in; the reason where it does not.
    async fn admit(&self, topic: Topic, register: Register, ack: Option<Ack>) -> Result<(), String> {
        check_id(&register.id).map_err(|bad| format!("that cannot be an id: {bad}"))?;
        match (register.role, topic) {
            (Role::Client, Topic::Register) => self.admit_client(register, ack).await,
            (Role::Client, _) => Err("a client registers; only monitors reconnect".into()),
            (Role::Monitor, topic) => self.admit_monitor(topic, register, ack),
        }
    }

    async fn admit_client(&self, register: Register, ack: Option<Ack>) -> Result<(), String> {
        let Register { id, username, password, md5, .. } = register;
        let (Some(username), Some(password)) = (username, password) else {
            return Err("a client needs `username` and `password`".into());
        };
        let level = self.master.access.users.login(username.clone(), password, md5).await;
        if level == Err(Refused::Wrong) {
            self.slow_down().await;
        }
        let level = level.map_err(|refused| refused.to_string())?;
        self.master.members.client_joins(&id, self.peer.id()).map_err(|refusal| refusal.to_string())?;
        let exchange = Exchange::new(self.peer.clone(), Topic::Client, 0);
        let to_client = exchange.clone();
        let caller = Caller {
            progress: Some(Progress(Arc::new(move |module, msg| to_client.notify(module, msg)))),
            id: Some(id.clone()),
            user: Some(username.clone()),
            level: Some(level.0),
            address: self.peer.remote().map(|remote| remote.to_string()),
            ..Caller::of(CallerRole::Client)
        };
        tracing::debug!(client = %id, user = %username, level = level.0, peer = ?self.peer, "a client has registered");
        let registration = Registration { id: id.clone(), role: Role::Client, exchange, caller: Arc::new(caller) };
        let entered = self.enter(&mut self.state.lock(), registration);
        entered.inspect_err(|_| self.master.members.client_leaves(&id, self.peer.id()))?;
        self.answer(Topic::Register, ack, &Registered::ok(Vec::new()));
        Ok(())
    }

    /// Waits before a wrong password is answered, for as long as the peer does.
    async fn slow_down(&self) {
        let Some(remote) = self.peer.remote() else { return };
        let wait = self.master.attempts.failed(remote.ip(), Instant::now());
        tokio::select! {
            () = self.over.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    fn admit_monitor(&self, topic: Topic, register: Register, ack: Option<Ack>) -> Result<(), String> {
        let pomelos = register.is_pomelos();
        let fits = |text: &String| !text.is_empty() && text.len() <= MAX_ID && !text.chars().any(char::is_control);
        let server_type = register.server_type.filter(fits);
        let Some(server_type) = server_type else { return Err("a monitor needs `serverType`".into()) };
        // The connection inside this process is the master's own monitor's.
        let own = self.peer.transport() == Transport::Memory;
        let Access { tokens, .. } = &self.master.access;
        if !own && !tokens.verify(&server_type, register.token.as_deref()) {
            return Err(format!("the token is not that of servers of type `{server_type}`: see adminServer.json"));
        }
        if !own {
            self.check_type(&register.id, &server_type)?;
        }
        let info = described(register.info, &register.id, &server_type, register.pid);
        let caller = Caller {
            id: Some(register.id.clone()),
            server_type: Some(server_type.clone()),
            address: self.peer.remote().map(|remote| remote.to_string()),
            ..Caller::of(CallerRole::Monitor)
        };
        let exchange = Exchange::new(self.peer.clone(), Topic::Monitor, self.master.options.pending);
        let (id, returned) = (register.id, topic == Topic::Reconnect);
        let member = Member::new(id.clone(), server_type, info, exchange.clone(), register.capabilities, returned);
        let member = if register.down { member.down() } else { member };
        tracing::debug!(server = %id, returned, peer = ?self.peer, "a monitor has registered");
        let registration = Registration { id, role: Role::Monitor, exchange, caller: Arc::new(caller) };
        // The lock is held until the monitor is in the table: its messages, and its end, come after that. The answer goes out before
        // anything that others may send to the new member.
        let mut state = self.state.lock();
        let _commands = self.master.commands.lock();
        // Under the lock no other monitor joins: what is admitted here is let in below.
        self.master.members.admits(&member).map_err(|refusal| refusal.to_string())?;
        self.enter(&mut state, registration)?;
        let disabled = self.master.console.disabled();
        let answer = if pomelos { Registered::pomelos() } else { Registered::ok(disabled) };
        self.answer(topic, ack, &answer);
        if let Err(refusal) = self.master.members.join(member) {
            self.peer.close(refusal.to_string());
        }
        Ok(())
    }

    /// Whether a monitor from the network may stand for that id: not for the master, nor for what the configuration says is another server.
    fn check_type(&self, id: &str, server_type: &str) -> Result<(), String> {
        let options = &self.master.options;
        if id == options.id {
            return Err(format!("`{id}` is the master itself"));
        }
        let added = || self.master.starter.as_ref()?.server_type(id);
        match options.configured.get(id).cloned().or_else(added) {
            Some(configured) if configured != server_type => {
                Err(format!("`{id}` is configured as a server of type `{configured}`, not `{server_type}`"))
            }
            _ => Ok(()),
        }
    }

    /// A monitor that is registered says that its server runs again. Who it is stays as it was authenticated.
    fn present(&self, peer: &Registration, payload: &RawValue) {
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
            Ok(Message::Request { id, module, body, depth }) => {
                let reply = peer.exchange.reply(Some(id), None);
                self.master
                    .console
                    .dispatch(self.inbound(peer, Handler::Master, &module, body, true, depth), Box::new(reply));
            }
            Ok(Message::Notify { module, body }) => {
                let inbound = self.inbound(peer, Handler::Master, &module, body, false, 0);
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
            Ok(Message::Request { id, module, body, depth: _ }) => {
                let reply = peer.exchange.reply(Some(id), ack);
                self.client_request(peer, &module, body, true, reply);
            }
            Ok(Message::Notify { module, body }) if ack.is_some() => {
                let reply = peer.exchange.reply(None, ack);
                self.client_request(peer, &module, body, true, reply);
            }
            Ok(Message::Notify { module, body }) => {
                self.client_request(peer, &module, body, false, unanswered(module.to_string(), peer.id.clone()));
            }
            Ok(Message::Command { id, command, module, .. }) => {
                let outcome = self.master.command(&command, module.as_deref(), &peer.caller);
                let failure = outcome.as_ref().err();
                admin_log(&peer.caller, module.as_deref(), Some(&command), failure);
                peer.exchange.reply(id, ack)(outcome);
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
        reply: impl FnOnce(Result<Box<RawValue>, Failure>) + Send + 'static,
    ) {
        let console = &self.master.console;
        let (operation, caller, id) = (console.operation(module, body), peer.caller.clone(), module.to_owned());
        let logged = move |outcome: Result<Box<RawValue>, Failure>| {
            admin_log(&caller, Some(&id), operation.as_deref(), outcome.as_ref().err());
            reply(outcome);
        };
        console.dispatch(self.inbound(peer, Handler::Client, module, body, wants_answer, 0), Box::new(logged));
    }

    fn inbound<'a>(
        &self,
        peer: &Registration,
        handler: Handler,
        module: &'a str,
        body: Option<&'a RawValue>,
        wants_answer: bool,
        depth: u8,
    ) -> Inbound<'a> {
        Inbound { handler, module, body, caller: peer.caller.clone(), wants_answer, depth }
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

/// One line for each thing that a client asked for, allowed or refused. Bodies are not shown: they may hold secrets.
fn admin_log(caller: &Caller, module: Option<&str>, operation: Option<&str>, failure: Option<&Failure>) {
    let (user, from) = (caller.user.as_deref(), caller.address.as_deref());
    let failure = failure.map(tracing::field::display);
    tracing::info!(target: "pomelo::admin", user, from, module, operation, failure, "asked by a client");
}

/// Takes what comes of a message that is not answered.
fn unanswered(module: String, from: String) -> impl FnOnce(Result<Box<RawValue>, Failure>) + Send {
    move |outcome| {
        if let Err(failure) = outcome {
            tracing::warn!(%module, %from, %failure, "a notify failed");
        }
    }
}

impl Inner {
    /// Carries out a command, on the monitors as well where it concerns them.
    fn command(&self, command: &str, module: Option<&str>, caller: &Caller) -> Result<Box<RawValue>, Failure> {
        let _commands = self.commands.lock();
        let answer = self.console.command(command, module, caller)?;
        if let Some(module) = module.filter(|_| answer.pass_on) {
            self.pass_on(command, module);
        }
        Ok(answer.body)
    }

    /// Passes a command on to every monitor that understands commands.
    fn pass_on(&self, command: &str, module: &str) {
        for member in self.members.all() {
            if member.capabilities.has(crate::wire::Capabilities::COMMANDS) {
                // Who is leaving is told when it registers again.
                let _ = member.exchange.command(command, module, null());
            }
        }
    }
}
