//! Whether a peer is let in, and as whom. Its password or token is verified, and who it is comes from that.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use serde_json::value::RawValue;

use super::super::known_servers::{Comer, Moment, Trust};
use super::super::login_throttle::{Attempt, Guess};
use super::super::members::Member;
use super::{Connection, ConnectionState, Registration};
use crate::admin_log::{Kind, Record};
use crate::auth::AccessRefused;
use crate::exchange::{Exchange, Notice};
use crate::failure::code;
use crate::journal::{Event, kind};
use crate::master::fleet::{APPLY, Applier};
use crate::plugin::{Caller, CallerRole, ModuleMessage, Progress};
use crate::tls::ServerTls;
use crate::transport::{Ack, Transport};
use crate::util::{Secret, line_budget};
use crate::wire::{
    Capabilities, Info, Register, Registered, Role, Topic, check_id, check_name, null, raw, sentence, shown,
};

impl Connection {
    /// Begins to check a registration.
    pub(super) fn register(&self, topic: Topic, payload: &RawValue, ack: Option<Ack>) {
        let register: Register = match serde_json::from_str(payload.get()) {
            Ok(register) => register,
            // A server of pomelo 2.x gives up for good if its `reconnect` is refused. If its connection ends, it tries again.
            Err(error) if topic == Topic::Reconnect => return self.malformed(error),
            Err(error) => return self.refuse(topic, ack, format!("malformed registration: {}", sentence(&error))),
        };
        *self.state.lock() = ConnectionState::Registering;
        self.peer.checking();
        let Some(this) = self.this.upgrade() else { return };
        // Checking a password takes tens of milliseconds; meanwhile nothing else of this peer is accepted.
        tokio::spawn(async move {
            let (came, who) = (Instant::now(), this.claimed(&register));
            let stranded = topic == Topic::Reconnect && register.is_pomelos();
            if let Err(refusal) = this.admit(topic, register, ack.clone()).await {
                let RegistrationRefusal { code, why } = refusal;
                line_budget::caused(&this.cause(), || {
                    tracing::warn!(peer = ?this.peer, id = who.id, %why, "a registration was refused");
                });
                metrics::counter!("pomelo_registrations_refused_total").increment(1);
                let from = this.peer.remote().map_or_else(String::new, |remote| format!(" from {}", remote.ip()));
                let id = who.id.as_deref().unwrap_or_default();
                let event = Event::new(kind::REFUSAL, format!("the registration of `{id}`{from} was refused: {why}"));
                this.master.options.journal.record_some(event);
                let record = Record::new(Kind::Register, Arc::new(who));
                let (failure, reason) = (Some(code.into()), Some(why.clone()));
                this.master.options.admin_log.take_refusal(Record { failure, reason, took: came.elapsed(), ..record });
                if stranded {
                    // Cut and not refused, because it would give up for good.
                    this.peer.cut(why);
                } else {
                    this.refuse(topic, ack, why);
                }
            }
        });
    }

