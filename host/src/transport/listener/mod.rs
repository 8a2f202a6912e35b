//! One port for everything that reaches a master: HTTP, Socket.IO and pomelo-admin's wire, in clear text or over TLS. A connection's first byte tells TLS
//! from clear text, and the first byte of the text tells pomelo-admin's wire from HTTP.
//!
//! The accept loop is our own. It has one task for each connection, so that a silent peer delays no other. The part `places` counts the
//! connections, and has any of them ended at any moment. It does not know what a frame is, which [`socket_io`](super::socket_io) and [`mqtt`] do, nor what the mounted pages are.

mod origin;
mod secure;
mod stream;
mod timed_body;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

pub use super::options::Options;

use self::origin::OriginRule;
use self::stream::Stream;
use self::timed_body::TimedBody;
use super::Accept;
use super::mqtt;
use super::places::{NoPlace, Place, Places, PollingPermit, Stage};
use super::socket::{Socket, prepare};
use super::socket_io::connection::Connection;
use super::socket_io::engine_session::EngineSession;
use super::socket_io::server::{Server, is_socket_io, session_of, wants_websocket};
use super::socket_io::sessions::Sessions;
use crate::journal::at;
use crate::util::line_budget;

/// How often it is looked for connections that take too long.
const LOOK: Duration = Duration::from_secs(1);

/// The address that a request came from. It stands in the extensions of every request that a mounted page is given.
#[derive(Clone, Copy, Debug)]
pub struct Remote(pub SocketAddr);

/// A bound port. Nothing is accepted before [`Listener::serve`].
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    door: Arc<Door>,
}

/// What all connections share.
struct Door {
    options: Options,
    rule: OriginRule,
    server: Server,
    mqtt: mqtt::server::Server,
    sessions: Arc<Sessions>,
    places: Arc<Places>,
    tasks: TaskTracker,
}

impl Listener {
    /// Binds the port. Peers are handed to `accept`; HTTP requests that are not Socket.IO's are answered by `pages`.
    ///
    /// # Errors
    /// The address cannot be resolved or bound.
    pub async fn bind(
        address: impl ToSocketAddrs,
        options: Options,
        accept: Arc<dyn Accept>,
        pages: Router,
    ) -> io::Result<Listener> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        let rule = OriginRule::new(address, &options.allowed_hosts);
        let sessions = Arc::new(Sessions::new(options.ping_interval + options.ping_timeout));
        let tasks = TaskTracker::new();
        let mqtt = mqtt::server::Server::new(&options, accept.clone());
        let server = Server::new(&options, accept, sessions.clone(), tasks.clone(), pages);
        let places = Places::new(&options);
        Ok(Listener { socket, address, door: Arc::new(Door { options, rule, server, mqtt, sessions, places, tasks }) })
    }

    /// The bound address: with its real port where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections until `shutdown` is cancelled. Then closes the port, and closes every peer when it has received what was sent to it, within
    /// [`Options::shutdown_time`]. Every session has been told of its end when this returns.
    pub async fn serve(self, shutdown: CancellationToken) {
        let Listener { socket, address, door } = self;
        let (looking, late) = (shutdown.clone(), door.clone());
        tokio::spawn(async move { looking.run_until_cancelled_owned(late.look()).await });
        tracing::debug!(%address, "listening");
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = socket.accept() => accepted,
            };
            if accepted.is_ok() {
                door.options.journal.fault_over(at::LISTENER, None, "connections are accepted again");
            }
            match accepted {
                Ok((stream, remote)) => match door.places.enter(remote.ip(), Instant::now()) {
                    Ok(place) => {
                        let (door, shutdown) = (door.clone(), shutdown.clone());
                        door.tasks.clone().spawn(async move { door.admit(stream, remote, place, shutdown).await });
                    }
                    Err(NoPlace::All) => {
                        refuse(
                            remote,
                            "limit",
                            "no more connections are allowed at a time (`[network] max_connections`)",
                        );
                    }
                    Err(NoPlace::Address) => {
                        let why = "no more connections of one address are allowed at a time (`[network] connections_per_address`)";
                        refuse(remote, "address", why);
                    }
                },
                // The peer has gone before it was accepted, which says nothing of this machine.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    // Mostly out of file descriptors. Trying again at once would only burn the CPU.
                    let message = format!("no connections can be accepted at {address}: {error}");
                    door.options.journal.fault(at::LISTENER, None, message);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(socket);
        door.close().await;
        tracing::info!(%address, "no longer listening");
    }
}

impl Door {
    /// Finds out what a new connection speaks.
    async fn admit(
        self: Arc<Self>,
        socket: TcpStream,
        remote: SocketAddr,
        place: Arc<Place>,
        shutdown: CancellationToken,
    ) {
        let Ok(local) = socket.local_addr() else { return };
        let mut first = [0];
        let peeked = tokio::select! {
            () = shutdown.cancelled() => return,
            () = place.cut().cancelled() => return,
            peeked = timeout(self.options.first_byte_time, socket.peek(&mut first)) => peeked,
        };
        match peeked {
            Err(_) => return refuse(remote, "silent", "it sent nothing in time"),
            Ok(Err(_) | Ok(0)) => return,
            Ok(Ok(_)) => {}
        }
        prepare(&socket);
        let Some((first, socket)) = self.secured(first[0], socket, remote, &place, &shutdown).await else { return };
        place.reach(Stage::Request);
        match first {
            // An MQTT CONNECT: pomelo-admin 1.x.
            0x10 => self.mqtt.serve(socket, remote, place, shutdown).await,
            _ => self.serve_http(socket, remote, local, place, shutdown).await,
        }
    }

