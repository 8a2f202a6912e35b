//! Our Socket.IO client: WebSocket only, the namespace `/` only.
//!
//! A connection has three tasks. The *reader* takes what comes, answers pings and notices silence. It never waits for the session, so that a slow session
//! delays no pong. The *dispatcher* hands events to the session, in order, and tells it of the end. The *writer* drains the outbox.
//!
//! The client does not connect again by itself, because only the caller knows what has to be said after that.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use engineioxide_core::{Packet as EnginePacket, ProtocolVersion};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use socketioxide_core::packet::PacketData;
use socketioxide_core::parser::{Parse, ParseConfig, ParserState};
use socketioxide_parser_common::CommonParser;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

pub use super::handshake::ConnectError;
use super::handshake::{Socket, handshake};
use super::packet;
use crate::tls::ClientTls;
use crate::transport::{Closed, Outbox, Outgoing, Peer, Session, Transport};

/// Limits of one connection.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long connecting may take, until the server has admitted us to the namespace. 10 s.
    pub connect_time: Duration,
    /// Frames that may wait to be sent. A server that falls further behind is cut. 4096.
    pub outbox: usize,
    /// Frames that may wait for the session. Nothing more is read while as many wait, so that the server waits too. 512.
    pub inbox: usize,
    /// The largest frame that the server may send, in bytes. 16 MiB.
    pub max_frame: usize,
    /// How long a write may wait for a server that takes nothing. 10 s.
    pub send_time: Duration,
    /// How long the server may take to receive what was sent before a close. 1 s.
    pub flush_time: Duration,
    /// Speaks TLS. None: clear text, unless the address says otherwise; then the authorities of this system are trusted.
    pub tls: Option<ClientTls>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            connect_time: Duration::from_secs(10),
            outbox: 4096,
            inbox: 512,
            max_frame: 16 << 20,
            send_time: Duration::from_secs(10),
            flush_time: Duration::from_secs(1),
            tls: None,
        }
    }
}

/// Connects to a Socket.IO server. `address` is `host:port`, or a URL of which only scheme, host and port count. The session is made when the server has admitted
/// us, and is told of the end exactly once.
///
/// # Errors
/// [`ConnectError`] says why there is no connection; the session has not been made then.
pub async fn connect(
    address: &str,
    options: Options,
    make_session: impl FnOnce(Peer) -> Arc<dyn Session>,
) -> Result<Peer, ConnectError> {
    let (socket, remote, open) =
        timeout(options.connect_time, handshake(address, options.max_frame, options.tls.as_ref()))
            .await
            .map_err(|_| ConnectError::TimedOut(options.connect_time))??;
    let (peer, outbox) = Peer::new(Transport::SocketIo, remote, options.outbox, options.max_frame);
    let session = make_session(peer.clone());
    let (sink, stream) = socket.split();
    let (inbox, events) = mpsc::channel(options.inbox.max(1));
    let (end, ended) = oneshot::channel();
    let pong = Arc::new(Notify::new());
    let gone = CancellationToken::new();
    let writer = Writer { sink, peer: peer.clone(), pong: pong.clone(), options: options.clone(), gone: gone.clone() };
    let reader = Reader { stream, peer: peer.clone(), pong, silence: open.silence(), inbox, cut: outbox.cut.clone() };
    tokio::spawn(writer.run(outbox));
    tokio::spawn(async move {
        // `run` drops its half of the socket at its end. The socket is closed when the writer has dropped the other half.
        let how = reader.run().await;
        gone.cancel();
        let _ = end.send(how);
    });
    tokio::spawn(dispatch(peer.clone(), session, events, ended));
    Ok(peer)
}

struct Reader {
    stream: SplitStream<Socket>,
    peer: Peer,
    pong: Arc<Notify>,
    silence: Duration,
    inbox: mpsc::Sender<PacketData>,
    cut: CancellationToken,
}

impl Reader {
    /// Reads until the connection ends, and says how.
    async fn run(mut self) -> Closed {
        let state = ParserState::default();
        let config =
            ParseConfig { max_incoming_binaries: 0, max_incoming_binary_buf_size: 0, ..ParseConfig::default() };
        let cut = self.cut.clone();
        let mut cut = pin!(cut.cancelled());
        let how = loop {
            let message = tokio::select! {
                biased;
                () = cut.as_mut() => break self.closed_by_us(),
                message = timeout(self.silence, self.stream.next()) => message,
            };
            let text = match message {
                Err(_) => break Closed::Lost(format!("the server has been silent for {:?}", self.silence)),
                Ok(None | Some(Ok(Message::Close(_)))) => {
                    break Closed::Lost("the server closed the connection".into());
                }
                Ok(Some(Err(error))) => break Closed::Lost(error.to_string()),
                Ok(Some(Ok(Message::Text(text)))) => text.as_str().to_owned(),
                Ok(Some(Ok(Message::Binary(_)))) => break self.cut("binary data are not taken"),
                Ok(Some(Ok(_))) => continue,
            };
            let message = match EnginePacket::parse(ProtocolVersion::V4, text) {
                Ok(EnginePacket::Ping) => {
                    self.pong.notify_one();
                    continue;
                }
                Ok(EnginePacket::Message(message)) => message,
                Ok(EnginePacket::Close) => break Closed::Lost("the server closed the connection".into()),
                Ok(_) => continue,
                Err(error) => break self.cut(&error.to_string()),
            };
            match CommonParser.decode_str(&config, &state, message) {
                Ok(packet) => match packet.inner {
                    PacketData::Disconnect => break Closed::Left,
                    event @ PacketData::Event(..) => {
                        // The server is not read from meanwhile. It knows then that it has to wait, and this side loses nothing.
                        let taken = tokio::select! {
                            biased;
                            () = cut.as_mut() => break self.closed_by_us(),
                            taken = self.inbox.send(event) => taken,
                        };
                        // The task that takes them out ends only after this one, or by a panic.
                        if taken.is_err() {
                            break Closed::Lost("what came can no longer be taken".into());
                        }
                    }
                    // Acknowledgements answer nothing of ours, and the namespace is joined already.
                    _ => {}
                },
                Err(error) => break self.cut(&error.to_string()),
            }
        };
        // If this side asked for the end, that is the reason, whatever the other side did afterwards.
        let how = if self.peer.is_closing() { self.closed_by_us() } else { how };
        self.peer.ended();
        how
    }

