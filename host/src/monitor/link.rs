//! The link to the master: one connection after another.
//!
//! A lost connection is made again, with back-off. Over the first connection the monitor registers, over later ones it reconnects. Modules are
//! started once, when the server runs for the first time. While the server does not run, the monitor stays connected and says that its server is
//! down, so that the operator can ask the monitor why. The master is told each phase of the server, the newest one where several come together.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::connecting::{Connected, Connector, Dial, registration};
use super::{FromMaster, Options};
use crate::console::Console;
use crate::exchange::Exchange;
use crate::journal::{Journal, Page};
use crate::transport::Wire;
use crate::util::Backoff;
use crate::wire::{Info, Phase, Topic, raw};

/// How long one wait for events lasts. Then the next wait begins.
const REPORT_PAUSE: Duration = Duration::from_secs(60);
/// The shortest time between two frames that tell a phase. What comes meanwhile is told by the newest one.
const PHASE_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection to an original master stays open for the last answers when the server ends.
const ANSWERING: Duration = Duration::from_secs(5);

/// How the connection to the master is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterLinkState {
    /// The server does not run, so there is nothing to register.
    Idle,
    /// The monitor tries to reach the master. The text says why the last attempt failed.
    Connecting(Option<String>),
    /// Registered.
    Registered,
}

/// The link to the master.
pub(super) struct MasterLink {
    options: Options,
    /// The connection. It is set as soon as the answer to the registration is read, because the next frame may call a handler that asks the master.
    current: Arc<Mutex<Option<Exchange>>>,
    state: watch::Sender<MasterLinkState>,
    once: watch::Sender<bool>,
    /// Whether the master has ever answered.
    answered: watch::Sender<bool>,
    /// Number of the last event that was sent to the master.
    reported: AtomicU64,
}

/// What a registered connection follows: what the server does, its `info`, and the end of the monitor.
struct Ends<'a> {
    phase: &'a mut watch::Receiver<Phase>,
    told: &'a mut watch::Receiver<Info>,
    stop: &'a CancellationToken,
}

/// Why a registered connection has ended.
enum ConnectionEnd {
    /// The monitor is stopping, or the connection is lost.
    Over,
    /// The connection to an original master is closed, because the master must see the server leave, and join when it runs again.
    ToComeAgain,
}

impl MasterLink {
    pub fn new(options: Options) -> Self {
        let (state, once) = (watch::Sender::new(MasterLinkState::Idle), watch::Sender::new(false));
        let answered = watch::Sender::new(false);
        MasterLink { options, current: Arc::default(), state, once, answered, reported: AtomicU64::new(0) }
    }

    pub fn state(&self) -> watch::Receiver<MasterLinkState> {
        self.state.subscribe()
    }

    /// The journal of this host's events.
    pub fn journal(&self) -> &Journal {
        &self.options.journal
    }

    /// What is taken from the master of its modules.
    pub fn taken(&self) -> Option<Arc<FromMaster>> {
        self.options.from_master.clone()
    }

