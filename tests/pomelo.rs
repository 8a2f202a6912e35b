//! pomelo 2.x with this master: npm's real `pomelo`, `pomelo-admin` and `pomelo-cli`, unmodified, in real processes.

#[path = "pomelo/app.rs"]
mod app;
#[path = "pomelo/mixed.rs"]
mod mixed;
#[path = "pomelo/original.rs"]
mod original;
#[path = "pomelo/replay.rs"]
mod replay;
#[path = "pomelo/servers.rs"]
mod servers;
#[path = "cluster/support.rs"]
#[expect(dead_code, reason = "the clusters of our own monitors need more of it")]
mod support;
#[path = "pomelo/tools.rs"]
mod tools;
#[path = "pomelo/watching.rs"]
mod watching;
#[path = "pomelo/weaknesses.rs"]
mod weaknesses;
#[path = "pomelo/wire.rs"]
mod wire;
