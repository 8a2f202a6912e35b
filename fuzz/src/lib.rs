//! The parts of the host that read what strangers send. They are included as files, because they need nothing else of the host and a build with
//! instrumentation stays short so.

#[path = "../../host/src/failure.rs"]
pub mod failure;
#[path = "../../host/src/trace.rs"]
pub mod trace;
#[path = "../../host/src/wire/mod.rs"]
pub mod wire;

pub mod envelope;
pub mod frame;
pub mod mqtt;
pub mod util;

/// Targets that need the whole host.
#[cfg(feature = "host")]
pub mod targets;
