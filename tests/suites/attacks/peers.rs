//! Peers of the attackers: many at a time, over the transports of this project.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pomelo_host::transport::socket_io::client::{Options, connect};
use pomelo_host::transport::{Ack, Closed, Peer, Session};
use pomelo_host::wire::Topic;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// A peer that has registered. It counts what it is sent, and answers nothing.
pub struct Registered {
    pub peer: Peer,
    pub seen: Arc<Seen>,
}

/// What a peer was sent.
#[derive(Default)]
pub struct Seen {
    frames: AtomicUsize,
    /// Answers whose failure is `busy`.
    busy: AtomicUsize,
    closed: AtomicUsize,
    /// The answer to its registration, where that was refused.
    refusal: Mutex<Option<String>>,
    changed: Notify,
}

struct Counting(Arc<Seen>);

impl Session for Counting {
    fn frame(&self, topic: &str, payload: &RawValue, _ack: Option<Ack>) {
        if Topic::parse(topic) == Some(Topic::Register) && !payload.get().contains("\"code\":1") {
            *self.0.refusal.lock() = Some(payload.get().to_owned());
        }
        self.0.frames.fetch_add(1, Ordering::Relaxed);
        if payload.get().contains("\"busy\"") || payload.get().contains("\\\"busy\\\"") {
            self.0.busy.fetch_add(1, Ordering::Relaxed);
        }
        self.0.changed.notify_waiters();
    }

    fn closed(&self, _how: Closed) {
        self.0.closed.fetch_add(1, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }
}

impl Seen {
    pub fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    pub fn frames(&self) -> usize {
        self.frames.load(Ordering::Relaxed)
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed) > 0
    }

    pub fn refusal(&self) -> Option<String> {
        self.refusal.lock().clone()
    }

    /// Waits until the peer was sent so many frames, or its connection has ended.
    pub async fn at_least(&self, frames: usize) {
        self.until("frames", || self.frames() >= frames).await;
    }

    /// Waits until so many of its requests were refused, because too many are under way, or its connection has ended.
    pub async fn refused(&self, requests: usize) {
        self.until("refusals", || self.busy() >= requests).await;
    }

    async fn until(&self, what: &str, enough: impl Fn() -> bool) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if enough() || self.is_closed() {
                    break;
                }
                changed.await;
            }
        };
        let seen = || format!("{what}: {} frames, {} of them refusals", self.frames(), self.busy());
        tokio::time::timeout(Duration::from_secs(120), waiting).await.unwrap_or_else(|_| panic!("{}", seen()));
    }
}

/// Frames as the master takes them.
fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

impl Registered {
    /// Registers. Whether it was let in is in what it has seen.
    pub async fn asks(address: SocketAddr, register: &Value) -> Registered {
        let seen = Arc::new(Seen::default());
        let options = Options { outbox: 100_000, ..Options::default() };
        let session = seen.clone();
        let peer = connect(&address.to_string(), options, move |_| Arc::new(Counting(session))).await.unwrap();
        peer.send(Topic::Register, raw(register)).unwrap();
        seen.at_least(1).await;
        Registered { peer, seen }
    }

    async fn with(address: SocketAddr, register: Value) -> Registered {
        let registered = Registered::asks(address, &register).await;
        let refusal = (registered.seen.refusal(), registered.peer.closed_because());
        assert!(!registered.seen.is_closed() && refusal.0.is_none(), "{register} was refused: {refusal:?}");
        registered
    }

    /// A client of the user of level 2.
    pub async fn user(address: SocketAddr, id: &str) -> Registered {
        let register = json!({"type": "client", "id": id, "username": "monitor", "password": "monitor"});
        Registered::with(address, register).await
    }

    /// A server's monitor.
    pub async fn monitor(address: SocketAddr, id: &str) -> Registered {
        Registered::with(address, Registered::as_monitor(id)).await
    }

    /// What a server's monitor registers with.
    pub fn as_monitor(id: &str) -> Value {
        let info = json!({"id": id, "serverType": "chat", "host": "127.0.0.1", "port": 1});
        json!({"type": "monitor", "id": id, "serverType": "chat", "pid": 1, "info": info})
    }

    /// Sends a message that wants an answer.
    pub fn request(&self, topic: Topic, number: usize, module: &str, body: &Value) -> bool {
        let message = json!({"reqId": number, "moduleId": module, "body": body});
        self.peer.send(topic, raw(&message)).is_ok()
    }

    /// Sends a message that wants none.
    pub fn notify(&self, topic: Topic, module: &str, body: &Value) -> bool {
        self.peer.send(topic, raw(&json!({"moduleId": module, "body": body}))).is_ok()
    }
}
