//! The parts of the host that read what strangers send, taken as files: they need nothing else of it, and a build with instrumentation stays short.

#[path = "../../host/src/failure.rs"]
pub mod failure;
#[path = "../../host/src/trace.rs"]
pub mod trace;
#[path = "../../host/src/wire/mod.rs"]
pub mod wire;

pub mod mqtt;