    pub(super) fn answer(&self, topic: Topic, ack: Option<Ack>, answer: &Registered) {
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

    /// Who the peer says it is, as it can stand in a log.
    pub(super) fn claimed(&self, register: &Register) -> Caller {
        let role = match register.role {
            Role::Client => CallerRole::Client,
            Role::Monitor => CallerRole::Monitor,
        };
        Caller {
            id: Some(shown(&register.id)),
            user: register.username.as_deref().map(shown).or_else(|| {
                let certificate = self.peer.certificate().filter(|_| register.role == Role::Client)?;
                certificate.user(None).ok().map(|name| shown(&name))
            }),
            server_type: register.server_type.as_deref().map(shown),
            address: self.peer.remote().map(|remote| remote.to_string()),
            ..Caller::of(role)
        }
    }

    /// Checks a registration, and lets the peer in or says why not.
    pub(super) async fn admit(
        &self,
        topic: Topic,
        register: Register,
        ack: Option<Ack>,
    ) -> Result<(), RegistrationRefusal> {
        check_id(&register.id).map_err(|bad| format!("that cannot be an id: {bad}"))?;
        match (register.role, topic) {
            (Role::Client, Topic::Register) => self.admit_client(register, ack).await,
            (Role::Client, _) => Err("a client registers; only monitors reconnect".to_owned().into()),
            (Role::Monitor, topic) => self.admit_monitor(topic, register, ack).await,
        }
    }

    async fn admit_client(&self, register: Register, ack: Option<Ack>) -> Result<(), RegistrationRefusal> {
        let Register { id, username, password, md5, .. } = register;
        let came = Instant::now();
        let (master, address) = (&self.master, self.peer.remote().map(|remote| remote.ip()));
        let generation = master.access.generation();
        let (username, level) = match (self.peer.certificate(), username, password) {
            // Whoever shows a certificate is whom it says, and nobody else.
            (Some(certificate), username, _) => {
                let username = certificate.user(username.as_deref())?;
                let level = master.access.certified(&username)?;
                (username, level)
            }
            (None, Some(username), Some(password)) => {
                check_name(&username).map_err(|bad| format!("that cannot be a user's name: {bad}"))?;
                let attempt = self.attempt(Guess::Password, &username)?;
                let level = master.access.login(&id, &username, password, md5, address, &self.over).await;
                (username, settle(attempt, level).await?)
            }
            (None, ..) => return Err("a client needs `username` and `password`".to_owned().into()),
        };
        let at_most = master.access.clients_per_user(level);
        master.members.client_joins(&id, &self.peer, &username, at_most).map_err(|refusal| refusal.to_string())?;
        // From now on this client is cut when its user changes. A change during the login was not noticed, and is looked for here.
        if master.access.generation() != generation {
            master.members.client_leaves(&id, self.peer.id());
            return Err("the users have changed meanwhile; try again".to_owned().into());
        }
        let exchange = Exchange::new(self.peer.clone(), Topic::Client, 0);
        let to_client = exchange.clone();
        let caller = Caller {
            progress: Some(Progress(Arc::new(move |message: ModuleMessage| {
                let to_client = to_client.clone();
                let ModuleMessage { from, module, msg, depth: _, deadline } = message;
                Box::pin(async move { to_client.notify_for(&from, &Notice::new(&module, &msg), deadline).await })
            }))),
            id: Some(id.clone()),
            user: Some(username.clone()),
            level: Some(level.0),
            address: self.peer.remote().map(|remote| remote.to_string()),
            account: Some(self.peer.account().clone()),
            ..Caller::of(CallerRole::Client)
        };
        tracing::debug!(client = %id, user = %username, level = level.0, peer = ?self.peer, "a client has registered");
        let caller = Arc::new(caller);
        let record = Record { took: came.elapsed(), ..Record::new(Kind::Register, caller.clone()) };
        let registration = Registration { id: id.clone(), role: Role::Client, exchange, caller };
        let entered = self.enter(&mut self.state.lock(), registration);
        entered.inspect_err(|_| master.members.client_leaves(&id, self.peer.id()))?;
        master.options.admin_log.take(record);
        self.answer(Topic::Register, ack, &Registered::ok(Vec::new()));
        Ok(())
    }

    /// Begins an attempt under a user's name or a server's id. A peer inside this process has no address and needs none, because it does not guess.
    fn attempt(&self, guess: Guess, name: &str) -> Result<Option<Attempt<'_>>, RegistrationRefusal> {
        let Some(remote) = self.peer.remote() else { return Ok(None) };
        // Who has logged in from there is not slowed down by guesses for others.
        let known = guess == Guess::Password && self.master.access.has_logged_in(remote.ip(), name);
        let attempt = self.master.login_throttle.begin(remote.ip(), guess, name, known, Instant::now());
        let busy = || RegistrationRefusal {
            code: code::BUSY,
            why: "too many wrong logins from this address, try again later".into(),
        };
        attempt.ok_or_else(busy).map(Some)
    }

