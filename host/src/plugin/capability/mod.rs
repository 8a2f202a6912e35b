//! What a module may ask of its host: one file a capability, each with the trait that the host implements and the functions that the linker gets.
//!
//! The runtime knows nothing of sockets, processes or configuration: it is given [`Services`] and asks them. A service that is absent
//! answers every call with the failure `not-available`.

mod agent;
mod application;
mod cluster;
mod process;
mod profiler;
mod scripts;
mod starter;
mod store;
mod uplink;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::failure::{Failure, code};
use crate::journal::Journal;

pub use application::Application;
pub use cluster::{Answers, Cluster, Targets};
pub use process::{LastExit, Process, Stats};
pub use profiler::Profiler;
pub use scripts::{Script, ScriptRun, Scripts};
pub use starter::{Outcomes, Starter};
pub use uplink::Uplink;

/// What a host offers its modules beside `agent` and `store`.
#[derive(Clone, Default)]
pub struct Services {
    /// The master's way to its monitors.
    pub cluster: Option<Arc<dyn Cluster>>,
    /// The monitor's way to its master.
    pub uplink: Option<Arc<dyn Uplink>>,
    /// The served application's view of the cluster.
    pub application: Option<Arc<dyn Application>>,
    /// The process that this host stands beside.
    pub process: Option<Arc<dyn Process>>,
    /// The starter of servers.
    pub starter: Option<Arc<dyn Starter>>,
    /// Programs that are run once.
    pub scripts: Option<Arc<dyn Scripts>>,
    /// Where time goes.
    pub profiler: Option<Arc<dyn Profiler>>,
    /// Where the host writes down what happens to its modules; no module can reach it.
    pub journal: Journal,
}

/// The failure of a function that this host does not offer.
fn not_available(interface: &str, why: &str) -> Failure {
    Failure::new(code::NOT_AVAILABLE, format!("`{interface}` is not available here: {why}"))
}

/// As [`not_available`], as the answer of a trait's function.
fn unavailable<T: Send + 'static>(interface: &str, why: &str) -> BoxFuture<'static, Result<T, Failure>> {
    Box::pin(futures_util::future::ready(Err(not_available(interface, why))))
}
