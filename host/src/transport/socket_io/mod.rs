//! Socket.IO, protocol 5 over Engine.IO 4: an event's name is the topic, its one argument the payload.
//!
//! `server` rests on socketioxide, and adds what that does not have: order, limits, acknowledgements through the outbox, and a way to end a peer for
//! certain. [`client`] is our own, on the same codecs. Neither knows what a topic means.
//!
//! | file | what is there |
//! |---|---|
//! | `server` | the Socket.IO layer of the master's port, and its handlers |
//! | `engine_session` | one Engine.IO session of the server, with the receiving side of its peer |
//! | `writer` | the sending side of a server's peer, and its end |
//! | `sessions`, `connection` | which TCP connections carry which session |
//! | `unfinished` | whether a peer holds a message that it does not complete |
//! | `client`, `handshake` | our client, and how it connects |
//! | `packet` | the text of events and packets |

pub mod client;
pub(super) mod connection;
pub(super) mod engine_session;
mod handshake;
mod packet;
pub(super) mod server;
pub(super) mod sessions;
mod unfinished;
mod writer;
