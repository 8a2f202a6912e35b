//! The monitors that were started, each under a supervisor.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};

use super::command::{Commands, MARGIN};
use super::place;
use crate::config::{Config, Server, Spec};
use crate::failure::{Failure, code};
use crate::fleet::job::Times;
use crate::fleet::{Fleet, Named, Place};
use crate::journal::Journal;
use crate::master::fleet::feed;
use crate::monitor::RUNS_ALREADY;
use crate::supervise::{DownReason, Guard, How, Phase, Restart, Status, Supervisor, Watcher, recorder};
use crate::wire::Info;

/// What came of each server, by id.
pub type Outcomes = Vec<(String, Result<(), Failure>)>;

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
    pub(super) commands: RwLock<Commands>,
    /// The program that monitors run as, and arguments before all others.
    pub(super) program: Vec<String>,
    /// Where the configuration in force is kept for monitors of this machine.
    pub(super) handed_on: Option<PathBuf>,
    /// Where the master listens.
    pub(super) master: String,
    /// Told of what happens to the processes.
    fleet: Option<Arc<Fleet>>,
    guard: Arc<Guard>,
    journal: Journal,
    pub(super) roster: Mutex<Roster>,
    /// How many processes were begun with a spec that is another than that of the one before.
    pub(super) begun: AtomicU64,
}

/// The servers that the starter knows, and the monitors that it runs.
pub(super) struct Roster {
    /// The servers that were added stand among its own.
    pub(super) config: Config,
    /// Ids of the servers that somebody else starts.
    pub(super) elsewhere: BTreeSet<String>,
    /// Whether servers are started here at all.
    pub(super) starts: bool,
    /// By id: host, `ssh` and whether the server belongs on a machine that cannot be reached from here, as they were looked up last.
    pub(super) places: BTreeMap<String, (String, Option<bool>, bool)>,
    /// Ids of the servers that were added.
    pub(super) added: BTreeSet<String>,
    pub(super) monitors: HashMap<String, Begun>,
    /// Ids of servers whose ports are taken and whose state is in use, so that they run already. Filled by a yielding starter alone.
    taken: BTreeSet<String>,
    /// Set when nothing is to be started any more.
    closing: bool,
}

/// A monitor that was begun.
pub(super) struct Begun {
    pub supervisor: Supervisor,
    /// The spec that it was begun with.
    pub(super) spec: Spec,
    /// How long each part of its way may take, by that spec.
    pub(super) times: Times,
    pub(super) server_type: String,
    /// Whether it was begun on another machine.
    pub(super) by_ssh: bool,
    /// Whether it is a monitor of ours, whose exit codes are known.
    has_monitor: bool,
}

impl Begun {
    /// Whether it is down because it has found another monitor of its server.
    fn found_another(&self) -> bool {
        let status = self.supervisor.status();
        let status = status.borrow();
        let code = status.last_exit.as_ref().map(|exit| &exit.how);
        self.has_monitor
            && status.phase == Phase::Exited(DownReason::GivenUp)
            && code == Some(&How::Code(RUNS_ALREADY.into()))
    }
}

impl ServerStarter {
    /// A starter for the servers of a configuration, and for those that were `added` to it before. Monitors run as this very
    /// program, with the arguments `monitor --quiet --poll --config DIR --env ENVIRONMENT --master HOST:PORT --modules DIR --data DIR --id ID`; with `--demo`
    /// instead of the configuration's for the demo cluster. `master` is where the master really listens.
    ///
    /// # Errors
    /// Where the path of this program, of the configuration or of the modules' directory cannot be found or is not Unicode.
    pub fn new(config: &Config, master: &str, added: BTreeMap<String, Info>) -> Result<Self, Failure> {
        let unusable = |what: &str| Failure::new(code::NOT_AVAILABLE, format!("no monitors can be started: {what}"));
        let exe = std::env::current_exe().map_err(|error| unusable(&format!("where is this program? {error}")))?;
        let exe =
            exe.into_os_string().into_string().map_err(|_| unusable("the path of this program is not Unicode"))?;
        Self::with_program(config, master, added, vec![exe])
    }

