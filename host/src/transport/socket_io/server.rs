//! The server side of Socket.IO.
//!
//! socketioxide speaks the protocol; this part holds it to what a [`Session`] is promised. Events are handled in the read loop, in order,
//! by a [`MessageHandler`] of our own: closures would each become a task. One task a peer takes the outbox to socketioxide's buffer and is
//! the one that sees the connection's end through, so that a session is told once.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::http::Uri;
use metrics::Counter;
use parking_lot::Mutex;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::AckSender;
use socketioxide::handler::{ConnectHandler, DisconnectHandler, FromMessageParts, MessageHandler, Value};
use socketioxide::layer::SocketIoLayer;
use socketioxide::service::SocketIoService;
use socketioxide::socket::{DisconnectReason, Sid, Socket};
use socketioxide::{ParserConfig, SendError, SocketError, SocketIo, TransportType};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Layer;

use super::packet;
use super::sessions::Sessions;
use crate::transport::listener::{Connection, Options};
use crate::transport::{Accept, Closed, Outbox, Outgoing, Peer, Session, Transport};

/// The path under which Socket.IO is served, as its clients have it by default.
const PATH: &str = "/socket.io";

/// The Engine.IO session that a request names.
pub(in crate::transport) fn session_of(uri: &Uri) -> Option<Sid> {
    if !uri.path().starts_with(PATH) {
        return None;
    }
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("sid="))?.parse().ok()
}

/// The Socket.IO layer on top of the mounted pages.
pub(in crate::transport) struct Server {
    // A clone shares the sessions, but the service is not Sync.
    service: Mutex<SocketIoService<Router>>,
}

impl Server {
    /// Builds the layer. `tasks` are those that must have ended before the listener has.
    pub(in crate::transport) fn new(
        options: &Options,
        accept: Arc<dyn Accept>,
        sessions: Arc<Sessions>,
        tasks: TaskTracker,
        pages: Router,
    ) -> Self {
        // The name of the event and the packet's head come on top of a payload.
        let message = options.max_frame.saturating_add(1 << 10);
        let (layer, io): (SocketIoLayer, SocketIo) = SocketIo::builder()
            .req_path(PATH)
            .ping_interval(options.ping_interval)
            .ping_timeout(options.ping_timeout)
            .connect_timeout(options.handshake_time)
            .upgrade_timeout(options.handshake_time)
            // Pings share this buffer, and a ping that finds it full ends the connection. It is therefore as large as our own outbox: who
            // fills it is cut anyway.
            .max_buffer_size(options.outbox.max(128))
            .max_payload(message as u64)
            .ws_max_message_size(message)
            .ws_max_frame_size(message)
            .with_parser(ParserConfig::common().max_incoming_binaries(0).max_incoming_binary_buf_size(0))
            .build_layer();
        io.ns("/", OnConnect { shared: Arc::new(Shared { options: options.clone(), accept, sessions, tasks }) });
        Server { service: Mutex::new(layer.layer(pages)) }
    }

    /// The service for one request.
    pub(in crate::transport) fn service(&self) -> SocketIoService<Router> {
        self.service.lock().clone()
    }
}

struct Shared {
    options: Options,
    accept: Arc<dyn Accept>,
    sessions: Arc<Sessions>,
    tasks: TaskTracker,
}

/// What belongs to one Engine.IO session; it travels in the extensions of the session's first request.
pub(in crate::transport) struct Handshake {
    connection: Arc<Connection>,
    link: OnceLock<Link>,
    /// The socket may send now.
    ready: Notify,
    /// How the namespace was left, with the token to wait for it.
    left: OnceLock<DisconnectReason>,
    over: CancellationToken,
}

/// The receiving side of a peer.
struct Link {
    peer: Peer,
    session: Arc<dyn Session>,
    /// Whether the session may still be told of frames. It is held during the call: a polling client can send two requests at once, and
    /// nothing may follow the session's end.
    open: Mutex<bool>,
    received: Counter,
}

