//! The application server's program under a monitor.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::sync::{Notify, watch};

use super::contact::ByControl;
use super::drain::{Draining, Drains};
use super::health::Checks;
use super::logs::Logs;
use super::{LOGS, Verdict, health, machine};
use crate::config::{Config, DEMO_TOKEN_VARIABLE, Health, Launch, Ready, Server, file_name};
use crate::failure::{Failure, code};
use crate::journal::{Event, Journal, kind};
use crate::monitor::application::{Served, View, control};
use crate::plugin::capability::{Application, KeptOutput, LastExit, Process, Stats};
use crate::supervise::kept_output::{self, Query};
use crate::supervise::{
    Exit, Figures, Guard, Input, LineSink, Output, Phase, Policy, Ring, Spec, Starts, Status, Supervisor, recorder,
    usage,
};
use crate::util::private;
use crate::wire::{Info, PhaseName};

/// Name of the view's file.
const VIEW_FILE: &str = "cluster.json";

/// Variables with secrets of the monitor and the operator, which a program does not inherit. The program's own `env` may still set them.
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
    /// When it is brought back, and how it is ended.
    pub policy: Policy,
    /// The CPUs that it runs on, by number; empty for all.
    pub cpus: Vec<usize>,
    /// What says that it is ready.
    pub ready: Ready,
    /// `host:port` that it listens on, for [`Ready::Port`].
    pub address: Option<String>,
    /// A program that is not ready after this time is ended. Not used with [`Ready::Delay`].
    pub ready_timeout: Duration,
    /// How it is checked while it runs; absent if it is not.
    pub health: Option<Health>,
    /// Lines that are kept of what it writes.
    pub output_lines: usize,
    /// How much of what it writes is kept in files of `dir`.
    pub kept: kept_output::Options,
    /// Its log directory, `logs` by default. A relative path begins at the directory in which the program runs.
    pub logs: Option<PathBuf>,
    /// The configured crons.
    pub crons: Vec<Map<String, Value>>,
    /// Whether processes that an earlier run left behind are killed before each start.
    pub force: bool,
    /// Where the view's file and the control socket are kept. If absent, they are in a temporary directory that is removed with the [`Supervised`].
    pub dir: Option<PathBuf>,
    /// Where its ends and starts are written down.
    pub journal: Journal,
    /// The turns that it is started by.
    pub starts: Starts,
}

/// Why a program cannot be supervised.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file of its view or its control socket cannot be made.
    #[error("the directory {} for the program's view of the cluster and its control socket cannot be used: {why}", dir.display())]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// One of its crons is refused.
    #[error("{0}")]
    Cron(Failure),
}

impl Program {
    /// The program of a configured server; absent if the configuration gives the server no `command`.
    pub fn of(config: &Config, server: &Server) -> Option<Self> {
        let settings = &config.settings.supervise;
        Some(Program {
            id: server.id.clone(),
            server_type: server.server_type.clone(),
            master: config.master.address(),
            launch: server.launch.clone()?,
            policy: Policy { stop_deadline: server.stop_deadline, ..settings.policy(server.restart) },
            cpus: server.cpus.clone(),
            ready: server.ready.unwrap_or(settings.ready),
            address: server.address(),
            ready_timeout: server.ready_timeout,
            health: server.health.clone(),
            output_lines: settings.output_lines,
            kept: config.settings.logs,
            logs: server.logs.clone(),
            crons: config.crons_of(server),
            force: server.force,
            dir: config.data_dir(&server.id),
            journal: Journal::default(),
            starts: Starts::per_second(settings.starts_per_s, config.starts_file()),
        })
    }
}

/// The variables by which processes that a server's program left behind are recognised.
pub fn leftovers(id: &str, master: &str) -> Vec<String> {
    vec![format!("POMELO_SERVER_ID={id}"), format!("POMELO_MASTER={master}")]
}

/// A program under a monitor: what `process` acts on, and the application in it. Dropping it kills the program and all that it started.
///
/// The program finds in its environment `POMELO_SERVER_ID`, `POMELO_SERVER_TYPE`, `POMELO_MASTER`; in `POMELO_CLUSTER` the path of a JSON
/// file with its view of the cluster, `{"self": id, "servers": {id: info}, "startOver": bool}`; and in `POMELO_CONTROL` the path of its control
/// socket ([`control`]).
pub struct Supervised {
    id: String,
    server_type: String,
    application: Arc<Served>,
    control: Arc<control::Control>,
    file: PathBuf,
    figures: Figures,
    ring: Arc<Ring>,
    /// Where its output is kept.
    dir: PathBuf,
    logs: Logs,
    drains: Drains,
    /// The checks of its health; absent where it is not checked.
    checks: Option<Checks>,
    supervisor: Supervisor,
    /// Told when the program is to be started.
    launch: Arc<Notify>,
    /// A temporary directory, removed when this is dropped.
    _dir: Option<TempDir>,
}

