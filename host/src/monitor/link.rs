//! The connection to the master.
//!
//! It is made at once; lost, it is made again, with back-off. The first time the monitor registers, later it reconnects: modules are started
//! once, when the server runs for the first time. While the server does not run, the monitor is connected, and says that its server is down:
//! it can be asked, and the operator sees why.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::incoming::Incoming;
use super::{Options, Running};
use crate::console::Console;
use crate::exchange::Exchange;
use crate::failure::{Failure, code};
use crate::journal::Journal;
use crate::plugin::capability::Uplink;
use crate::plugin::{Caller, CallerRole};
use crate::transport::mqtt;
use crate::transport::socket_io::client::{self, ConnectError};
use crate::transport::{Accept, Peer, Session, memory};
use crate::util::Backoff;
use crate::util::backoff::jittered;
use crate::wire::{Capabilities, Info, Register, Registered, Role, Topic, VERSION, WIT_VERSIONS, raw};

/// How long a wait for events is; it is only begun anew.
const REPORT_PAUSE: Duration = Duration::from_secs(60);
/// How long the end of a server that an original master knows waits for answers that are still to be given.
const ANSWERING: Duration = Duration::from_secs(5);

/// How the master is reached.
pub(super) enum Dial {
    /// At `host:port`.
    SocketIo(String),
    /// At `host:port`; an original master of pomelo 2.x.
    Pomelo(String),
    /// In this process.
    Memory(Arc<dyn Accept>),
}

/// How the connection to the master is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// The server does not run, so there is nothing to register.
    Idle,
    /// The master is being reached; why it could not be the last time.
    Connecting(Option<String>),
    /// Registered.
    Registered,
}

/// Why a connection came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The master cannot be reached.
    #[error("no connection to the master at {0}: {1}")]
    Connect(String, ConnectError),
    /// The original master cannot be reached.
    #[error("no connection to pomelo's master at {0}: {1}")]
    Pomelo(String, mqtt::client::ConnectError),
    /// The master does not answer the registration.
    #[error("the master did not answer the registration within {0:?}")]
    Silent(Duration),
    /// The master says no.
    #[error("the master refuses the registration: {0}")]
    Refused(String),
    /// The connection ended before the answer.
    #[error("the connection ended before the registration was answered")]
    Over,
}

/// The connection to the master, and what is to be told when it is made.
pub(super) struct Link {
    options: Options,
    /// Set by the answer to the registration itself: what comes after it may call a handler that turns to the master.
    current: Arc<Mutex<Option<Exchange>>>,
    state: watch::Sender<LinkState>,
    once: watch::Sender<bool>,
    /// Number of the last event that the master was told.
    reported: AtomicU64,
}

/// What modules see of the link.
pub(super) struct MasterLink(pub Arc<Link>);

/// What changes what is said to the master, and what ends it.
struct Ends<'a> {
    running: &'a mut Running,
    told: &'a mut watch::Receiver<Info>,
    stop: &'a CancellationToken,
}

/// A connection that is up.
struct Connected {
    exchange: Exchange,
    over: CancellationToken,
    /// Whether the master takes reports of what happens here.
    reports: bool,
    /// Requests of an original master that are still to be answered.
    answering: TaskTracker,
}

/// Why a connection that was up no longer is.
enum Ended {
    /// The monitor is stopping, or the connection is lost.
    Over,
    /// An original master is to see the server go, and come when it runs again.
    ToComeAgain,
}

impl Link {
    pub fn new(options: Options) -> Self {
        let (state, once) = (watch::Sender::new(LinkState::Idle), watch::Sender::new(false));
        Link { options, current: Arc::default(), state, once, reported: AtomicU64::new(0) }
    }

    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Where what happens here is written down.
    pub fn journal(&self) -> &Journal {
        &self.options.journal
    }

    /// The connection, while there is one.
    pub fn connection(&self) -> Option<Exchange> {
        self.current.lock().clone()
    }

    /// Waits until the modules have been started after the first registration.
    pub async fn registered_once(&self) {
        // The sender is part of this link.
        let _ = self.once.subscribe().wait_for(|once| *once).await;
    }

