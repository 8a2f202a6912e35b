//! The host's side: listens, knows which connection is the program's, and passes calls to it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::{Answer, CALL_DEADLINE, Reach, View, not_offered, own};
use super::MAX_CONNECTIONS;
use super::message::Hello;
use super::session::{self, Session};
use super::socket::Socket;
use crate::failure::{Failure, code};
use crate::wire::{Info, raw};

/// How long the host waits after it could not accept a connection: out of file descriptors, as a rule.
const PAUSE: Duration = Duration::from_millis(250);
/// Why the connection of an earlier process is closed.
const ENDED: &str = "the program has ended";

/// The control socket of one program. Dropping it closes it.
pub(in crate::monitor) struct Control {
    shared: Arc<Shared>,
    socket: Socket,
    _stop: DropGuard,
}

/// What the connections share.
pub(super) struct Shared {
    pub id: String,
    pub server_type: String,
    pub view: View,
    current: Mutex<Current>,
    /// Whether the program has said that it is ready.
    ready: watch::Sender<bool>,
    /// What the program adds to its server's `info`.
    info: watch::Sender<Info>,
    last: AtomicU64,
}

/// Whom the host talks with.
#[derive(Default)]
struct Current {
    /// The program's connection: the one that said `hello` last.
    session: Option<Session>,
    /// Counts processes: a connection of an earlier one is nobody's, however late its lines are read.
    process: u64,
}

impl Control {
    /// Listens on a socket in `dir`, an absolute path.
    pub(in crate::monitor) fn listen(id: &str, server_type: &str, view: View, dir: &Path) -> io::Result<Self> {
        let (socket, listener) = Socket::listen(dir)?;
        let shared = Arc::new(Shared {
            id: id.to_owned(),
            server_type: server_type.to_owned(),
            view,
            current: Mutex::default(),
            ready: watch::Sender::new(false),
            info: watch::Sender::new(Info::new()),
            last: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, shared.clone(), stop.clone()));
        Ok(Control { shared, socket, _stop: stop.drop_guard() })
    }

    /// Where the program finds the socket.
    pub(in crate::monitor) fn path(&self) -> &Path {
        self.socket.path()
    }

    /// What the program adds to its server's `info`; changes are told.
    pub(in crate::monitor) fn info(&self) -> watch::Receiver<Info> {
        self.shared.info.subscribe()
    }

    /// Another process is about to be started: nothing that the one before has said counts any more.
    pub(in crate::monitor) fn restarted(&self) {
        let before = {
            let mut current = self.shared.current.lock();
            current.process += 1;
            self.shared.ready.send_replace(false);
            self.shared.set_info(Info::new());
            current.session.take()
        };
        if let Some(before) = before {
            before.close(ENDED);
        }
    }

    /// Waits until the program says that it is ready.
    pub(in crate::monitor) fn ready(&self) -> BoxFuture<'static, ()> {
        let mut ready = self.shared.ready.subscribe();
        async move {
            if ready.wait_for(|ready| *ready).await.is_err() {
                // The socket is closed: nobody can say it any more.
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}

impl Reach for Control {
    fn offers(&self) -> Vec<String> {
        let current = self.shared.current.lock().session.clone();
        current.map(|session| session.offers()).unwrap_or_default()
    }

    fn has(&self, name: &str) -> bool {
        self.shared.current.lock().session.as_ref().is_some_and(|session| session.has(name))
    }

    fn call(&self, name: &str, args: &RawValue, deadline: Duration) -> BoxFuture<'static, Answer> {
        let current = self.shared.current.lock().session.clone();
        match current {
            Some(session) if session.has(name) => session.call(name, args, deadline),
            _ => ready(Err(self.lacks(name))).boxed(),
        }
    }

    fn lacks(&self, name: &str) -> Failure {
        let (id, current) = (&self.shared.id, self.shared.current.lock().session.clone());
        match current {
            Some(session) => not_offered(id, name, &session.offers()),
            None => {
                let name = crate::wire::shown(name);
                let what = format!(
                    "the program of {id} is not connected to its control socket, so it does not offer `{name}`"
                );
                Failure::new(code::NOT_AVAILABLE, what)
            }
        }
    }
}

impl Shared {
    /// A connection says `hello`: from now on it is the program's. It is told the view as it is, and then every change. False where the
    /// process that connected has ended.
    pub(super) fn enter(&self, session: &Session, hello: Hello) -> bool {
        // Nobody changes the view meanwhile, so no change is missed and none is told twice.
        let entered = self.view.look(|state| {
            let mut current = self.current.lock();
            if current.process != session.process() {
                return None;
            }
            let before = current.session.replace(session.clone());
            self.set_info(hello.info);
            self.ready.send_replace(hello.ready.unwrap_or(true));
            drop(current);
            let mut told = Vec::new();
            if session.has(own::REPLACE_SERVERS) {
                let servers = raw(&state.servers);
                told.push((own::REPLACE_SERVERS, session.call(own::REPLACE_SERVERS, &servers, CALL_DEADLINE)));
            }
            if state.start_over && session.has(own::START_OVER) {
                told.push((own::START_OVER, session.call(own::START_OVER, crate::wire::null(), CALL_DEADLINE)));
            }
            Some((before, told))
        });
        let Some((before, told)) = entered else {
            session.close(ENDED);
            return false;
        };
        if let Some(before) = before {
            before.close("another connection has taken its place");
            tracing::info!(
                server = self.id,
                "a connection to the control socket has taken the place of the one before"
            );
        }
        let id = self.id.clone();
        tokio::spawn(async move {
            for (name, answer) in told {
                if let Err(failure) = answer.await {
                    tracing::warn!(server = id, name, %failure, "the program could not be told what there is");
                }
            }
        });
        tracing::debug!(server = self.id, offers = ?session.offers(), "the program is connected");
        true
    }

    /// A connection is over.
    pub(super) fn leave(&self, session: &Session) {
        let mut current = self.current.lock();
        if current.session.as_ref().is_some_and(|current| current.is(session)) {
            current.session = None;
            tracing::debug!(server = self.id, "the program is no longer connected");
        }
    }

    /// Has the program's own word count, if the connection is the program's.
    pub(super) fn if_current<T>(&self, session: &Session, word: impl FnOnce(&Self) -> T) -> Option<T> {
        let current = self.current.lock();
        // The lock is held, so that a process which is over meanwhile has said nothing about the next one.
        current.session.as_ref().is_some_and(|current| current.is(session)).then(|| word(self))
    }

    /// The program is ready.
    pub(super) fn set_ready(&self) {
        self.ready.send_replace(true);
    }

    /// What the program adds to its server's `info` from now on.
    pub(super) fn set_info(&self, info: Info) {
        self.info.send_if_modified(|before| {
            let changed = *before != info;
            *before = info;
            changed
        });
    }

    /// Counts processes.
    pub(super) fn process(&self) -> u64 {
        self.current.lock().process
    }

    pub(super) fn next_number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match (accepted, places.clone().try_acquire_owned()) {
            (Ok((stream, _)), Ok(place)) => {
                let (shared, cut) = (shared.clone(), stop.child_token());
                tokio::spawn(async move {
                    let _place = place;
                    session::serve(stream, &shared, cut).await;
                });
            }
            (Ok(_), Err(_)) => {
                tracing::warn!(
                    server = shared.id,
                    "more than {MAX_CONNECTIONS} connections to the control socket; one was closed"
                );
            }
            (Err(error), _) => {
                tracing::warn!(server = shared.id, %error, "the control socket cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
