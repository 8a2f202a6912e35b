//! A master and monitors in this process, as the command line wires them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pomelo_host::auth::{Access, Level, StoredPassword, Tokens, User, Users};
use pomelo_host::built_in::built_in;
use pomelo_host::client::{self, AdminClient};
use pomelo_host::console::{Console, ModuleSettings, ModuleStatus, Settings};
use pomelo_host::journal::Journal;
use pomelo_host::master::{self, Master, Own};
use pomelo_host::monitor::supervised::OwnProcess;
use pomelo_host::monitor::{self, Monitor};
use pomelo_host::plugin::capability::Services;
use pomelo_host::plugin::{Engine, EngineLimits, Grants, Limits};
use pomelo_host::reload::{self, Modules};
use pomelo_host::scripts;
use pomelo_host::transport::listener;
use pomelo_host::wire::{Info, Phase};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Hand, eventually, soon};

/// What a cluster begins with.
pub struct Plan {
    pub settings: Settings,
    pub engine: EngineLimits,
    /// Files of the modules' directory, by name without the ending.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// Settings of scripts. Each server has a directory of its own within the one that they name.
    pub scripts: scripts::Settings,
}

impl Default for Plan {
    fn default() -> Self {
        let limits = Limits { cpu: Duration::from_secs(5), wall: Duration::from_secs(30), ..Limits::default() };
        let settings = Settings { limits, built_in: built_in(false), ..Settings::default() };
        let engine = EngineLimits { total_instances: 64, ..EngineLimits::default() };
        Plan { settings, engine, files: Vec::new(), scripts: scripts::Settings::default() }
    }
}

impl Plan {
    /// With files in the modules' directory.
    pub fn with(files: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Plan {
        Plan { files: files.into_iter().collect(), ..Plan::default() }
    }

    /// With the modules that look at machines, processes and logs.
    pub fn system_monitor(mut self) -> Plan {
        self.settings.built_in = built_in(true);
        self
    }

    /// With settings of a module id.
    pub fn say(mut self, id: &str, settings: ModuleSettings) -> Plan {
        self.settings.modules.insert(id.into(), settings);
        self
    }

    pub async fn start(self) -> Cluster {
        Cluster::start(self).await
    }
}

/// Settings that only grant something.
pub fn grants(grants: &[&str]) -> ModuleSettings {
    ModuleSettings { grants: Grants::new(grants.iter().copied()), ..ModuleSettings::default() }
}

/// Settings with options and grants.
pub fn settings_of(options: &serde_json::Value, given: &[&str]) -> ModuleSettings {
    ModuleSettings { options: options.to_string(), ..grants(given) }
}

/// A running master with its modules' directory.
pub struct Cluster {
    pub master: Master,
    directory: TempDir,
    settings: Settings,
    engine: EngineLimits,
    scripts: scripts::Settings,
    stop: CancellationToken,
    following: JoinHandle<()>,
}

/// A running monitor, which watches the same directory.
pub struct Server {
    pub monitor: Monitor,
    stop: CancellationToken,
    following: JoinHandle<()>,
}

const DRAIN: Duration = Duration::from_secs(1);

pub fn engine(limits: &EngineLimits) -> Engine {
    // Compiled code is kept for the other tests, and for the next run.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("modules-cache");
    Engine::new(limits.clone(), Some(&cache)).unwrap()
}

fn users() -> Users {
    let user = |name: &str, level| User {
        username: name.into(),
        password: StoredPassword::parse(name).unwrap(),
        level: Level(level),
    };
    Users::new(vec![user("admin", 1), user("monitor", 2)])
}

fn scripts_of(settings: &scripts::Settings, id: &str) -> scripts::Settings {
    let directory = settings.directory.as_ref().map(|directory| directory.join(id));
    scripts::Settings { directory, ..settings.clone() }
}

pub async fn follow(directory: &Path, consoles: Vec<Console>, stop: &CancellationToken) -> JoinHandle<()> {
    let modules = Modules::open(directory, consoles, reload::Options::default()).await.unwrap();
    tokio::spawn(modules.follow(stop.clone()))
}

impl Cluster {
    async fn start(plan: Plan) -> Cluster {
        let Plan { settings, engine: limits, files, scripts } = plan;
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(directory.path().join(name).with_extension("wasm"), bytes).unwrap();
        }
        let stop = CancellationToken::new();
        let own = Arc::new(OwnProcess::new("master-1", "master", stop.clone()));
        let options = master::Options {
            id: "master-1".into(),
            info: Default::default(),
            address: ([127, 0, 0, 1], 0).into(),
            listener: listener::Options::default(),
            register_deadline: Duration::from_secs(5),
            max_frame: 4 << 20,
            pending: 4096,
            tell_deadline: Duration::from_secs(10),
            grace: Duration::from_millis(100),
            table: Default::default(),
            mass_loss: master::MassLoss::default(),
            journal: Journal::new(1000),
            observe: pomelo_host::observe::Options::default(),
            event_window: Duration::from_millis(1),
            reconnect: Default::default(),
            configured: [("master-1".into(), "master".into())].into(),
            admin_log: Default::default(),
            files: None,
            rollouts: Default::default(),
        };
        let access = Access::new(users(), Tokens::new(None));
        let own = Own {
            application: own.application(),
            process: own,
            keeper: None,
            scripts: scripts_of(&scripts, "master-1"),
        };
        let master = Master::start(options, access, own, None, engine(&limits), settings.clone()).await.unwrap();
        let following = follow(directory.path(), master.consoles().into(), &stop).await;
        soon("the start of the modules", master.run_modules()).await;
        for console in master.consoles() {
            soon("the start of the files", console.files_started()).await;
        }
        Cluster { master, directory, settings, engine: limits, scripts, stop, following }
    }

