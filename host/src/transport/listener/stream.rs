//! A TCP connection of the listener, wrapped so that it can be ended at any moment and cannot be held up by its peer.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use socketioxide::socket::Sid;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::transport::Peer;
use crate::transport::socket_io::sessions::Sessions;

/// What is known of one TCP connection.
pub(in crate::transport) struct Connection {
    /// A number that no other connection of this process has.
    pub id: u64,
    /// The other end.
    pub remote: SocketAddr,
    /// The address of this host that was connected to.
    pub local: SocketAddr,
    /// Makes reads and writes fail.
    pub cut: CancellationToken,
    /// Cancelled when the socket has been closed.
    pub gone: CancellationToken,
    /// The Socket.IO session that it carries, and its peer once there is one.
    carried: Mutex<Option<(Sid, Option<Peer>)>>,
    /// Bytes read since the last request began.
    read: AtomicUsize,
    /// How many these may be while the peer has not been registered.
    limit: usize,
    /// The frame limit of a peer that has not been registered.
    first_frame_limit: usize,
}

impl Connection {
    /// A connection that may send `limit` bytes a request until its peer's frame limit is above `first_frame_limit`.
    pub(super) fn new(remote: SocketAddr, local: SocketAddr, limit: usize, first_frame_limit: usize) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Connection {
            id: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            remote,
            local,
            cut: CancellationToken::new(),
            gone: CancellationToken::new(),
            carried: Mutex::new(None),
            read: AtomicUsize::new(0),
            limit,
            first_frame_limit,
        }
    }

    /// A request begins.
    pub(super) fn begin_request(&self) {
        self.read.store(0, Ordering::Relaxed);
    }

    /// The connection carries that session now.
    pub(in crate::transport) fn carries(&self, session: Sid, peer: Option<Peer>) {
        *self.carried.lock() = Some((session, peer));
    }

    /// The session that it carries.
    pub(in crate::transport) fn session(&self) -> Option<Sid> {
        self.carried.lock().as_ref().map(|(session, _)| *session)
    }

    /// Counts what was read. False where a peer that has not been registered has sent more than it may: the layers above collect a
    /// message up to their own, high limit before they hand it on, and a stranger must not fill memory with that.
    fn count(&self, bytes: usize) -> bool {
        if self.read.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.limit {
            return true;
        }
        let carried = self.carried.lock();
        matches!(&*carried, Some((_, Some(peer))) if peer.frame_limit() > self.first_frame_limit)
    }
}

/// The wrapped socket. Dropping it closes the connection and gives its place back.
pub(super) struct Stream {
    socket: TcpStream,
    connection: Arc<Connection>,
    sessions: Arc<Sessions>,
    // Reading and writing are polled by different tasks, and a future wakes one task only.
    cut_read: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_write: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Runs while a write waits for the peer.
    stalled: Option<Pin<Box<Sleep>>>,
    send_time: Duration,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    /// Wraps a socket. A write that makes no progress for `send_time` ends the connection.
    pub(super) fn new(
        socket: TcpStream,
        connection: Arc<Connection>,
        sessions: Arc<Sessions>,
        send_time: Duration,
        place: OwnedSemaphorePermit,
    ) -> Self {
        sessions.add(connection.clone());
        metrics::gauge!("pomelo_connections").increment(1);
        Stream {
            socket,
            cut_read: Box::pin(connection.cut.clone().cancelled_owned()),
            cut_write: Box::pin(connection.cut.clone().cancelled_owned()),
            connection,
            sessions,
            stalled: None,
            send_time,
            _place: place,
        }
    }

    /// Lets a write go on, or fail where the connection was cut or the peer has taken nothing for too long.
    fn watch_write<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.cut_write.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(aborted("the connection was ended")));
        }
        let polled = write(Pin::new(&mut self.socket), context);
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let send_time = self.send_time;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(send_time)));
        if stalled.as_mut().poll(context).is_ready() {
            self.end("stalled");
            return Poll::Ready(Err(aborted("the peer takes nothing that it is sent")));
        }
        Poll::Pending
    }

    fn end(&self, reason: &'static str) {
        tracing::debug!(remote = %self.connection.remote, reason, "a connection was ended");
        metrics::counter!("pomelo_connections_ended_total", "reason" => reason).increment(1);
        self.connection.cut.cancel();
    }
}

fn aborted(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut_read.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(aborted("the connection was ended")));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(context, buffer);
        if !self.connection.count(buffer.filled().len() - before) {
            const WHY: &str = "it sent more than it may before registration";
            match &*self.connection.carried.lock() {
                Some((_, Some(peer))) => peer.cut_counted("unregistered-bytes", WHY),
                _ => self.end("unregistered-bytes"),
            }
            return Poll::Ready(Err(aborted(WHY)));
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.watch_write(context, |socket, context| socket.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch_write(context, |socket, context| socket.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch_write(context, |socket, context| socket.poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch_write(context, |socket, context| socket.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.sessions.remove(self.connection.id);
        self.connection.gone.cancel();
        metrics::gauge!("pomelo_connections").decrement(1);
    }
}
