//! pomelo 2.x with this master: npm's real `pomelo`, `pomelo-admin` and `pomelo-cli`, unmodified, in real processes.

mod app;
mod mixed;
mod original;
mod replay;
mod servers;
#[path = "../../support/processes.rs"]
#[expect(dead_code, reason = "the clusters of our own monitors need more of it")]
mod support;
mod tools;
mod watching;
mod weaknesses;
mod wire;
