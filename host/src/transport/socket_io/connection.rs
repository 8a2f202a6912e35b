//! What is known of a TCP connection that speaks HTTP, and so may carry a Socket.IO session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socketioxide::socket::Sid;
use tokio_util::sync::CancellationToken;

use super::super::options::Options;
use super::unfinished::Unfinished;
use crate::budget::{Account, Charge, Over};
use crate::tls::Certificate;
use crate::transport::Peer;
use crate::transport::places::{Place, Stage};
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
    /// Its place among the listener's connections.
    pub place: Arc<Place>,
    /// Cancelled when the socket has been closed.
    pub gone: CancellationToken,
    /// The Socket.IO session that it carries, and its peer once there is one.
    carried: Mutex<Option<(Sid, Option<Peer>)>>,
    /// Whether it is a WebSocket now.
    upgraded: AtomicBool,
    /// What was read and has not been handed on as a frame or a request.
    receiving: Mutex<Receiving>,
    /// Bytes that were read since the last request began.
    read: AtomicUsize,
    /// All bytes that were read.
    total: AtomicU64,
    /// How many of them had been read when a frame was handed up last.
    at_frame: AtomicU64,
    /// What is known of a message that has begun.
    unfinished: Mutex<Unfinished>,
    /// The most of them while the peer has not registered.
    limit: usize,
    /// The frame limit of a peer that has not registered.
    first_frame_limit: usize,
}

/// What was read of a connection and has not been handed on, as far as that can be told from outside the layers that hold it.
///
/// A message is on its way for at most [`Receiving::longest`], because the Engine.IO layer ends a session whose client cannot answer a ping meanwhile, and
/// the body of a request has its deadline. What was read earlier belongs to frames that were handed on.
struct Receiving {
    /// What it is charged to: the connection's own account, or its peer's.
    account: Account,
    /// What was read since `since`, and what was read before that.
    now: Charge,
    before: Charge,
    since: Instant,
    longest: Duration,
    /// How many frames the peer had sent when something was read last.
    frames: u64,
}

impl Receiving {
    fn read(&mut self, bytes: usize, peer: Option<&Peer>) -> Result<(), Over> {
        if let Some(peer) = peer {
            let frames = peer.heard();
            if !self.account.is(peer.account()) || frames != self.frames {
                self.account = peer.account().clone();
                self.frames = frames;
                self.handed_on();
            }
        }
        let now = Instant::now();
        if now.duration_since(self.since) > self.longest {
            self.before = std::mem::replace(&mut self.now, Charge::nothing(&self.account));
            self.since = now;
        }
        self.now.resize(self.now.bytes() + bytes)
    }

    fn handed_on(&mut self) {
        self.now = Charge::nothing(&self.account);
        self.before = Charge::nothing(&self.account);
    }
}