impl Handshake {
    /// For a request that came over that connection.
    pub(in crate::transport) fn new(connection: Arc<Connection>) -> Self {
        Handshake {
            connection,
            link: OnceLock::new(),
            ready: Notify::new(),
            left: OnceLock::new(),
            over: CancellationToken::new(),
        }
    }

    fn of(socket: &Socket) -> Option<Arc<Handshake>> {
        socket.req_parts().extensions.get::<Arc<Handshake>>().cloned()
    }

    /// The peer. It is made by whatever comes first, the end of the handshake or an event that overtakes it.
    fn link(self: &Arc<Self>, socket: &Arc<Socket>, shared: &Arc<Shared>) -> &Link {
        self.link.get_or_init(|| {
            let options = &shared.options;
            let remote = Some(self.connection.remote);
            let (peer, outbox) = Peer::new(Transport::SocketIo, remote, options.outbox, options.first_frame_limit);
            let carrier = (socket.transport_type() == TransportType::Websocket).then_some(&*self.connection);
            shared.sessions.open(socket.id, &peer, carrier);
            let session = shared.accept.accept(peer.clone());
            let writer = Writer {
                socket: socket.clone(),
                peer: peer.clone(),
                session: session.clone(),
                handshake: self.clone(),
                shared: shared.clone(),
                sent: frames("out"),
            };
            shared.tasks.spawn(writer.run(outbox));
            Link { peer, session, open: Mutex::new(true), received: frames("in") }
        })
    }
}

fn frames(direction: &'static str) -> Counter {
    metrics::counter!("pomelo_frames_total", "transport" => "socket_io", "direction" => direction)
}

/// Marks our own handlers: socketioxide tells handler kinds apart by a type.
enum Ours {}

#[derive(Clone)]
struct OnConnect {
    shared: Arc<Shared>,
}

impl ConnectHandler<LocalAdapter, Ours> for OnConnect {
    fn call(&self, socket: Arc<Socket>, _auth: Option<Value>) {
        if let Some(handshake) = Handshake::of(&socket) {
            handshake.link(&socket, &self.shared);
            handshake.ready.notify_one();
        }
    }

    /// Runs before the client is told that it is connected, so that no event can come before there is a handler for it.
    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket>,
        _auth: &'a Option<Value>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Box<dyn std::fmt::Display + Send>>> + Send + 'a>> {
        Box::pin(async move {
            let refuse = |why: &'static str| Err(Box::new(why) as Box<dyn std::fmt::Display + Send>);
            let Some(handshake) = Handshake::of(&socket) else { return refuse("the connection is not known") };
            if handshake.link.get().is_some() {
                return refuse("connect anew: a session is used once");
            }
            socket.on_disconnect(OnDisconnect { handshake: handshake.clone() });
            socket.on_fallback(OnEvent { handshake, shared: self.shared.clone() });
            Ok(())
        })
    }
}

struct OnEvent {
    handshake: Arc<Handshake>,
    shared: Arc<Shared>,
}

impl MessageHandler<LocalAdapter, Ours> for OnEvent {
    fn call(&self, socket: Arc<Socket>, data: Value, ack: Option<i64>) {
        let Link { peer, session, open, received } = self.handshake.link(&socket, &self.shared);
        let open = open.lock();
        if !*open || peer.is_closing() {
            return;
        }
        let (length, limit) = (packet::length(&data), peer.frame_limit());
        if length > limit {
            return peer
                .cut_counted("frame-size", format!("its frame of {length} bytes is above the limit of {limit}"));
        }
        match packet::event(&data) {
            Ok((name, payload)) => {
                received.increment(1);
                session.frame(&name, payload, ack.map(|id| peer.ack(id)));
            }
            Err(why) => peer.cut_counted("malformed", format!("it sent a malformed event: {why}")),
        }
    }
}

