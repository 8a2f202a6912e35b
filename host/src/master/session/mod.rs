//! One connection to the master: registration, then messages to modules.
//!
//! | file | what is there |
//! |---|---|
//! | `registration` | whether a peer is let in, and as whom |
//! | `monitor` | what a registered monitor says |
//! | `client` | what a registered client says, and the admin log of it |
//!
//! It knows the topics and the envelope. What a body means is the modules' affair, and whether a caller may ask is the console's.

mod client;
mod monitor;
mod registration;

use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use registration::RegistrationRefusal;

use super::MasterCore;
use super::commands::MAX_WAITING;
use crate::budget::{self, Class, Over};
use crate::console::{Inbound, Reply};
use crate::exchange::Exchange;
use crate::failure::{Failure, code};
use crate::journal::{Event, kind};
use crate::plugin::{Caller, Handler};
use crate::transport::{Accept, Ack, Closed, Peer, Session};
use crate::util::{TokenBucket, line_budget};
use crate::wire::{Message, Role, Topic, sentence, shown};

/// Makes the sessions of a master's connections.
pub(super) struct Gate(pub Weak<MasterCore>);

/// A connection's side at the master.
struct Connection {
    master: Arc<MasterCore>,
    peer: Peer,
    state: Mutex<ConnectionState>,
    /// Cancelled when the connection is over: whatever waits on its behalf ends then.
    over: CancellationToken,
    /// For the task that checks a registration.
    this: Weak<Connection>,
    /// Permits for commands of this connection that wait for events.
    waiting: Arc<Semaphore>,
    /// How often its monitor may report an event.
    reports: Mutex<TokenBucket>,
    /// How often its monitor may say what its server does.
    phases: Mutex<TokenBucket>,
    /// How often its server may come or go.
    comings: Mutex<TokenBucket>,
}

/// Events that a monitor may report at once, and in a second: as many as it keeps while it has no master.
const MAX_REPORTS: u32 = 200;
/// Times that a monitor may say what its server does, at once, and in a second. Ours says it at most 20 times a second.
const MAX_PHASES: u32 = 100;
/// Times that a monitor's server may come or go at once, and in a second. Each is a change that all others are told of.
const MAX_COMINGS: u32 = 100;

/// Messages of one connection that may be under way where they cannot be refused one by one. Nothing is read of a connection long before. So many may have
/// been received already by then: tens of kilobytes of the shortest.
const MAX_NOTIFIES: usize = 16 * 1024;

/// What a connection has become. Only a registered one reaches modules.
#[derive(Clone)]
enum ConnectionState {
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

impl Registration {
    /// What lines of the log that this peer causes are counted under. A client's id is of its own choice, its user is not.
    fn cause(&self) -> &str {
        self.caller.user.as_deref().unwrap_or(&self.id)
    }

