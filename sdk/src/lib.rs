//! Write admin modules for the pomelo plugin host.
//!
//! A module is a struct and an `impl` with the callbacks it has. This one keeps the time of every server. Every five seconds the master
//! asks the monitors. It keeps what they answer, and gives that to clients.
//!
//! ```
//! use pomelo_sdk::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! struct TimeReport;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Report {
//!     server: String,
//!     time: u64,
//! }
//!
//! #[module(id = "timeReport", pull, interval = 5, level = 2)]
//! impl TimeReport {
//!     fn master_handler(agent: &Agent, msg: Option<Report>) -> Result {
//!         match msg {
//!             // The timer fired: ask everyone.
//!             None => agent.cluster().notify(&["*"], "time"),
//!             Some(report) => agent.store().set(&report.server, &report.time),
//!         }
//!     }
//!
//!     fn monitor_handler(agent: &Agent) -> Result {
//!         let time = u64::try_from(agent.now().as_millis())?;
//!         agent.uplink().notify(&Report { server: agent.server_id(), time })
//!     }
//!
//!     fn client_handler(agent: &Agent) -> Result<Vec<(String, u64)>> {
//!         log::info!("asked by {:?}", agent.caller().user);
//!         agent.store().entries("")
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Its `Cargo.toml` has `crate-type = ["cdylib"]`; `cargo build --target wasm32-wasip2 --release` makes the component.
//!
//! # Callbacks
//! All are optional, and one is enough. See [`module`] for what the attribute takes.
//!
//! | callback | called | message |
//! |---|---|---|
//! | `master_handler` | on the master, for a monitor's message and by the timer of a `pull` module | absent for the timer |
//! | `monitor_handler` | on a monitor, for the master's message and by the timer of a `push` module | absent for the timer |
//! | `client_handler` | on the master, for a client's message | |
//! | `start` | once per host and version | none |
//! | `server_events` | on the master, when servers come and go | `{"since", "rev", "epoch", "events"}` |
//!
//! A callback takes up to three arguments, in this order: `&self` or `&mut self`, an [`&Agent`](Agent), and a message. Each can be left out.
//! A message is any type that serde can read, or an `Option` of one where the message may be absent. The callback returns a [`Result`] of anything that serde can write; `start` and
//! `server_events` return a `Result` of `()`. A message that is not of the callback's type is answered with the failure `bad-message`.
//!
//! # State
//! The host runs several instances of a module at a time, and may drop any of them between two calls. Callbacks that take `&mut self` can
//! therefore use the struct's fields only as a cache of one instance (the struct has to be `Default`). What must be kept goes to
//! [`Agent::store`].
//!
//! # Permissions
//! A component imports what it uses, and the operator grants the imports: a module that never calls [`Agent::process`] needs no grant for it.
//!
//! # Logs
//! The macros of the `log` crate write to the host's log; the prelude has the crate in scope. With the feature `tracing`, the
//! macros of `tracing` write there as well.

#![deny(missing_docs)]

#[doc(hidden)]
#[path = "glue.rs"]
pub mod __private;
mod agent;
mod application;
mod bindings;
mod cluster;
mod failure;
mod json;
mod logger;
mod process;
mod reports;
mod scripts;
mod store;
mod uplink;

pub use agent::{Agent, Caller, CallerRole, Role};
pub use application::Application;
pub use cluster::{Cluster, Revision, Servers};
pub use failure::{Failure, Result};
pub use pomelo_sdk_macros::module;
pub use process::{KeptOutput, Process, Starter};
pub use reports::{Arrivals, Reports};
pub use scripts::{Profiler, Scripts};
pub use store::Store;
pub use uplink::Uplink;

/// What a module needs in scope.
pub mod prelude {
    pub use crate::{Agent, Failure, Result, module};
    pub use log;
    pub use serde_json::Value;
    pub use std::time::Duration;
}
