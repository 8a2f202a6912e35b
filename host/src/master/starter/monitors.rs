//! The monitors that were started, each under a supervisor.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;

use super::command::Commands;
use super::{Record, ports};
use crate::config::{Config, Server};
use crate::failure::{Failure, code};
use crate::journal::Journal;
use crate::monitor::supervised::leftovers;
use crate::plugin::capability::Outcomes;
use crate::state_db;
use crate::supervise::{DownReason, Guard, Phase, Restart, Status, Supervisor, kill_leftovers, recorder};
use crate::wire::Info;

/// What a monitor may take beyond its program's deadline, to tell its master and end.
pub(super) const MARGIN: Duration = Duration::from_secs(2);
/// How long a monitor that is about to end may take: the calls under way on it are answered first.
const ENDING: Duration = Duration::from_secs(5);
/// Servers that can have been added at a time.
const MAX_ADDED: usize = 10_000;

/// Which servers to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those of one type.
    Type(String),
    /// One.
    Id(String),
}

/// Runs monitors, on this machine and through `ssh` on others. Dropping it kills them and their programs.
pub struct ServerStarter {
    commands: Commands,
    /// Where the master listens.
    master: String,
    record: Record,
    guard: Arc<Guard>,
    journal: Journal,
    state: Mutex<State>,
    /// Held while servers are added, until they are started: another addition finds them up.
    adding: tokio::sync::Mutex<()>,
}

struct State {
    /// With the servers that were added among its own.
    config: Config,
    /// Ids of those.
    added: BTreeSet<String>,
    monitors: HashMap<String, Supervisor>,
    /// From here on nothing is started.
    closing: bool,
}

impl ServerStarter {
    /// A starter for the servers of a configuration, and for those that were added to it before, as the record has them. Monitors run as this very
    /// program, with the arguments `monitor --quiet --config DIR --env ENVIRONMENT --master HOST:PORT --modules DIR --id ID`; with `--demo` instead of
    /// the configuration's for the demo cluster. `master` is where the master really listens.
    ///
    /// # Errors
    /// Where the path of this program, of the configuration or of the modules' directory cannot be found or is not Unicode.
    pub fn new(config: &Config, master: &str, record: Record) -> Result<Self, Failure> {
        let unusable = |what: &str| Failure::new(code::NOT_AVAILABLE, format!("no monitors can be started: {what}"));
        let exe = std::env::current_exe().map_err(|error| unusable(&format!("where is this program? {error}")))?;
        let exe =
            exe.into_os_string().into_string().map_err(|_| unusable("the path of this program is not Unicode"))?;
        Self::with_program(config, master, record, vec![exe])
    }

    /// As [`ServerStarter::new`], with another program (and arguments before the others) in place of this one.
    ///
    /// # Errors
    /// Where the path of the configuration or of the modules' directory is not Unicode.
    pub fn with_program(config: &Config, master: &str, record: Record, program: Vec<String>) -> Result<Self, Failure> {
        let policy = config.settings.supervise.policy(Restart::OnFailure);
        let commands = Commands::new(config, master, program, policy)?;
        let (mut config, mut added) = (config.clone(), BTreeSet::new());
        for (id, info) in record.added() {
            // One that the configuration has meanwhile is the configuration's.
            match config.server(&id).is_none().then(|| config.added(&[info], &[], master)) {
                Some(Ok(servers)) => {
                    added.extend(servers.iter().map(|server| server.id.clone()));
                    config.servers.extend(servers);
                }
                Some(Err(wrong)) => {
                    let why = wrong.join("; ");
                    tracing::warn!(server = %id, %why, "a server that was added before does not fit the configuration and is left out");
                }
                None => record.put_added(&id, None),
            }
        }
        let state = State { config, added, monitors: HashMap::new(), closing: false };
        Ok(ServerStarter {
            commands,
            master: master.to_owned(),
            record,
            guard: Arc::new(Guard::new()),
            journal: Journal::default(),
            state: Mutex::new(state),
            adding: tokio::sync::Mutex::default(),
        })
    }