struct OnDisconnect {
    handshake: Arc<Handshake>,
}

impl DisconnectHandler<LocalAdapter, Ours> for OnDisconnect {
    fn call_with_defer(&self, socket: Arc<Socket>, reason: DisconnectReason, defer: fn(Arc<Socket>)) {
        if reason == DisconnectReason::PacketParsingError {
            metrics::counter!("pomelo_peers_cut_total", "reason" => "malformed").increment(1);
        }
        // The first reason stands.
        let _ = self.handshake.left.set(reason);
        self.handshake.over.cancel();
        defer(socket);
    }
}

/// The sending side of a peer, and its end.
struct Writer {
    socket: Arc<Socket>,
    peer: Peer,
    session: Arc<dyn Session>,
    handshake: Arc<Handshake>,
    shared: Arc<Shared>,
    sent: Counter,
}

impl Writer {
    async fn run(self, mut outbox: Outbox) {
        let flush = self.write(&mut outbox).await;
        let how = match (self.peer.closed_because(), self.handshake.left.get()) {
            (Some(why), _) => Closed::Ours(why),
            (None, Some(DisconnectReason::ClientNSDisconnect)) => Closed::Left,
            (None, reason) => Closed::Lost(reason.map_or_else(|| "the connection is gone".into(), |r| r.to_string())),
        };
        // From here on sending fails and nothing is handed up.
        drop(outbox);
        self.peer.ended();
        if let Some(link) = self.handshake.link.get() {
            *link.open.lock() = false;
        }
        // Tells the client, and takes the socket out of the namespace; it fails where the buffer is full, as it may be for one that is cut.
        let _ = self.socket.clone().disconnect();
        let connections = self.shared.sessions.end(self.socket.id);
        let options = &self.shared.options;
        if flush {
            // The client closes the connection when it has read the disconnect packet, and with it all that was sent before.
            let all_gone = async {
                for connection in &connections {
                    connection.gone.cancelled().await;
                }
            };
            let _ = timeout(options.flush_time, all_gone).await;
        }
        for connection in connections {
            connection.cut.cancel();
        }
        tracing::debug!(peer = ?self.peer, ?how, "a peer is gone");
        self.session.closed(how);
    }

    /// Sends what is put into the outbox until the connection ends. Returns whether what was sent is to reach the peer still.
    async fn write(&self, outbox: &mut Outbox) -> bool {
        tokio::select! {
            biased;
            () = outbox.cut.cancelled() => return false,
            () = self.handshake.over.cancelled() => return self.left(),
            () = self.handshake.ready.notified() => {}
        }
        loop {
            let item = tokio::select! {
                biased;
                () = outbox.cut.cancelled() => return false,
                () = self.handshake.over.cancelled() => return self.left(),
                // This task itself holds a handle to the outbox, so that there is always more to come.
                Some(item) = outbox.frames.recv() => item,
            };
            let sent = match item {
                Outgoing::Frame(frame) => self.socket.emit(frame.topic.as_str(), &*frame.payload),
                Outgoing::Ack(id, payload) => match AckSender::from_message_parts(
                    &self.socket,
                    &mut Value::Str(Default::default(), None),
                    &Some(id),
                ) {
                    Ok(ack) => ack.send(&*payload),
                    Err(never) => match never {},
                },
                Outgoing::Close => return true,
            };
            match sent {
                Ok(()) => self.sent.increment(1),
                Err(SendError::Socket(SocketError::InternalChannelFull)) => {
                    self.peer.cut_counted("outbox", "it does not keep up with what it is sent");
                }
                // The disconnect handler says why, and wakes the loop.
                Err(error) => tracing::trace!(peer = ?self.peer, %error, "a frame was not sent"),
            }
        }
    }

    /// A client that says that it leaves closes the connection itself.
    fn left(&self) -> bool {
        self.handshake.left.get() == Some(&DisconnectReason::ClientNSDisconnect)
    }
}
