//! How our client connects and joins the namespace, and why it may fail.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use engineioxide_core::Packet as EnginePacket;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use super::packet;
use crate::tls::{BadFile, ClientTls, TlsFault};
use crate::transport::dial::{Address, DialError, dial};
use crate::transport::socket;

/// Bytes that are read at a time. The WebSocket's own default, 128 KiB, is filled with zeros before every read.
const READ_BUFFER: usize = 16 << 10;

/// A WebSocket of our own.
pub(super) type Socket = WebSocketStream<socket::Socket>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not `host:port` or a URL with a port.
    #[error("`{0}` is no address: give HOST:PORT")]
    Address(String),
    /// The address says clear text, and TLS was asked for.
    #[error("`{0}` is an address of clear text, and TLS was asked for: give https://HOST:PORT")]
    Clear(String),
    /// There is no TLS connection.
    #[error("{0}")]
    Tls(TlsFault),
    /// TLS is asked for, and no authority can be trusted.
    #[error(transparent)]
    Authorities(BadFile),
    /// Nobody listens there, or the name or network cannot be reached.
    #[error("{0}")]
    Unreachable(io::Error),
    /// There was no answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection was closed before it was admitted: the server has too many, or has begun to end.
    #[error("it closed the connection: {0}")]
    Closed(String),
    /// What answered does not speak Socket.IO (protocol 5).
    #[error("what answers there does not speak Socket.IO: {0}")]
    NotSocketIo(String),
    /// The server answered with an HTTP error.
    #[error("the server refuses the connection with HTTP status {0}{hint}", hint = hint(*.0))]
    Status(u16),
    /// The server did not admit us to the namespace, and said why.
    #[error("the server refuses the connection: {0}")]
    Refused(String),
}

fn hint(status: u16) -> &'static str {
    match status {
        400 => ": if it speaks TLS, give its address as https://HOST:PORT or with --tls or --ca FILE",
        426 => ": it takes TLS only: give its address as https://HOST:PORT, or with --tls or --ca FILE",
        403 => ": the master does not know itself under this name: `allowed_hosts` in [network] of pomelo.toml",
        _ => "",
    }
}

/// What a server says first.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Open {
    /// Milliseconds.
    ping_interval: u64,
    /// Milliseconds.
    ping_timeout: u64,
}

impl Open {
    /// After this time without a word the server is dead.
    pub(super) fn silence(&self) -> Duration {
        Duration::from_millis(self.ping_interval.saturating_add(self.ping_timeout).max(1))
    }
}

/// Connects, and joins the namespace. `max_frame` is the largest frame that the server may send, in bytes. It sets no time limit.
pub(super) async fn handshake(
    address: &str,
    max_frame: usize,
    tls: Option<&ClientTls>,
) -> Result<(Socket, Option<SocketAddr>, Open), ConnectError> {
    let failed = |error| match error {
        DialError::Address => ConnectError::Address(address.to_owned()),
        DialError::Clear => ConnectError::Clear(address.to_owned()),
        DialError::Unreachable(error) => ConnectError::Unreachable(error),
        DialError::Tls(fault) => ConnectError::Tls(fault),
        DialError::Authorities(bad) => ConnectError::Authorities(bad),
    };
    let read = Address::parse(address).ok_or_else(|| failed(DialError::Address))?;
    let (stream, remote) = dial(&read, tls).await.map_err(failed)?;
    // The scheme stands in no header, and the stream speaks TLS already where it does.
    let request = format!("ws://{}/socket.io/?EIO=4&transport=websocket", read.authority)
        .into_client_request()
        .map_err(|_| ConnectError::Address(address.to_owned()))?;
    let size = Some(max_frame.saturating_add(1 << 10));
    let config = WebSocketConfig::default().max_message_size(size).max_frame_size(size).read_buffer_size(READ_BUFFER);
    let (mut socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await.map_err(
        |error| match error {
            tungstenite::Error::Http(response) => ConnectError::Status(response.status().as_u16()),
            error => broken(error),
        },
    )?;
    let odd = |what: &str| ConnectError::NotSocketIo(what.to_owned());
    let first = next_text(&mut socket).await?;
    let open: Open = first
        .strip_prefix('0')
        .and_then(|open| serde_json::from_str(open).ok())
        .ok_or_else(|| odd("it does not begin with an open packet"))?;
    send(&mut socket, packet::write_connect()).await?;
    loop {
        let text = next_text(&mut socket).await?;
        // The common parser cannot read a refusal.
        if let Some(refusal) = text.strip_prefix("44") {
            return Err(ConnectError::Refused(refusal_text(refusal)));
        }
        match text.as_str() {
            "2" => send(&mut socket, EnginePacket::Pong.into()).await?,
            text if text.starts_with("40") => return Ok((socket, remote, open)),
            "1" | "41" => return Err(ConnectError::Refused("it closes the connection".into())),
            // Other packets that come before we are admitted mean nothing to us.
            _ => {}
        }
    }
}

/// The sentence of a refusal. It is `{"message": …}`; other servers may send other forms, which are shown as they are.
fn refusal_text(json: &str) -> String {
    #[derive(Deserialize)]
    struct RefusalPacket {
        message: String,
    }
    serde_json::from_str(json).map_or_else(|_| json.to_owned(), |refusal: RefusalPacket| refusal.message)
}

async fn next_text(socket: &mut Socket) -> Result<String, ConnectError> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
            Some(Ok(Message::Close(_))) | None => return Err(ConnectError::Closed("it says goodbye".into())),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(broken(error)),
        }
    }
}

async fn send(socket: &mut Socket, text: String) -> Result<(), ConnectError> {
    socket.send(Message::text(text)).await.map_err(broken)
}

/// Tells a connection that was closed from one that does not speak Socket.IO.
fn broken(error: tungstenite::Error) -> ConnectError {
    use tungstenite::error::ProtocolError::{HandshakeIncomplete, ResetWithoutClosingHandshake};
    match error {
        // The other side may have refused this side's certificate.
        tungstenite::Error::Io(error) => {
            TlsFault::of_later(&error).map_or_else(|| ConnectError::Closed(error.to_string()), ConnectError::Tls)
        }
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::Protocol(HandshakeIncomplete | ResetWithoutClosingHandshake) => {
            ConnectError::Closed(error.to_string())
        }
        error => ConnectError::NotSocketIo(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_any_form_are_shown() {
        assert_eq!(refusal_text(r#"{"message":"no","data":1}"#), "no");
        assert_eq!(refusal_text("\"no\""), "\"no\"");
    }
}
