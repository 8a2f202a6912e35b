//! Which TCP connections carry which Socket.IO session.
//!
//! A session that starts with polling moves between connections, and socketioxide tells only of the first one. To end a peer for certain, all of its
//! connections must be known. Later requests with its session id must be refused until the Engine.IO layer has forgotten the session, which takes one
//! missed ping.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socketioxide::socket::Sid;

use super::connection::Connection;
use crate::transport::Peer;

/// The sessions and connections. Their number is bounded by the connections that the listener allows, and by the sessions that can end within the time of
/// one ping.
pub(in crate::transport) struct Sessions {
    table: Mutex<SessionTable>,
    /// How long the Engine.IO layer may still know a session that has ended.
    remember: Duration,
}

#[derive(Default)]
struct SessionTable {
    connections: HashMap<u64, Arc<Connection>>,
    sessions: HashMap<Sid, SessionEntry>,
    /// The sessions that have ended, in that order.
    ended: VecDeque<(Instant, Sid)>,
}

/// A session and what carries it.
#[derive(Default)]
struct SessionEntry {
    state: SessionState,
    carriers: Vec<Arc<Connection>>,
}

#[derive(Default)]
enum SessionState {
    /// It has not joined the namespace yet, or never existed. It is known for as long as a connection says that it carries it.
    #[default]
    Claimed,
    Live(Peer),
    Ended,
}

impl SessionTable {
    /// The connection carries this session from now on, and no other.
    fn attach(&mut self, connection: &Arc<Connection>, session: Sid) {
        // One that is gone is not told of again, and would stay.
        if !self.connections.contains_key(&connection.id) {
            return;
        }
        match connection.session() {
            Some(before) if before == session => return,
            Some(before) => self.detach(connection.id, before),
            None => {}
        }
        self.sessions.entry(session).or_default().carriers.push(connection.clone());
    }

    fn detach(&mut self, connection: u64, session: Sid) {
        let Entry::Occupied(mut entry) = self.sessions.entry(session) else { return };
        entry.get_mut().carriers.retain(|carrier| carrier.id != connection);
        if entry.get().carriers.is_empty() && matches!(entry.get().state, SessionState::Claimed) {
            entry.remove();
        }
    }

    /// Forgets the sessions that ended so long ago.
    fn forget(&mut self, remember: Duration, now: Instant) {
        while self.ended.front().is_some_and(|(since, _)| now.duration_since(*since) > remember) {
            if let Some((_, session)) = self.ended.pop_front() {
                self.sessions.remove(&session);
            }
        }
    }

    fn carrying(&self, session: Sid) -> Vec<Arc<Connection>> {
        self.sessions.get(&session).map(|entry| entry.carriers.clone()).unwrap_or_default()
    }
}

impl Sessions {
    /// An empty table; `remember` is the ping interval and timeout together.
    pub(in crate::transport) fn new(remember: Duration) -> Self {
        Sessions { table: Mutex::default(), remember }
    }

    /// A connection was made.
    pub(in crate::transport) fn add(&self, connection: Arc<Connection>) {
        self.table.lock().connections.insert(connection.id, connection);
    }

    /// A connection is gone.
    pub(in crate::transport) fn remove(&self, connection: u64) {
        let mut table = self.table.lock();
        if let Some(session) = table.connections.remove(&connection).and_then(|connection| connection.session()) {
            table.detach(connection, session);
        }
    }

    /// A request of that session came over that connection. False if the session has ended.
    pub(in crate::transport) fn request(&self, connection: &Arc<Connection>, session: Sid) -> bool {
        let mut table = self.table.lock();
        let peer = match table.sessions.get(&session).map(|entry| &entry.state) {
            Some(SessionState::Ended) => return false,
            Some(SessionState::Live(peer)) => Some(peer.clone()),
            Some(SessionState::Claimed) | None => None,
        };
        table.attach(connection, session);
        connection.carries(session, peer);
        true
    }

    /// The session has become a peer. `connection` is the one that is known to carry it, if any.
    pub(super) fn open(&self, session: Sid, peer: &Peer, connection: Option<&Arc<Connection>>) {
        let mut table = self.table.lock();
        if let Some(connection) = connection {
            table.attach(connection, session);
            connection.carries(session, None);
        }
        let entry = table.sessions.entry(session).or_default();
        entry.state = SessionState::Live(peer.clone());
        for connection in &entry.carriers {
            connection.carries(session, Some(peer.clone()));
        }
    }

    /// The connections that carry a session.
    pub(super) fn carrying(&self, session: Sid) -> Vec<Arc<Connection>> {
        self.table.lock().carrying(session)
    }

    /// A frame of that session is handed up: see [`Connection::has_frame`].
    pub(super) fn has_frame(&self, session: Sid) {
        let table = self.table.lock();
        table.sessions.get(&session).into_iter().flat_map(|entry| &entry.carriers).for_each(|carrier| {
            carrier.has_frame();
        });
    }

    /// The session has ended, and its requests are refused from now on. Returns the connections that carry it.
    pub(super) fn end(&self, session: Sid) -> Vec<Arc<Connection>> {
        let mut table = self.table.lock();
        let now = Instant::now();
        table.forget(self.remember, now);
        table.sessions.entry(session).or_default().state = SessionState::Ended;
        table.ended.push_back((now, session));
        table.carrying(session)
    }

    /// The peers that are connected now.
    pub(in crate::transport) fn peers(&self) -> Vec<Peer> {
        let table = self.table.lock();
        let live = table.sessions.values().filter_map(|entry| match &entry.state {
            SessionState::Live(peer) => Some(peer.clone()),
            SessionState::Claimed | SessionState::Ended => None,
        });
        live.collect()
    }

    /// All connections.
    pub(in crate::transport) fn connections(&self) -> Vec<Arc<Connection>> {
        self.table.lock().connections.values().cloned().collect()
    }
}