    fn cut(&self, why: &str) -> Closed {
        self.peer.cut_counted("malformed", format!("the server sent a malformed packet: {why}"));
        self.closed_by_us()
    }

    fn closed_by_us(&self) -> Closed {
        Closed::Ours(self.peer.closed_because().unwrap_or_default())
    }
}

/// Hands events to the session.
async fn dispatch(
    peer: Peer,
    session: Arc<dyn Session>,
    mut events: mpsc::Receiver<PacketData>,
    ended: oneshot::Receiver<Closed>,
) {
    let received = metrics::counter!("pomelo_frames_total", "transport" => "socket_io_client", "direction" => "in");
    while let Some(event) = events.recv().await {
        let PacketData::Event(data, ack) = event else { continue };
        // Frames that came before the server left are handed up. Frames that came after this side closed are not.
        if peer.closed_because().is_some() {
            continue;
        }
        let (length, limit) = (packet::length(&data), peer.frame_limit());
        if length > limit {
            peer.cut_counted("frame-size", format!("its frame of {length} bytes is above the limit of {limit}"));
            continue;
        }
        match packet::event(&data) {
            Ok((name, payload)) => {
                received.increment(1);
                session.frame(&name, payload, ack.map(|id| peer.ack(id)));
            }
            Err(why) => peer.cut_counted("malformed", format!("the server sent a malformed event: {why}")),
        }
    }
    session.closed(ended.await.unwrap_or_else(|_| Closed::Lost("the connection is gone".into())));
}

struct Writer {
    sink: SplitSink<Socket, Message>,
    peer: Peer,
    pong: Arc<Notify>,
    options: Options,
    /// The reader has seen the end.
    gone: CancellationToken,
}

impl Writer {
    async fn run(mut self, outbox: Outbox) {
        let Outbox { mut frames, cut } = outbox;
        let mut cancelled = pin!(cut.cancelled());
        let sent = metrics::counter!("pomelo_frames_total", "transport" => "socket_io_client", "direction" => "out");
        loop {
            let item = tokio::select! {
                biased;
                () = cancelled.as_mut() => return,
                () = self.pong.notified() => None,
                // This task itself holds a handle to the outbox, so that there is always more to come.
                Some(item) = frames.recv() => Some(item),
            };
            let text = match item.map(|waiting| waiting.outgoing) {
                None => EnginePacket::Pong.into(),
                Some(Outgoing::Frame(frame)) => packet::write_event(frame.topic.as_str(), &frame.payload.text()),
                Some(Outgoing::Ack(id, payload)) => packet::write_ack(id, &payload),
                Some(Outgoing::Close) => {
                    self.close().await;
                    return cut.cancel();
                }
            };
            // Frames that wait together are flushed together.
            let flush = frames.is_empty();
            let sending = async {
                self.sink.feed(Message::text(text)).await?;
                if flush { self.sink.flush().await } else { Ok(()) }
            };
            let sending = tokio::select! {
                biased;
                () = cancelled.as_mut() => return,
                sending = timeout(self.options.send_time, sending) => sending,
            };
            match sending {
                Ok(Ok(())) => sent.increment(1),
                // The reader sees the same error, or has seen its cause, and reports it.
                Ok(Err(error)) => {
                    tracing::debug!(peer = ?self.peer, %error, "a frame was not sent");
                    return self.gone.cancelled().await;
                }
                Err(_) => return self.peer.cut_counted("stalled", "the server takes nothing that it is sent"),
            }
        }
    }

    /// Says goodbye, and gives the server time to take what was sent before, because closing a socket with unread data loses what was sent.
    async fn close(&mut self) {
        let goodbye = async {
            self.sink.send(Message::text(packet::write_disconnect())).await?;
            self.sink.close().await
        };
        let _ = timeout(self.options.flush_time, async {
            if goodbye.await.is_ok() {
                self.gone.cancelled().await;
            }
        })
        .await;
    }
}
