//! What is known of a TCP connection that speaks HTTP, and so may carry a Socket.IO session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use socketioxide::socket::Sid;
use tokio_util::sync::CancellationToken;

use crate::tls::Certificate;
use crate::transport::Peer;
use crate::transport::socket::Socket;

/// What is known of one TCP connection.
pub(in crate::transport) struct Connection {
    /// A number that no other connection of this process has.
    pub id: u64,
    /// The other end.
    pub remote: SocketAddr,
    /// The address of this host that was connected to.
    pub local: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// The certificate that the other end has shown.
    pub certificate: Option<Arc<Certificate>>,
    /// Makes reads and writes fail.
    pub cut: CancellationToken,
    /// Cancelled when the socket has been closed.
    pub gone: CancellationToken,
    /// The Socket.IO session that it carries, and its peer once there is one.
    carried: Mutex<Option<(Sid, Option<Peer>)>>,
    /// Bytes that were read since the last request began.
    read: AtomicUsize,
    /// The most of them while the peer has not registered.
    limit: usize,
    /// The frame limit of a peer that has not registered.
    first_frame_limit: usize,
}

impl Connection {
    /// A connection that may send `limit` bytes a request until its peer's frame limit is above `first_frame_limit`.
    pub(in crate::transport) fn new(
        remote: SocketAddr,
        local: SocketAddr,
        limit: usize,
        first_frame_limit: usize,
    ) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Connection {
            id: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            remote,
            local,
            tls: false,
            certificate: None,
            cut: CancellationToken::new(),
            gone: CancellationToken::new(),
            carried: Mutex::new(None),
            read: AtomicUsize::new(0),
            limit,
            first_frame_limit,
        }
    }

    /// The same connection, which is that of a socket.
    pub(in crate::transport) fn of(self, socket: &Socket) -> Self {
        Connection { tls: socket.is_tls(), certificate: socket.certificate(), ..self }
    }

    /// A request begins.
    pub(in crate::transport) fn begin_request(&self) {
        self.read.store(0, Ordering::Relaxed);
    }

    /// From now on the connection carries this session.
    pub(super) fn carries(&self, session: Sid, peer: Option<Peer>) {
        *self.carried.lock() = Some((session, peer));
    }

    /// The session that it carries.
    pub(super) fn session(&self) -> Option<Sid> {
        self.carried.lock().as_ref().map(|(session, _)| *session)
    }

    /// The peer that it carries, once there is one.
    pub(in crate::transport) fn peer(&self) -> Option<Peer> {
        self.carried.lock().as_ref().and_then(|(_, peer)| peer.clone())
    }

    /// Counts bytes that were read. False if a peer that has not registered has sent more than it may. The layers above collect a message up to their own,
    /// high limit before they hand it on, and a stranger must not fill memory with that.
    pub(in crate::transport) fn count(&self, bytes: usize) -> bool {
        if self.read.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.limit {
            return true;
        }
        let carried = self.carried.lock();
        matches!(&*carried, Some((_, Some(peer))) if peer.frame_limit() > self.first_frame_limit)
    }
}