impl Supervised {
    /// Makes all that the program needs, but does not start it: [`Supervised::launch`] does. Its lines go to `output`, and the newest of them are kept.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn prepare(program: Program, output: LineSink) -> Result<Self, StartError> {
        let in_dir = |dir: &Path| {
            let dir = dir.to_owned();
            move |why| StartError::Dir { dir, why }
        };
        let (dir, own) = match &program.dir {
            Some(dir) => {
                private::directory(dir).map_err(in_dir(dir))?;
                // The program may run in another directory than this host.
                (std::path::absolute(dir).map_err(in_dir(dir))?, None)
            }
            None => {
                let prefix = format!("pomelo-{}-", file_name(&program.id));
                let own = tempfile::Builder::new().prefix(&prefix).tempdir().map_err(in_dir(&std::env::temp_dir()))?;
                (own.path().to_owned(), Some(own))
            }
        };
        let Program { id, server_type, launch, .. } = &program;
        let file = dir.join(VIEW_FILE);
        let view = View::in_file(id, file.clone(), program.journal.clone()).await.map_err(in_dir(&dir))?;
        let control = control::Control::listen(id, server_type, view.clone(), &dir, program.journal.clone())
            .map_err(in_dir(&dir))?;
        let control = Arc::new(control);
        let application = Arc::new(Served::new(id, view, control.clone()));
        application.add_crons(program.crons.clone()).await.map_err(StartError::Cron)?;
        let logs = launch.cwd.clone().unwrap_or_default().join(program.logs.as_deref().unwrap_or(Path::new(LOGS)));
        let ring = Arc::new(kept_lines(&program, &dir));
        let contact = ByControl {
            control: control.clone(),
            ready: program.ready,
            address: program.address.clone(),
            ready_timeout: program.ready_timeout,
        };
        let spec = spec(&program, &file, control.path(), Output::Kept(output, ring.clone()));
        let (cwd, env, env_remove) = (spec.cwd.clone(), spec.env.clone(), spec.env_remove.clone());
        let watcher = recorder(program.journal.clone(), program.id.clone(), "the program", false);
        let (guard, start) = (Arc::new(Guard::new()), Arc::new(Notify::new()));
        let supervisor = Supervisor::prepare(spec, guard, Some(Arc::new(contact)), watcher, start.clone());
        let drains = Drains::new(&program.id, control.clone(), supervisor.status());
        let checks = program.health.clone().map(|health| {
            let patient = health::Program {
                asked: health.check.clone().map(|check| health::Asked {
                    check,
                    reach: control.clone(),
                    cwd,
                    env,
                    env_remove,
                }),
                ring: ring.clone(),
                dir: dir.clone(),
                supervisor: supervisor.clone(),
            };
            Checks::begin(&program.id, health, patient, drains.state(), program.journal.clone())
        });
        let (status, verdict) = (supervisor.status(), checks.as_ref().map(Checks::verdict));
        let is_ready = move || {
            let status = status.borrow();
            let hidden = verdict.as_ref().is_some_and(|verdict| verdict.borrow().hides(status.pid()).is_some());
            matches!(status.phase, Phase::Running(_)) && !hidden
        };
        application.fire_only_while(is_ready, program.journal.clone());
        let Program { id, server_type, .. } = program;
        let (figures, logs) = (Figures::default(), Logs(logs));
        Ok(Supervised {
            id,
            server_type,
            application,
            control,
            file,
            figures,
            ring,
            dir,
            logs,
            drains,
            checks,
            supervisor,
            launch: start,
            _dir: own,
        })
    }

    /// Starts the program, unless it was stopped before. A program that cannot be started is tried again as its policy says. Does nothing the second time.
    pub fn launch(&self) {
        self.launch.notify_one();
    }

    /// How the program is; changes are told. The server is to be registered in [`Phase::Running`], unless it drains or is not well,
    /// and deregistered in every other phase. Another process id directly after one is a restart.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.supervisor.status()
    }

    /// The drain; changes are told.
    pub(super) fn drain_state(&self) -> watch::Receiver<Option<Draining>> {
        self.drains.state()
    }

    /// What the checks of its health have found; changes are told. Absent where it is not checked.
    pub fn health(&self) -> Option<watch::Receiver<Verdict>> {
        self.checks.as_ref().map(Checks::verdict)
    }

    /// What the program adds to its server's `info`; changes are told.
    pub fn told(&self) -> watch::Receiver<Info> {
        self.control.info()
    }

    /// The application in the program.
    pub fn application(&self) -> Arc<dyn Application> {
        self.application.clone()
    }

    /// Waits until what the program has written is in the file, at most for that time. Blocks the thread.
    pub(super) fn flush_output(&self, at_most: Duration) -> bool {
        self.ring.flush(at_most)
    }

    /// The file that the program reads its view from.
    pub fn view_file(&self) -> &Path {
        &self.file
    }
}

