//! A host without a program: the master, and a monitor that stands alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio_util::sync::CancellationToken;

use super::view::{View, application_by_view};
use crate::failure::{Failure, code};
use crate::plugin::capability::{Process, Stats};
use crate::supervise::Figures;

/// This very process as the one that modules see: its figures, and an end that is asked for. The view of the cluster is in memory only.
pub struct OwnProcess {
    view: View,
    figures: Figures,
    started: SystemTime,
    shutdown: CancellationToken,
}

impl OwnProcess {
    /// `id` is the server's id; `shutdown` is cancelled when a module stops or kills this process.
    pub fn new(id: &str, shutdown: CancellationToken) -> Self {
        OwnProcess { view: View::in_memory(id), figures: Figures::default(), started: started(), shutdown }
    }
}

impl Process for OwnProcess {
    fn stats(&self) -> Result<Stats, Failure> {
        let uptime = self.started.elapsed().unwrap_or_default();
        Ok(self.figures.read(std::process::id(), uptime))
    }

    /// Answers at once: the host ends when the calls under way are answered.
    fn stop(&self) -> BoxFuture<'_, Result<(), Failure>> {
        self.shutdown.cancel();
        ready(Ok(())).boxed()
    }

    /// As [`OwnProcess::stop`]: a process that killed itself could not answer.
    fn kill(&self) -> BoxFuture<'_, Result<(), Failure>> {
        self.stop()
    }

    fn restart(&self) -> BoxFuture<'_, Result<u32, Failure>> {
        let what = "this host runs no program of its own and cannot restart itself";
        ready(Err(Failure::new(code::NOT_AVAILABLE, what))).boxed()
    }
}

application_by_view!(OwnProcess);

/// When this process started, by the system's account; now where that is not known.
fn started() -> SystemTime {
    let Ok(mut system) = System::new() else { return SystemTime::now() };
    let id = Pid::from_u32(std::process::id());
    let kind = ProcessRefreshKind::nothing().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), true, kind);
    system.process(id).map_or_else(SystemTime::now, |process| UNIX_EPOCH + Duration::from_secs(process.start_time()))
}
