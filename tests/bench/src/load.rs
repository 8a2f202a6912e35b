//! A client that has a number of requests under way at any time, over either wire.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use pomelo_host::transport::{Ack, Closed, Peer, Session, mqtt, socket_io};
use pomelo_host::wire::{Message, Topic, raw};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// The module that is asked. It answers from what it keeps.
const MODULE: &str = "nodeInfo";
/// How long a master may take to let a client in, or to answer one request.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which wire a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wire {
    /// pomelo-admin's.
    Pomelo,
    /// Socket.IO over a WebSocket.
    SocketIo,
}

impl Wire {
    pub fn name(self) -> &'static str {
        match self {
            Wire::Pomelo => "pomelo",
            Wire::SocketIo => "Socket.IO",
        }
    }
}

/// What was asked and answered.
pub struct Asked {
    /// The time from each request to its answer.
    pub times: Vec<Duration>,
    /// From the first request to the last answer.
    pub took: Duration,
}

/// A registered client.
pub struct Load {
    peer: Peer,
    answers: tokio::sync::Mutex<mpsc::UnboundedReceiver<Said>>,
}

enum Said {
    /// The registration was accepted.
    Registered,
    /// The request of that number was answered.
    Answer(u64),
    /// The request has failed, or the connection.
    Failed(String),
}

struct Listening(Mutex<mpsc::UnboundedSender<Said>>);

impl Listening {
    fn say(&self, said: Said) {
        // Nobody waits any more where the receiver has gone.
        let _ = self.0.lock().send(said);
    }
}

impl Session for Listening {
    fn frame(&self, topic: &str, payload: &RawValue, _: Option<Ack>) {
        match Topic::parse(topic) {
            Some(Topic::Register) => {
                let said: Value = serde_json::from_str(payload.get()).unwrap_or_default();
                let accepted = said["code"] == 1 || said["code"] == 200;
                self.say(if accepted { Said::Registered } else { Said::Failed(payload.get().to_owned()) });
            }
            Some(Topic::Client) => match Message::parse(payload) {
                Ok(Message::Response { id: Some(id), outcome: Ok(_) }) => self.say(Said::Answer(id)),
                _ => self.say(Said::Failed(payload.get().to_owned())),
            },
            _ => {}
        }
    }

    fn closed(&self, how: Closed) {
        self.say(Said::Failed(format!("the connection has ended: {how:?}")));
    }
}

impl Load {
    /// A client of level 1.
    pub async fn connect(master: SocketAddr, wire: Wire) -> Result<Load> {
        let (sender, mut answers) = mpsc::unbounded_channel();
        let (options, address) = (socket_io::client::Options::default(), master.to_string());
        let session = Listening(Mutex::new(sender));
        let peer = match wire {
            Wire::SocketIo => socket_io::client::connect(&address, options, |_| Arc::new(session)).await?,
            Wire::Pomelo => mqtt::client::connect(&address, (&options).into(), |_| Arc::new(session)).await?,
        };
        let id = format!("load-{}", std::process::id());
        let register = json!({"type": "client", "id": id, "username": "admin", "password": "admin", "md5": false});
        peer.send(Topic::Register, raw(&register))?;
        match tokio::time::timeout(PATIENCE, answers.recv()).await? {
            Some(Said::Registered) => Ok(Load { peer, answers: tokio::sync::Mutex::new(answers) }),
            Some(Said::Failed(why)) => anyhow::bail!("the master does not let the client in: {why}"),
            _ => anyhow::bail!("the master answers what was not asked"),
        }
    }

    /// Waits until the module answers: a master listens before all of its modules are in force.
    pub async fn is_answered(&self) -> Result<()> {
        let began = Instant::now();
        while let Err(why) = self.ask(1, Duration::ZERO).await {
            ensure!(began.elapsed() < PATIENCE, "{why}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Has so many requests under way for that time.
    pub async fn ask(&self, at_once: usize, time: Duration) -> Result<Asked> {
        let mut answers = self.answers.lock().await;
        let began = Instant::now();
        // By number; a number is used again when its request was answered. pomelo-admin takes 0 for none.
        let mut sent = vec![began; at_once];
        let mut times = Vec::new();
        let ask = |number: usize| {
            let message = json!({"reqId": number + 1, "moduleId": MODULE, "body": {}});
            self.peer.send(Topic::Client, raw(&message))
        };
        for number in 0..at_once {
            ask(number)?;
        }
        let mut under_way = at_once;
        while under_way > 0 {
            match tokio::time::timeout(PATIENCE, answers.recv()).await? {
                Some(Said::Answer(number)) => {
                    let number = usize::try_from(number)?.wrapping_sub(1);
                    ensure!(number < at_once, "an answer to a request that was not asked");
                    let now = Instant::now();
                    times.push(now.duration_since(sent[number]));
                    if now.duration_since(began) < time {
                        sent[number] = now;
                        ask(number)?;
                    } else {
                        under_way -= 1;
                    }
                }
                Some(Said::Failed(why)) => anyhow::bail!("{why}"),
                _ => anyhow::bail!("the master answers what was not asked"),
            }
        }
        Ok(Asked { times, took: began.elapsed() })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.peer.close("it has asked enough");
    }
}
