//! A host without a program: the master, a monitor that stands alone, and a program that has its monitor in itself. None of them drains, because
//! they are one process with the server and its modules.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use serde_json::Value;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio_util::sync::CancellationToken;

use super::logs::Logs;
use super::{LOGS, machine};
use crate::failure::{Failure, code};
use crate::monitor::application::{Nobody, Reach, Served, View, ask_to_end};
use crate::plugin::capability::{Application, Process, Stats};
use crate::supervise::{Figures, usage};

/// This very process, as modules see it: its figures, and its end when they ask for it.
pub struct OwnProcess {
    id: String,
    server_type: String,
    figures: Figures,
    started: SystemTime,
    logs: Logs,
    /// The application in this process, and how long it may take to end.
    asked: Option<(Arc<dyn Reach>, Duration)>,
    shutdown: CancellationToken,
}

impl OwnProcess {
    /// `id` and `server_type` are the server's; `shutdown` is cancelled when a module stops or kills this process.
    pub fn new(id: &str, server_type: &str, shutdown: CancellationToken) -> Self {
        OwnProcess {
            id: id.to_owned(),
            server_type: server_type.to_owned(),
            figures: Figures::default(),
            started: started(),
            logs: Logs(LOGS.into()),
            asked: None,
            shutdown,
        }
    }

    /// Asks the application behind `reach` to end before the host does.
    pub(in crate::monitor) fn asking(mut self, reach: Arc<dyn Reach>, deadline: Duration) -> Self {
        self.asked = Some((reach, deadline));
        self
    }

    /// The view of a host that serves no application: in memory, for its modules only.
    pub fn application(&self) -> Arc<dyn Application> {
        Arc::new(Served::new(&self.id, View::in_memory(&self.id), Arc::new(Nobody)))
    }
}

impl Process for OwnProcess {
    fn stats(&self) -> Result<Stats, Failure> {
        let uptime = self.started.elapsed().unwrap_or_default();
        Ok(self.figures.read(std::process::id(), uptime))
    }

    /// Answers when the application, if there is one, has ended or its time is up. The host ends when the calls under way are answered.
    fn stop(&self) -> BoxFuture<'_, Result<(), Failure>> {
        async move {
            let asked = self.asked.as_ref().and_then(|(reach, deadline)| ask_to_end(&**reach, *deadline));
            if let Some(asked) = asked
                && let Err(failure) = asked.await
            {
                tracing::warn!(server = self.id, %failure, "the application did not end as it was asked");
            }
            self.shutdown.cancel();
            Ok(())
        }
        .boxed()
    }

    /// Answers at once and does not kill, because a process that killed itself could not answer. The host ends when the calls under way are answered.
    fn kill(&self) -> BoxFuture<'_, Result<(), Failure>> {
        self.shutdown.cancel();
        ready(Ok(())).boxed()
    }

    fn restart(&self) -> BoxFuture<'_, Result<u32, Failure>> {
        let what = "this host runs no program of its own and cannot restart itself";
        ready(Err(Failure::new(code::NOT_AVAILABLE, what))).boxed()
    }

    fn system(&self) -> BoxFuture<'_, Result<Value, Failure>> {
        machine().boxed()
    }

    fn usage(&self) -> BoxFuture<'_, Result<Value, Failure>> {
        ready(usage(std::process::id(), &self.id, &self.server_type)).boxed()
    }

    fn logs(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        self.logs.names().boxed()
    }

    fn log_tail(&self, name: String, lines: usize) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        self.logs.tail(name, lines).boxed()
    }
}

/// When this process started, as the system says; now if the system does not say it.
fn started() -> SystemTime {
    let Ok(mut system) = System::new() else { return SystemTime::now() };
    let id = Pid::from_u32(std::process::id());
    let kind = ProcessRefreshKind::nothing().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), true, kind);
    system.process(id).map_or_else(SystemTime::now, |process| UNIX_EPOCH + Duration::from_secs(process.start_time()))
}
