//! Sessions that record what they are told, a server that echoes, and waits with a generous deadline.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use pomelo_host::transport::listener::Options;
use pomelo_host::transport::socket_io::client;
use pomelo_host::transport::{Accept, Ack, Closed, Listener, Peer, Session};
use pomelo_host::wire::{Topic, raw};
use serde_json::value::RawValue;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Waits for something that has to happen. The deadline only keeps a failing test from hanging.
pub async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let wait = tokio::time::timeout(Duration::from_secs(60), wait);
    wait.await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// All that comes until the other side closes the connection.
pub async fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    match soon("the other side's close", stream.read_to_end(&mut said)).await {
        Ok(_) => {}
        // A socket that is closed with data unread is reset.
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    said
}

/// What a session was told.
#[derive(Debug)]
pub enum Told {
    Frame(String, Box<RawValue>),
    Closed(Closed),
}

/// A session that records what it is told. It answers an acknowledgement that is asked for with the payload, as a server it also echoes
/// frames of the topic `client`, and acts on `register`: `"close"`, `"cut"`, or a number, which becomes the frame limit.
pub struct Probe {
    pub peer: Peer,
    echo: bool,
    told: mpsc::UnboundedSender<Told>,
}

impl Probe {
    /// A probe and what it is told.
    pub fn new(peer: Peer, echo: bool) -> (Arc<Probe>, mpsc::UnboundedReceiver<Told>) {
        let (told, receiver) = mpsc::unbounded_channel();
        (Arc::new(Probe { peer, echo, told }), receiver)
    }

    fn register(&self, payload: &RawValue) {
        match payload.get() {
            r#""close""# => {
                self.peer.send(Topic::Monitor, raw(&serde_json::json!({"last": true}))).unwrap();
                self.peer.close("asked to");
            }
            r#""cut""# => self.peer.cut("asked to"),
            text => self.peer.set_frame_limit(text.parse().unwrap_or(usize::MAX)),
        }
    }
}

impl Session for Probe {
    fn frame(&self, topic: &str, payload: &RawValue, ack: Option<Ack>) {
        match (topic, ack) {
            (_, Some(ack)) => _ = ack.send(payload.to_owned()),
            ("client", None) if self.echo => _ = self.peer.send(Topic::Client, payload.to_owned()),
            ("register", None) if self.echo => self.register(payload),
            _ => {}
        }
        let _ = self.told.send(Told::Frame(topic.to_owned(), payload.to_owned()));
    }

    fn closed(&self, how: Closed) {
        let _ = self.told.send(Told::Closed(how));
    }
}

/// The next frame.
pub async fn frame(told: &mut mpsc::UnboundedReceiver<Told>) -> (String, String) {
    match soon("a frame", told.recv()).await {
        Some(Told::Frame(topic, payload)) => (topic, payload.get().to_owned()),
        other => panic!("a frame was expected, not {other:?}"),
    }
}

/// The end, passing over frames; it must be the last thing that the session is told.
pub async fn closed(told: &mut mpsc::UnboundedReceiver<Told>) -> Closed {
    loop {
        match soon("the end", told.recv()).await {
            Some(Told::Closed(how)) => {
                assert!(told.try_recv().is_err(), "nothing follows the end");
                return how;
            }
            Some(Told::Frame(..)) => {}
            None => panic!("the session was dropped without being told"),
        }
    }
}

/// An accepted peer.
pub type Accepted = (Peer, mpsc::UnboundedReceiver<Told>);

/// Makes a [`Probe`] of each peer and hands it to the test.
pub struct Probes(pub mpsc::UnboundedSender<Accepted>);

impl Accept for Probes {
    fn accept(&self, peer: Peer) -> Arc<dyn Session> {
        let (probe, told) = Probe::new(peer.clone(), true);
        let _ = self.0.send((peer, told));
        probe
    }
}

/// A running listener.
pub struct Server {
    pub address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<Accepted>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Server {
    pub async fn start(options: Options) -> Server {
        let (sender, accepted) = mpsc::unbounded_channel();
        let pages = Router::new().route("/hello", axum::routing::get(|| async { "hello" }));
        let listener = Listener::bind("127.0.0.1:0", options, Arc::new(Probes(sender)), pages).await.unwrap();
        let (address, shutdown) = (listener.local_addr(), CancellationToken::new());
        let serving = tokio::spawn(listener.serve(shutdown.clone()));
        Server { address, accepted, shutdown, serving }
    }

    /// The next peer.
    pub async fn peer(&mut self) -> Accepted {
        soon("a peer", self.accepted.recv()).await.unwrap()
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        soon("the end of serving", self.serving).await.unwrap();
    }
}

/// Connects our client to an address.
pub async fn connect(address: SocketAddr, options: client::Options) -> Accepted {
    let mut told = None;
    let peer = client::connect(&address.to_string(), options, |peer| {
        let (probe, receiver) = Probe::new(peer, false);
        told = Some(receiver);
        probe
    })
    .await
    .unwrap();
    (peer, told.unwrap())
}

pub fn number(n: usize) -> Box<RawValue> {
    raw(&serde_json::json!({ "n": n }))
}

/// A JSON string of that many bytes in all.
pub fn text(bytes: usize) -> Box<RawValue> {
    raw(&"x".repeat(bytes - 2))
}
