//! What a service manager such as systemd is told (`Type=notify`): that a host is ready, what it does, that it ends, and that it is alive.
//!
//! Knows the form of these words, and not what a host is. Without `NOTIFY_SOCKET` nobody is told. A thread of its own sends, because the socket's reader
//! may be slow, and nobody waits for a reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use crate::monitor::MasterLinkState;
use crate::util::visible::steers;
use crate::wire::{Phase, PhaseName};

/// Words that wait for the thread. More are dropped, because the next ones say what is true then.
const WAITING: usize = 64;
/// How long the end of a host waits until the service manager is told of it.
const TOLD: Duration = Duration::from_secs(1);

/// What is said.
enum Word {
    Ready(String),
    Status(String),
    Reloading,
    Reloaded,
    Stopping(oneshot::Sender<()>),
    /// Alive. The mark says that this word waits: only one does, so that it leaves room for the others.
    Alive(Arc<AtomicBool>),
}

/// The service manager that started this process, if one did and wants to be told.
pub(super) struct ServiceManager {
    words: Option<SyncSender<Word>>,
    /// Tells that this process is alive, for as long as this is.
    alive: Option<AbortHandle>,
}

impl ServiceManager {
    /// The one that the environment names. If it wants a sign of life (`WATCHDOG_USEC`), it gets one from now on, twice as often as it must.
    pub fn of_environment() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none_or(|socket| socket.is_empty()) {
            return ServiceManager { words: None, alive: None };
        }
        let (words, inbox) = sync_channel(WAITING);
        if let Err(error) = std::thread::Builder::new().name("service-manager".into()).spawn(move || tell_all(&inbox)) {
            tracing::warn!(%error, "the service manager cannot be told anything");
            return ServiceManager { words: None, alive: None };
        }
        let within = sd_notify::watchdog_enabled().filter(|within| !within.is_zero());
        let alive = within.map(|within| {
            let words = words.clone();
            // A task of the runtime and not the thread: the sign stops if tasks are no longer run.
            let telling = tokio::spawn(async move {
                let waits = Arc::new(AtomicBool::new(false));
                let mut times = tokio::time::interval(within / 2);
                loop {
                    times.tick().await;
                    if !waits.swap(true, Ordering::Relaxed) && words.try_send(Word::Alive(waits.clone())).is_err() {
                        waits.store(false, Ordering::Relaxed);
                    }
                }
            });
            telling.abort_handle()
        });
        ServiceManager { words: Some(words), alive }
    }

    /// The host is ready, and does that.
    pub fn ready(&self, status: impl Into<String>) {
        self.tell(Word::Ready(status.into()));
    }

    /// What the host does now, in a sentence.
    pub fn status(&self, status: impl Into<String>) {
        self.tell(Word::Status(status.into()));
    }

    /// The host looks at its files again.
    pub fn reloading(&self) {
        self.tell(Word::Reloading);
    }

    /// It has done that.
    pub fn reloaded(&self) {
        self.tell(Word::Reloaded);
    }

    /// The host ends. Waits until that is told, at most a second.
    pub async fn stopping(&self) {
        if self.words.is_some() {
            let (told, answer) = oneshot::channel();
            self.tell(Word::Stopping(told));
            let _ = tokio::time::timeout(TOLD, answer).await;
        }
    }

    /// Tells how a monitor is. It is ready when its server runs and is registered.
    pub async fn follow(&self, mut phase: watch::Receiver<Phase>, mut link: watch::Receiver<MasterLinkState>) {
        let (mut ready, mut last) = (false, String::new());
        loop {
            let (server, master) = (phase.borrow_and_update().clone(), link.borrow_and_update().clone());
            let status = sentence(&server, &master);
            let serves = server.phase == PhaseName::Running && master == MasterLinkState::Registered;
            if serves && !ready {
                ready = true;
                self.ready(status.as_str());
            } else if status != last {
                self.status(status.as_str());
            }
            last = status;
            tokio::select! {
                Ok(()) = phase.changed() => {}
                Ok(()) = link.changed() => {}
                else => return,
            }
        }
    }

    fn tell(&self, word: Word) {
        if let Some(words) = &self.words {
            let _ = words.try_send(word);
        }
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        if let Some(alive) = &self.alive {
            alive.abort();
        }
    }
}

/// How a server and its monitor's link are.
fn sentence(server: &Phase, master: &MasterLinkState) -> String {
    let why = server.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    let pid = server.pid.map_or_else(String::new, |pid| format!(", process {pid}"));
    let master = match master {
        MasterLinkState::Registered => "the master knows".to_owned(),
        MasterLinkState::Idle => "there is nothing to register".into(),
        MasterLinkState::Connecting(None) => "the master is being reached".into(),
        MasterLinkState::Connecting(Some(why)) => format!("the master is not reached: {why}"),
    };
    format!("the server is {}{pid}{why}; {master}", server.phase.as_str())
}

/// Since systemd 253 the word must come with the time, on the clock that nobody can set.
fn reloading() -> Vec<NotifyState<'static>> {
    let now = NotifyState::monotonic_usec_now();
    std::iter::once(NotifyState::Reloading).chain(now.ok()).collect()
}

/// Sends what is said, until nobody says anything any more.
fn tell_all(inbox: &Receiver<Word>) {
    let mut warned = false;
    for word in inbox {
        // A line break would begin another word.
        let line = |status: &str| status.replace(steers, " ");
        let sent = match &word {
            Word::Ready(status) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&line(status))]),
            Word::Status(status) => sd_notify::notify(&[NotifyState::Status(&line(status))]),
            Word::Reloading => sd_notify::notify(&reloading()),
            Word::Reloaded => sd_notify::notify(&[NotifyState::Ready]),
            Word::Stopping(_) => sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("ending")]),
            Word::Alive(_) => sd_notify::notify(&[NotifyState::Watchdog]),
        };
        match sent {
            Err(error) if !warned => {
                warned = true;
                tracing::warn!(%error, "the service manager at NOTIFY_SOCKET cannot be told anything");
            }
            _ => {}
        }
        match word {
            Word::Stopping(told) => drop(told.send(())),
            Word::Alive(waits) => waits.store(false, Ordering::Relaxed),
            Word::Ready(_) | Word::Status(_) | Word::Reloading | Word::Reloaded => {}
        }
    }
}