    /// The wire on which a master of ours is reached.
    pub fn wire(&self) -> Wire {
        self.options.wire
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

    /// Waits until the master has answered a registration.
    pub async fn answered_once(&self) {
        // The sender is part of this link.
        let _ = self.answered.subscribe().wait_for(|answered| *answered).await;
    }

    /// Keeps the server registered while it runs, until `stop` is cancelled.
    pub async fn run(
        self: Arc<Self>,
        dial: Dial,
        mut phase: watch::Receiver<Phase>,
        console: Console,
        stop: CancellationToken,
    ) {
        let (shortest, longest) = self.options.backoff;
        let mut backoff = Backoff::new(shortest, longest);
        let pomelos = matches!(dial, Dial::Pomelo(_));
        // A server that adds nothing gets a receiver without changes.
        let mut told = self.options.told.clone().unwrap_or_else(|| watch::Sender::new(Info::new()).subscribe());
        // The process that others see, or saw last.
        let mut seen = None;
        loop {
            if pomelos {
                // The monitor does not connect while the server is down, because an original master cannot be told so.
                if phase.borrow().serving(seen).is_none() {
                    self.state.send_replace(MasterLinkState::Idle);
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = serves(&mut phase) => {}
                }
            }
            // A state that says why the last attempt failed stays until the master is reached.
            self.state.send_if_modified(|state| {
                let first = !matches!(state, MasterLinkState::Connecting(_));
                if first {
                    *state = MasterLinkState::Connecting(None);
                }
                first
            });
            told.mark_unchanged();
            let now = phase.borrow_and_update().clone();
            seen = now.serving(seen);
            let connector =
                Connector { options: &self.options, current: &self.current, console: &console, stop: &stop };
            let again = *self.once.borrow();
            let connected = connector.connect(&dial, now.clone(), seen, again).await;
            if connected.is_err() && stop.is_cancelled() {
                return;
            }
            let wait = match connected {
                Ok(connected) => {
                    let since = Instant::now();
                    let ends = Ends { phase: &mut phase, told: &mut told, stop: &stop };
                    let ended = self.registered(connected, now, &mut seen, pomelos, ends, &console).await;
                    let lost = matches!(ended, ConnectionEnd::Over) && !stop.is_cancelled();
                    self.state.send_replace(match lost {
                        true => MasterLinkState::Connecting(Some("the connection to the master is lost".into())),
                        false => MasterLinkState::Idle,
                    });
                    if stop.is_cancelled() {
                        return;
                    }
                    if matches!(ended, ConnectionEnd::ToComeAgain) || since.elapsed() >= longest {
                        backoff.reset();
                        continue;
                    }
                    // A connection that was lost so soon may be lost again: two monitors of one server, for example, take each other's place.
                    let wait = backoff.next_wait();
                    tracing::warn!(server = %self.options.id, ?wait, "the connection was lost soon; trying again");
                    wait
                }
                Err(refused) => {
                    let wait = backoff.next_wait();
                    tracing::warn!(server = %self.options.id, %refused, ?wait, "not registered; trying again");
                    self.state.send_replace(MasterLinkState::Connecting(Some(refused.to_string())));
                    wait
                }
            };
            // Spread as wide as the wait itself, because all monitors of a fleet lose the same master together.
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>())) => {}
            }
        }
    }

    /// Keeps the registration up to date until the connection is lost or the monitor is to stop, then closes the connection. `registered` is the
    /// phase that the registration told, and `pid` the process that others see.
    async fn registered(
        &self,
        connected: Connected,
        registered: Phase,
        pid: &mut Option<u32>,
        pomelos: bool,
        ends: Ends<'_>,
        console: &Console,
    ) -> ConnectionEnd {
        let Connected { exchange, over, reports, phases, answering } = connected;
        let Ends { phase, told, stop } = ends;
        self.state.send_replace(if pid.is_some() { MasterLinkState::Registered } else { MasterLinkState::Idle });
        self.answered.send_replace(true);
        tracing::info!(server = %self.options.id, pid = *pid, "registered with the master");
        let mut first = phase.clone();
        // The newest phase that the master knows, and the earliest time for the next.
        let (mut known, mut next) = (registered, tokio::time::Instant::now());
        let start = async {
            if !*self.once.borrow() {
                serves(&mut first).await;
                console.start().await;
                self.once.send_replace(true);
            }
            std::future::pending::<()>().await;
        };
        tokio::pin!(start);
        let reporting = self.report(&exchange, reports);
        tokio::pin!(reporting);
        let mut ended = ConnectionEnd::Over;
        let why = loop {
            let mut more = false;
            let untold = phases && *phase.borrow() != known;
            tokio::select! {
                never = &mut reporting => match never {},
                () = &mut start => continue,
                () = over.cancelled() => break "the connection is lost",
                () = stop.cancelled() => break "the monitor is stopping",
                () = changed(phase) => {}
                () = tokio::time::sleep_until(next), if untold => {
                    known = phase.borrow_and_update().clone();
                    if exchange.peer().send(Topic::Phase, raw(&known)).is_err() {
                        break "the connection is lost";
                    }
                    next = tokio::time::Instant::now() + PHASE_PAUSE;
                }
                // An original master takes no changes of a registered server's `info`. It is told of them with the next registration.
                () = changed(told), if !pomelos => more = true,
            }
            let now = phase.borrow().clone();
            let serves = now.serving(*pid);
            if serves != *pid {
                let (id, what) = (&self.options.id, if serves.is_some() { "serves" } else { "does not serve" });
                tracing::info!(server = %id, pid = serves, phase = now.phase.as_str(), "the server {what}");
            } else if more && serves.is_some() {
                tracing::debug!(server = %self.options.id, "the server says more of itself");
            } else {
                // The `info` of a server that others do not see is sent when they see it again.
                continue;
            }
            if pomelos {
                *pid = serves;
                ended = ConnectionEnd::ToComeAgain;
                break if serves.is_some() { "the server is another process" } else { "the server is down" };
            }
            // A new process id means that the server was restarted. The master tells the other servers that it has left and joined.
            let sent = match serves {
                None => exchange.peer().send(Topic::Deregister, raw(&serde_json::json!({ "id": self.options.id }))),
                Some(_) => {
                    known = now.clone();
                    exchange.peer().send(Topic::Reconnect, raw(&registration(&self.options, now, serves)))
                }
            };
            if sent.is_err() {
                break "the connection is lost";
            }
            self.state.send_replace(if serves.is_some() { MasterLinkState::Registered } else { MasterLinkState::Idle });
            *pid = serves;
        };
        // How a program ended for good is told before the monitor says goodbye, and what has happened until then.
        let last = phase.borrow().clone();
        if reports && stop.is_cancelled() {
            self.tell(&exchange, &self.options.journal.page(self.reported.load(Ordering::Acquire)));
        }
        if phases && stop.is_cancelled() && last != known {
            // The goodbye follows in any case.
            let _ = exchange.peer().send(Topic::Phase, raw(&last));
        }
        if matches!(ended, ConnectionEnd::ToComeAgain) {
            // The request that ended the server may still wait for its answer.
            answering.close();
            let _ = tokio::time::timeout(ANSWERING, answering.wait()).await;
        }
        tracing::info!(server = %self.options.id, why, "no longer registered");
        *self.current.lock() = None;
        exchange.over(why);
        exchange.peer().close(why);
        // Frames that were sent before the close have a moment to get out. The transport ends a dead connection.
        let _ = tokio::time::timeout(self.options.connection.flush_time * 2, over.cancelled()).await;
        ended
    }

    /// Sends the master this host's events, also those from the time without a connection, in their order. Events are lost if the journal drops them
    /// before they are sent, or if the connection breaks while they are on their way, because the master acknowledges none.
    async fn report(&self, exchange: &Exchange, wanted: bool) -> Infallible {
        if !wanted {
            std::future::pending::<()>().await;
        }
        loop {
            let since = self.reported.load(Ordering::Acquire);
            if !self.tell(exchange, &self.options.journal.next(since, REPORT_PAUSE).await) {
                // The next connection sends what is left.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Sends events in their order. Answers false where the connection is over; those that were sent are noted.
    fn tell(&self, exchange: &Exchange, page: &Page) -> bool {
        page.events.iter().all(|event| {
            let sent = exchange.peer().send(Topic::Event, raw(&event.report())).is_ok();
            if sent {
                self.reported.store(event.n, Ordering::Release);
            }
            sent
        })
    }
}

/// Waits until the server is to be seen by others, for ever if that cannot change any more.
async fn serves(phase: &mut watch::Receiver<Phase>) {
    // The guard of the value must not be held while waiting.
    if phase.wait_for(|phase| phase.serving(None).is_some()).await.map(drop).is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits for a change, for ever if there can be none any more.
async fn changed<T>(told: &mut watch::Receiver<T>) {
    if told.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
