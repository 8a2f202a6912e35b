//! What the host knows of the program behind its control socket: which connection is its own, and what it has said of itself.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::super::{CALL_DEADLINE, View, own};
use super::message::Hello;
use super::session::Session;
use crate::wire::{Info, raw};

/// Why the connection of an earlier process is closed.
const ENDED: &str = "the program has ended";

/// What the host knows of the program, over all its connections.
pub(super) struct ProgramState {
    pub id: String,
    pub server_type: String,
    pub view: View,
    current: Mutex<CurrentSession>,
    /// Whether the program has said that it is ready.
    ready: watch::Sender<bool>,
    /// What the program adds to its server's `info`.
    info: watch::Sender<Info>,
    last: AtomicU64,
}

/// Which connection is the program's.
#[derive(Default)]
struct CurrentSession {
    /// The program's connection: the one that said `hello` last.
    session: Option<Session>,
    /// Counts the program's processes, because lines of a connection that an earlier process made must be ignored, however late they are read.
    process: u64,
}

impl ProgramState {
    /// The state of a program that has said nothing yet.
    pub(super) fn new(id: &str, server_type: &str, view: View) -> Self {
        ProgramState {
            id: id.to_owned(),
            server_type: server_type.to_owned(),
            view,
            current: Mutex::default(),
            ready: watch::Sender::new(false),
            info: watch::Sender::new(Info::new()),
            last: AtomicU64::new(0),
        }
    }

    /// The program's connection.
    pub(super) fn session(&self) -> Option<Session> {
        self.current.lock().session.clone()
    }

    /// Whether the program has said that it is ready.
    pub(super) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// What the program adds to its server's `info`.
    pub(super) fn info(&self) -> watch::Receiver<Info> {
        self.info.subscribe()
    }

    /// Forgets all that the earlier process has said, because another one is about to be started.
    pub(super) fn restarted(&self) {
        let before = {
            let mut current = self.current.lock();
            current.process += 1;
            self.ready.send_replace(false);
            self.set_info(Info::new());
            current.session.take()
        };
        if let Some(before) = before {
            before.close(ENDED);
        }
    }

    /// Makes a connection that has said `hello` the program's. The connection is told the whole view and then every change. False if the process that
    /// made the connection has ended.
    pub(super) fn enter(&self, session: &Session, hello: Hello) -> bool {
        // The view is locked meanwhile, so that the connection misses no change and is told none twice.
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

    /// Forgets a connection that is over.
    pub(super) fn leave(&self, session: &Session) {
        let mut current = self.current.lock();
        if current.session.as_ref().is_some_and(|current| current.is(session)) {
            current.session = None;
            tracing::debug!(server = self.id, "the program is no longer connected");
        }
    }

    /// Runs `word` if the connection is the program's.
    pub(super) fn if_current<T>(&self, session: &Session, word: impl FnOnce(&Self) -> T) -> Option<T> {
        let current = self.current.lock();
        // The lock is held while `word` runs, so that nothing which an ended process has said is taken for the next one's.
        current.session.as_ref().is_some_and(|current| current.is(session)).then(|| word(self))
    }

    /// The program has said that it is ready.
    pub(super) fn set_ready(&self) {
        self.ready.send_replace(true);
    }

    /// Replaces what the program adds to its server's `info`.
    pub(super) fn set_info(&self, info: Info) {
        self.info.send_if_modified(|before| {
            let changed = *before != info;
            *before = info;
            changed
        });
    }

    /// The number of the program's current process.
    pub(super) fn process(&self) -> u64 {
        self.current.lock().process
    }

    pub(super) fn next_number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }
}
