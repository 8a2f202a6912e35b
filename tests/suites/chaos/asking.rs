//! Clients that ask without pause, over both wires, and a book of what became of every request.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pomelo_host::transport::{Ack, Closed, Peer, Session, mqtt, socket_io};
use pomelo_host::wire::{Message, Topic, raw};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::random::Random;

/// A request that has no outcome for so long has none.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long a client waits before it connects again.
const AGAIN: Duration = Duration::from_millis(50);

/// Which wire a client speaks.
#[derive(Clone, Copy, Debug)]
pub enum Wire {
    SocketIo,
    Pomelo,
}

/// What became of all requests.
#[derive(Default)]
pub struct Book {
    pub asked: AtomicU64,
    pub answered: AtomicU64,
    /// Requests that were on a connection which broke.
    pub cut: AtomicU64,
    /// Answers to what was answered already, or was never asked.
    pub surplus: AtomicU64,
    /// Failures, by what was asked and their code.
    pub failed: Mutex<BTreeMap<String, u64>>,
    /// What must not be: requests without an outcome, wrong answers, calls of the module under reload that failed.
    pub faults: Mutex<Vec<String>>,
}

impl Book {
    pub fn fault(&self, what: String) {
        let mut faults = self.faults.lock();
        // The first show the fault.
        if faults.len() < 20 {
            faults.push(what);
        }
    }
}

/// One connection of a client.
struct Connection {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Outcome>>>,
    registered: Mutex<Option<oneshot::Sender<bool>>>,
    over: CancellationToken,
    book: Arc<Book>,
}

type Outcome = Result<Box<RawValue>, String>;

struct Listening(Arc<Connection>);

impl Session for Listening {
    fn frame(&self, topic: &str, payload: &RawValue, _: Option<Ack>) {
        let connection = &self.0;
        match Topic::parse(topic) {
            Some(Topic::Register) => {
                let said: Value = serde_json::from_str(payload.get()).unwrap_or_default();
                if let Some(registered) = connection.registered.lock().take() {
                    let _ = registered.send(said["code"] == 1);
                }
            }
            Some(Topic::Client) => {
                let Ok(Message::Response { id, outcome }) = Message::parse(payload) else { return };
                let waiting = id.and_then(|id| connection.waiting.lock().remove(&id));
                match waiting {
                    // Whoever waited may have lost its patience, which is in the book.
                    Some(waiting) => _ = waiting.send(outcome.map_err(|failure| failure.code.to_string())),
                    None => _ = connection.book.surplus.fetch_add(1, Ordering::Relaxed),
                }
            }
            _ => {}
        }
    }

    fn closed(&self, _: Closed) {
        self.0.registered.lock().take();
        self.0.over.cancel();
        // Whoever waits learns that nothing comes.
        self.0.waiting.lock().clear();
    }
}

/// A client.
pub struct Client {
    pub wire: Wire,
    pub address: SocketAddr,
    /// Whether its connection may break.
    pub breaks: bool,
    pub name: String,
    pub seed: u64,
    /// Requests that are under way at a time.
    pub at_once: usize,
}

impl Client {
    /// Asks without pause until it is told to end, and then waits for what is under way.
    pub async fn ask(self, book: Arc<Book>, end: CancellationToken) {
        for round in 0.. {
            if end.is_cancelled() {
                return;
            }
            match self.connect(round, &book).await {
                Some((peer, connection)) => {
                    let workers =
                        (0..self.at_once).map(|worker| self.work(worker, round, &peer, &connection, &book, &end));
                    futures_util::future::join_all(workers).await;
                    peer.close("it has asked enough");
                    if !self.breaks && !end.is_cancelled() {
                        book.fault(format!("{}: its connection broke: {:?}", self.name, peer.closed_because()));
                    }
                }
                None if !self.breaks => book.fault(format!("{}: it cannot connect", self.name)),
                None => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn connect(&self, round: u64, book: &Arc<Book>) -> Option<(Peer, Arc<Connection>)> {
        let (registered, was_registered) = oneshot::channel();
        let connection = Arc::new(Connection {
            waiting: Mutex::default(),
            registered: Mutex::new(Some(registered)),
            over: CancellationToken::new(),
            book: book.clone(),
        });
        let session = Listening(connection.clone());
        let address = self.address.to_string();
        let options = socket_io::client::Options { connect_time: PATIENCE, ..socket_io::client::Options::default() };
        let peer = match self.wire {
            Wire::SocketIo => socket_io::client::connect(&address, options, |_| Arc::new(session)).await.ok()?,
            Wire::Pomelo => mqtt::client::connect(&address, (&options).into(), |_| Arc::new(session)).await.ok()?,
        };
        let id = format!("{}-{round}", self.name);
        let register = json!({"type": "client", "id": id, "username": "admin", "password": "admin"});
        peer.send(Topic::Register, raw(&register)).ok()?;
        let accepted = tokio::time::timeout(PATIENCE, was_registered).await;
        matches!(accepted, Ok(Ok(true))).then_some((peer, connection))
    }

    async fn work(
        &self,
        worker: usize,
        round: u64,
        peer: &Peer,
        connection: &Connection,
        book: &Book,
        end: &CancellationToken,
    ) {
        let mut random = Random(self.seed ^ ((worker as u64) << 48) ^ (round << 32));
        let mut number = worker as u64;
        while !end.is_cancelled() && !connection.over.is_cancelled() {
            number += self.at_once as u64;
            let (what, module, body) = wish(number, &mut random);
            let (answer, outcome) = oneshot::channel();
            connection.waiting.lock().insert(number, answer);
            book.asked.fetch_add(1, Ordering::Relaxed);
            let sent = peer.send(Topic::Client, raw(&json!({"reqId": number, "moduleId": module, "body": body})));
            // The end may have come between the look at it and the entry.
            if sent.is_err() || connection.over.is_cancelled() {
                connection.waiting.lock().remove(&number);
            }
            match tokio::time::timeout(PATIENCE, outcome).await {
                Ok(Ok(Ok(answer))) => {
                    book.answered.fetch_add(1, Ordering::Relaxed);
                    if what == "echo" {
                        let answer: Value = serde_json::from_str(answer.get()).unwrap_or_default();
                        if answer["echo"] != number || ![1, 2].contains(&answer["version"].as_u64().unwrap_or(0)) {
                            book.fault(format!("{}: request {number} of echo was answered {answer}", self.name));
                        }
                    }
                }
                Ok(Ok(Err(code))) => {
                    if what == "echo" {
                        book.fault(format!(
                            "{}: request {number} of the module under reload failed: {code}",
                            self.name
                        ));
                    }
                    *book.failed.lock().entry(format!("{what}: {code}")).or_default() += 1;
                }
                Ok(Err(_)) => _ = book.cut.fetch_add(1, Ordering::Relaxed),
                Err(_) => {
                    book.fault(format!("{}: request {number} ({what}) has no answer after {PATIENCE:?}", self.name))
                }
            }
        }
    }
}

/// What is asked: its name in the book, the module and the message.
fn wish(number: u64, random: &mut Random) -> (&'static str, &'static str, Value) {
    match random.below(40) {
        0 => ("list", "__console__", json!({"signal": "list"})),
        1 => ("nobody", "there-is-no-such-module", Value::Null),
        2 => ("trap", "misbehave", json!({"do": "trap"})),
        3 => ("servers", "watchServer", json!({"comd": "servers", "context": "all"})),
        4..=6 => ("ecko", "ecko", json!(number)),
        _ => ("echo", "echo", json!(number)),
    }
}
