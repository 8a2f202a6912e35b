//! An application in this very process: a Rust program that links this library, is its own server, and runs a monitor beside itself.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::functions::Runner;
use super::{Functions, Served, View};
use crate::built_in::built_in;
use crate::console::{InstallError, Settings};
use crate::monitor::supervised::OwnProcess;
use crate::monitor::{Monitor, Options};
use crate::plugin::capability::{Application, Process, Services};
use crate::plugin::{Engine, EngineLimits};
use crate::tls::ClientTls;
use crate::wire::{Info, Phase};

/// Calls of modules that may be under way at a time. A monitor needs few.
const INSTANCES: u32 = 128;
/// How long the application may take to end when a module or the operator stops it.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A server that is part of this program, before it joins its master.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use pomelo_host::monitor::application::{Embedded, Functions};
///
/// let functions = Functions::new().on("logins", async |_: serde::de::IgnoredAny| Ok(["alice", "bob"]));
/// let joined = Embedded::new("chat-1", "chat", functions).token("secret").join("127.0.0.1:3005").await?;
/// joined.asked_to_end().await;
/// joined.shut_down(Duration::from_secs(5)).await;
/// # Ok(()) }
/// ```
pub struct Embedded {
    functions: Functions,
    options: Options,
    settings: Settings,
    crons: Vec<Map<String, Value>>,
    stop_deadline: Duration,
}

/// Why a server cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// WebAssembly cannot be run here.
    #[error("modules cannot be run: {0}")]
    Engine(String),
    /// A built-in module is refused.
    #[error(transparent)]
    Module(#[from] InstallError),
    /// A cron is refused.
    #[error("{0}")]
    Cron(crate::failure::Failure),
}

impl Embedded {
    /// A server of that id and type, which offers these functions.
    pub fn new(id: &str, server_type: &str, functions: Functions) -> Self {
        let options = Options { id: id.to_owned(), server_type: server_type.to_owned(), ..Options::default() };
        let settings = Settings { built_in: built_in(false), ..Settings::default() };
        Embedded { functions, options, settings, crons: Vec::new(), stop_deadline: STOP_DEADLINE }
    }

    /// What others are told about the server: `host`, `port`, `clientPort`, `frontend` and whatever else they need.
    #[must_use]
    pub fn info(mut self, info: Info) -> Self {
        self.options.info = info;
        self
    }

    /// Reaches the master over TLS.
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.options.connection.tls = Some(tls);
        self
    }

    /// The token of its type, where the master's `adminServer.json` asks for one.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.options.token = Some(token.into());
        self
    }

    /// The first crons: objects with `id`, `time` and `action`, the name of the function to call.
    #[must_use]
    pub fn crons(mut self, crons: Vec<Map<String, Value>>) -> Self {
        self.crons = crons;
        self
    }

    /// What modules are given and may use, and which of them are built in. The default is that of an empty configuration.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// How long the function that ends the application may take ([`Functions::on_stop`]); 10 s by default.
    #[must_use]
    pub fn stop_deadline(mut self, deadline: Duration) -> Self {
        self.stop_deadline = deadline;
        self
    }

    /// Joins the master at `host:port` in the background. The connection is tried again until it is made, and made again when it is lost.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(self, master: &str) -> Result<Joined, JoinError> {
        let Embedded { functions, mut options, settings, crons, stop_deadline } = self;
        let limits = EngineLimits { total_instances: INSTANCES, ..EngineLimits::default() };
        let engine = Engine::new(limits, None).map_err(|error| JoinError::Engine(error.to_string()))?;
        let reach = Arc::new(Runner::new(&options.id, functions));
        let application = Arc::new(Served::new(&options.id, View::in_memory(&options.id), reach.clone()));
        application.add_crons(crons).await.map_err(JoinError::Cron)?;
        let end = CancellationToken::new();
        let process = OwnProcess::new(&options.id, &options.server_type, end.clone()).asking(reach, stop_deadline);
        let process = Arc::new(process);
        let services =
            Services { application: Some(application.clone()), process: Some(process.clone()), ..Services::default() };
        let info = watch::Sender::new(Info::new());
        options.told = Some(info.subscribe());
        let monitor = Monitor::new(options, services, engine, settings).await?;
        let phase = watch::Sender::new(Phase::running(std::process::id()));
        monitor.join(master.to_owned(), phase.subscribe());
        Ok(Joined { monitor, application, process, info, end, _phase: phase })
    }
}

/// A server of this program with its monitor.
pub struct Joined {
    monitor: Monitor,
    application: Arc<Served>,
    process: Arc<OwnProcess>,
    info: watch::Sender<Info>,
    end: CancellationToken,
    _phase: watch::Sender<Phase>,
}

impl Joined {
    /// The monitor: whether it is registered, and its console.
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// The servers of the cluster, from id to `info`.
    pub fn servers(&self) -> Map<String, Value> {
        self.application.servers()
    }

    /// What modules see of the application.
    pub fn application(&self) -> &dyn Application {
        &*self.application
    }

    /// What modules see of the process.
    pub fn process(&self) -> &dyn Process {
        &*self.process
    }

    /// Waits until the server has been registered with its master once.
    pub async fn registered(&self) {
        self.monitor.registered().await;
    }

    /// Replaces what is added to the server's `info`, which all others see.
    pub fn set_info(&self, info: Info) {
        self.info.send_replace(info);
    }

    /// Waits until a module or the operator has asked this server to end. If it was stopped and not killed, the function that ends the application
    /// has then been called.
    pub async fn asked_to_end(&self) {
        self.end.cancelled().await;
    }

    /// Leaves the cluster and tells the master. Calls under way have the time given to be answered.
    pub async fn shut_down(self, at_most: Duration) {
        self.monitor.shut_down(at_most).await;
    }
}