    async fn serve_http(
        self: Arc<Self>,
        socket: Socket,
        remote: SocketAddr,
        local: SocketAddr,
        place: Arc<Place>,
        shutdown: CancellationToken,
    ) {
        let connection = Connection::new(place, remote, local, &socket, &self.options);
        let stream = Stream::new(socket, connection.clone(), self.sessions.clone(), self.options.send_time);
        let (door, cut) = (self.clone(), connection.cut.clone());
        let service = hyper::service::service_fn(move |request| door.clone().answer(connection.clone(), request));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.options.header_time)
            .max_buf_size(self.options.header_bytes.max(8 << 10));
        let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
        let served = tokio::select! {
            served = serving.as_mut() => served,
            // Whatever is under way: a request that waits is dropped with the connection.
            () = cut.cancelled() => return,
            () = shutdown.cancelled() => {
                // A request under way is still answered. A connection without one ends here.
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%remote, %error, "an HTTP connection ended");
        }
    }

    /// Answers one request.
    async fn answer(
        self: Arc<Self>,
        connection: Arc<Connection>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        connection.begin_request();
        if !connection.tls && !self.options.clear.is_let_in(connection.remote.ip()) {
            metrics::counter!("pomelo_requests_refused_total", "reason" => "clear-text").increment(1);
            line_budget::caused(&line_budget::address(connection.remote.ip()), || {
                tracing::info!(remote = %connection.remote, "a request in clear text was refused, because [tls] requires TLS");
            });
            return Ok(secure::upgrade_required());
        }
        if let Err(why) = self.rule.check(connection.local, request.uri(), request.headers()) {
            metrics::counter!("pomelo_requests_refused_total", "reason" => "origin").increment(1);
            tracing::debug!(remote = %connection.remote, "a request of a foreign site was refused");
            return Ok((StatusCode::FORBIDDEN, why).into_response());
        }
        request.extensions_mut().insert(Remote(connection.remote));
        let body_time = self.options.body_time;
        let carrier = connection.clone();
        if is_socket_io(request.uri()) {
            let (session, websocket) = (session_of(request.uri()), wants_websocket(request.uri()));
            if let Some(session) = session
                && !self.sessions.request(&connection, session)
            {
                return Ok(engine_error(StatusCode::BAD_REQUEST, 1, "Session ID unknown"));
            }
            let polling = match self.polling(&connection, session.is_none() && !websocket) {
                Ok(permit) => permit,
                Err((status, why)) => return Ok(engine_error(status, 4, &why)),
            };
            let session = EngineSession::new(connection, websocket, polling);
            request.extensions_mut().insert(Arc::new(session));
        }
        let request = request.map(|body| TimedBody::new(body, carrier.clone(), body_time));
        let response = self.server.service().oneshot(request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            carrier.upgraded();
        }
        Ok(response.map(Body::new))
    }

    /// Whether a request may poll; with a permit if it begins a session.
    fn polling(&self, connection: &Connection, begins: bool) -> Result<Option<PollingPermit>, (StatusCode, String)> {
        if !begins {
            return Ok(None);
        }
        let refused = |status, reason: &'static str, why: String| {
            metrics::counter!("pomelo_requests_refused_total", "reason" => reason).increment(1);
            (status, why)
        };
        if !self.options.polling {
            let why =
                "this server does not poll (`[network] polling`); connect with a WebSocket: transports: ['websocket']";
            return Err(refused(StatusCode::FORBIDDEN, "polling", why.into()));
        }
        let permit = self.places.polling(connection.remote.ip());
        permit.map(Some).map_err(|full| refused(StatusCode::SERVICE_UNAVAILABLE, "polling-sessions", full.to_string()))
    }

    /// Looks from time to time for connections that take too long.
    async fn look(self: Arc<Self>) {
        let mut interval = tokio::time::interval(LOOK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let now = Instant::now();
            self.places.end_late(Stage::Request, self.options.request_time, now);
            for connection in self.sessions.connections() {
                let Some(peer) = connection.peer() else { continue };
                if connection.holds_a_message(self.options.frame_time, now) {
                    peer.cut_counted("slow-frame", "a message was begun and not completed in time");
                    connection.cut.cancel();
                }
            }
        }
    }

    /// Ends everything that is still open, within the time for it.
    async fn close(&self) {
        self.tasks.close();
        let peers = || self.sessions.peers().into_iter().chain(self.mqtt.peers());
        for peer in peers() {
            peer.close("the server is shutting down");
        }
        if timeout(self.options.shutdown_time, self.tasks.wait()).await.is_err() {
            tracing::warn!("connections that did not end in time are cut");
        }
        for peer in peers() {
            peer.cut("the server is shutting down");
        }
        for connection in self.sessions.connections() {
            connection.cut.cancel();
        }
        // A task whose connection is cut waits at most for the time of a flush.
        let _ = timeout(2 * self.options.flush_time, self.tasks.wait()).await;
    }
}

fn refuse(remote: SocketAddr, reason: &'static str, why: &'static str) {
    metrics::counter!("pomelo_connections_refused_total", "reason" => reason).increment(1);
    line_budget::caused(
        &line_budget::address(remote.ip()),
        || tracing::info!(%remote, "a connection was closed: {why}"),
    );
}

/// A refusal in the form that Engine.IO gives it.
fn engine_error(status: StatusCode, code: u8, message: &str) -> Response<Body> {
    let body = serde_json::json!({"code": code, "message": message}).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
