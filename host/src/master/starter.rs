//! The local starter: runs a monitor for every configured server of this machine, and brings monitors back that died.
//!
//! A monitor runs in a process group of its own, its program in another. Asked to end, a monitor ends its program first; killed, its guard
//! and this starter's (see [`Guard`]) leave nothing behind, and the same holds when the master itself is killed. A monitor that ends with
//! code 0 was stopped on purpose and stays down, and so does one that ends with [`monitor::GIVEN_UP`]: its program is not to run again.
//! Servers on other machines are not this starter's: it names them and passes them over.

use std::collections::{BTreeMap, HashMap};
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;

use super::members::Members;
use crate::auth::{Secret, Tokens};
use crate::config::{Config, DEMO_TOKEN_VARIABLE, Origin, Server};
use crate::failure::{Failure, code};
use crate::monitor;
use crate::plugin::capability::Starter;
use crate::supervise::{Ended, Guard, Output, Phase, Policy, Restart, Spec, Status, Supervisor};

/// What a monitor may take beyond its program's deadline, to tell its master and end.
const MARGIN: Duration = Duration::from_secs(2);
/// How long a server that was started may take to join.
const JOIN: Duration = Duration::from_secs(5);
/// How long a host name may take to be looked up.
const LOOKUP: Duration = Duration::from_secs(5);

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

/// Runs monitors on this machine. Dropping it kills them and their programs.
pub struct LocalStarter {
    servers: Vec<Server>,
    /// The program and arguments that come before those of a single monitor.
    command: Vec<String>,
    env: BTreeMap<String, String>,
    policy: Policy,
    guard: Arc<Guard>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    monitors: HashMap<String, Supervisor>,
    /// From here on nothing is started.
    closing: bool,
}

impl LocalStarter {
    /// A starter for the servers of a configuration. Monitors run as this very program, with the arguments
    /// `monitor --quiet --config DIR --env ENVIRONMENT --master HOST:PORT --modules DIR --id ID`; with `--demo` instead of the configuration's for
    /// the demo cluster. `master` is where the master really listens.
    ///
    /// # Errors
    /// Where the path of this program, of the configuration or of the modules' directory cannot be found or is not Unicode.
    pub fn new(config: &Config, master: &str) -> Result<Self, Failure> {
        let unusable = |what: &str| Failure::new(code::NOT_AVAILABLE, format!("no monitors can be started: {what}"));
        let exe = std::env::current_exe().map_err(|error| unusable(&format!("where is this program? {error}")))?;
        let exe =
            exe.into_os_string().into_string().map_err(|_| unusable("the path of this program is not Unicode"))?;
        Self::with_program(config, master, vec![exe])
    }

    /// As [`LocalStarter::new`], with another program (and arguments before the others) in place of this one.
    ///
    /// # Errors
    /// Where the path of the configuration or of the modules' directory is not Unicode.
    pub fn with_program(config: &Config, master: &str, mut command: Vec<String>) -> Result<Self, Failure> {
        let mut env = BTreeMap::new();
        // Arguments are texts here, and monitors run where this host does not always.
        let absolute = |dir: &Path, what: &str| {
            let dir = std::path::absolute(dir).ok().and_then(|dir| dir.into_os_string().into_string().ok());
            let unusable = || format!("no monitors can be started: the path of {what} is not Unicode");
            dir.ok_or_else(|| Failure::new(code::NOT_AVAILABLE, unusable()))
        };
        // What is to be said of servers that come and go the master says; in the same terminal monitors report trouble only. An argument and
        // no variable, which their programs would inherit.
        command.extend(["monitor".into(), "--quiet".into()]);
        match &config.origin {
            Origin::Directory(dir) => {
                let dir = absolute(dir, "the configuration")?;
                command.extend(["--config".into(), dir, "--env".into(), config.environment.clone()]);
            }
            Origin::Demo => {
                command.push("--demo".into());
                let tokens = Tokens::new(config.tokens.clone());
                if let Some(token) = tokens.own("master").map(Secret::expose) {
                    env.insert(DEMO_TOKEN_VARIABLE.to_owned(), token.to_owned());
                }
            }
        }
        // Both may have been named on the command line, instead of what the monitors would read in the configuration.
        let modules = absolute(&config.settings.modules.dir, "the modules' directory")?;
        command.extend(["--master".into(), master.to_owned(), "--modules".into(), modules]);
        let settings = &config.settings.supervise;
        let mut policy = settings.policy(Restart::OnFailure);
        policy.stop_deadline += MARGIN;
        Ok(LocalStarter {
            servers: config.servers.clone(),
            command,
            env,
            policy,
            guard: Arc::new(Guard::new()),
            state: Mutex::default(),
        })
    }

