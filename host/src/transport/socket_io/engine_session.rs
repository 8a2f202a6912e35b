//! What the server knows of one Engine.IO session: its connection, the receiving side of its peer, and how it ended.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use metrics::Counter;
use parking_lot::Mutex;
use socketioxide::socket::{DisconnectReason, Socket};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::sessions::Sessions;
use crate::transport::options::Options;
use crate::transport::places::PollingPermit;
use crate::transport::{Accept, Peer, Session};

/// What all sessions of a server share.
pub(super) struct ServerContext {
    pub(super) options: Options,
    pub(super) accept: Arc<dyn Accept>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) tasks: TaskTracker,
    /// Bytes that the copies of shared texts may have that are on their way to all peers.
    pub(super) copies: Arc<Semaphore>,
    /// How many of them have been taken.
    pub(super) copied: AtomicU64,
}

/// An Engine.IO session. It travels in the extensions of the session's first request.
pub(in crate::transport) struct EngineSession {
    pub(super) connection: Arc<Connection>,
    /// Whether the session keeps this one connection. It does if it begins with a WebSocket.
    pub(super) stays: bool,
    /// Counts the session while it polls. It goes with the session, at the latest.
    polling: Mutex<Option<PollingPermit>>,
    /// Made when the session has become a peer.
    pub(super) receiver: OnceLock<Receiver>,
    /// Notified when the socket may send.
    pub(super) ready: Notify,
    /// How the client left the namespace. `over` is cancelled then.
    pub(super) left: OnceLock<DisconnectReason>,
    pub(super) over: CancellationToken,
}

/// The receiving side of a peer.
pub(super) struct Receiver {
    pub(super) peer: Peer,
    pub(super) session: Arc<dyn Session>,
    /// Whether the session may still be told of frames. Locked during the call, because a polling client can send two requests at once, and no frame may
    /// follow the session's end.
    pub(super) open: Mutex<bool>,
    pub(super) received: Counter,
}

impl EngineSession {
    /// A session for a first request that came over that connection; with a permit if the session begins with polling.
    pub(in crate::transport) fn new(connection: Arc<Connection>, stays: bool, polling: Option<PollingPermit>) -> Self {
        EngineSession {
            connection,
            stays,
            polling: Mutex::new(polling),
            receiver: OnceLock::new(),
            ready: Notify::new(),
            left: OnceLock::new(),
            over: CancellationToken::new(),
        }
    }

    /// The session polls no more.
    pub(super) fn has_upgraded(&self) {
        drop(self.polling.lock().take());
    }

    /// From now on no frame is handed to the session.
    pub(super) fn silence(&self) {
        if let Some(receiver) = self.receiver.get() {
            *receiver.open.lock() = false;
        }
    }

    /// The session of a socket; absent where its request did not come through the listener.
    pub(super) fn of(socket: &Socket) -> Option<Arc<EngineSession>> {
        socket.req_parts().extensions.get::<Arc<EngineSession>>().cloned()
    }
}
