//! A TCP connection that speaks clear text or TLS, on either side.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::tls::Certificate;

/// Bytes that the system may keep of a connection for each direction. Without a bound they are megabytes, and a ping would be answered only after all that waits
/// before it has been dealt with.
const KEPT_BY_THE_SYSTEM: usize = 256 << 10;

/// Sets how a new connection is carried. What cannot be set only makes it slower.
pub(super) fn prepare(stream: &TcpStream) {
    // Without it a small frame would wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(stream, sockopt::SndBuf, &KEPT_BY_THE_SYSTEM);
    let _ = setsockopt(stream, sockopt::RcvBuf, &KEPT_BY_THE_SYSTEM);
}

/// A connection. What is read and written is clear text in both cases.
pub(super) enum Socket {
    /// Clear text.
    Clear(TcpStream),
    /// TLS, after its handshake.
    Tls(Box<TlsStream<Carrier>>),
}

/// The TCP connection below TLS. During the handshake it gives only so many bytes, because TLS keeps what it has read until a message is whole.
pub(super) struct Carrier {
    stream: TcpStream,
    /// Bytes that may still come. Absent when the handshake is over.
    left: Option<usize>,
}

impl Carrier {
    /// A connection whose handshake may have so many bytes, and a few more that are read with the last of them.
    pub fn new(stream: TcpStream, handshake: usize) -> Self {
        Carrier { stream, left: Some(handshake) }
    }
}

impl AsyncRead for Carrier {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == Some(0) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "its handshake is too long")));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        self.left = self.left.map(|left| left.saturating_sub(read));
        polled
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Socket {
    /// A connection whose handshake is over.
    pub fn tls(mut stream: TlsStream<Carrier>) -> Self {
        stream.get_mut().0.left = None;
        Socket::Tls(Box::new(stream))
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Socket::Tls(_))
    }

    /// The certificate that the other side has shown, if it says for whom it is. Its authority has been checked in the handshake.
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        let Socket::Tls(stream) = self else { return None };
        let (_, connection) = stream.get_ref();
        Certificate::of(connection.peer_certificates()?.first()?).map(Arc::new)
    }

    /// The first byte that the other side has sent, which stays to be read. Absent at the end.
    pub async fn first_byte(&mut self) -> io::Result<Option<u8>> {
        match self {
            Socket::Clear(stream) => {
                let mut first = [0];
                Ok((stream.peek(&mut first).await? > 0).then_some(first[0]))
            }
            Socket::Tls(stream) => Ok(stream.fill_buf().await?.first().copied()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Clear(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Tls(stream) => match Pin::new(stream).poll_read(context, buffer) {
                // Many peers close without TLS's own goodbye. Nothing is missed by that, because frames say how long they are.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                polled => polled,
            },
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Clear(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Clear(stream) => Pin::new(stream).poll_flush(context),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Clear(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Socket::Clear(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_handshake_has_so_many_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut carrier = Carrier::new(listener.accept().await.unwrap().0, 8);
        peer.write_all(b"0123456789").await.unwrap();
        let mut first = [0; 5];
        carrier.read_exact(&mut first).await.unwrap();
        carrier.read_exact(&mut first[..3]).await.unwrap();
        let more = carrier.read_exact(&mut first[..1]).await.unwrap_err();
        assert_eq!(more.kind(), io::ErrorKind::InvalidData);
        carrier.left = None;
        carrier.read_exact(&mut first[..2]).await.unwrap();
        assert_eq!(&first[..2], b"89", "nothing is lost");
    }
}