    /// A message of this peer to a module. It wants an answer, is nested in no call and carries no trace, unless the caller changes that.
    fn says<'a>(&self, handler: Handler, module: &'a str, body: Option<&'a RawValue>) -> Inbound<'a> {
        let caller = self.caller.clone();
        Inbound { handler, module, body, caller, wants_answer: true, depth: 0, trace: None }
    }
}

impl Accept for Gate {
    fn accept(&self, peer: Peer) -> Arc<dyn Session> {
        let Some(master) = self.0.upgrade() else {
            peer.cut("the master is shutting down");
            return Arc::new(Nobody);
        };
        let (deadline, over, now) = (master.options.register_deadline, CancellationToken::new(), Instant::now());
        let connection = Arc::new_cyclic(|this| Connection {
            master,
            peer: peer.clone(),
            state: Mutex::new(ConnectionState::New),
            over: over.clone(),
            this: this.clone(),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            reports: Mutex::new(TokenBucket::per_second(MAX_REPORTS, now)),
            phases: Mutex::new(TokenBucket::per_second(MAX_PHASES, now)),
            comings: Mutex::new(TokenBucket::per_second(MAX_COMINGS, now)),
        });
        let waiting = Arc::downgrade(&connection);
        tokio::spawn(async move {
            tokio::select! {
                () = over.cancelled() => return,
                () = tokio::time::sleep(deadline) => {}
            }
            let Some(connection) = waiting.upgrade() else { return };
            if matches!(*connection.state.lock(), ConnectionState::New) {
                metrics::counter!("pomelo_peers_cut_total", "reason" => "unregistered").increment(1);
                peer.cut(format!("it did not register within {} ms", deadline.as_millis()));
            }
        });
        connection
    }
}

/// The session of a connection that comes while the master shuts down.
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
            (ConnectionState::New, Some(topic @ (Topic::Register | Topic::Reconnect))) => {
                self.register(topic, payload, ack)
            }
            (ConnectionState::New | ConnectionState::Registering, _) => {
                let failure = Failure::new(
                    code::NOT_REGISTERED,
                    "nothing but `register` is accepted before registration is answered",
                );
                self.refuse_message(topic, payload, ack, failure);
            }
            (ConnectionState::Registered(peer), Some(Topic::Monitor)) if peer.role == Role::Monitor => {
                self.monitor(&peer, payload)
            }
            (ConnectionState::Registered(peer), Some(Topic::Deregister | Topic::Reconnect))
                if peer.role == Role::Monitor && !self.comings.lock().take(Instant::now()) =>
            {
                metrics::counter!("pomelo_peers_cut_total", "reason" => "turns").increment(1);
                self.peer.close("its server comes and goes too often");
            }
            (ConnectionState::Registered(peer), Some(Topic::Deregister)) if peer.role == Role::Monitor => {
                self.master.members.absent(&peer.id, self.peer.id());
            }
            (ConnectionState::Registered(peer), Some(Topic::Event)) if peer.role == Role::Monitor => {
                self.reported(&peer, payload)
            }
            (ConnectionState::Registered(peer), Some(Topic::Phase)) if peer.role == Role::Monitor => {
                self.does(&peer, payload)
            }
            (ConnectionState::Registered(peer), Some(Topic::Reconnect)) if peer.role == Role::Monitor => {
                self.present(&peer, payload)
            }
            (ConnectionState::Registered(peer), Some(Topic::Client)) if peer.role == Role::Client => {
                self.client(&peer, payload, ack)
            }
            (ConnectionState::Registered(_), _) => self.peer.close("it sent a frame of a topic that is not for it"),
            (ConnectionState::Over, _) => {}
        }
    }

    fn closed(&self, how: Closed) {
        self.over.cancel();
        let state = std::mem::replace(&mut *self.state.lock(), ConnectionState::Over);
        let ConnectionState::Registered(peer) = state else { return };
        tracing::debug!(id = %peer.id, role = ?peer.role, ?how, "a peer has gone");
        if self.peer.is_turned_away() {
            self.tell_of_the_cut(&peer);
        }
        match peer.role {
            Role::Client => self.master.members.client_leaves(&peer.id, self.peer.id()),
            Role::Monitor => {
                self.master.distribution.left(self.peer.id());
                // Before the requests under way fail, because whoever asked then looks whether the server has left or may come back.
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

    /// What lines of the log that this peer causes are counted under: its server or user, or where it is not registered, its address.
    fn cause(&self) -> String {
        if let ConnectionState::Registered(peer) = &*self.state.lock() {
            return peer.cause().to_owned();
        }
        self.peer.remote().map_or_else(String::new, |remote| line_budget::address(remote.ip()))
    }

    /// From now on the peer's messages reach modules.
    fn enter(&self, state: &mut ConnectionState, registration: Registration) -> Result<(), RegistrationRefusal> {
        if matches!(*state, ConnectionState::Over) {
            return Err("the connection is over".to_owned().into());
        }
        let preferred = registration.caller.class() == Class::Operator;
        self.peer
            .registered(preferred)
            .map_err(|none| RegistrationRefusal { code: code::BUSY, why: none.to_string() })?;
        self.peer.set_frame_limit(self.master.options.max_frame);
        self.peer.account().belongs_to(registration.caller.class());
        *state = ConnectionState::Registered(Arc::new(registration));
        Ok(())
    }

    /// Writes into the journal that a registered peer was cut because no more may be held for it.
    fn tell_of_the_cut(&self, peer: &Registration) {
        let why = self.peer.closed_because().unwrap_or_default();
        let address = peer.caller.address.as_deref().unwrap_or_default();
        let what = format!("the connection of `{}` from {address} was ended: {why}", peer.id);
        tracing::warn!(peer = ?self.peer, "{what}");
        let event = Event::new(kind::REFUSAL, what);
        self.master.options.journal.record_some(match peer.role {
            Role::Monitor => event.server(peer.id.clone()),
            Role::Client => event.client(peer.caller.user.as_deref()),
        });
    }

    /// Takes in a message that wants an answer; the failure that is its answer where there is no room.
    fn begin_request(&self, body: Option<&RawValue>) -> Result<budget::Call, Failure> {
        self.peer.account().begin_call(length(body)).map_err(|over| self.busy(&over))
    }

    /// Takes in a message that wants no answer. Where there is no room, or the peer sends more of them than are handled although nothing more is read of
    /// it, it is cut, because otherwise it would not learn that it is not heard.
    fn begin_notify(&self, body: Option<&RawValue>) -> Option<budget::Call> {
        let account = self.peer.account();
        // The master's own monitor has no address.
        if account.calls() >= MAX_NOTIFIES && self.peer.remote().is_some() {
            self.peer.turn_away(&Over::Calls(MAX_NOTIFIES));
            return None;
        }
        account.begin_notify(length(body)).inspect_err(|over| self.peer.turn_away(over)).ok()
    }

    fn busy(&self, over: &Over) -> Failure {
        metrics::counter!("pomelo_messages_refused_total", "class" => self.peer.account().class().as_str())
            .increment(1);
        Failure::new(code::BUSY, over.to_string())
    }

    fn malformed(&self, error: impl std::fmt::Display) {
        // An error of the parser repeats what it has found, which may be long.
        let error = sentence(&error);
        line_budget::caused(
            &self.cause(),
            || tracing::warn!(peer = ?self.peer, %error, "a peer sent a malformed message"),
        );
        metrics::counter!("pomelo_peers_cut_total", "reason" => "malformed").increment(1);
        self.peer.close(format!("it sent a malformed message: {error}"));
    }
}

fn length(body: Option<&RawValue>) -> usize {
    body.map_or(0, |body| body.get().len())
}

/// A reply with which a message's place is given back.
fn giving_back(call: budget::Call, reply: Reply) -> Reply {
    Reply::new(move |outcome| {
        reply.send(outcome);
        drop(call);
    })
}

/// Takes what comes of a message that is not answered. `cause` is what its line in the log is counted under.
fn unanswered(module: String, from: String, cause: String) -> impl FnOnce(Result<Box<RawValue>, Failure>) + Send {
    move |outcome| {
        if let Err(failure) = outcome {
            line_budget::caused(&cause, || {
                let (module, failure) = (shown(&module), sentence(&failure));
                tracing::warn!(module, %from, failure, "a notify failed");
            });
        }
    }
}