    /// Starts the servers that are meant, all at once; the outcome of each, in the order of the configuration.
    ///
    /// # Errors
    /// `not-found` where none is meant.
    pub async fn run(&self, which: &Which) -> Result<Vec<(String, Result<(), Failure>)>, Failure> {
        let meant = |server: &&Server| match which {
            Which::All => true,
            Which::Type(server_type) => server.server_type == *server_type,
            Which::Id(id) => server.id == *id,
        };
        let ids: Vec<&str> = self.servers.iter().filter(meant).map(|server| server.id.as_str()).collect();
        match which {
            Which::Type(name) if ids.is_empty() => {
                Err(self.unknown(&format!("no server of type `{name}`"), |s| &s.server_type))
            }
            Which::Id(id) if ids.is_empty() => Err(self.unknown(&format!("no server `{id}`"), |s| &s.id)),
            _ => Ok(join_all(ids.into_iter().map(|id| async move { (id.to_owned(), self.start_one(id).await) })).await),
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

    async fn start_one(&self, id: &str) -> Result<(), Failure> {
        let server = self.servers.iter().find(|server| server.id == id);
        let server = server.ok_or_else(|| self.unknown(&format!("no server `{id}`"), |s| &s.id))?;
        if !is_local(&server.host).await {
            let what = format!("{id} belongs on {}: run `pomelo monitor --id {id}` there", server.host);
            return Err(Failure::new(code::NOT_AVAILABLE, what));
        }
        let known = {
            let mut state = self.state.lock();
            if state.closing {
                return Err(Failure::new(code::NOT_AVAILABLE, "the master is ending and starts no servers"));
            }
            match state.monitors.get(id) {
                Some(monitor) => Some(monitor.clone()),
                None => {
                    let monitor = Supervisor::launch(self.spec(server), self.guard.clone());
                    state.monitors.insert(id.to_owned(), monitor);
                    None
                }
            }
        };
        match known {
            Some(monitor) => {
                // One whose server was just stopped is about to end: it has answered, and tells its master goodbye.
                let down = |status: &Status| status.pid().is_none();
                let _ = tokio::time::timeout(MARGIN, monitor.status().wait_for(down)).await;
                match monitor.start().await {
                    Err(failure) if failure.code == code::BUSY => Err(Failure::new(
                        code::BUSY,
                        format!("{id} is not down, and is started only when it is: {}", failure.message),
                    )),
                    outcome => outcome.map(drop),
                }
            }
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
            (Phase::Starting(Some(_)) | Phase::Running(_), _) | (Phase::Exited(Ended::Stopped), _) => Ok(()),
            (_, Some(exit)) => Err(Failure::new(code::FAILED, format!("{id}: {}", exit.how))),
            (_, None) => Ok(()),
        }
    }

    fn spec(&self, server: &Server) -> Spec {
        let mut command = self.command.clone();
        command.extend(["--id".into(), server.id.clone()]);
        Spec {
            id: format!("the monitor of {}", server.id),
            command,
            cwd: None,
            env: self.env.clone(),
            env_remove: Vec::new(),
            policy: self.policy.clone(),
            final_code: Some(monitor::GIVEN_UP.into()),
            // A monitor names itself in its log, and its program in front of the program's lines.
            output: Output::Inherit,
        }
    }

    fn unknown(&self, what: &str, name: impl Fn(&Server) -> &String) -> Failure {
        let mut names: Vec<&str> = self.servers.iter().map(|server| name(server).as_str()).collect();
        names.dedup();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::new(code::NOT_FOUND, format!("{what} is configured (configured: {known})"))
    }
}

impl Starter for LocalStarter {
    fn start(&self, id: String) -> BoxFuture<'_, Result<(), Failure>> {
        async move { self.start_one(&id).await }.boxed()
    }
}

/// A starter that answers when the server has joined: whoever is told that it was started finds it in the cluster.
pub(super) struct UntilJoined {
    pub starter: Arc<dyn Starter>,
    pub members: Arc<Members>,
}

impl Starter for UntilJoined {
    fn start(&self, id: String) -> BoxFuture<'_, Result<(), Failure>> {
        async move {
            self.starter.start(id.clone()).await?;
            tokio::time::timeout(JOIN, self.members.joined(&id)).await.map_err(|_| {
                Failure::new(code::TIMEOUT, format!("{id} was started and has not joined within {JOIN:?}: see the log"))
            })
        }
        .boxed()
    }
}

/// Whether a host is this machine: one of its addresses can be bound here, and no others can.
async fn is_local(host: &str) -> bool {
    let Ok(Ok(addresses)) = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, 0))).await else {
        return false;
    };
    addresses.into_iter().any(|address| UdpSocket::bind(address).is_ok())
}

#[cfg(test)]
#[path = "starter_tests.rs"]
mod tests;
