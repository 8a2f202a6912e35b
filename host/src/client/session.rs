//! What comes from the master: answers, the registration's answer, and what it sends unasked.

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::exchange::Exchange;
use crate::transport::{Ack, Closed, Session};
use crate::wire::{Message, Registered, Topic, null};

/// Something that a module of the master sent without being asked, such as the progress of a long command.
#[derive(Clone, Debug)]
pub struct Push {
    /// The module.
    pub module: String,
    /// What it says.
    pub body: Box<RawValue>,
}

/// The receiving side of a client's connection.
pub(super) struct ClientSession {
    pub exchange: Exchange,
    registered: Mutex<Option<oneshot::Sender<Registered>>>,
    pushes: Option<mpsc::Sender<Push>>,
    why: Mutex<Option<String>>,
    over: CancellationToken,
}

impl ClientSession {
    /// A session over an exchange, and the answer to the registration.
    pub fn new(
        exchange: Exchange,
        pushes: Option<mpsc::Sender<Push>>,
    ) -> (ClientSession, oneshot::Receiver<Registered>) {
        let (registered, answer) = oneshot::channel();
        let session = ClientSession {
            exchange,
            registered: Mutex::new(Some(registered)),
            pushes,
            why: Mutex::new(None),
            over: CancellationToken::new(),
        };
        (session, answer)
    }

    /// Why the connection is over, once it is.
    pub fn why(&self) -> Option<String> {
        self.why.lock().clone()
    }

    /// Waits for the connection's end.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    fn message(&self, payload: &RawValue) {
        match Message::parse(payload) {
            Ok(Message::Response { id, outcome }) => self.exchange.complete(id, outcome),
            Ok(Message::Notify { module, body }) => {
                let push = Push { module: module.into_owned(), body: body.unwrap_or(null()).to_owned() };
                if self.pushes.as_ref().is_none_or(|pushes| pushes.try_send(push).is_err()) {
                    metrics::counter!("pomelo_client_pushes_dropped_total").increment(1);
                }
            }
            Ok(Message::Request { .. } | Message::Command { .. }) => {
                tracing::debug!("the master asked something of a client, which it does not do");
            }
            Err(error) => tracing::debug!(%error, "the master sent what is no message"),
        }
    }
}

impl Session for ClientSession {
    fn frame(&self, topic: &str, payload: &RawValue, _ack: Option<Ack>) {
        match Topic::parse(topic) {
            Some(Topic::Client) => self.message(payload),
            Some(Topic::Register) => match serde_json::from_str(payload.get()) {
                Ok(answer) => {
                    if let Some(waiting) = self.registered.lock().take() {
                        // An error means that whoever waited has given up.
                        let _ = waiting.send(answer);
                    }
                }
                Err(error) => tracing::debug!(%error, "the master answered the registration in an unknown form"),
            },
            _ => tracing::debug!(topic, "the master sent a frame that is not for clients"),
        }
    }

    fn closed(&self, how: Closed) {
        let why = match how {
            Closed::Left => "the master closed it".to_owned(),
            Closed::Lost(why) | Closed::Ours(why) => why,
        };
        *self.why.lock() = Some(why.clone());
        self.registered.lock().take();
        self.exchange.over(&why);
        self.over.cancel();
    }
}
