//! One connection to the master: made, and registered over.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Options;
use super::incoming::Incoming;
use crate::console::Console;
use crate::exchange::Exchange;
use crate::plugin::{Caller, CallerRole};
use crate::transport::mqtt;
use crate::transport::socket_io::client::{self, ConnectError};
use crate::transport::{Accept, Peer, Session, memory};
use crate::wire::{Capabilities, Phase, Register, Registered, Role, Topic, VERSION, WIT_VERSIONS, raw};

/// How the master is reached.
#[derive(Clone)]
pub(super) enum Dial {
    /// At `host:port`.
    SocketIo(String),
    /// At `host:port`; one of ours, on pomelo's wire.
    PomelosWire(String),
    /// At `host:port`; an original master of pomelo 2.x.
    Pomelo(String),
    /// In this process.
    Memory(Arc<dyn Accept>),
}

/// Why the monitor could not connect and register.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The master cannot be reached.
    #[error("no connection to the master at {0}: {1}")]
    Connect(String, ConnectError),
    /// The master cannot be reached on pomelo's wire.
    #[error("no connection to the master at {0} on pomelo's wire: {1}")]
    Pomelo(String, mqtt::client::ConnectError),
    /// The master does not answer the registration.
    #[error("the master did not answer the registration within {0:?}")]
    Silent(Duration),
    /// The master refuses the registration.
    #[error("the master refuses the registration: {0}")]
    Refused(String),
    /// The connection ended before the answer.
    #[error("the connection ended before the registration was answered")]
    Over,
}

/// A connection that is up.
pub(super) struct Connected {
    pub exchange: Exchange,
    pub over: CancellationToken,
    /// Whether the master takes reports of what happens here.
    pub reports: bool,
    /// Whether the master takes phases.
    pub phases: bool,
    /// Requests of an original master that have not been answered yet.
    pub answering: TaskTracker,
}

/// Makes connections.
pub(super) struct Connector<'a> {
    pub options: &'a Options,
    /// Set to the connection when the answer to the registration is read.
    pub current: &'a Arc<Mutex<Option<Exchange>>>,
    pub console: &'a Console,
    pub stop: &'a CancellationToken,
}

impl Connector<'_> {
    /// Connects and registers. `phase` is what the server does, and `pid` the process that others are to see, if they are. `again` says that the
    /// monitor has been registered before. If the monitor is stopped meanwhile, the connection is closed with a goodbye, because the master keeps the
    /// place of a connection that only breaks, and nobody can start the server for that time.
    pub(super) async fn connect(
        &self,
        dial: &Dial,
        phase: Phase,
        pid: Option<u32>,
        again: bool,
    ) -> Result<Connected, RegistrationError> {
        let Connector { options, current, console, stop } = self;
        let (answered, answer) = oneshot::channel();
        let (over, answering) = (CancellationToken::new(), TaskTracker::new());
        let (mut made, pomelos) = (None, matches!(dial, Dial::Pomelo(_)));
        let make_session = |peer: Peer| -> Arc<dyn Session> {
            let exchange = Exchange::new(peer, Topic::Monitor, options.pending);
            made = Some(exchange.clone());
            Arc::new(Incoming {
                exchange,
                current: (*current).clone(),
                answered: Mutex::new(Some(answered)),
                over: over.clone(),
                console: (*console).clone(),
                apply: options.apply.clone(),
                from_master: options.from_master.clone(),
                pomelos: pomelos.then(|| answering.clone()),
                caller: Arc::new(Caller::of(CallerRole::Master)),
            })
        };
        let dialled = async {
            match dial {
                Dial::Memory(master) => drop(memory::pair(&**master, options.connection.outbox, make_session)),
                Dial::PomelosWire(address) | Dial::Pomelo(address) => {
                    let connection = mqtt::client::Options::from(&options.connection);
                    let (ping, silence) = options.pings;
                    let connection = if pomelos { connection } else { connection.with_pings(ping, silence) };
                    drop(
                        mqtt::client::connect(address, connection, make_session)
                            .await
                            .map_err(|error| RegistrationError::Pomelo(address.clone(), error))?,
                    );
                }
                Dial::SocketIo(address) => drop(
                    client::connect(address, options.connection.clone(), make_session)
                        .await
                        .map_err(|error| RegistrationError::Connect(address.clone(), error))?,
                ),
            }
            Ok(())
        };
        stop.run_until_cancelled(dialled).await.unwrap_or(Err(RegistrationError::Over))?;
        // A connection that was made has called `make_session`.
        let exchange = made.ok_or(RegistrationError::Over)?;
        let topic = if again { Topic::Reconnect } else { Topic::Register };
        let registration = registration(options, phase, pid);
        let registration = if pomelos { registration.in_pomelos_form() } else { registration };
        exchange.peer().send(topic, raw(&registration)).map_err(|_| RegistrationError::Over)?;
        let answer = tokio::time::timeout(options.register_deadline, answer);
        let Some(answer) = stop.run_until_cancelled(answer).await else {
            exchange.peer().close("the monitor is stopping");
            let _ = tokio::time::timeout(options.connection.flush_time * 2, over.cancelled()).await;
            return Err(RegistrationError::Over);
        };
        let outcome = match answer {
            Ok(Ok(Registered { code: 1, capabilities, .. })) => {
                if capabilities.has(Capabilities::TRACE) {
                    exchange.carry_traces();
                }
                if options.from_master.is_some() && !capabilities.has(Capabilities::MODULES) {
                    tracing::warn!("this master hands no modules on: what was taken from a master before runs on");
                }
                let reports = capabilities.has(Capabilities::EVENTS);
                let phases = capabilities.has(Capabilities::PHASES);
                return Ok(Connected { exchange, over, reports, phases, answering });
            }
            Ok(Ok(Registered { msg, .. })) => RegistrationError::Refused(msg),
            Ok(Err(_)) => RegistrationError::Over,
            Err(_) => RegistrationError::Silent(options.register_deadline),
        };
        exchange.peer().close("registration failed");
        Err(outcome)
    }
}

/// What the monitor says of its server when it registers. `pid` is the process that others are to see, if they are to see one.
pub(super) fn registration(options: &Options, phase: Phase, pid: Option<u32>) -> Register {
    let mut info = options.info.clone();
    if let Some(told) = &options.told {
        info.extend(told.borrow().iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    Register {
        id: options.id.clone(),
        role: Role::Monitor,
        server_type: Some(options.server_type.clone()),
        pid,
        down: pid.is_none(),
        phase: Some(Box::new(phase)),
        info: Some(info),
        token: options.token.clone(),
        username: None,
        password: None,
        md5: false,
        version: Some(VERSION.into()),
        wit: WIT_VERSIONS.iter().map(|&version| version.into()).collect(),
        capabilities: match options.from_master {
            Some(_) => Capabilities::own().and(Capabilities::MODULES),
            None => Capabilities::own(),
        },
    }
}
