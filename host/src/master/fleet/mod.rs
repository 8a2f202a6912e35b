//! The fleet of a master: how it learns what happens, and how it acts.
//!
//! | file | what is there |
//! |---|---|
//! | `store` | where the fleet is kept: the master's database |
//! | `follow` | what happens to the monitors' connections, as inputs of the fleet |
//! | `process` | what happens to the processes that the starter has begun, as inputs of the fleet |
//! | `drive` | servers that are not as they are wanted, while no job owns them |
//! | `actuator` | how a job acts on a server: through its monitor, or on the process of the starter's |
//! | `apply` | the files of the configuration, taken over by a master that runs |
//! | `control` | what modules see: the interface `starter` |

mod actuator;
mod apply;
mod control;
mod drive;
mod follow;
mod process;
mod store;

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Members;
use super::starter::ServerStarter;
use crate::fleet::job::{Jobs, Kind, Limits, Request};
use crate::fleet::{Due, Fleet, ServerRecord, Wanted};
use crate::journal::Journal;
use crate::plugin::capability::Process;
use crate::util::lasting;

pub use process::feed;
pub use store::Kept;

pub(super) use apply::{APPLY, Applier};
pub use apply::{Files, SettingsOf};
pub(super) use control::Control;

/// What the fleet of a master is made from.
pub struct Parts {
    /// The servers, as they were kept.
    pub fleet: Arc<Fleet>,
    /// What starts them.
    pub starter: Arc<ServerStarter>,
}

/// The fleet of a running master, and its jobs.
pub(super) struct MasterFleet {
    pub fleet: Arc<Fleet>,
    pub jobs: Jobs,
    pub starter: Arc<ServerStarter>,
    /// Set when the master is there, if it has files.
    pub applier: OnceLock<Applier>,
    members: Arc<Members>,
    journal: Journal,
    own: String,
    /// Held while servers are added or the files are applied, until a job owns the servers.
    adding: tokio::sync::Mutex<()>,
}

impl MasterFleet {
    /// `own` is the master's id, and `process` its own process, which ends when a job ends the master.
    pub fn new(parts: Parts, members: Arc<Members>, journal: Journal, own: &str, process: Arc<dyn Process>) -> Self {
        let Parts { fleet, starter } = parts;
        let actuator = actuator::MasterActuator {
            fleet: fleet.clone(),
            starter: starter.clone(),
            members: members.clone(),
            own: own.to_owned(),
            process,
        };
        let jobs = Jobs::load(fleet.clone(), Arc::new(actuator), journal.clone(), own, Limits::default());
        let (applier, adding, own) = (OnceLock::new(), tokio::sync::Mutex::default(), own.to_owned());
        MasterFleet { fleet, jobs, starter, applier, members, journal, own, adding }
    }

    /// Follows what happens, until the master ends.
    pub fn follow(&self, tasks: &TaskTracker, stop: &CancellationToken) {
        let (fleet, members) = (self.fleet.clone(), self.members.clone());
        let (starter, own) = (self.starter.clone(), self.own.clone());
        let follower = move || follow::Follower::new(fleet.clone(), members.clone(), starter.clone(), own.clone());
        // The first one is made here, because what happens from now on must not be missed.
        let first = parking_lot::Mutex::new(Some(follower()));
        let following =
            lasting::lasting("what follows the members", move || first.lock().take().unwrap_or_else(&follower).run());
        tasks.spawn(stop.clone().run_until_cancelled_owned(following));
    }

    /// Starts all servers that are to be started here, as one job, and keeps all servers as they are wanted from then on.
    pub async fn start(&self, tasks: &TaskTracker, stop: &CancellationToken) {
        for record in self.fleet.servers().into_iter().filter(|record| record.wanted == Wanted::Down) {
            let ServerRecord { id, wanted_by, .. } = record;
            tracing::info!(server = %id, by = %wanted_by, "stays down, because it was stopped: `pomelo restart {id}` starts it");
        }
        let pending = self.fleet.due().into_iter().filter(|(_, due)| *due == Due::Start).map(|(id, _)| id);
        let pending: Vec<String> = pending.collect();
        if !pending.is_empty()
            && let Err(failure) = self.jobs.submit(Request::new(Kind::Start, pending, "the start of the master")).await
        {
            tracing::error!(%failure, "the servers are not started");
        }
        let jobs = self.jobs.clone();
        let driving = lasting::lasting("what keeps servers as they are wanted", move || drive::drive(jobs.clone()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(driving));
    }
}