    async fn admit_monitor(
        &self,
        topic: Topic,
        register: Register,
        ack: Option<Ack>,
    ) -> Result<(), RegistrationRefusal> {
        let pomelos = register.is_pomelos();
        let Some(server_type) = register.server_type else {
            return Err("a monitor needs `serverType`".to_owned().into());
        };
        check_name(&server_type).map_err(|bad| format!("that cannot be a `serverType`: {bad}"))?;
        check_info(register.info.as_ref())?;
        // The connection inside this process is the master's own monitor's.
        let own = self.peer.transport() == Transport::Memory;
        let remote = self.peer.remote().map(|remote| remote.ip());
        let (id, returned) = (register.id, topic == Topic::Reconnect);
        let comer = Comer { id: &id, server_type: &server_type, address: remote.map(|ip| ip.to_canonical()) };
        // pomelo's servers show no token when they come back.
        let generation = self.master.access.generation();
        let mut trust = None;
        let certificate = self.peer.certificate();
        let tokenless = certificate.is_none()
            && pomelos
            && returned
            && register.token.is_none()
            && self.master.access.checks_servers();
        if tokenless {
            self.check_type(&id, &server_type)?;
            trust = self.master.known_servers.admits(comer, Moment::now());
            if trust.is_none() {
                return Err(
                    format!("it comes back, shows no token and is not known: `pomelo admit {id}` lets it in").into()
                );
            }
        } else if let Some(certificate) = certificate {
            certificate.server(&server_type, &id)?;
            self.check_type(&id, &server_type)?;
        } else if !own {
            self.check_shown(remote)?;
            let token = register.token.as_ref().map(Secret::expose);
            self.verify(&id, &server_type, token, remote).await?;
            self.check_type(&id, &server_type)?;
            trust = token.map(Trust::of);
        }
        let info = described(register.info, &id, &server_type, register.pid);
        let caller = Caller {
            id: Some(id.clone()),
            server_type: Some(server_type.clone()),
            address: self.peer.remote().map(|remote| remote.to_string()),
            account: (!own).then(|| self.peer.account().clone()),
            ..Caller::of(CallerRole::Monitor)
        };
        let exchange = Exchange::new(self.peer.clone(), Topic::Monitor, self.master.options.pending);
        if register.capabilities.has(Capabilities::TRACE) {
            exchange.carry_traces();
        }
        let member =
            Member::new(id.clone(), server_type.clone(), info, exchange.clone(), register.capabilities, returned);
        let member = member.doing(register.phase.map(|phase| phase.bounded()));
        let member = if register.down { member.down() } else { member };
        tracing::debug!(server = %id, returned, peer = ?self.peer, "a monitor has registered");
        let registration = Registration { id: id.clone(), role: Role::Monitor, exchange, caller: Arc::new(caller) };
        // The lock is held until the monitor is in the table: its messages, and its end, come after that. The answer goes out before
        // anything that others may send to the new member.
        let mut state = self.state.lock();
        let _commands = self.master.commands.lock();
        // Under the lock no other monitor joins: what is admitted here is let in below.
        self.master.members.admits(&member).map_err(|refusal| {
            metrics::counter!("pomelo_joins_refused_total", "why" => refusal.label()).increment(1);
            refusal.to_string()
        })?;
        self.enter(&mut state, registration)?;
        // Monitors of others read files that may have been edited since. They were told when the files were applied, or have read them at their start.
        let files_differ =
            self.master.fleet.as_ref().is_some_and(|fleet| {
                fleet.applier.get().is_some_and(Applier::has_applied) && fleet.starter.has_begun(&id)
            });
        let told = (files_differ && member.capabilities.has(Capabilities::APPLY)).then(|| member.exchange.clone());
        let disabled = self.master.console.disabled();
        let answer = if pomelos { Registered::pomelos() } else { Registered::ok(disabled) };
        self.answer(topic, ack, &answer);
        if let Some(told) = told {
            // It may have read its files before they were applied. One that leaves at once reads them anew when it comes back.
            let _ = told.command(APPLY, None, null());
        }
        let takes = member.capabilities.has(Capabilities::MODULES).then(|| member.exchange.clone());
        if let Err(refusal) = self.master.members.join(member) {
            self.peer.close(refusal.to_string());
            return Ok(());
        }
        if let Some(exchange) = takes {
            self.master.distribution.joined(&id, &server_type, &exchange);
        }
        if let Some(trust) = trust.filter(|_| pomelos && self.master.access.checks_servers()) {
            self.master.known_servers.remember(comer, trust, Moment::now());
            // A token that was revoked meanwhile makes no server known.
            if self.master.access.generation() != generation {
                self.master.forget_revoked();
            }
        }
        Ok(())
    }

