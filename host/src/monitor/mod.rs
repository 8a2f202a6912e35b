//! The monitor: runs beside an application server and has its own connection to the master.
//!
//! | file | what is there |
//! |---|---|
//! | `link` | the link to the master: made anew whenever it is lost, and kept to how the server is |
//! | `connecting` | one connection: made, and registered over |
//! | `incoming` | what the master says and asks over one connection |
//! | `from_master` | modules that the master hands on |
//! | `uplink` | what modules see of the link |
//! | `application` | the served application: its view of the cluster, its functions, its crons |
//! | `observe` | its health and metrics over HTTP, where that is asked for |
//! | `pomelo` | what an original master expects |
//! | `supervised` | what a monitor stands beside: a program, or nothing but itself |
//!
//! The server is in the master's table only while its program runs. Modules act on the program and on its view of the cluster through the traits of
//! `plugin::capability`.

pub mod application;
mod connecting;
mod from_master;
mod incoming;
mod link;
mod observe;
mod pomelo;
pub mod supervised;
mod uplink;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::console::{Applied, Console, InstallError, Settings};
use crate::journal::Journal;
use crate::plugin::capability::Services;
use crate::plugin::{Engine, HostRole, Identity, ModulesInForce};
use crate::profile::HostProfiler;
use crate::scripts::{self, HostScripts};
use crate::transport::socket_io::client;
use crate::transport::{Accept, Wire};
use crate::util::Secret;
use crate::util::lasting;
use crate::wire::{Info, Phase};

pub use connecting::RegistrationError;
pub use from_master::{FromMaster, Options as FromMasterOptions};
pub use link::MasterLinkState;

/// The exit code of a monitor whose program has ended and is not started again by its policy. Whoever started the monitor must not start it
/// again, because the program would run again.
pub const GIVEN_UP: u8 = 6;
/// The exit code of a monitor that finds its server's state in use, because another monitor of the server runs. It has started nothing.
pub const RUNS_ALREADY: u8 = 8;

/// What a monitor needs to know.
pub struct Options {
    /// Server id.
    pub id: String,
    /// Type of the server.
    pub server_type: String,
    /// The server's `info`, which other servers see.
    pub info: Info,
    /// What the server itself adds to its `info` while it runs.
    pub told: Option<watch::Receiver<Info>>,
    /// What the checks of the server's health have found; absent where it is not checked.
    pub health: Option<watch::Receiver<supervised::Verdict>>,
    /// The token to register with.
    pub token: Option<Secret>,
    /// The most requests under way to the master. Default 4096.
    pub pending: usize,
    /// How long the monitor waits for the answer to a registration. Default 5 s.
    pub register_deadline: Duration,
    /// The shortest and the longest wait before a lost master is tried again. The wait doubles with each attempt and has a random part. Default 100
    /// ms and 5 s.
    pub backoff: (Duration, Duration),
    /// The wire on which the master is reached. Default Socket.IO.
    pub wire: Wire,
    /// On pomelo's wire, where nothing else says it: the time between two pings, and how long the master may be silent. Default 5 s and 10 s.
    pub pings: (Duration, Duration),
    /// Limits of the connection.
    pub connection: client::Options,
    /// The settings of scripts.
    pub scripts: scripts::Settings,
    /// The journal of this host's events, which are sent to the master.
    pub journal: Journal,
    /// What is taken from the master of its modules; absent where nothing is.
    pub from_master: Option<Arc<FromMaster>>,
    /// Told when the master has applied the files of its configuration, so that this host is to read its own again.
    pub apply: Arc<Notify>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            id: String::new(),
            server_type: String::new(),
            info: Info::new(),
            told: None,
            health: None,
            token: None,
            pending: 4096,
            register_deadline: Duration::from_secs(5),
            backoff: (Duration::from_millis(100), Duration::from_secs(5)),
            wire: Wire::default(),
            pings: (Duration::from_secs(5), Duration::from_secs(10)),
            connection: client::Options::default(),
            scripts: scripts::Settings::default(),
            journal: Journal::default(),
            from_master: None,
            apply: Arc::default(),
        }
    }
}

/// A running monitor. Dropping it ends the connection to the master; [`Monitor::shut_down`] does so in order.
pub struct Monitor {
    link: Arc<link::MasterLink>,
    console: Console,
    profiler: Arc<HostProfiler>,
    /// The host's own scripts. They are not used where `services` came with others.
    scripts: Arc<HostScripts>,
    stop: CancellationToken,
    tasks: TaskTracker,
    observed: Arc<observe::MonitorHealth>,
    /// Ends the tasks of this monitor with it.
    _ends: DropGuard,
}

