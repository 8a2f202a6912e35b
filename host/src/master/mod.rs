//! The master: one per cluster. Monitors and clients connect to it.
//!
//! | file | what is there |
//! |---|---|
//! | `session` | one connection: registration, then messages to modules |
//! | `members` | who is connected, and the server table |
//! | `commands` | `events` and `forget`, and commands that are passed on |
//! | `known_servers` | which of pomelo's servers may come back without a token |
//! | `admit_command` | the command `admit`, which lets unknown ones come back |
//! | `distribution` | modules for monitors: which version is for whom, and its bytes |
//! | `describe_command` | the command `describe`: how a server is run |
//! | `login_throttle` | slows down those who guess passwords |
//! | `cluster` | what modules ask of the cluster |
//! | `events` | changes of the server table, as modules are told of them |
//! | `fleet` | how the fleet learns what happens, and acts |
//! | `kept_output` | what programs have written, for modules |
//! | `observe` | metrics that are states, and health |
//! | `starter` | runs the servers of the cluster, here and through `ssh` elsewhere |
//!
//! This part knows no module by name, because modules define what the cluster can be asked.

mod admit_command;
mod cluster;
mod commands;
mod describe_command;
mod distribution;
mod events;
pub mod fleet;
mod kept_output;
mod known_servers;
mod login_throttle;
mod members;
mod observe;
mod session;
pub mod starter;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin_log::AdminLog;
use crate::auth::{Access, Reconnect, Tokens, Users};
use crate::console::{Console, Settings};
use crate::fleet::{Origin, Wanted};
use crate::journal::Journal;
use crate::monitor::{self, Monitor};
use crate::plugin::capability::{Application, KeptOutput, Process, Services, Starter};
use crate::plugin::{Engine, HostRole, Identity, Keeper};
use crate::rollout;
use crate::scripts;
use crate::transport::listener::{self, Listener};
use crate::util::line_budget;
use crate::wire::Info;

pub use distribution::{Offbeat, OnMonitors, UnderWay};
pub use members::{Entry, IsNamed, JoinError, MassLoss, Member, Members, Snapshot, TableBounds};

/// What a master needs to know.
pub struct Options {
    /// Server id of the master; its type is `master`.
    pub id: String,
    /// What others are told about the master's own server.
    pub info: Info,
    /// Address to listen on; port 0 for any.
    pub address: SocketAddr,
    /// Limits of the listener.
    pub listener: listener::Options,
    /// How long a connection may take to register. Default 5 s.
    pub register_deadline: Duration,
    /// The largest frame of a registered peer, bytes. Default 4 MiB.
    pub max_frame: usize,
    /// Requests under way to one monitor. Default 4096.
    pub pending: usize,
    /// How long the answers to a `tell` are waited for. Default 10 s.
    pub tell_deadline: Duration,
    /// How long a server whose connection was lost stays in the table. Default 500 ms.
    pub grace: Duration,
    /// When so many servers are lost at once that they stay in the table for longer.
    pub mass_loss: MassLoss,
    /// How much may stand in the server table.
    pub table: TableBounds,
    /// Where events are written.
    pub journal: Journal,
    /// Metrics, and who may see them.
    pub observe: crate::observe::Options,
    /// Changes of the server table within this time, and 50 µs more for each server, are told together. Default 50 ms.
    pub event_window: Duration,
    /// Which servers may come back without a token, if tokens are required.
    pub reconnect: Reconnect,
    /// The configured servers' types by their ids, the master's own among them. A master with a fleet knows the others from that.
    pub configured: BTreeMap<String, String>,
    /// Where the requests of clients are written.
    pub admin_log: AdminLog,
    /// The files of the configuration; absent where there are none.
    pub files: Option<fleet::Files>,
    /// How new versions of modules reach the monitors that take them from this master.
    pub rollouts: rollout::Options,
}

/// The process that the master is, as its own monitor sees it.
pub struct Own {
    /// The view of the cluster.
    pub application: Arc<dyn Application>,
    /// Figures, and the end.
    pub process: Arc<dyn Process>,
    /// Where the master's own monitor keeps what outlives the process.
    pub keeper: Option<Arc<dyn Keeper>>,
    /// Settings of scripts.
    pub scripts: scripts::Settings,
}

/// A running master.
pub struct Master {
    core: Arc<MasterCore>,
    own: Arc<Monitor>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// The port and what lets peers in, until the port is opened.
    closed: Mutex<Option<(Listener, Arc<session::Gate>)>>,
}

