//! Engine.IO and Socket.IO: what a stranger sends to the real listener, over a WebSocket or by polling.
//!
//! An input's first byte says the way. The rest is messages, with a line feed between them. Over a WebSocket each is a message of its own, text or, where it is
//! not UTF-8, binary. By polling they are one body, with the separator of Engine.IO between them. A session is told frames that are JSON, then its end once,
//! and nothing after that. The next input shows that the listener still serves.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use pomelo_host::transport::{Accept, Ack, Closed, Listener, Peer, Session, listener};
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// The most messages of one input that are sent.
const MESSAGES: usize = 64;
/// What only keeps a fault from hanging the fuzzer.
const LONG: Duration = Duration::from_secs(20);

/// What the listener waits for.
const SOON: Duration = Duration::from_millis(20);

/// What a session was told of its end.
type Ended = mpsc::UnboundedSender<Closed>;

/// A session that answers what wants to be answered, and looks at what it is told.
struct Looking {
    over: Mutex<bool>,
    ended: Ended,
}

impl Session for Looking {
    fn frame(&self, _topic: &str, payload: &RawValue, ack: Option<Ack>) {
        assert!(!*self.over.lock(), "a frame after the end");
        serde_json::from_str::<serde::de::IgnoredAny>(payload.get()).unwrap();
        if let Some(ack) = ack {
            // A peer that has gone wants no answer.
            let _ = ack.send(payload.to_owned());
        }
    }

    fn closed(&self, how: Closed) {
        let mut over = self.over.lock();
        assert!(!*over, "the end is told twice");
        *over = true;
        let _ = self.ended.send(how);
    }
}

struct Accepting {
    accepted: mpsc::UnboundedSender<()>,
    ended: Ended,
}

impl Accept for Accepting {
    fn accept(&self, _peer: Peer) -> Arc<dyn Session> {
        let _ = self.accepted.send(());
        Arc::new(Looking { over: Mutex::new(false), ended: self.ended.clone() })
    }
}

/// A listener that stays for all inputs, on one thread with its peers.
struct Served {
    runtime: Runtime,
    address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<()>,
    ended: mpsc::UnboundedReceiver<Closed>,
}

thread_local! {
    static SERVED: RefCell<Served> = RefCell::new(Served::start());
}

impl Served {
    fn start() -> Served {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (accepted, was_accepted) = mpsc::unbounded_channel();
        let (ended, was_ended) = mpsc::unbounded_channel();
        let address = runtime.block_on(async {
            // Sessions that the input leaves behind end soon, and hinder no other input.
            let options = listener::Options {
                flush_time: SOON,
                handshake_time: 10 * SOON,
                ping_interval: 5 * SOON,
                ping_timeout: 5 * SOON,
                polling_sessions: usize::MAX,
                polling_per_address: usize::MAX,
                ..listener::Options::default()
            };
            let accepting = Arc::new(Accepting { accepted, ended });
            let listener = Listener::bind("127.0.0.1:0", options, accepting, Router::new()).await.expect("a port");
            let address = listener.local_addr();
            tokio::spawn(listener.serve(CancellationToken::new()));
            address
        });
        Served { runtime, address, accepted: was_accepted, ended: was_ended }
    }
}

/// Sends the messages.
pub fn run(input: &[u8]) {
    let Some((way, rest)) = input.split_first() else { return };
    let messages: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').take(MESSAGES).collect();
    SERVED.with_borrow_mut(|served| {
        let Served { runtime, address, accepted, ended } = served;
        let address = *address;
        runtime.block_on(async {
            let talk = async {
                if way % 2 == 0 {
                    by_websocket(address, &messages).await
                } else {
                    by_polling(address, &messages).await
                }
                // Each session that has begun ends.
                while accepted.try_recv().is_ok() {
                    ended.recv().await.expect("the listener stays");
                }
            };
            tokio::time::timeout(LONG, talk).await.expect("a session does not end");
        });
    });
}

async fn by_websocket(address: SocketAddr, messages: &[&[u8]]) {
    let stream = TcpStream::connect(address).await.expect("the listener listens");
    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("the listener serves");
    for message in messages {
        let message = match str::from_utf8(message) {
            Ok(text) => Message::text(text),
            Err(_) => Message::binary(message.to_vec()),
        };
        // It may have been cut.
        if socket.send(message).await.is_err() {
            return;
        }
    }
    // All that was sent has been taken when the close is answered.
    if socket.close(None).await.is_ok() {
        while let Some(Ok(_)) = socket.next().await {}
    }
}

/// Sends a request; the answer's text.
async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the listener listens");
    let mut said = Vec::new();
    // A request may be refused before it has been taken whole.
    if stream.write_all(request).await.is_ok() {
        let _ = stream.read_to_end(&mut said).await;
    }
    String::from_utf8_lossy(&said).into_owned()
}

async fn post(address: SocketAddr, sid: &str, body: &[u8]) {
    let head = format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    ask(address, &[head.as_bytes(), body].concat()).await;
}

async fn by_polling(address: SocketAddr, messages: &[&[u8]]) {
    let open =
        format!("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let said = ask(address, open.as_bytes()).await;
    let sid = said.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let sid = sid.unwrap_or_else(|| panic!("the listener begins no session: {said}"));
    post(address, sid, &messages.join(&b'\x1e')).await;
    // Where it is not over yet, it is now.
    post(address, sid, b"1").await;
}
