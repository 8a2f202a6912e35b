//! What a module may ask of its host. Each capability has a file, with the trait that the host implements and the functions that the module
//! calls.
//!
//! The runtime knows nothing of sockets, processes or configuration. It is given [`Services`] and asks them. Where a service is absent, its
//! functions fail with `not-available`.
//!
//! The functions are implemented on the state of an instance, which has the services, which have the traits: the files here and
//! `instance_state` therefore import each other. Only separate files for the trait and the functions of each capability would undo that circle.

mod agent;
mod application;
mod cluster;
mod kept_output;
mod process;
mod profiler;
mod scripts;
mod starter;
mod store;
mod unavailable;
mod uplink;

use std::sync::Arc;

use crate::journal::Journal;

pub use application::Application;
pub use cluster::{Answers, Cluster, Targets};
pub use kept_output::KeptOutput;
pub use process::{LastExit, Process, Stats};
pub use profiler::Profiler;
pub use scripts::{Script, ScriptRun, Scripts};
pub use starter::Starter;
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
    /// What programs have written.
    pub kept_output: Option<Arc<dyn KeptOutput>>,
    /// The fleet, and the jobs that act on it.
    pub starter: Option<Arc<dyn Starter>>,
    /// Programs that are run once.
    pub scripts: Option<Arc<dyn Scripts>>,
    /// Profiles of the process and of modules.
    pub profiler: Option<Arc<dyn Profiler>>,
    /// Where the host writes down what happens to its modules; no module can reach it.
    pub journal: Journal,
}