struct MasterCore {
    options: Options,
    access: Access,
    login_throttle: login_throttle::LoginThrottle,
    known_servers: known_servers::KnownServers,
    members: Arc<Members>,
    console: Console,
    /// The servers, and the jobs that act on them.
    fleet: Option<Arc<fleet::MasterFleet>>,
    /// Modules for monitors.
    distribution: Arc<distribution::Distribution>,
    /// How far the master is.
    stage: Mutex<observe::Stage>,
    /// Held while a module is enabled or disabled and the monitors are told, and while a monitor that registers is told which modules are disabled. So
    /// every monitor ends with the master's state.
    commands: Mutex<()>,
}

impl MasterCore {
    /// Forgets the servers that are known by a token which is no longer valid.
    fn forget_revoked(&self) {
        self.known_servers.retain(|server_type, digest| self.access.has_token(server_type, digest));
    }
}

/// Changes who may connect while a master runs.
pub struct ReplaceAccess(Weak<MasterCore>);

impl ReplaceAccess {
    /// Replaces the users and tokens. Clients whose user was removed, or got another password or level, are disconnected. Monitors stay connected, and
    /// show their token when they register the next time. A server that is known by a token which was removed needs a token to come back.
    pub fn set(&self, users: Users, tokens: Tokens) {
        let Some(master) = self.0.upgrade() else { return };
        let changed = master.access.replace(users, tokens);
        master.forget_revoked();
        for peer in master.members.clients_of(changed) {
            peer.close("its user was changed or removed");
        }
    }
}

/// Why a master cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {why}{hint}", hint = hint(why))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        why: std::io::Error,
    },
    /// A module carried inside the program is refused: the program is broken, or its configuration forbids what it needs.
    #[error("a built-in module cannot be loaded: {0}")]
    BuiltIn(crate::console::InstallError),
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => " (is another master running there? `--port` takes another port)",
        std::io::ErrorKind::AddrNotAvailable => " (the address is not this machine's: see `host` in master.json)",
        _ => "",
    }
}

