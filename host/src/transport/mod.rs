//! Connections: what carries frames between a master and its peers.
//!
//! A transport hands frames up in the order in which they came and takes frames to be sent through a bounded outbox. It never looks into a
//! payload, and nothing above it can tell which transport a peer uses but by [`Peer::transport`].

pub mod listener;
pub mod memory;
pub mod mqtt;
mod options;
mod peer;
pub mod socket_io;

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::wire::Topic;

pub use listener::Listener;
pub use peer::{Ack, Outbox, Outgoing, Peer, SendError, Transport};

/// One side of a connection: whoever is told what comes in.
pub trait Session: Send + Sync + 'static {
    /// A frame came. Frames of one connection come one after another; the function must not block, for the connection reads nothing
    /// meanwhile. `topic` may be any text a peer sent. Where the peer asked for an acknowledgement, `ack` is the way to give it.
    fn frame(&self, topic: &str, payload: &RawValue, ack: Option<Ack>);

    /// The connection is over; nothing comes after this. Called exactly once.
    fn closed(&self, how: Closed);
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The peer said that it leaves (Socket.IO disconnect packet, MQTT DISCONNECT).
    Left,
    /// The connection broke or fell silent.
    Lost(String),
    /// This side closed it, and why.
    Ours(String),
}

/// Makes the session of a new connection.
pub trait Accept: Send + Sync + 'static {
    /// A peer has connected.
    fn accept(&self, peer: Peer) -> Arc<dyn Session>;
}

/// A frame: what it is about, and its JSON text. Frames to many peers share the text.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What it is about.
    pub topic: Topic,
    /// JSON text.
    pub payload: Arc<RawValue>,
    /// Whether pomelo-admin's wire carries the text once more as a JSON string. Whoever makes the payload says so; other transports carry the
    /// text as it is.
    pub quoted: bool,
}
