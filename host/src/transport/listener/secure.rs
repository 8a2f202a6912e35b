//! TLS at the listener: the handshake, and what is said to those who speak clear text where TLS is required.

use std::io;
use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Door, Socket, refuse};
use crate::tls::{TLS_REQUIRED, refused_handshake};
use crate::transport::places::{Place, Stage};
use crate::transport::socket::Carrier;
use crate::util::line_budget;

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;
/// Bytes that a peer's handshake may have. A chain of certificates has a few thousand.
const MAX_HANDSHAKE: usize = 24 << 10;
/// Bytes that are read of a peer whose handshake has failed.
const MAX_UNREAD: u64 = 64 << 10;

impl Door {
    /// The connection, and the first byte of what its peer says. If the peer's first byte begins a TLS handshake, the connection is that of the handshake
    /// and the byte the first of what was encrypted. Absent if the connection is over.
    pub(super) async fn secured(
        &self,
        first: u8,
        socket: TcpStream,
        remote: SocketAddr,
        place: &Place,
        shutdown: &CancellationToken,
    ) -> Option<(u8, Socket)> {
        if first != HANDSHAKE {
            return Some((first, Socket::Clear(socket)));
        }
        let Some(tls) = &self.options.tls else {
            refuse(remote, "tls", "it speaks TLS, which is not configured ([tls] in pomelo.toml)");
            return None;
        };
        place.reach(Stage::Handshake);
        let handshake = tls.acceptor().accept(Carrier::new(socket, MAX_HANDSHAKE)).into_fallible();
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return None,
            () = place.cut().cancelled() => return None,
            accepted = timeout(self.options.header_time, handshake) => accepted,
        };
        let mut socket = match accepted {
            Err(_) => {
                refuse(remote, "tls", "its TLS handshake took too long");
                return None;
            }
            Ok(Err((error, mut socket))) => {
                failed(remote, &error);
                // The peer may have sent more by now. Closing a socket with unread data would lose what was sent, and with it why it was refused.
                let taken = async {
                    socket.shutdown().await?;
                    tokio::io::copy(&mut (&mut socket).take(MAX_UNREAD), &mut tokio::io::sink()).await
                };
                let _ = timeout(self.options.flush_time, taken).await;
                return None;
            }
            Ok(Ok(stream)) => Socket::tls(tokio_rustls::TlsStream::Server(stream)),
        };
        let first = tokio::select! {
            () = shutdown.cancelled() => return None,
            () = place.cut().cancelled() => return None,
            first = timeout(self.options.first_byte_time, socket.first_byte()) => first,
        };
        match first {
            Err(_) => refuse(remote, "silent", "it sent nothing in time"),
            Ok(Ok(Some(HANDSHAKE))) => refuse(remote, "tls", "it speaks TLS within TLS"),
            Ok(Ok(Some(first))) => return Some((first, socket)),
            // A client that does not take this host's certificate may say so only now.
            Ok(Err(error)) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                failed(remote, &error)
            }
            Ok(Ok(None) | Err(_)) => {}
        }
        None
    }
}

fn failed(remote: SocketAddr, error: &io::Error) {
    let (reason, why) = refused_handshake(error);
    metrics::counter!("pomelo_tls_handshakes_failed_total", "reason" => reason).increment(1);
    line_budget::caused(&line_budget::address(remote.ip()), || {
        tracing::info!(%remote, "a TLS handshake failed: {why}");
    });
}

/// The answer to a request in clear text where TLS is required.
pub(super) fn upgrade_required() -> Response<Body> {
    let headers = [(header::UPGRADE, "TLS/1.2"), (header::CONNECTION, "close")];
    (StatusCode::UPGRADE_REQUIRED, headers, format!("{TLS_REQUIRED}\n")).into_response()
}
