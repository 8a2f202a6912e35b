//! The application server's program under a monitor.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::watch;

use super::view::{View, application_by_view};
use crate::config::{Config, DEMO_TOKEN_VARIABLE, Launch, Server, file_name};
use crate::failure::Failure;
use crate::plugin::capability::{Process, Stats};
use crate::supervise::{Figures, Guard, Input, Output, Policy, Spec, Status, Supervisor};

/// Name of the view's file.
const VIEW_FILE: &str = "cluster.json";

/// Tokens are the monitor's, and passwords the operator's: a program has no use for them, unless its own `env` says so.
const SECRETS: [&str; 3] = [DEMO_TOKEN_VARIABLE, "POMELO_TOKEN", "POMELO_PASSWORD"];

/// What a monitor runs.
#[derive(Clone, Debug)]
pub struct Program {
    /// The server's id: `POMELO_SERVER_ID`.
    pub id: String,
    /// The server's type: `POMELO_SERVER_TYPE`.
    pub server_type: String,
    /// The master's `host:port`: `POMELO_MASTER`.
    pub master: String,
    /// Command, directory and environment.
    pub launch: Launch,
    /// When it is brought back.
    pub policy: Policy,
    /// The CPUs that it runs on, by number; empty for all.
    pub cpus: Vec<usize>,
    /// Where the view's file is kept; absent: in a directory of its own that goes with the [`Supervised`].
    pub dir: Option<PathBuf>,
}

/// Why a program cannot be supervised.
#[derive(Debug, thiserror::Error)]
#[error("the directory {} for the program's view of the cluster cannot be used: {source}", dir.display())]
pub struct StartError {
    dir: PathBuf,
    source: io::Error,
}

impl Program {
    /// The program of a configured server; absent where the configuration gives it no `command`.
    pub fn of(config: &Config, server: &Server) -> Option<Self> {
        let settings = &config.settings.supervise;
        Some(Program {
            id: server.id.clone(),
            server_type: server.server_type.clone(),
            master: config.master.address(),
            launch: server.launch.clone()?,
            policy: settings.policy(server.restart),
            cpus: server.cpus.clone(),
            dir: config.data_dir(&server.id),
        })
    }
}

/// A program under a monitor: what `application` and `process` act on. Dropping it kills the program and all that it started.
///
/// The program finds in its environment `POMELO_SERVER_ID`, `POMELO_SERVER_TYPE`, `POMELO_MASTER`, and in `POMELO_CLUSTER` the path of a JSON
/// file with its view of the cluster: `{"self": id, "servers": {id: info}, "startOver": bool}`.
pub struct Supervised {
    view: View,
    file: PathBuf,
    figures: Figures,
    supervisor: Supervisor,
    /// Removed when this is dropped.
    _dir: Option<TempDir>,
}

impl Supervised {
    /// Writes the view's file, still without servers, and starts the program in the background; [`Supervised::status`] tells how that goes.
    ///
    /// # Errors
    /// Where the file cannot be written. A program that cannot be started is no error here: it is tried again.
    pub async fn start(program: Program, output: Output) -> Result<Self, StartError> {
        let Program { id, server_type, master, launch, policy, cpus, dir } = program;
        let in_dir = |dir: &Path| {
            let dir = dir.to_owned();
            move |source| StartError { dir, source }
        };
        let (dir, own) = match dir {
            Some(dir) => {
                std::fs::create_dir_all(&dir).map_err(in_dir(&dir))?;
                // The program may run in another directory than this host.
                (std::path::absolute(&dir).map_err(in_dir(&dir))?, None)
            }
            None => {
                let prefix = format!("pomelo-{}-", file_name(&id));
                let own = tempfile::Builder::new().prefix(&prefix).tempdir().map_err(in_dir(&std::env::temp_dir()))?;
                (own.path().to_owned(), Some(own))
            }
        };
        let file = dir.join(VIEW_FILE);
        let view = View::in_file(&id, file.clone()).await.map_err(in_dir(&dir))?;
        let mut env: BTreeMap<String, String> = launch.env;
        env.insert("POMELO_SERVER_ID".into(), id.clone());
        env.insert("POMELO_SERVER_TYPE".into(), server_type);
        env.insert("POMELO_MASTER".into(), master);
        // Paths that are not Unicode cannot stand here; temporary and data directories that are such are not worth another type.
        env.insert("POMELO_CLUSTER".into(), file.to_string_lossy().into_owned());
        let spec = Spec {
            id,
            command: launch.command,
            cwd: launch.cwd,
            env,
            env_remove: SECRETS.map(str::to_owned).into(),
            policy,
            final_code: None,
            output,
            input: Input::Empty,
            cpus,
        };
        let supervisor = Supervisor::launch(spec, Arc::new(Guard::new()));
        Ok(Supervised { view, file, figures: Figures::default(), supervisor, _dir: own })
    }

    /// How the program is; changes are told. [`Phase::Running`](crate::supervise::Phase::Running) is when to register the server, every
    /// other phase when to deregister it, and another process id at once after one is a restart.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.supervisor.status()
    }

    /// The file that the program reads its view from.
    pub fn view_file(&self) -> &Path {
        &self.file
    }
}

impl Process for Supervised {
    fn stats(&self) -> Result<Stats, Failure> {
        let status = self.supervisor.status().borrow().clone();
        let uptime = status.since.map(|since| since.elapsed()).unwrap_or_default();
        let stats = match status.pid() {
            Some(pid) => self.figures.read(pid, uptime),
            None => {
                Stats { pid: 0, rss: 0, heap_total: 0, heap_used: 0, uptime: 0.0, cpu: 0.0, restarts: 0, state: "" }
            }
        };
        Ok(Stats { restarts: status.restarts, state: status.phase.as_str(), ..stats })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), Failure>> {
        self.supervisor.stop().boxed()
    }

    fn kill(&self) -> BoxFuture<'_, Result<(), Failure>> {
        self.supervisor.kill().boxed()
    }

    fn restart(&self) -> BoxFuture<'_, Result<u32, Failure>> {
        self.supervisor.restart().boxed()
    }
}

application_by_view!(Supervised);
