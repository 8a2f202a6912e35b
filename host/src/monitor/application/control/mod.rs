//! The control socket: how a program in a process of its own talks with its host. `docs/control-socket.md` describes it for those who write
//! such programs.
//!
//! A Unix domain socket, JSON lines both ways. The program connects, says `hello` with the names of what it offers, and from then on either side
//! calls the other. Only the user that runs the host can open the socket (mode 0600). The environment variable [`VARIABLE`] has its path.
//!
//! | file | what is there |
//! |---|---|
//! | `message` | what a line says |
//! | `outbox` | lines out, through a bounded outbox |
//! | `socket` | the socket's file |
//! | `server` | the host's side: listens, and passes calls to the program |
//! | `program` | what the host knows of the program: which connection is its own, and what it has said of itself |
//! | `connection` | the host's side of one connection, line by line |
//! | `session` | a connection that has said `hello`, and calls to it |
//! | `client` | the program's side, for programs in Rust |

mod client;
mod connection;
mod message;
mod outbox;
mod program;
mod server;
mod session;
mod socket;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use client::Client;
pub(in crate::monitor) use server::Control;

/// The environment variable with the socket's path.
pub const VARIABLE: &str = "POMELO_CONTROL";

/// The longest line that is read, bytes. A longer one is refused, and the connection goes on.
const MAX_LINE: usize = 1 << 20;
/// Lines that wait to be written.
const OUTBOX_LINES: usize = 1024;
/// The bytes of all waiting lines. A program that does not read is disconnected, because no change of its view may be skipped.
const OUTBOX_BYTES: usize = 16 << 20;
/// The most connections at a time. The one that said `hello` last is the program's.
const MAX_CONNECTIONS: usize = 8;
/// A connection that has not said `hello` within this time is closed.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);
/// The most functions that a program may offer.
const MAX_OFFERS: usize = 256;
/// The longest name of a function, bytes.
const MAX_NAME: usize = 256;
/// The most members that a program may add to its server's `info`, and their most bytes together.
const MAX_INFO: (usize, usize) = (64, 16 * 1024);
