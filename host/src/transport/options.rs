//! Every limit of a [`Listener`](super::Listener), and of the connections that it accepts.

use std::time::Duration;

use crate::budget::Budget;
use crate::journal::Journal;
use crate::tls::{ClearText, ServerTls};

/// Limits of a [`Listener`](super::Listener). Sizes are in bytes of text, without the transport's framing.
#[derive(Clone, Debug)]
pub struct Options {
    /// TCP connections at a time. 4096. A further one takes the place of one whose peer has not registered, and is closed where there is none.
    pub max_connections: usize,
    /// Connections of one address (of IPv6 the first 64 bits) at a time, also those whose peers have registered. As many as there may be.
    pub connections_per_address: usize,
    /// Connections at a time whose peers have not registered, at most half of `max_connections`. 2048. A further one takes the place of another.
    pub strangers: usize,
    /// The same of one address. 1024.
    pub strangers_per_address: usize,
    /// Bytes that all such connections together may have sent of requests and messages that are not complete. 16 MiB. Above it, the one that has sent most
    /// is closed.
    pub strangers_held: usize,
    /// Whether a Socket.IO session may begin with polling. It may.
    pub polling: bool,
    /// Socket.IO sessions at a time that poll. 256. They count until they end or have changed to a WebSocket.
    pub polling_sessions: usize,
    /// The same of one address. 32.
    pub polling_per_address: usize,
    /// How long a new connection may take to send its first byte. 10 s.
    pub first_byte_time: Duration,
    /// How long the head of a request may take, and how long an idle HTTP connection is kept open. 10 s.
    pub header_time: Duration,
    /// How long the body of a request may take, and a second more for each 64 KiB of it. 10 s.
    pub body_time: Duration,
    /// How long a peer that has not registered may take for one request, with its answer. 30 s.
    pub request_time: Duration,
    /// How long a message may take that has begun, and a second more for each 64 KiB of it. 30 s.
    pub frame_time: Duration,
    /// The largest head of a request; at least 8 KiB. 16 KiB.
    pub header_bytes: usize,
    /// How long a Socket.IO connection may take to join its namespace, and one of pomelo-admin's wire to introduce itself. 10 s.
    pub handshake_time: Duration,
    /// Time between two pings. 25 s, as Socket.IO has it.
    pub ping_interval: Duration,
    /// How long an answer to a ping may take. 20 s, as Socket.IO has it.
    pub ping_timeout: Duration,
    /// How long a peer on pomelo-admin's wire may be silent, unless it promises to send something sooner. 150 s, because pomelo pings every 60 s.
    pub mqtt_idle: Duration,
    /// Frames that may wait to be sent to one peer. A peer that falls further behind is cut. 4096. As many again may be in the buffer of the Socket.IO
    /// layer, which offers no way to wait for room.
    pub outbox: usize,
    /// The largest frame that a peer may send until [`Peer::set_frame_limit`](crate::transport::Peer::set_frame_limit) allows more.
    /// 64 KiB. Until then the peer's connection may carry at most four times this for each HTTP request, however it is cut into frames.
    pub first_frame_limit: usize,
    /// The largest frame that any peer may send. 16 MiB.
    pub max_frame: usize,
    /// How long a write may wait for a peer that takes nothing. 10 s.
    pub send_time: Duration,
    /// How long a peer may take, when it is closed, to receive what was sent before. 1 s.
    pub flush_time: Duration,
    /// How long the end of [`serve`](super::Listener::serve) may take. 5 s.
    pub shutdown_time: Duration,
    /// What all peers may use together.
    pub budget: Budget,
    /// Names, without port, under which browsers may reach this server, besides loopback names and its own addresses. None.
    pub allowed_hosts: Vec<String>,
    /// The certificate of this port. None: it speaks clear text only.
    pub tls: Option<ServerTls>,
    /// From where clear text is let in. From everywhere.
    pub clear: ClearText,
    /// Where it is told that no connections can be accepted, mostly because no file descriptors are left.
    pub journal: Journal,
}

impl Default for Options {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Options {
            max_connections: 4096,
            connections_per_address: usize::MAX,
            strangers: 2048,
            strangers_per_address: 1024,
            strangers_held: 16 << 20,
            polling: true,
            polling_sessions: 256,
            polling_per_address: 32,
            first_byte_time: seconds(10),
            header_time: seconds(10),
            body_time: seconds(10),
            request_time: seconds(30),
            frame_time: seconds(30),
            header_bytes: 16 << 10,
            handshake_time: seconds(10),
            ping_interval: seconds(25),
            ping_timeout: seconds(20),
            mqtt_idle: seconds(150),
            outbox: 4096,
            first_frame_limit: 64 << 10,
            max_frame: 16 << 20,
            send_time: seconds(10),
            flush_time: seconds(1),
            shutdown_time: seconds(5),
            budget: Budget::new(crate::budget::Limits::default()),
            allowed_hosts: Vec::new(),
            tls: None,
            clear: ClearText::default(),
            journal: Journal::default(),
        }
    }
}

/// How long something may take of which `bytes` have come: a time for it, and a second more for each 64 KiB. So a large message over a slow line is waited
/// for, and one that does not move is not.
pub(super) fn allowed(time: Duration, bytes: usize) -> Duration {
    let milli_kib = u64::try_from(bytes / 64).unwrap_or(u64::MAX / 2);
    time + Duration::from_millis(milli_kib.saturating_mul(1000) / 1024)
}
