//! A cluster within one process: a master and monitors that are what the program runs, over real sockets, with the built-in modules. Each
//! monitor stands beside an application that keeps its view of the cluster in memory and counts how often it is changed.

// Each of the programs that share this file uses a part of it.
#![allow(dead_code, unused_imports)]

mod application;
#[path = "../figures.rs"]
mod figures;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pomelo_host::auth::{Access, Level, StoredPassword, Tokens, User, Users};
use pomelo_host::built_in::built_in;
use pomelo_host::client::{self, AdminClient};
use pomelo_host::console::{ModuleSettings, Settings};
use pomelo_host::journal::Journal;
use pomelo_host::master::{MassLoss, Master, Options, Own};
use pomelo_host::monitor::{self, Monitor};
use pomelo_host::plugin::capability::Services;
use pomelo_host::plugin::{Engine, EngineLimits};
use pomelo_host::tls::{ClientTls, ServerTls};
use pomelo_host::transport::{self, listener};
use pomelo_host::wire::{Info, Phase};
use serde_json::json;
use tokio::sync::watch;

pub use application::{MemoryApplication, View, seen};
pub use wire::Wire;

/// Id of the master's own server.
pub const MASTER: &str = "master-server-1";

/// What is common to the hosts of a cluster.
#[derive(Clone)]
pub struct Fleet {
    /// The master's engine. The monitors have another, as they would in processes of their own, because their calls that wait for the master
    /// must not take the permits that the master needs to answer.
    pub engine: Engine,
    pub monitors: Engine,
    pub settings: Settings,
    /// Ids of the configured servers, all of type `chat`, beside the master's own.
    pub configured: Vec<String>,
    /// How long a connection lost in silence keeps its place.
    pub grace: Duration,
    /// Changes of the table within this time are told together.
    pub event_window: Duration,
    /// When lost servers are retained: never, unless a test says otherwise.
    pub mass_loss: MassLoss,
    pub journal: Journal,
    /// The certificate of masters. None: clear text only.
    pub server_tls: Option<ServerTls>,
    /// How monitors reach their master. None: in clear text.
    pub client_tls: Option<ClientTls>,
}

impl Fleet {
    /// A fleet with the defaults of a configuration. All of its monitors together may have `instances` instances under way.
    pub fn new(instances: u32) -> Self {
        let engine = |total_instances| {
            let limits = EngineLimits { total_instances, ..EngineLimits::default() };
            Engine::new(limits, None).expect("an engine")
        };
        Fleet {
            engine: engine(256),
            monitors: engine(instances),
            settings: Settings { built_in: built_in(false), ..Settings::default() },
            configured: Vec::new(),
            grace: Duration::from_millis(500),
            event_window: Duration::from_millis(50),
            mass_loss: MassLoss { share: 1.0, ..MassLoss::default() },
            journal: Journal::new(1000),
            server_tls: None,
            client_tls: None,
        }
    }

    /// The watchdog's timer with another interval, seconds.
    pub fn watchdog_interval(mut self, seconds: f64) -> Self {
        let module = ModuleSettings { interval: Some(seconds), ..ModuleSettings::default() };
        self.settings.modules.insert("__monitorwatcher__".into(), module);
        self
    }

    /// A master at a port, 0 for any, with its modules started, and the application of its own monitor.
    pub async fn master(&self, port: u16) -> (Master, Arc<MemoryApplication>) {
        let (master, application) = self.closed_master(port).await;
        master.run_modules().await;
        (master, application)
    }

    /// The same with its modules not yet started: it accepts nobody.
    pub async fn closed_master(&self, port: u16) -> (Master, Arc<MemoryApplication>) {
        let application = Arc::new(MemoryApplication::new(std::process::id()));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let own = std::iter::once((MASTER.to_owned(), "master".to_owned()));
        let others = self.configured.iter().map(|id| (id.clone(), "chat".to_owned()));
        let options = Options {
            id: MASTER.into(),
            info: info(MASTER, "master", port),
            address,
            listener: listener::Options { tls: self.server_tls.clone(), ..listener::Options::default() },
            register_deadline: Duration::from_secs(30),
            max_frame: 4 << 20,
            pending: 4096,
            tell_deadline: Duration::from_secs(10),
            grace: self.grace,
            event_window: self.event_window,
            table: Default::default(),
            mass_loss: self.mass_loss.clone(),
            journal: self.journal.clone(),
            observe: pomelo_host::observe::Options::default(),
            reconnect: Default::default(),
            configured: own.chain(others).collect(),
            admin_log: Default::default(),
            files: None,
            rollouts: Default::default(),
        };
        let admin = User {
            username: "admin".into(),
            password: StoredPassword::parse("admin").expect("a password"),
            level: Level::ADMIN,
        };
        let access = Access::new(Users::new(vec![admin]), Tokens::new(None));
        let own = Own {
            application: application.clone(),
            process: application.clone(),
            keeper: None,
            scripts: Default::default(),
        };
        let master = Master::start(options, access, own, None, self.engine.clone(), self.settings.clone());
        (master.await.expect("a master"), application)
    }

    /// A monitor that joins the master at that address.
    pub async fn monitor(&self, id: &str, server_type: &str, port: u16, master: SocketAddr) -> Node {
        let options = monitor::Options {
            id: id.into(),
            server_type: server_type.into(),
            info: info(id, server_type, port),
            register_deadline: Duration::from_secs(30),
            backoff: (Duration::from_millis(20), Duration::from_millis(200)),
            // Both wires carry all that a monitor says and is told.
            wire: if port.is_multiple_of(2) { transport::Wire::SocketIo } else { transport::Wire::Pomelo },
            ..monitor::Options::default()
        };
        let mut options = options;
        options.connection.tls.clone_from(&self.client_tls);
        let application = Arc::new(MemoryApplication::new(u32::from(port)));
        let services = Services {
            application: Some(application.clone()),
            process: Some(application.clone()),
            ..Services::default()
        };
        let monitor = Monitor::new(options, services, self.monitors.clone(), self.settings.clone()).await;
        let monitor = monitor.expect("a monitor");
        let phase = watch::Sender::new(Phase::running(u32::from(port)));
        monitor.join(master.to_string(), phase.subscribe());
        Node { id: id.into(), port, monitor, application, phase }
    }
}

/// A monitor of a fleet.
pub struct Node {
    pub id: String,
    pub port: u16,
    pub monitor: Monitor,
    pub application: Arc<MemoryApplication>,
    /// What the program does that the monitor stands beside.
    pub phase: watch::Sender<Phase>,
}

/// A client of the master at that address.
pub async fn client(master: SocketAddr) -> AdminClient {
    let (host, port) = (master.ip().to_string(), master.port());
    let options = client::Options { host, port, ..client::Options::default() };
    AdminClient::connect(options).await.expect("a client")
}

fn info(id: &str, server_type: &str, port: u16) -> Info {
    let info = json!({
        "id": id, "serverType": server_type, "host": "127.0.0.1", "port": port, "clientPort": port,
        "frontend": "true", "args": "--expose-gc",
    });
    info.as_object().cloned().unwrap_or_default()
}