    pub fn address(&self) -> String {
        self.master.address().to_string()
    }

    /// A client that may do everything.
    pub async fn admin(&self) -> AdminClient {
        self.client("admin").await
    }

    /// A client of level 2.
    pub async fn viewer(&self) -> AdminClient {
        self.client("monitor").await
    }

    async fn client(&self, user: &str) -> AdminClient {
        let options = client::Options {
            port: self.master.address().port(),
            username: user.into(),
            password: user.into(),
            request_time: super::GENEROUS,
            ..client::Options::default()
        };
        AdminClient::connect(options).await.unwrap()
    }

    /// A monitor that has registered and started its modules.
    pub async fn server(&self, id: &str, server_type: &str) -> Server {
        let own = Arc::new(OwnProcess::new(id, server_type, CancellationToken::new()));
        let services = Services { application: Some(own.application()), process: Some(own), ..Services::default() };
        self.beside(id, server_type, Info::default(), services).await
    }

    /// The same with the server's `info` and with what its host offers to modules.
    pub async fn beside(&self, id: &str, server_type: &str, info: Info, services: Services) -> Server {
        let stop = CancellationToken::new();
        let options = monitor::Options {
            id: id.into(),
            server_type: server_type.into(),
            info,
            scripts: scripts_of(&self.scripts, id),
            ..monitor::Options::default()
        };
        let monitor = Monitor::new(options, services, engine(&self.engine), self.settings.clone()).await.unwrap();
        let following = follow(self.directory.path(), vec![monitor.console().clone()], &stop).await;
        monitor.join(self.address(), watch::Sender::new(Phase::running(std::process::id())).subscribe());
        soon("the registration of a monitor", monitor.registered()).await;
        soon("the start of the files", monitor.console().files_started()).await;
        Server { monitor, stop, following }
    }

    /// A monitor whose answers the test gives.
    pub async fn hand(&self, id: &str) -> Hand {
        Hand::register(&self.address(), id).await
    }

    /// The master's console service.
    pub fn console(&self) -> Console {
        let [console, _] = self.master.consoles();
        console
    }

    /// The status of a module id on the master.
    pub fn status(&self, id: &str) -> Option<ModuleStatus> {
        self.console().modules().into_iter().find(|status| status.id == id)
    }

    /// Puts a file into the modules' directory in one step, as package tools do.
    pub fn drop_in(&self, name: &str, bytes: &[u8]) {
        let new = self.directory.path().join("new.part");
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    /// Writes over a file.
    pub fn overwrite(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn rename(&self, name: &str, new: &str) {
        std::fs::rename(self.path(name), self.path(new)).unwrap();
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name).with_extension("wasm")
    }

    /// Waits until the file of that digest answers to an id on the master.
    pub async fn in_force(&self, id: &str, digest: &str) {
        let look = async || self.status(id).filter(|status| status.digest == digest);
        eventually("the new version", look).await;
    }

    /// Waits until a file of the name is refused for a reason that contains `part`; the reason.
    pub async fn refused(&self, name: &str, part: &str) -> String {
        let console = self.console();
        let look = async || {
            let mut reasons: Vec<String> = console.modules().into_iter().filter_map(|status| status.refused).collect();
            reasons.extend(console.refused().remove(name));
            reasons.into_iter().find(|why| why.contains(part))
        };
        eventually(&format!("a refusal that says {part:?}"), look).await
    }

    pub async fn stop(self) {
        self.stop.cancel();
        soon("the end of the master", self.master.shut_down(DRAIN)).await;
        self.following.await.unwrap();
    }
}

impl Server {
    pub async fn stop(self) {
        self.stop.cancel();
        soon("the end of a monitor", self.monitor.shut_down(DRAIN)).await;
        self.following.await.unwrap();
    }
}