/// Keeps the program's lines in memory, and in files where these can be written.
fn kept_lines(program: &Program, dir: &Path) -> Ring {
    let Program { id, output_lines, kept, journal, .. } = program;
    match kept_output::OutputFile::open(dir, *kept, id, journal.clone()) {
        Ok(file) => Ring::kept_in(*output_lines, file),
        Err(error) => {
            // The program runs nevertheless, because it matters more than its words.
            let message = format!("the output of {id} is not kept: {error}");
            tracing::warn!(server = id, "{message}");
            journal.record(Event::new(kind::ALARM, message).server(id.clone()));
            Ring::new(*output_lines)
        }
    }
}

/// What is run, with its whole environment.
fn spec(program: &Program, view: &Path, control: &Path, output: Output) -> Spec {
    // `env` holds texts, so paths that are not Unicode are changed. Temporary and data directories with such paths are not worth another type.
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let mut env: BTreeMap<String, String> = program.launch.env.clone();
    env.insert("POMELO_SERVER_ID".into(), program.id.clone());
    env.insert("POMELO_SERVER_TYPE".into(), program.server_type.clone());
    env.insert("POMELO_MASTER".into(), program.master.clone());
    env.insert("POMELO_CLUSTER".into(), path(view));
    env.insert(control::VARIABLE.into(), path(control));
    Spec {
        id: program.id.clone(),
        command: program.launch.command.clone(),
        cwd: program.launch.cwd.clone(),
        env,
        env_remove: SECRETS.map(str::to_owned).into(),
        policy: program.policy.clone(),
        final_codes: Vec::new(),
        output,
        input: Input::Empty,
        cpus: program.cpus.clone(),
        starts: program.starts.clone(),
        leftovers: if program.force { leftovers(&program.id, &program.master) } else { Vec::new() },
    }
}

impl Process for Supervised {
    fn stats(&self) -> Result<Stats, Failure> {
        let status = self.supervisor.status().borrow().clone();
        let uptime = status.since.map(|since| since.elapsed()).unwrap_or_default();
        let stats = match status.pid() {
            Some(pid) => self.figures.read(pid, uptime),
            None => Stats {
                pid: 0,
                rss: 0,
                heap_total: 0,
                heap_used: 0,
                uptime: 0.0,
                cpu: 0.0,
                restarts: 0,
                state: "",
                last_exit: None,
            },
        };
        let drains = self.drains.drains(status.pid());
        let unwell = self.health().is_some_and(|verdict| verdict.borrow().hides(status.pid()).is_some());
        let state = match status.phase {
            Phase::Running(_) if drains => PhaseName::Draining.as_str(),
            Phase::Running(_) if unwell => PhaseName::Unready.as_str(),
            _ => status.as_str(),
        };
        let last_exit = status.last_exit.map(last_exit);
        Ok(Stats { restarts: status.restarts, state, last_exit, ..stats })
    }

    fn drain(&self, deadline: Duration) -> BoxFuture<'_, Result<(), Failure>> {
        self.drains.drain(deadline).boxed()
    }

    fn undrain(&self) -> BoxFuture<'_, Result<(), Failure>> {
        self.drains.undrain().boxed()
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

    fn system(&self) -> BoxFuture<'_, Result<Value, Failure>> {
        machine().boxed()
    }

    fn usage(&self) -> BoxFuture<'_, Result<Value, Failure>> {
        let down = || Failure::new(code::NOT_AVAILABLE, format!("the program of {} does not run", self.id));
        let pid = self.supervisor.status().borrow().pid().ok_or_else(down);
        ready(pid.and_then(|pid| usage(pid, &self.id, &self.server_type))).boxed()
    }

    fn output(&self, since: Option<u64>, lines: usize, wait: Duration) -> BoxFuture<'_, Result<Value, Failure>> {
        let kept = self.ring.read(since, lines, wait);
        kept.map(|kept| serde_json::to_value(kept).map_err(|error| Failure::new(code::FAILED, error.to_string())))
            .boxed()
    }

    fn logs(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        self.logs.names().boxed()
    }

    fn log_tail(&self, name: String, lines: usize) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        self.logs.tail(name, lines).boxed()
    }
}

impl KeptOutput for Supervised {
    fn read(&self, server_id: String, query: String, at_most: Duration) -> BoxFuture<'_, Result<Value, Failure>> {
        async move {
            if server_id != self.id {
                let what = format!("this monitor keeps the output of {} alone", self.id);
                return Err(Failure::new(code::NOT_AVAILABLE, what));
            }
            let query = Query::parse(&query)?;
            let read = kept_output::read_or_wait(self.dir.clone(), query, at_most).await?;
            serde_json::to_value(read).map_err(|error| Failure::new(code::FAILED, error.to_string()))
        }
        .boxed()
    }
}

fn last_exit(exit: Exit) -> LastExit {
    let time = exit.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    LastExit { how: exit.how.to_string(), time: time.try_into().unwrap_or(u64::MAX), lines: exit.last_lines }
}