impl Master {
    /// Loads the built-in modules and binds the port, so that a port that is taken is found early. No peer is let in before
    /// [`Master::run_modules`], which is to be called when the modules' directory has been loaded as well.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        options: Options,
        access: Access,
        own: Own,
        fleet: Option<fleet::Parts>,
        engine: Engine,
        settings: Settings,
    ) -> Result<Self, StartError> {
        let keeper = settings.keeper.clone();
        let journal = options.journal.clone();
        let is_named: IsNamed = match &fleet {
            Some(parts) => {
                let (starter, own) = (parts.starter.clone(), options.id.clone());
                Arc::new(move |id| id == own || starter.server_type(id).is_some())
            }
            None => {
                let configured = options.configured.clone();
                Arc::new(move |id| configured.contains_key(id))
            }
        };
        if let Some(parts) = &fleet {
            parts.fleet.set_max_joined(options.table.joined);
        }
        let members = Members::new(options.grace, options.mass_loss.clone(), journal.clone());
        let members = Arc::new(members.bounded(options.table, is_named.clone()));
        let (id, process) = (options.id.as_str(), own.process.clone());
        let fleet =
            fleet.map(|parts| Arc::new(fleet::MasterFleet::new(parts, members.clone(), journal.clone(), id, process)));
        let configured: cluster::Configured = match &fleet {
            None => {
                let ids: Vec<String> = options.configured.keys().cloned().collect();
                Box::new(move || ids.clone())
            }
            Some(fleet) => {
                let (own, fleet) = (options.id.clone(), fleet.fleet.clone());
                Box::new(move || {
                    let wanted = fleet
                        .servers()
                        .into_iter()
                        .filter(|record| record.wanted == Wanted::Up && record.origin != Origin::Joined);
                    std::iter::once(own.clone()).chain(wanted.map(|record| record.id)).collect()
                })
            }
        };
        let cluster = cluster::MasterCluster::new(members.clone(), configured, options.tell_deadline);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        if let Some(fleet) = &fleet {
            fleet.follow(&tasks, &stop);
        }
        let kept_output = fleet
            .clone()
            .map(|fleet| -> Arc<dyn KeptOutput> { Arc::new(kept_output::MasterOutput(fleet.starter.clone())) });
        let starter = fleet.clone().map(|fleet| -> Arc<dyn Starter> { Arc::new(fleet::Control(fleet)) });
        let services =
            Services { cluster: Some(Arc::new(cluster)), starter, kept_output, journal, ..Services::default() };
        let identity = Identity { role: HostRole::Master, server_id: options.id.clone(), server_type: "master".into() };
        let console =
            Console::new(engine.clone(), identity, services, settings.clone()).map_err(StartError::BuiltIn)?;
        console.set_events(Arc::new(events::TableEvents::new(members.clone(), options.event_window)));
        console.install_built_in().await.map_err(StartError::BuiltIn)?;

        let own_options = monitor::Options {
            id: options.id.clone(),
            server_type: "master".into(),
            info: options.info.clone(),
            token: None,
            pending: options.pending,
            scripts: own.scripts,
            ..monitor::Options::default()
        };
        let services =
            Services { application: Some(own.application), process: Some(own.process), ..Services::default() };
        let settings = Settings { keeper: own.keeper, ..settings };
        let own = Monitor::new(own_options, services, engine, settings).await.map_err(StartError::BuiltIn)?;
        own.profile_also(console.modules_in_force());
        let own = Arc::new(own);

        let unread = |failure| StartError::BuiltIn(crate::console::InstallError::Unread(failure));
        let distribution = distribution::Distribution::new(
            console.clone(),
            options.journal.clone(),
            keeper.clone(),
            options.rollouts.clone(),
            options.max_frame,
        );
        let distribution = Arc::new(distribution.map_err(unread)?);
        let known_servers =
            known_servers::KnownServers::new(options.reconnect, keeper).map_err(unread)?.knowing(is_named);
        known_servers.retain(|server_type, digest| access.has_token(server_type, digest));
        let (requested, limits) = (options.address, options.listener.clone());
        let core = Arc::new(MasterCore {
            options,
            access,
            login_throttle: login_throttle::LoginThrottle::default(),
            known_servers,
            members,
            console,
            fleet,
            distribution,
            stage: Mutex::new(observe::Stage::Starting),
            commands: Mutex::default(),
        });
        if let (Some(fleet), Some(files)) = (&core.fleet, &core.options.files) {
            // It was not set before, because the fleet was made above.
            let _ = fleet.applier.set(fleet::Applier::new(&core, &own, files.clone()));
        }
        let gate = Arc::new(session::Gate(Arc::downgrade(&core)));
        let pages = crate::observe::pages(crate::observe::host(&core), core.options.observe.clone());
        let pages = pages.merge(crate::web::pages());
        let listener = Listener::bind(requested, limits, gate.clone(), pages)
            .await
            .map_err(|why| StartError::Listen { address: requested, why })?;
        let address = listener.local_addr();
        Ok(Master { core, own, address, stop, tasks, closed: Mutex::new(Some((listener, gate))) })
    }

    /// Lets peers in, the master's own monitor first; schedules the timers and calls each module's `start`, on the master's own monitor as soon as
    /// it is registered. Those of files go on beside what comes next.
    pub async fn run_modules(&self) {
        let closed = self.closed.lock().take();
        if let Some((listener, gate)) = closed {
            self.own.join_in_memory(gate);
            self.tasks.spawn(listener.serve(self.stop.clone()));
            let telling = async {
                loop {
                    tokio::time::sleep(line_budget::TOLD_AFTER / 2).await;
                    line_budget::tell_due();
                }
            };
            self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(telling));
        }
        self.core.console.start().await;
        self.own.registered().await;
        *self.core.stage.lock() = observe::Stage::Serving;
    }

    /// Offers the files that are in force to the monitors that take them, from the time on at which all that were there at first have been `looked_at`.
    pub fn hand_on(&self, looked_at: CancellationToken) {
        self.tasks.spawn(self.core.distribution.clone().follow(looked_at, self.stop.clone()));
    }

    /// Starts the servers that are to be started by this master, and keeps all servers as they are wanted.
    pub async fn start_servers(&self) {
        if let Some(fleet) = &self.core.fleet {
            fleet.start(&self.tasks, &self.stop).await;
        }
    }

    /// Ends the jobs that are under way, at most within the time given, and takes no more.
    pub async fn end_jobs(&self, at_most: Duration) {
        if let Some(fleet) = &self.core.fleet {
            // First, because what ends servers may reach them at the same time as this process: a machine that shuts down, for example.
            fleet.fleet.close();
            fleet.jobs.shut_down(at_most).await;
        }
    }

    /// Where the master listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The master's console service, and that of its own monitor.
    pub fn consoles(&self) -> [Console; 2] {
        [self.core.console.clone(), self.own.console().clone()]
    }

    /// What changes who may connect while the master runs.
    pub fn access(&self) -> ReplaceAccess {
        ReplaceAccess(Arc::downgrade(&self.core))
    }

    /// The peers that are connected.
    pub fn members(&self) -> &Arc<Members> {
        &self.core.members
    }

    /// Ends the master: calls under way are answered, at most within the time given, peers are told, sockets are closed.
    pub async fn shut_down(self, at_most: Duration) {
        *self.core.stage.lock() = observe::Stage::Ending;
        self.core.members.close();
        self.core.console.shut_down(at_most).await;
        self.own.shut_down(at_most).await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // No client asks any more, so that the log is complete.
        let core = self.core;
        let closed = tokio::task::spawn_blocking(move || core.options.admin_log.close());
        if tokio::time::timeout(at_most, closed).await.is_err() {
            tracing::error!("the end of the admin log could not be written in time");
        }
    }
}
