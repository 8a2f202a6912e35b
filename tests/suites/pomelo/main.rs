//! pomelo 2.x with this master: npm's real `pomelo`, `pomelo-admin` and `pomelo-cli`, unmodified, in real processes.

mod app;
mod crons;
mod mixed;
mod original;
mod replay;
mod servers;
#[path = "../../support/processes/mod.rs"]
mod support;
#[path = "../../support/tcp_table.rs"]
#[expect(dead_code, reason = "whether a connection waits to be accepted concerns another suite")]
mod tcp_table;
mod tools;
mod watching;
mod weaknesses;
mod wire;
