//! Socket.IO, protocol 5 over Engine.IO 4: an event's name is the topic, its one argument the payload.
//!
//! `server` rests on socketioxide and adds what it leaves open: order, limits, acknowledgements through the outbox, and a way to end a
//! peer for certain. [`client`] is our own, on the same codecs. Neither knows what a topic means.

pub mod client;
pub(super) mod connection;
pub(super) mod engine_session;
mod handshake;
mod packet;
pub(super) mod server;
pub(super) mod sessions;
mod writer;