    /// The same starter, which writes down what happens to its monitors.
    pub fn recording(self, journal: Journal) -> Self {
        ServerStarter { journal, ..self }
    }

    /// Ids of the servers that are to run: those of the configuration and those that were added, but for those that are kept down.
    pub fn servers(&self) -> Vec<String> {
        let state = self.state.lock();
        let ids = state.config.servers.iter().map(|server| server.id.clone());
        ids.filter(|id| !self.record.is_held(id)).collect()
    }

    /// The type of a server that is configured or was added.
    pub(in crate::master) fn server_type(&self, id: &str) -> Option<String> {
        self.state.lock().config.server(id).map(|server| server.server_type.clone())
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.state.lock().config.server(id).is_some()
    }

    /// Keeps servers down that are stopped on purpose, also over a restart of the master; or does so no more. Others' ids are passed over.
    pub(super) async fn hold(&self, ids: &[String], down: bool) -> Result<(), Failure> {
        let known: Vec<String> = ids.iter().filter(|id| !down || self.knows(id)).cloned().collect();
        self.record.hold(&known, down).await
    }

    /// Starts the servers that are meant, all at once, but for those that are kept down; the outcome of each, in the order of the configuration.
    ///
    /// # Errors
    /// `not-found` where none is meant.
    pub async fn run(&self, which: &Which) -> Result<Outcomes, Failure> {
        let meant = |server: &&Server| match which {
            Which::All => true,
            Which::Type(server_type) => server.server_type == *server_type,
            Which::Id(id) => server.id == *id,
        };
        let ids: Vec<String> = {
            let state = self.state.lock();
            state.config.servers.iter().filter(meant).map(|server| server.id.clone()).collect()
        };
        match which {
            Which::Type(name) if ids.is_empty() => {
                return Err(self.unknown(&format!("no server of type `{name}`"), |server| &server.server_type));
            }
            Which::Id(id) if ids.is_empty() => {
                return Err(self.unknown(&format!("no server `{id}`"), |server| &server.id));
            }
            _ => {}
        }
        let (held, ids): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| self.record.is_held(id));
        for id in held {
            tracing::info!(server = %id, "stays down, since it was stopped on purpose: `pomelo restart {id}` starts it");
        }
        Ok(join_all(ids.into_iter().map(|id| async move {
            let outcome = self.start_one(&id).await;
            (id, outcome)
        }))
        .await)
    }

    /// Starts a server that is down; it is no more kept down.
    pub(super) async fn start(&self, id: &str) -> Result<(), Failure> {
        let held = self.record.is_held(id);
        self.start_one(id).await?;
        if held { self.hold(&[id.to_owned()], false).await } else { Ok(()) }
    }

    /// Adds servers and starts them. All are checked before any is started: who they are, what they name, whether their ports are free. `running`
    /// are servers that are connected. One that cannot be started is not there afterwards; the others stay until they are stopped by name, and
    /// come back with a new master.
    pub(super) async fn add(&self, added: &[Info], running: &[String]) -> Result<Outcomes, Failure> {
        let _adding = self.adding.lock().await;
        // The place of one that was added before and is down can be taken.
        let mut config = self.state.lock().config.clone();
        let again: Vec<String> = {
            let state = self.state.lock();
            let named = added.iter().filter_map(|info| info.get("id")?.as_str());
            let down = |id: &&str| state.added.contains(*id) && !running.iter().any(|up| up == id) && state.is_down(id);
            named.filter(down).map(str::to_owned).collect()
        };
        config.servers.retain(|server| !again.contains(&server.id));
        let refused = |wrong: Vec<String>| Failure::new(code::BAD_MESSAGE, wrong.join("; "));
        let servers = config.added(added, running, &self.master).map_err(refused)?;
        let checks = servers.iter().map(|server| self.reach(server, Duration::ZERO));
        let wrong: Vec<String> =
            join_all(checks).await.into_iter().filter_map(Result::err).map(|f| f.message).collect();
        if !wrong.is_empty() {
            return Err(refused(wrong));
        }
        let ids: Vec<String> = servers.iter().map(|server| server.id.clone()).collect();
        {
            let mut state = self.state.lock();
            if state.added.len() + servers.len() > MAX_ADDED {
                let what = format!("at most {MAX_ADDED} servers can be added; {} are there", state.added.len());
                return Err(Failure::new(code::BUSY, what));
            }
            // They may have been started meanwhile.
            if let Some(id) = again.iter().find(|id| !state.is_down(id)) {
                return Err(Failure::new(code::BUSY, format!("{id} was added before, and is being started")));
            }
            state.config.servers.retain(|server| !again.contains(&server.id));
            again.iter().for_each(|id| drop(state.monitors.remove(id)));
            state.added.extend(ids.iter().cloned());
            servers.iter().for_each(|server| self.record.put_added(&server.id, Some(&server.info)));
            state.config.servers.extend(servers);
        }
        let kept = async {
            self.record.hold(&ids, false).await?;
            self.record.written().await
        };
        if let Err(failure) = kept.await {
            join_all(ids.iter().map(|id| self.forget(id))).await;
            return Err(failure);
        }
        Ok(join_all(ids.into_iter().map(|id| async move {
            let outcome = self.start_one(&id).await;
            if outcome.is_err() {
                self.forget(&id).await;
            }
            (id, outcome)
        }))
        .await)
    }

    /// Takes a server away that was added and could not be started.
    async fn forget(&self, id: &str) {
        let monitor = {
            let mut state = self.state.lock();
            state.added.remove(id);
            state.config.servers.retain(|server| server.id != id);
            self.record.put_added(id, None);
            state.monitors.remove(id)
        };
        if let Some(monitor) = monitor {
            // Whatever has ended already is fine.
            let _ = monitor.stop().await;
        }
    }

    /// Ends all monitors, and by them their programs; kills what has not ended within `deadline`. Nothing can be started after it.
    pub async fn stop_all(&self, deadline: Duration) {
        let monitors: Vec<Supervisor> = {
            let mut state = self.state.lock();
            state.closing = true;
            state.monitors.values().cloned().collect()
        };
        let asked = join_all(monitors.iter().map(Supervisor::stop));
        if tokio::time::timeout(deadline, asked).await.is_err() {
            tracing::warn!("some monitors have not ended in time and are killed");
            join_all(monitors.iter().map(Supervisor::kill)).await;
        }
    }

    /// Waits until all monitors that were started are down for good.
    pub async fn all_down(&self) {
        let monitors: Vec<_> = self.state.lock().monitors.values().map(Supervisor::status).collect();
        join_all(monitors.into_iter().map(|mut status| async move {
            // A supervisor that is gone has no monitor any more.
            let _ = status.wait_for(|status| matches!(status.phase, Phase::Exited(_))).await;
        }))
        .await;
    }

    /// How a server is reached, whether through `ssh`; checked, with its ports where it is to run here, which may take so long to become free.
    async fn reach(&self, server: &Server, within: Duration) -> Result<bool, Failure> {
        let by_ssh = match server.ssh {
            Some(by_ssh) => by_ssh,
            None => !ports::is_local(&server.host).await,
        };
        if by_ssh {
            let configured = self.state.lock().config.settings.ssh.is_some();
            if server.ssh.is_none() && !configured {
                let Server { id, host, .. } = server;
                let what = format!(
                    "{id} belongs on {host}: run `pomelo monitor --id {id}` there, or give pomelo.toml a section [ssh]"
                );
                return Err(Failure::new(code::NOT_AVAILABLE, what));
            }
            return Ok(true);
        }
        let mut busy = ports::still_busy(server, within).await;
        if !busy.is_empty() && server.force && self.kill_leftovers(server).await? > 0 {
            busy = ports::busy(server).await;
        }
        if busy.is_empty() { Ok(false) } else { Err(Failure::new(code::BUSY, ports::sentence(server, &busy))) }
    }

    /// Kills what an earlier run of a server left behind; how many processes. Its monitor may have been started by somebody else and be alive:
    /// then the state of the server is in use, and what it runs is nothing left behind.
    async fn kill_leftovers(&self, server: &Server) -> Result<usize, Failure> {
        let Some(directory) = self.state.lock().config.data_dir(&server.id) else {
            // Without a data directory nothing proves the monitor dead.
            return Ok(0);
        };
        let opened = tokio::task::spawn_blocking(move || state_db::StateDb::open(&directory)).await;
        let opened = opened.map_err(|_| Failure::new(code::NOT_AVAILABLE, "this host is ending"))?;
        // Held until they are killed: no monitor can start in between.
        let _held = opened.map_err(|error| {
            let what = format!("{}: nothing is killed for it, since its monitor may be alive: {error}", server.id);
            Failure::new(code::BUSY, what)
        })?;
        Ok(kill_leftovers(&leftovers(&server.id, &self.master)).await)
    }

    async fn start_one(&self, id: &str) -> Result<(), Failure> {
        let (server, monitor) = {
            let state = self.state.lock();
            (state.config.server(id).cloned(), state.monitors.get(id).cloned())
        };
        let server = server.ok_or_else(|| self.unknown(&format!("no server `{id}`"), |server| &server.id))?;
        if let Some(monitor) = &monitor {
            // One whose server was just stopped is about to end: it has answered, and tells its master goodbye.
            let down = |status: &Status| status.pid().is_none();
            let _ = tokio::time::timeout(ENDING, monitor.status().wait_for(down)).await;
            let up = monitor.status().borrow().pid();
            if let Some(pid) = up {
                let what =
                    format!("{id} is not down, and is started only when it is: its monitor runs as process {pid}");
                return Err(Failure::new(code::BUSY, what));
            }
        }
        let by_ssh = self.reach(&server, MARGIN).await?;
        let known = {
            let mut state = self.state.lock();
            if state.closing {
                return Err(Failure::new(code::NOT_AVAILABLE, "the master is ending and starts no servers"));
            }
            match state.monitors.get(id) {
                Some(monitor) => Some(monitor.clone()),
                None => {
                    let spec = self.commands.spec(&server, state.added.contains(id), by_ssh)?;
                    let watcher = recorder(self.journal.clone(), id.to_owned(), "the monitor", true);
                    let monitor = Supervisor::watched(spec, self.guard.clone(), watcher);
                    state.monitors.insert(id.to_owned(), monitor);
                    None
                }
            }
        };
        match known {
            Some(monitor) => monitor.start().await.map(drop),
            None => self.first_start(id).await,
        }
    }

    /// Waits until a monitor that was just launched runs or cannot be started.
    async fn first_start(&self, id: &str) -> Result<(), Failure> {
        let status = self.state.lock().monitors.get(id).map(Supervisor::status);
        let mut status = status.ok_or_else(|| Failure::new(code::NOT_FOUND, format!("{id} is gone")))?;
        let settled = status.wait_for(|status| status.pid().is_some() || status.last_exit.is_some()).await;
        let settled = settled.map_err(|_| Failure::new(code::NOT_AVAILABLE, "this host is ending"))?;
        match (&settled.phase, &settled.last_exit) {
            (Phase::Starting(Some(_)) | Phase::Running(_), _) | (Phase::Exited(DownReason::Stopped), _) => Ok(()),
            (_, Some(exit)) => Err(Failure::new(code::FAILED, format!("{id}: {}", exit.how))),
            (_, None) => Ok(()),
        }
    }

    fn unknown(&self, what: &str, name: impl Fn(&Server) -> &String) -> Failure {
        let state = self.state.lock();
        let mut names: Vec<&str> = state.config.servers.iter().map(|server| name(server).as_str()).collect();
        names.dedup();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::new(code::NOT_FOUND, format!("{what} is configured (configured: {known})"))
    }

    #[cfg(test)]
    pub(super) fn monitor(&self, id: &str) -> tokio::sync::watch::Receiver<Status> {
        self.state.lock().monitors[id].status()
    }
}

impl State {
    /// Whether no monitor of that id runs, or is to run again.
    fn is_down(&self, id: &str) -> bool {
        let down = |monitor: &Supervisor| matches!(monitor.status().borrow().phase, Phase::Exited(_));
        self.monitors.get(id).is_none_or(down)
    }
}