    /// Keeps the server registered for as long as it runs, until `stop`.
    pub async fn run(self: Arc<Self>, dial: Dial, mut running: Running, console: Console, stop: CancellationToken) {
        let (shortest, longest) = self.options.backoff;
        let mut backoff = Backoff::new(shortest, longest);
        let pomelos = matches!(dial, Dial::Pomelo(_));
        // A server that adds nothing has a sender that never speaks.
        let mut told = self.options.told.clone().unwrap_or_else(|| watch::Sender::new(Info::new()).subscribe());
        loop {
            if pomelos {
                // An original master knows of no server that is down: there is nothing to say to it then.
                if running.borrow().is_none() {
                    self.state.send_replace(LinkState::Idle);
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = until(&mut running, Option::is_some) => {}
                }
            }
            // Why it could not be reached before stays said until it is.
            self.state.send_if_modified(|state| {
                let first = !matches!(state, LinkState::Connecting(_));
                if first {
                    *state = LinkState::Connecting(None);
                }
                first
            });
            told.mark_unchanged();
            let pid = *running.borrow_and_update();
            let connected = self.connect(&dial, pid, &console, &stop).await;
            if connected.is_err() && stop.is_cancelled() {
                return;
            }
            let wait = match connected {
                Ok(connected) => {
                    let since = Instant::now();
                    let ends = Ends { running: &mut running, told: &mut told, stop: &stop };
                    let ended = self.registered(connected, pid, pomelos, ends, &console).await;
                    let lost = matches!(ended, Ended::Over) && !stop.is_cancelled();
                    self.state.send_replace(match lost {
                        true => LinkState::Connecting(Some("the connection to the master is lost".into())),
                        false => LinkState::Idle,
                    });
                    if stop.is_cancelled() {
                        return;
                    }
                    if matches!(ended, Ended::ToComeAgain) || since.elapsed() >= longest {
                        backoff.reset();
                        continue;
                    }
                    // What was lost so soon may be lost again: two monitors of one server, for example, take each other's place.
                    let wait = backoff.next_wait();
                    tracing::warn!(server = %self.options.id, ?wait, "the connection was lost soon; trying again");
                    wait
                }
                Err(refused) => {
                    let wait = backoff.next_wait();
                    tracing::warn!(server = %self.options.id, %refused, ?wait, "not registered; trying again");
                    self.state.send_replace(LinkState::Connecting(Some(refused.to_string())));
                    wait
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(jittered(wait, rand::random())) => {}
            }
        }
    }

    /// Stays until the connection is lost or the monitor is to stop; then closes the connection.
    async fn registered(
        &self,
        connected: Connected,
        mut pid: Option<u32>,
        pomelos: bool,
        ends: Ends<'_>,
        console: &Console,
    ) -> Ended {
        let Connected { exchange, over, reports, answering } = connected;
        let Ends { running, told, stop } = ends;
        self.state.send_replace(if pid.is_some() { LinkState::Registered } else { LinkState::Idle });
        tracing::info!(server = %self.options.id, pid, "registered with the master");
        let mut first = running.clone();
        let start = async {
            if !*self.once.borrow() {
                until(&mut first, Option::is_some).await;
                console.start().await;
                self.once.send_replace(true);
            }
            std::future::pending::<()>().await;
        };
        tokio::pin!(start);
        let reporting = self.report(&exchange, reports);
        tokio::pin!(reporting);
        let mut ended = Ended::Over;
        let why = loop {
            let now = tokio::select! {
                never = &mut reporting => match never {},
                () = &mut start => continue,
                () = over.cancelled() => break "the connection is lost",
                () = stop.cancelled() => break "the monitor is stopping",
                now = until(running, |now| *now != pid) => now,
                // An original master takes no news of a server that it knows: they are told when it comes the next time.
                () = changed(told), if !pomelos => {
                    if pid.is_none() {
                        // It is told when the server runs.
                        continue;
                    }
                    tracing::debug!(server = %self.options.id, "the server says more of itself");
                    pid
                }
            };
            if now != pid {
                tracing::info!(server = %self.options.id, pid = now, "the server {}", if now.is_some() { "runs" } else { "is down" });
            }
            if pomelos {
                ended = Ended::ToComeAgain;
                break if now.is_some() { "the server is another process" } else { "the server is down" };
            }
            // A new process id is a restarted server: others shall see it go and come.
            let told = match now {
                None => exchange.peer().send(Topic::Deregister, raw(&serde_json::json!({ "id": self.options.id }))),
                Some(_) => exchange.peer().send(Topic::Reconnect, raw(&self.registration(now))),
            };
            if told.is_err() {
                break "the connection is lost";
            }
            self.state.send_replace(if now.is_some() { LinkState::Registered } else { LinkState::Idle });
            pid = now;
        };
        if matches!(ended, Ended::ToComeAgain) {
            // Whoever asked for the server's end is still to be told of it.
            answering.close();
            let _ = tokio::time::timeout(ANSWERING, answering.wait()).await;
        }
        tracing::info!(server = %self.options.id, why, "no longer registered");
        *self.current.lock() = None;
        exchange.over(why);
        exchange.peer().close(why);
        // What was sent before the close has a moment to get out; a dead connection is ended by its transport.
        let _ = tokio::time::timeout(self.options.connection.flush_time * 2, over.cancelled()).await;
        ended
    }

    /// Tells the master what happens here, and what has happened while there was none. Events leave in their order; those that come faster than the
    /// journal is long are lost, and so are those that were on their way when the connection broke: the master answers none.
    async fn report(&self, exchange: &Exchange, wanted: bool) -> Infallible {
        if !wanted {
            std::future::pending::<()>().await;
        }
        loop {
            let since = self.reported.load(Ordering::Acquire);
            let page = self.options.journal.next(since, REPORT_PAUSE).await;
            for event in &page.events {
                if exchange.peer().send(Topic::Event, raw(&event.report())).is_err() {
                    // The connection is over; the next one goes on from here.
                    std::future::pending::<()>().await;
                }
                self.reported.store(event.n, Ordering::Release);
            }
        }
    }

    /// Connects and registers. Where the monitor is to stop meanwhile, a registration that is on its way is taken back with a goodbye: a
    /// connection that only breaks would keep its place for a while, and nobody could start the server.
    async fn connect(
        &self,
        dial: &Dial,
        pid: Option<u32>,
        console: &Console,
        stop: &CancellationToken,
    ) -> Result<Connected, Refused> {
        let (answered, answer) = oneshot::channel();
        let (over, answering) = (CancellationToken::new(), TaskTracker::new());
        let (mut made, pomelos) = (None, matches!(dial, Dial::Pomelo(_)));
        let make_session = |peer: Peer| -> Arc<dyn Session> {
            let exchange = Exchange::new(peer, Topic::Monitor, self.options.pending);
            made = Some(exchange.clone());
            Arc::new(Incoming {
                exchange,
                current: self.current.clone(),
                answered: Mutex::new(Some(answered)),
                over: over.clone(),
                console: console.clone(),
                pomelos: pomelos.then(|| answering.clone()),
                caller: Arc::new(Caller::of(CallerRole::Master)),
            })
        };
        let dialled = async {
            match dial {
                Dial::Memory(master) => drop(memory::pair(&**master, self.options.connection.outbox, make_session)),
                Dial::Pomelo(address) => drop(
                    mqtt::client::connect(address, (&self.options.connection).into(), make_session)
                        .await
                        .map_err(|error| Refused::Pomelo(address.clone(), error))?,
                ),
                Dial::SocketIo(address) => drop(
                    client::connect(address, self.options.connection.clone(), make_session)
                        .await
                        .map_err(|error| Refused::Connect(address.clone(), error))?,
                ),
            }
            Ok(())
        };
        stop.run_until_cancelled(dialled).await.unwrap_or(Err(Refused::Over))?;
        // A connection always makes its session.
        let exchange = made.ok_or(Refused::Over)?;
        let topic = if *self.once.borrow() { Topic::Reconnect } else { Topic::Register };
        let registration = self.registration(pid);
        let registration = if pomelos { registration.in_pomelos_form() } else { registration };
        exchange.peer().send(topic, raw(&registration)).map_err(|_| Refused::Over)?;
        let answer = tokio::time::timeout(self.options.register_deadline, answer);
        let Some(answer) = stop.run_until_cancelled(answer).await else {
            exchange.peer().close("the monitor is stopping");
            let _ = tokio::time::timeout(self.options.connection.flush_time * 2, over.cancelled()).await;
            return Err(Refused::Over);
        };
        let outcome = match answer {
            Ok(Ok(Registered { code: 1, capabilities, .. })) => {
                if capabilities.has(Capabilities::TRACE) {
                    exchange.carry_traces();
                }
                let reports = capabilities.has(Capabilities::EVENTS);
                return Ok(Connected { exchange, over, reports, answering });
            }
            Ok(Ok(Registered { msg, .. })) => Refused::Refused(msg),
            Ok(Err(_)) => Refused::Over,
            Err(_) => Refused::Silent(self.options.register_deadline),
        };
        exchange.peer().close("registration failed");
        Err(outcome)
    }

    fn registration(&self, pid: Option<u32>) -> Register {
        let options = &self.options;
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
            info: Some(info),
            token: options.token.clone(),
            username: None,
            password: None,
            md5: false,
            version: Some(VERSION.into()),
            wit: WIT_VERSIONS.iter().map(|&version| version.into()).collect(),
            capabilities: Capabilities::own(),
        }
    }
}

impl MasterLink {
    fn current(&self) -> Result<Exchange, Failure> {
        let current = self.0.current.lock().clone();
        current.ok_or_else(|| Failure::new(code::DISCONNECTED, "the monitor is not connected to its master"))
    }
}

impl Uplink for MasterLink {
    fn request(
        &self,
        module: String,
        msg: Box<RawValue>,
        depth: u8,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Box<RawValue>, Failure>> {
        let sent = self.current().and_then(|exchange| exchange.send(&module, &msg, depth));
        Box::pin(async move { sent?.answer(deadline).await })
    }

    fn notify(&self, module: String, msg: Box<RawValue>) -> Result<(), Failure> {
        self.current()?.notify(&module, &msg)
    }
}

/// The process id as soon as it is as wanted. Waits for ever where it can change no more.
async fn until(running: &mut Running, wanted: impl FnMut(&Option<u32>) -> bool) -> Option<u32> {
    // The guard of the value must not be held while waiting.
    let now = running.wait_for(wanted).await.map(|now| *now);
    match now {
        Ok(now) => now,
        Err(_) => std::future::pending().await,
    }
}

/// Waits for a change. For ever where there can be none any more.
async fn changed(told: &mut watch::Receiver<Info>) {
    if told.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