impl Monitor {
    /// A monitor with the built-in modules, not yet connected. `services` are what the modules act on. `uplink` is added here; so are `profiler` and
    /// `scripts` if they are absent.
    ///
    /// # Errors
    /// If a built-in module is refused.
    pub async fn new(
        mut options: Options,
        services: Services,
        engine: Engine,
        settings: Settings,
    ) -> Result<Self, InstallError> {
        let identity = Identity {
            role: HostRole::Monitor,
            server_id: options.id.clone(),
            server_type: options.server_type.clone(),
        };
        let scripts = std::mem::take(&mut options.scripts);
        let journal = options.journal.clone();
        let checked = options.health.clone();
        let link = Arc::new(link::MasterLink::new(options));
        let profiler = Arc::new(HostProfiler::new(services.process.clone()));
        let services = Services {
            journal,
            uplink: Some(Arc::new(uplink::LinkUplink(link.clone()))),
            profiler: services.profiler.or_else(|| Some(profiler.clone())),
            ..services
        };
        // A script acts on what the modules act on, but cannot run other scripts.
        let scripts = Arc::new(HostScripts::new(engine.clone(), identity.clone(), services.clone(), scripts));
        let services = Services { scripts: services.scripts.or_else(|| Some(scripts.clone())), ..services };
        let console = Console::new(engine, identity, services, settings)?;
        if let Some(from_master) = link.taken() {
            console.set_from_master(from_master.directory());
        }
        scripts.set_modules(console.neighbours());
        profiler.add_modules(console.modules_in_force());
        console.install_built_in().await?;
        let observed = Arc::new(observe::MonitorHealth { link: link.clone(), console: console.clone(), checked });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let _ends = stop.clone().drop_guard();
        Ok(Monitor { link, console, profiler, scripts, stop, tasks, observed, _ends })
    }

    /// Connects to the master at `address` (`host:port`), and connects again when the connection is lost. The registration follows the server's
    /// `phase`. Modules are started when the monitor is registered and the server runs for the first time.
    pub fn join(&self, address: String, phase: watch::Receiver<Phase>) {
        let dial = match self.link.wire() {
            Wire::SocketIo => connecting::Dial::SocketIo(address),
            Wire::Pomelo => connecting::Dial::PomelosWire(address),
        };
        self.keep_linked(dial, phase);
    }

    /// As [`Monitor::join`], for an original master of pomelo 2.x.
    pub fn join_pomelo(&self, address: String, phase: watch::Receiver<Phase>) {
        let dial = connecting::Dial::Pomelo(address);
        self.keep_linked(dial, phase);
    }

    /// Joins a master of this process.
    pub fn join_in_memory(&self, master: Arc<dyn Accept>) {
        let phase = watch::Sender::new(Phase::running(std::process::id())).subscribe();
        let dial = connecting::Dial::Memory(master);
        self.keep_linked(dial, phase);
    }

    fn keep_linked(&self, dial: connecting::Dial, phase: watch::Receiver<Phase>) {
        let (link, console, stop) = (self.link.clone(), self.console.clone(), self.stop.clone());
        if let Some(taken) = self.link.taken() {
            self.tasks.spawn(taken.follow(console.clone(), stop.clone()));
        }
        self.tasks.spawn(lasting::lasting("the link to the master", move || {
            link.clone().run(dial.clone(), phase.clone(), console.clone(), stop.clone())
        }));
    }

    /// Waits until the monitor has been registered once.
    pub async fn registered(&self) {
        self.link.registered_once().await;
    }

    /// Waits until the master has answered a registration, whether the server runs or not.
    pub(in crate::monitor) async fn answered(&self) {
        self.link.answered_once().await;
    }

    /// How the connection to the master is.
    pub fn state(&self) -> watch::Receiver<MasterLinkState> {
        self.link.state()
    }

    /// Lets the modules of another host of this process be profiled here as well.
    pub fn profile_also(&self, modules: Arc<dyn ModulesInForce>) {
        self.profiler.add_modules(modules);
    }

    /// The console service.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Takes over other settings of modules and scripts, without a restart of anything.
    pub async fn apply(&self, settings: Settings, scripts: scripts::Settings) -> Applied {
        self.scripts.apply(scripts);
        self.console.apply(settings).await
    }

    /// Ends the monitor and tells the master. Calls under way have the time given to be answered.
    pub async fn shut_down(&self, at_most: Duration) {
        self.console.shut_down(at_most).await;
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(at_most, self.tasks.wait()).await;
    }
}
