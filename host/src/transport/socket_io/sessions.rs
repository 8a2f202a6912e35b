//! Which TCP connections carry which Socket.IO session.
//!
//! A session that starts with polling moves between connections, and socketioxide tells only of the first one. To end a peer for certain, all of its
//! connections must be known. Later requests with its session id must be refused until the Engine.IO layer has forgotten the session, which takes one
//! missed ping.

use std::collections::HashMap;
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
    sessions: HashMap<Sid, SessionState>,
}

impl SessionTable {
    fn carrying(&self, session: Sid) -> Vec<Arc<Connection>> {
        self.connections.values().filter(|connection| connection.session() == Some(session)).cloned().collect()
    }
}

enum SessionState {
    Live(Peer),
    Ended(Instant),
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
        self.table.lock().connections.remove(&connection);
    }

    /// A request of that session came over that connection. False if the session has ended.
    pub(in crate::transport) fn request(&self, connection: &Connection, session: Sid) -> bool {
        let table = self.table.lock();
        let peer = match table.sessions.get(&session) {
            Some(SessionState::Ended(_)) => return false,
            Some(SessionState::Live(peer)) => Some(peer.clone()),
            // The session has not joined the namespace yet, or never existed.
            None => None,
        };
        connection.carries(session, peer);
        true
    }

    /// The session has become a peer. `connection` is the one that is known to carry it, if any.
    pub(super) fn open(&self, session: Sid, peer: &Peer, connection: Option<&Connection>) {
        let mut table = self.table.lock();
        if let Some(connection) = connection {
            connection.carries(session, Some(peer.clone()));
        }
        for connection in table.carrying(session) {
            connection.carries(session, Some(peer.clone()));
        }
        table.sessions.insert(session, SessionState::Live(peer.clone()));
    }

    /// The connections that carry a session.
    pub(super) fn carrying(&self, session: Sid) -> Vec<Arc<Connection>> {
        self.table.lock().carrying(session)
    }

    /// The session has ended, and its requests are refused from now on. Returns the connections that carry it.
    pub(super) fn end(&self, session: Sid) -> Vec<Arc<Connection>> {
        let mut table = self.table.lock();
        let now = Instant::now();
        table.sessions.retain(
            |_, state| !matches!(state, SessionState::Ended(since) if now.duration_since(*since) > self.remember),
        );
        table.sessions.insert(session, SessionState::Ended(now));
        table.carrying(session)
    }

    /// The peers that are connected now.
    pub(in crate::transport) fn peers(&self) -> Vec<Peer> {
        let table = self.table.lock();
        let live = table.sessions.values().filter_map(|state| match state {
            SessionState::Live(peer) => Some(peer.clone()),
            SessionState::Ended(_) => None,
        });
        live.collect()
    }

    /// All connections.
    pub(in crate::transport) fn connections(&self) -> Vec<Arc<Connection>> {
        self.table.lock().connections.values().cloned().collect()
    }
}
