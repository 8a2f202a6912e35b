//! A TCP connection of the listener, wrapped so that it can be ended at any moment and so that its peer cannot stall it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::transport::socket::Socket;
use crate::transport::socket_io::connection::{Connection, Refused};
use crate::transport::socket_io::sessions::Sessions;

/// The wrapped socket. Dropping it closes the connection and gives its place back.
pub(super) struct Stream {
    socket: Socket,
    connection: Arc<Connection>,
    sessions: Arc<Sessions>,
    // Two, because reading and writing are polled by different tasks and a future wakes only one task.
    cut_read: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_write: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Runs while a write waits for the peer.
    stalled: Option<Pin<Box<Sleep>>>,
    send_time: Duration,
}

impl Stream {
    /// Wraps a socket. A write that makes no progress for `send_time` ends the connection.
    pub(super) fn new(
        socket: Socket,
        connection: Arc<Connection>,
        sessions: Arc<Sessions>,
        send_time: Duration,
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
        }
    }

    /// Polls a write. It fails if the connection was cut or the peer has taken nothing for too long.
    fn watch_write<T: Written>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Socket>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.cut_write.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(aborted("the connection was ended")));
        }
        let polled = write(Pin::new(&mut self.socket), context);
        if let Poll::Ready(written) = &polled {
            if let Ok(written) = written {
                self.connection.written(written.bytes());
            }
            self.stalled = None;
            return polled;
        }
        let send_time = self.send_time;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(send_time)));
        if stalled.as_mut().poll(context).is_ready() {
            self.connection.end("stalled");
            return Poll::Ready(Err(aborted("the peer takes nothing that it is sent")));
        }
        Poll::Pending
    }
}

/// What a write returns: how many bytes went to the socket.
trait Written {
    fn bytes(&self) -> usize;
}

impl Written for usize {
    fn bytes(&self) -> usize {
        *self
    }
}

impl Written for () {
    fn bytes(&self) -> usize {
        0
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
        if self.connection.poll_ready(context).is_pending() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        if read > 0
            && let Err(refused) = self.connection.count(read)
        {
            match self.connection.peer() {
                Some(peer) => match &refused {
                    Refused::Over(over) => peer.turn_away(over),
                    Refused::Unregistered => peer.cut_counted(refused.reason(), refused.to_string()),
                },
                None => self.connection.end(refused.reason()),
            }
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, refused.to_string())));
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
        self.connection.place.leave();
        metrics::gauge!("pomelo_connections").decrement(1);
    }
}