    /// As [`ServerStarter::new`], with another program (and arguments before the others) in place of this one.
    ///
    /// # Errors
    /// Where the path of the configuration or of the modules' directory is not Unicode.
    pub fn with_program(
        config: &Config,
        master: &str,
        before: BTreeMap<String, Info>,
        program: Vec<String>,
    ) -> Result<Self, Failure> {
        let policy = config.settings.supervise.policy(Restart::OnFailure);
        let commands = Commands::new(config, master, program.clone(), policy)?;
        let (mut config, mut added) = (config.clone(), BTreeSet::new());
        for (id, info) in before {
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
                None => {}
            }
        }
        let roster = Roster {
            config,
            elsewhere: BTreeSet::new(),
            starts: false,
            places: BTreeMap::new(),
            added,
            monitors: HashMap::new(),
            taken: BTreeSet::new(),
            closing: false,
        };
        Ok(ServerStarter {
            commands: RwLock::new(commands),
            program,
            handed_on: None,
            master: master.to_owned(),
            fleet: None,
            guard: Arc::new(Guard::new()),
            journal: Journal::default(),
            roster: Mutex::new(roster),
            begun: AtomicU64::new(0),
        })
    }

    /// The same starter, which writes down what happens to its monitors.
    pub fn recording(self, journal: Journal) -> Self {
        ServerStarter { journal, ..self }
    }

    /// The same starter, which leaves servers alone that run already: see [`ServerStarter::running_already`].
    pub fn yielding(self) -> Self {
        ServerStarter { commands: RwLock::new(self.commands.into_inner().yielding()), ..self }
    }

    /// The same starter, which tells the fleet what happens to its processes.
    pub fn feeding(self, fleet: Arc<Fleet>) -> Self {
        ServerStarter { fleet: Some(fleet), ..self }
    }

    /// Starts the servers that are meant, all at once. Gives the outcome of each, in the order of the configuration.
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
        Ok(join_all(ids.into_iter().map(|id| async move {
            let outcome = self.start(&id).await;
            (id, outcome)
        }))
        .await)
    }

    /// Ends the process of a server for good. If it was `asked` to end already it has `within` this time to do so, else it is asked now. It is killed
    /// with its group when its policy's deadline has passed.
    ///
    /// # Errors
    /// `timeout` where even a killed process does not end.
    pub(in crate::master) async fn end(&self, id: &str, kill: bool, asked: Option<Duration>) -> Result<(), Failure> {
        let monitor = self.roster.lock().monitors.get(id).map(|begun| begun.supervisor.clone());
        let Some(monitor) = monitor else { return Ok(()) };
        if let Some(within) = asked {
            let mut status = monitor.status();
            let down = status.wait_for(|status| status.pid().is_none() && !matches!(status.phase, Phase::Starting(_)));
            let _ = tokio::time::timeout(within, down).await;
        }
        // One that has ended by itself is not begun again after this.
        if kill { monitor.kill().await } else { monitor.stop().await }
    }

    /// Forgets a server that was added, and has ended.
    pub(in crate::master) fn forget(&self, id: &str) {
        let mut roster = self.roster.lock();
        roster.added.remove(id);
        roster.config.servers.retain(|server| server.id != id);
        roster.monitors.remove(id);
    }

    /// Ends all monitors, which end their programs. Kills what has not ended within `deadline`. Nothing can be started afterwards.
    pub async fn stop_all(&self, deadline: Duration) {
        let (monitors, longest): (Vec<Supervisor>, _) = {
            let mut roster = self.roster.lock();
            roster.closing = true;
            // What runs ends as it was begun, whatever the configuration says since then.
            let longest = roster.monitors.values().map(|begun| begun.times.stop).max().unwrap_or_default();
            (roster.monitors.values().map(|begun| begun.supervisor.clone()).collect(), longest)
        };
        let deadline = deadline.max(longest + ENDING);
        let asked = join_all(monitors.iter().map(Supervisor::stop));
        if tokio::time::timeout(deadline, asked).await.is_err() {
            tracing::warn!("some monitors have not ended in time and are killed");
            join_all(monitors.iter().map(Supervisor::kill)).await;
        }
    }

    /// The ids of servers that were not started, or not for good, because another monitor of them runs. Only a yielding starter knows of such.
    pub fn running_already(&self) -> BTreeSet<String> {
        if !self.commands.read().yields() {
            return BTreeSet::new();
        }
        let roster = self.roster.lock();
        let found = roster.monitors.iter().filter(|(_, begun)| begun.found_another()).map(|(id, _)| id);
        found.chain(&roster.taken).cloned().collect()
    }

    /// Waits until all monitors that were started are down for good.
    pub async fn all_down(&self) {
        let monitors: Vec<_> = self.roster.lock().monitors.values().map(|begun| begun.supervisor.status()).collect();
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
            let free = place::free_ports(server, within, data_dir.clone(), &self.master).await;
            if free.is_err() && self.commands.read().yields() && place::state_is_in_use(data_dir).await {
                self.roster.lock().taken.insert(server.id.clone());
                return Err(Failure::new(code::BUSY, format!("{} runs already", server.id)));
            }
            free?;
        }
        Ok(by_ssh)
    }

    /// Begins the process of a server that is down.
    ///
    /// # Errors
    /// `not-found` where there is no such server, `busy` where its process runs, or where another program listens on one of its ports,
    /// `not-available` where it belongs on another machine, `failed` where it cannot be begun.
    pub(in crate::master) async fn start(&self, id: &str) -> Result<(), Failure> {
        let (server, monitor) = {
            let roster = self.roster.lock();
            (roster.config.server(id).cloned(), roster.monitors.get(id).map(|begun| begun.supervisor.clone()))
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
            let spec = server.spec(&roster.config);
            // Another spec needs another process.
            match roster.monitors.get(id).filter(|begun| begun.spec == spec) {
                Some(begun) => Some(begun.supervisor.clone()),
                None => {
                    let process =
                        self.commands.read().spec(&server, roster.added.contains(id), by_ssh, &self.journal)?;
                    let supervisor = Supervisor::watched(process, self.guard.clone(), self.watcher(id, &server));
                    let has_monitor = self.has_monitor(&server);
                    let (times, server_type) = (times(&server), server.server_type.clone());
                    roster
                        .monitors
                        .insert(id.to_owned(), Begun { supervisor, spec, times, server_type, by_ssh, has_monitor });
                    self.begun.fetch_add(1, Ordering::Relaxed);
                    None
                }
            }
        };
        match known {
            Some(monitor) => monitor.start().await.map(drop),
            None => self.first_start(id).await,
        }
    }

    /// Writes down what happens to the process of a server, and tells the fleet.
    fn watcher(&self, id: &str, server: &Server) -> Watcher {
        let (subject, what) =
            if self.has_monitor(server) { ("its monitor", "the monitor") } else { ("it", "the server") };
        let written = recorder(self.journal.clone(), id.to_owned(), what, true);
        match &self.fleet {
            Some(fleet) => feed(fleet.clone(), id.to_owned(), subject, written),
            None => written,
        }
    }

    /// Whether a monitor of ours is run for a server, and not the server itself, which is one of pomelo's.
    fn has_monitor(&self, server: &Server) -> bool {
        server.launch.is_some() || !self.commands.read().runs_pomelo()
    }

    /// Waits until a monitor that was just launched runs or cannot be started.
    async fn first_start(&self, id: &str) -> Result<(), Failure> {
        let status = self.roster.lock().monitors.get(id).map(|begun| begun.supervisor.status());
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
        self.roster.lock().monitors[id].supervisor.status()
    }
}

/// How long each part of a server's way may take by its own spec.
pub(super) fn times(server: &Server) -> Times {
    Times { stop: server.stop_deadline, drain: server.drain, ready: server.ready_timeout }
}

impl Roster {
    pub(super) fn named(&self) -> Vec<Named> {
        let named = |server: &Server| Named {
            id: server.id.clone(),
            server_type: server.server_type.clone(),
            added: self.added.contains(&server.id).then(|| server.info.clone()),
            place: if self.elsewhere.contains(&server.id) { Place::Theirs } else { Place::Ours },
        };
        self.config.servers.iter().map(named).collect()
    }

    /// Whether a server's spec is another than that of its process.
    pub(super) fn has_changed(&self, id: &str) -> bool {
        match (self.config.server(id), self.monitors.get(id)) {
            (Some(server), Some(begun)) => server.spec(&self.config) != begun.spec,
            _ => false,
        }
    }

    /// Whether no monitor of that id runs, or is to run again.
    pub(super) fn is_down(&self, id: &str) -> bool {
        let down = |begun: &Begun| matches!(begun.supervisor.status().borrow().phase, Phase::Exited(_));
        self.monitors.get(id).is_none_or(down)
    }
}
