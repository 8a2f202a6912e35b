//! A monitor whose answers are given by hand: it stays silent until the test says what it answers.

use std::sync::Arc;

use parking_lot::Mutex;
use pomelo_host::failure::Failure;
use pomelo_host::transport::socket_io::client;
use pomelo_host::transport::{Ack, Closed, Peer, Session};
use pomelo_host::wire::{Capabilities, Message, Register, ReqId, Response, Role, Topic, raw};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::soon;

/// A registered monitor.
pub struct Hand {
    peer: Peer,
    asked: mpsc::UnboundedReceiver<ReqId>,
}

struct Listening {
    registered: Mutex<Option<oneshot::Sender<()>>>,
    asked: mpsc::UnboundedSender<ReqId>,
}

impl Session for Listening {
    fn frame(&self, topic: &str, payload: &RawValue, _: Option<Ack>) {
        match (Topic::parse(topic), Message::parse(payload)) {
            (Some(Topic::Register), _) => drop(self.registered.lock().take().map(|registered| registered.send(()))),
            (Some(Topic::Monitor), Ok(Message::Request { id, .. })) => drop(self.asked.send(id)),
            _ => {}
        }
    }

    fn closed(&self, _: Closed) {}
}

impl Hand {
    pub async fn register(address: &str, id: &str) -> Hand {
        let (registered, answered) = oneshot::channel();
        let (sender, asked) = mpsc::unbounded_channel();
        let session = Arc::new(Listening { registered: Mutex::new(Some(registered)), asked: sender });
        let peer = client::connect(address, client::Options::default(), |_| session).await.unwrap();
        let register = Register {
            down: false,
            phase: None,
            id: id.into(),
            role: Role::Monitor,
            server_type: Some("hand".into()),
            pid: None,
            info: None,
            token: None,
            username: None,
            password: None,
            md5: false,
            version: None,
            wit: Vec::new(),
            capabilities: Capabilities::default(),
        };
        peer.send(Topic::Register, raw(&register)).unwrap();
        soon("the registration of a monitor", answered).await.unwrap();
        Hand { peer, asked }
    }

    /// Waits until it is asked something, and takes the question.
    pub async fn asked(&mut self) -> ReqId {
        soon("a request to the monitor", self.asked.recv()).await.unwrap()
    }

    /// Questions that have come and were not taken.
    pub fn waiting(&self) -> usize {
        self.asked.len()
    }

    pub fn answer(&self, id: &ReqId, answer: &Value) {
        let outcome: Result<_, Failure> = Ok(raw(answer));
        self.peer.send(Topic::Monitor, raw(&Response::new(id, &outcome))).unwrap();
    }

    /// Breaks the connection.
    pub fn cut(&self) {
        self.peer.cut("the test breaks the connection");
    }
}
