//! The monitors that were started, each under a supervisor.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;

use super::command::{Commands, MARGIN};
use super::{Record, place};
use crate::config::{Config, Server};
use crate::failure::{Failure, code};
use crate::journal::Journal;
use crate::plugin::capability::Outcomes;
use crate::supervise::{DownReason, Guard, Phase, Restart, Status, Supervisor, recorder};

/// How long a monitor may take to end: it answers the calls under way first.
const ENDING: Duration = Duration::from_secs(5);

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
    pub(super) master: String,
    pub(super) record: Record,
    guard: Arc<Guard>,
    journal: Journal,
    pub(super) roster: Mutex<Roster>,
    /// Held while servers are added, until they are started, so that another addition finds them running.
    pub(super) adding: tokio::sync::Mutex<()>,
}

/// Where a server's output is to be looked for.
pub(in crate::master) struct OutputPlace {
    /// The server's data directory on this machine.
    pub(in crate::master) directory: Option<PathBuf>,
    /// The host of a server that is configured or was added.
    pub(in crate::master) known: Option<String>,
}

/// The servers that the starter knows, and the monitors that it runs.
pub(super) struct Roster {
    /// The servers that were added stand among its own.
    pub(super) config: Config,
    /// Ids of the servers that were added.
    pub(super) added: BTreeSet<String>,
    pub(super) monitors: HashMap<String, Supervisor>,
    /// Set when nothing is to be started any more.
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
            // A server that the configuration names by now is no longer an added one.
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
        let roster = Roster { config, added, monitors: HashMap::new(), closing: false };
        Ok(ServerStarter {
            commands,
            master: master.to_owned(),
            record,
            guard: Arc::new(Guard::new()),
            journal: Journal::default(),
            roster: Mutex::new(roster),
            adding: tokio::sync::Mutex::default(),
        })
    }

    /// The same starter, which writes down what happens to its monitors.
    pub fn recording(self, journal: Journal) -> Self {
        ServerStarter { journal, ..self }
    }

    /// Ids of the servers that are to run: those of the configuration and those that were added, but for those that are kept down.
    pub fn servers(&self) -> Vec<String> {
        let roster = self.roster.lock();
        let ids = roster.config.servers.iter().map(|server| server.id.clone());
        ids.filter(|id| !self.record.is_kept_down(id)).collect()
    }

    /// The type of a server that is configured or was added.
    pub(in crate::master) fn server_type(&self, id: &str) -> Option<String> {
        self.roster.lock().config.server(id).map(|server| server.server_type.clone())
    }

    /// Where the output of a server of this machine is kept, if anything is kept. `known` says whether the server is configured or was added, and
    /// on which host it runs.
    pub(in crate::master) fn output_of(&self, id: &str) -> OutputPlace {
        let roster = self.roster.lock();
        let known = roster.config.server(id).map(|server| server.host.clone());
        OutputPlace { directory: roster.config.data_dir(id), known }
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.roster.lock().config.server(id).is_some()
    }

    /// Says whether servers are kept down, also over a restart of the master. Ids of unknown servers are ignored.
    pub(super) async fn set_kept_down(&self, ids: &[String], down: bool) -> Result<(), Failure> {
        let known: Vec<String> = ids.iter().filter(|id| !down || self.knows(id)).cloned().collect();
        self.record.set_kept_down(&known, down).await
    }

    /// Starts the servers that are meant, all at once, but for those that are kept down. Gives the outcome of each, in the order of the configuration.
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
            let roster = self.roster.lock();
            roster.config.servers.iter().filter(meant).map(|server| server.id.clone()).collect()
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
        let (kept_down, ids): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| self.record.is_kept_down(id));
        for id in kept_down {
            tracing::info!(server = %id, "stays down, because it was stopped on purpose: `pomelo restart {id}` starts it");
        }
        Ok(join_all(ids.into_iter().map(|id| async move {
            let outcome = self.start_one(&id).await;
            (id, outcome)
        }))
        .await)
    }

    /// Starts a server that is down. It is no longer kept down.
    pub(super) async fn start(&self, id: &str) -> Result<(), Failure> {
        let kept_down = self.record.is_kept_down(id);
        self.start_one(id).await?;
        if kept_down { self.set_kept_down(&[id.to_owned()], false).await } else { Ok(()) }
    }

    /// Ends all monitors, which end their programs. Kills what has not ended within `deadline`. Nothing can be started afterwards.
    pub async fn stop_all(&self, deadline: Duration) {
        let monitors: Vec<Supervisor> = {
            let mut roster = self.roster.lock();
            roster.closing = true;
            roster.monitors.values().cloned().collect()
        };
        let asked = join_all(monitors.iter().map(Supervisor::stop));
        if tokio::time::timeout(deadline, asked).await.is_err() {
            tracing::warn!("some monitors have not ended in time and are killed");
            join_all(monitors.iter().map(Supervisor::kill)).await;
        }
    }

    /// Waits until all monitors that were started are down for good.
    pub async fn all_down(&self) {
        let monitors: Vec<_> = self.roster.lock().monitors.values().map(Supervisor::status).collect();
        join_all(monitors.into_iter().map(|mut status| async move {
            // An error means that the supervisor is gone, and its monitor with it.
            let _ = status.wait_for(|status| matches!(status.phase, Phase::Exited(_))).await;
        }))
        .await;
    }

    /// Whether a server is started through `ssh`. If it is to run on this machine, its ports must become free `within` this time.
    pub(super) async fn reach(&self, server: &Server, within: Duration) -> Result<bool, Failure> {
        let (ssh_is_configured, data_dir) = {
            let roster = self.roster.lock();
            (roster.config.settings.ssh.is_some(), roster.config.data_dir(&server.id))
        };
        let by_ssh = place::is_by_ssh(server, ssh_is_configured).await?;
        if !by_ssh {
            place::free_ports(server, within, data_dir, &self.master).await?;
        }
        Ok(by_ssh)
    }

    /// Starts a server that is down.
    pub(super) async fn start_one(&self, id: &str) -> Result<(), Failure> {
        let (server, monitor) = {
            let roster = self.roster.lock();
            (roster.config.server(id).cloned(), roster.monitors.get(id).cloned())
        };
        let server = server.ok_or_else(|| self.unknown(&format!("no server `{id}`"), |server| &server.id))?;
        if let Some(monitor) = &monitor {
            // The monitor of a server that was just stopped has answered, and is about to end.
            let down = |status: &Status| status.pid().is_none();
            let _ = tokio::time::timeout(ENDING, monitor.status().wait_for(down)).await;
            let up = monitor.status().borrow().pid();
            if let Some(pid) = up {
                let what = format!("{id} cannot be started, because its monitor still runs, as process {pid}");
                return Err(Failure::new(code::BUSY, what));
            }
        }
        let by_ssh = self.reach(&server, MARGIN).await?;
        let known = {
            let mut roster = self.roster.lock();
            if roster.closing {
                return Err(Failure::new(code::NOT_AVAILABLE, "the master is ending and starts no servers"));
            }
            match roster.monitors.get(id) {
                Some(monitor) => Some(monitor.clone()),
                None => {
                    let spec = self.commands.spec(&server, roster.added.contains(id), by_ssh, &self.journal)?;
                    let watcher = recorder(self.journal.clone(), id.to_owned(), "the monitor", true);
                    let monitor = Supervisor::watched(spec, self.guard.clone(), watcher);
                    roster.monitors.insert(id.to_owned(), monitor);
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
        let status = self.roster.lock().monitors.get(id).map(Supervisor::status);
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
        let roster = self.roster.lock();
        let mut names: Vec<&str> = roster.config.servers.iter().map(|server| name(server).as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::new(code::NOT_FOUND, format!("{what} is configured (configured: {known})"))
    }

    #[cfg(test)]
    pub(super) fn monitor(&self, id: &str) -> tokio::sync::watch::Receiver<Status> {
        self.roster.lock().monitors[id].status()
    }
}

impl Roster {
    /// Whether no monitor of that id runs, or is to run again.
    pub(super) fn is_down(&self, id: &str) -> bool {
        let down = |monitor: &Supervisor| matches!(monitor.status().borrow().phase, Phase::Exited(_));
        self.monitors.get(id).is_none_or(down)
    }
}