impl Connection {
    /// A connection. What it may send before its peer's frame limit is raised is limited for each request, however it is cut into frames.
    pub(in crate::transport) fn new(
        place: Arc<Place>,
        remote: SocketAddr,
        local: SocketAddr,
        socket: &Socket,
        options: &Options,
    ) -> Arc<Self> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Arc::new_cyclic(|this: &std::sync::Weak<Connection>| {
            let connection = this.clone();
            let account = options.budget.open(remote.ip(), move |why| {
                if let Some(connection) = connection.upgrade() {
                    tracing::debug!(remote = %connection.remote, %why, "a connection was ended");
                    connection.cut.cancel();
                }
            });
            let nothing = || Charge::nothing(&account);
            let (now, before, longest) = (nothing(), nothing(), options.ping_interval + options.ping_timeout);
            let receiving = Receiving { now, before, since: Instant::now(), longest, frames: 0, account };
            Connection {
                id: LAST.fetch_add(1, Ordering::Relaxed) + 1,
                remote,
                local,
                tls: socket.is_tls(),
                certificate: socket.certificate(),
                cut: place.cut().clone(),
                place,
                gone: CancellationToken::new(),
                carried: Mutex::new(None),
                upgraded: AtomicBool::new(false),
                receiving: Mutex::new(receiving),
                read: AtomicUsize::new(0),
                total: AtomicU64::new(0),
                at_frame: AtomicU64::new(0),
                unfinished: Mutex::default(),
                limit: 4 * options.first_frame_limit,
                first_frame_limit: options.first_frame_limit,
            }
        })
    }

    /// Waits until more may be read. A WebSocket is not read from while enough messages of its peer are under way, so that a flood waits at its sender. A
    /// polling client is refused instead, because what it sends comes over several connections.
    pub(in crate::transport) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.upgraded.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.peer().map_or(Poll::Ready(()), |peer| peer.account().poll_ready(context))
    }

    /// A frame of the peer that it carries is handed up. What has come until now is not part of a message that is still to be completed.
    pub(super) fn has_frame(&self) {
        self.at_frame.store(self.total(), Ordering::Relaxed);
    }

    /// The peer has sent a frame, and it was received whole.
    pub(super) fn received_frame(&self, peer: &Peer) {
        self.has_frame();
        let mut receiving = self.receiving.lock();
        if receiving.account.is(peer.account()) {
            receiving.frames = peer.heard();
            receiving.handed_on();
        }
    }

    /// Bytes were written to the socket.
    pub(in crate::transport) fn written(&self, bytes: usize) {
        if bytes > 0
            && let Some((_, Some(peer))) = &*self.carried.lock()
        {
            peer.flow().written(bytes);
        }
    }

    /// Ends the connection because of a limit, counted under a fixed word.
    pub(in crate::transport) fn end(&self, reason: &'static str) {
        tracing::debug!(remote = %self.remote, reason, "a connection was ended");
        metrics::counter!("pomelo_connections_ended_total", "reason" => reason).increment(1);
        self.cut.cancel();
    }

    /// A request begins.
    pub(in crate::transport) fn begin_request(&self) {
        self.read.store(0, Ordering::Relaxed);
        self.receiving.lock().handed_on();
        self.place.holds(0);
        self.place.reach(Stage::Request);
    }

    /// The connection has become a WebSocket.
    pub(in crate::transport) fn upgraded(&self) {
        self.upgraded.store(true, Ordering::Release);
        self.place.reach(Stage::Session);
    }

    /// From now on the connection carries this session.
    pub(super) fn carries(&self, session: Sid, peer: Option<Peer>) {
        if let Some(peer) = &peer {
            peer.carried_by(&self.place);
        }
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

    /// Counts and charges bytes that were read, which the layers above collect until a message is whole.
    ///
    /// # Errors
    /// [`Refused`], if the peer may not send so much. It is to be cut.
    pub(in crate::transport) fn count(&self, bytes: usize) -> Result<(), Refused> {
        let peer = self.peer();
        let registered = peer.as_ref().is_some_and(|peer| peer.frame_limit() > self.first_frame_limit);
        // The layers above collect a message up to their own, high limit before they hand it on, and a stranger must not fill memory with that.
        self.total.fetch_add(bytes as u64, Ordering::Relaxed);
        let read = self.read.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.place.holds(read);
        if read > self.limit && !registered {
            return Err(Refused::Unregistered);
        }
        self.receiving.lock().read(bytes, peer.as_ref()).map_err(Refused::Over)
    }

    /// All bytes that were read.
    fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Looks once a second whether the peer holds a message that it does not complete within `time` and what its size allows.
    pub(in crate::transport) fn holds_a_message(&self, time: Duration, now: Instant) -> bool {
        let at_frame = self.at_frame.load(Ordering::Relaxed);
        self.unfinished.lock().look(self.total(), at_frame, time, now)
    }
}

/// Why no more is read from a connection.
#[derive(Debug, thiserror::Error)]
pub(in crate::transport) enum Refused {
    /// A stranger sends too much.
    #[error("it sent more than it may before registration")]
    Unregistered,
    /// No more may be held for it.
    #[error(transparent)]
    Over(Over),
}

impl Refused {
    /// The word under which it is counted.
    pub(in crate::transport) fn reason(&self) -> &'static str {
        match self {
            Refused::Unregistered => "unregistered-bytes",
            Refused::Over(_) => "memory",
        }
    }
}
