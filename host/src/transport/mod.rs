//! Connections, which carry frames between a master and its peers.
//!
//! A transport hands frames up in the order in which they came, and takes the frames to be sent from a bounded outbox. It never looks into a payload.
//! Only [`Peer::transport`] tells the layers above which transport a peer uses.

mod dial;
mod flow;
pub mod listener;
pub mod memory;
pub mod mqtt;
mod options;
mod payload;
mod peer;
mod places;
mod room;
mod socket;
pub mod socket_io;

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::wire::Topic;

pub use listener::Listener;
pub use payload::Payload;
pub use peer::{Ack, Held, Outbox, Outgoing, Peer, SendError, Transport, Waiting};
pub use room::{NoRoom, Room};

/// The side of a connection that receives frames.
pub trait Session: Send + Sync + 'static {
    /// A frame came. Frames of one connection come one after another. The function must not block, because the connection reads nothing meanwhile.
    /// `topic` may be any text that a peer sent. `ack` is there if the peer asked for an acknowledgement.
    fn frame(&self, topic: &str, payload: &RawValue, ack: Option<Ack>);

    /// The connection is over. Called exactly once, as the last call.
    fn closed(&self, how: Closed);
}

/// On what a monitor dials a master of its own kind, which takes both on its port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// Socket.IO over a WebSocket.
    #[default]
    SocketIo,
    /// pomelo-admin's: MQTT's framing. It costs a master a quarter of the memory for each monitor.
    Pomelo,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The peer said that it leaves (Socket.IO disconnect packet, MQTT DISCONNECT).
    Left,
    /// The connection broke or fell silent, and how.
    Lost(String),
    /// This side closed it, and why.
    Ours(String),
}

/// Makes the session of a new connection.
pub trait Accept: Send + Sync + 'static {
    /// A peer has connected.
    fn accept(&self, peer: Peer) -> Arc<dyn Session>;
}

/// A frame: its topic, and its JSON text.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its topic.
    pub topic: Topic,
    /// JSON text.
    pub payload: Payload,
    /// Whether pomelo-admin's wire carries the text as a JSON string. Other transports carry the text as it is. Whoever makes the
    /// payload decides it.
    pub quoted: bool,
}
