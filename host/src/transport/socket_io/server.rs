//! The server side of Socket.IO.
//!
//! socketioxide speaks the protocol. This part adds what a [`Session`](crate::transport::Session) is promised. A [`MessageHandler`] of our own handles
//! events in the read loop, in order; closures would each become a task. What is sent goes through the [`Writer`].

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::http::Uri;
use metrics::Counter;
use parking_lot::Mutex;
use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::{ConnectHandler, DisconnectHandler, MessageHandler, Value};
use socketioxide::layer::SocketIoLayer;
use socketioxide::service::SocketIoService;
use socketioxide::socket::{DisconnectReason, Sid, Socket};
use socketioxide::{ParserConfig, SocketIo};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower::Layer;

use super::engine_session::{EngineSession, Receiver, ServerContext};
use super::packet;
use super::sessions::Sessions;
use super::writer::{COPIES, Writer};
use crate::transport::options::Options;
use crate::transport::{Accept, Peer, Transport};

/// The path under which Socket.IO is served, as its clients have it by default.
const PATH: &str = "/socket.io";

/// Whether a request is one of Socket.IO's.
pub(in crate::transport) fn is_socket_io(uri: &Uri) -> bool {
    uri.path().starts_with(PATH)
}

/// The Engine.IO session that a request names.
pub(in crate::transport) fn session_of(uri: &Uri) -> Option<Sid> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("sid="))?.parse().ok()
}

/// Whether a request wants a WebSocket.
pub(in crate::transport) fn wants_websocket(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "transport=websocket"))
}

/// The Socket.IO layer on top of the mounted pages.
pub(in crate::transport) struct Server {
    // In a lock, because the service is not `Sync`. Its clones share the sessions.
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
            // Pings share this buffer, and a ping that finds it full ends the connection. It is as large as our own outbox, because a peer
            // that fills as much is cut anyway.
            .max_buffer_size(options.outbox.max(128))
            .max_payload(message as u64)
            .ws_max_message_size(message)
            .ws_max_frame_size(message)
            .with_parser(ParserConfig::common().max_incoming_binaries(0).max_incoming_binary_buf_size(0))
            .build_layer();
        io.ns(
            "/",
            OnConnect {
                context: Arc::new(ServerContext {
                    options: options.clone(),
                    accept,
                    sessions,
                    tasks,
                    copies: Arc::new(Semaphore::new(COPIES)),
                    copied: AtomicU64::new(0),
                }),
            },
        );
        Server { service: Mutex::new(layer.layer(pages)) }
    }

    /// The service for one request.
    pub(in crate::transport) fn service(&self) -> SocketIoService<Router> {
        self.service.lock().clone()
    }
}

/// The receiving side of a session's peer. The peer is made by whatever comes first, the end of the handshake or an event that overtakes it.
fn receiver<'a>(engine: &'a Arc<EngineSession>, socket: &Arc<Socket>, context: &Arc<ServerContext>) -> &'a Receiver {
    engine.receiver.get_or_init(|| {
        let options = &context.options;
        let (budget, remote) = (&options.budget, engine.connection.remote);
        let (peer, outbox) =
            Peer::charged(budget, Transport::SocketIo, remote, options.outbox, options.first_frame_limit);
        peer.shows(engine.connection.certificate.clone());
        let carrier = engine.stays.then_some(&engine.connection);
        context.sessions.open(socket.id, &peer, carrier);
        let session = context.accept.accept(peer.clone());
        let writer = Writer {
            socket: socket.clone(),
            peer: peer.clone(),
            session: session.clone(),
            engine: engine.clone(),
            context: context.clone(),
            sent: frames("out"),
        };
        context.tasks.spawn(writer.run(outbox));
        Receiver { peer, session, open: Mutex::new(true), received: frames("in") }
    })
}

fn frames(direction: &'static str) -> Counter {
    metrics::counter!("pomelo_frames_total", "transport" => "socket_io", "direction" => direction)
}

/// Marks our own handlers, because socketioxide tells kinds of handlers apart by a type.
enum OwnHandler {}

#[derive(Clone)]
struct OnConnect {
    context: Arc<ServerContext>,
}

impl ConnectHandler<LocalAdapter, OwnHandler> for OnConnect {
    fn call(&self, socket: Arc<Socket>, _auth: Option<Value>) {
        if let Some(engine) = EngineSession::of(&socket) {
            receiver(&engine, &socket, &self.context);
            engine.ready.notify_one();
        }
    }

    /// Runs before the client is told that it is connected, so that no event can come before its handler is there.
    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket>,
        _auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Box<dyn std::fmt::Display + Send>>> + Send + 'a>> {
        Box::pin(async move {
            let refuse = |why: &'static str| Err(Box::new(why) as Box<dyn std::fmt::Display + Send>);
            let Some(engine) = EngineSession::of(&socket) else { return refuse("the connection is not known") };
            if engine.receiver.get().is_some() {
                return refuse("connect anew: a session is used once");
            }
            socket.on_disconnect(OnDisconnect { engine: engine.clone() });
            socket.on_fallback(OnEvent { engine, context: self.context.clone() });
            Ok(())
        })
    }
}

struct OnEvent {
    engine: Arc<EngineSession>,
    context: Arc<ServerContext>,
}

impl MessageHandler<LocalAdapter, OwnHandler> for OnEvent {
    fn call(&self, socket: Arc<Socket>, data: Value, ack: Option<i64>) {
        let Receiver { peer, session, open, received } = receiver(&self.engine, &socket, &self.context);
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
                peer.hear();
                if self.engine.stays {
                    self.engine.connection.received_frame(peer);
                } else {
                    // It comes over one of several connections, and which one is not known.
                    self.context.sessions.has_frame(socket.id);
                }
                session.frame(&name, payload, ack.map(|id| peer.ack(id)));
            }
            Err(why) => peer.cut_counted("malformed", format!("it sent a malformed event: {why}")),
        }
    }
}

struct OnDisconnect {
    engine: Arc<EngineSession>,
}

impl DisconnectHandler<LocalAdapter, OwnHandler> for OnDisconnect {
    fn call_with_defer(&self, socket: Arc<Socket>, reason: DisconnectReason, defer: fn(Arc<Socket>)) {
        if reason == DisconnectReason::PacketParsingError {
            metrics::counter!("pomelo_peers_cut_total", "reason" => "malformed").increment(1);
        }
        // If a reason is set already, it stays.
        let _ = self.engine.left.set(reason);
        self.engine.over.cancel();
        defer(socket);
    }
}