    /// Checks a monitor's token. A wrong one is answered late. A right one is answered at once, however many wrong ones come from the same address.
    async fn verify(
        &self,
        id: &str,
        server_type: &str,
        token: Option<&str>,
        remote: Option<IpAddr>,
    ) -> Result<(), RegistrationRefusal> {
        let (attempt, access) = (self.attempt(Guess::Token, id), &self.master.access);
        // Comparing a token is cheap. The operator's own check is not, so an address with too many wrong logins must not reach it.
        let attempt = if access.has_server_check() { Ok(attempt?) } else { attempt };
        let Err(refused) = access.monitor(id, server_type, token, remote, &self.over).await else { return Ok(()) };
        settle(attempt?, Err::<(), _>(refused)).await.map_err(|refused| match refused {
            AccessRefused::Token => format!("the token is not that of servers of type `{server_type}`").into(),
            other => RegistrationRefusal::from(other),
        })
    }

    /// Where there are no tokens, but certificates of servers, a monitor from another machine needs one.
    fn check_shown(&self, remote: Option<IpAddr>) -> Result<(), String> {
        let takes_certificates = self.master.options.listener.tls.as_ref().is_some_and(ServerTls::takes_certificates);
        let near = remote.is_some_and(|remote| remote.to_canonical().is_loopback());
        if takes_certificates && !near && !self.master.access.checks_servers() {
            return Err("there is no adminServer.json with tokens, so that a monitor from another machine needs a certificate: \
                        `pomelo cert server ID TYPE` makes one"
                .into());
        }
        Ok(())
    }

    /// Whether a monitor from the network may stand for that id. It may not stand for the master, nor for a configured server of another type.
    fn check_type(&self, id: &str, server_type: &str) -> Result<(), String> {
        let options = &self.master.options;
        if id == options.id {
            return Err(format!("`{id}` is the master itself"));
        }
        let configured = match &self.master.fleet {
            Some(fleet) => fleet.starter.server_type(id),
            None => options.configured.get(id).cloned(),
        };
        match configured {
            Some(configured) if configured != server_type => {
                Err(format!("`{id}` is configured as a server of type `{configured}`, not `{server_type}`"))
            }
            _ => Ok(()),
        }
    }
}

/// Why a peer is not let in.
pub(super) struct RegistrationRefusal {
    /// As in a failure.
    pub code: &'static str,
    pub why: String,
}

impl From<String> for RegistrationRefusal {
    fn from(why: String) -> Self {
        RegistrationRefusal { code: code::FORBIDDEN, why }
    }
}

impl From<AccessRefused> for RegistrationRefusal {
    fn from(refused: AccessRefused) -> Self {
        RegistrationRefusal { code: refused.code(), why: refused.to_string() }
    }
}

/// Waits as long as wrong guesses before this attempt demand. A peer that leaves meanwhile still counts, so that it makes no room for more guesses.
async fn settle<T>(attempt: Option<Attempt<'_>>, outcome: Result<T, AccessRefused>) -> Result<T, AccessRefused> {
    if let Some(attempt) = attempt {
        let guessed_wrong = outcome.as_ref().is_err_and(|refused| refused.is_guess());
        tokio::time::sleep(attempt.answer_after(guessed_wrong, Instant::now())).await;
    }
    outcome
}

/// Checks what a monitor says of its server, as far as it becomes a name that others are shown: the host.
///
/// # Errors
/// A sentence that says what is wrong.
pub(super) fn check_info(info: Option<&Info>) -> Result<(), String> {
    match info.and_then(|info| info.get("host")) {
        Some(Value::String(host)) => {
            check_name(host).map_err(|bad| format!("that cannot be the `host` of a server: {bad}"))
        }
        // pomelo's servers may have no host, and none that is no text is used.
        _ => Ok(()),
    }
}

/// What others are told about a server: what its monitor says, but with the id, type and process id of the registration.
pub(super) fn described(info: Option<Info>, id: &str, server_type: &str, pid: Option<u32>) -> Info {
    let mut info = info.unwrap_or_default();
    info.insert("id".into(), id.into());
    info.insert("serverType".into(), server_type.into());
    if let Some(pid) = pid {
        info.insert("pid".into(), pid.into());
    }
    info
}
