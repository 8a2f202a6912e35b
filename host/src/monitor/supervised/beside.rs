//! Puts together what stands beside a monitor: the program of its server, or this very process if there is no program.
//!
//! This part knows the configuration of servers, and the values that the caller gives in place of it. It knows neither the command line nor how the
//! master is reached.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::phases::{Followed, follow};
use super::{OwnProcess, Program, StartError, Supervised, Verdict, health};
use crate::config::{Config, Launch, Ready, Settings};
use crate::journal::Journal;
use crate::monitor::Monitor;
use crate::plugin::capability::Services;
use crate::supervise::{DownReason, LineSink, Starts};
use crate::wire::{Info, Phase};

/// How long a monitor whose program has ended for good waits for a master that it can tell so. Where hundreds of monitors start together, the last of them
/// reach the master after a long time.
const TELLING: Duration = Duration::from_secs(30);
/// How long the end of a monitor waits for the disk that its program's output is written to.
const FLUSH: Duration = Duration::from_secs(1);

/// What is to stand beside a monitor: the server's configured program, with the values that the caller gives in place of configured ones.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The server's id.
    pub id: &'a str,
    /// The server's type.
    pub server_type: &'a str,
    /// The master's `host:port`, which the program is told.
    pub master: &'a str,
    /// The configuration, if there is one. The server need not be in it.
    pub config: Option<&'a Config>,
    /// The program and its arguments, in place of the configured ones. If empty, the configured ones are used.
    pub command: Vec<String>,
    /// What says that the program is ready, in place of what the configuration says.
    pub ready: Option<Ready>,
    /// Where the program's ends and starts are written down.
    pub journal: Journal,
}

/// A program is to count as ready when somebody listens on its port, but the configuration gives it no port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("servers.json gives it no port")]
pub struct NoPort;

/// What a monitor stands beside.
pub struct Beside {
    /// What the monitor's modules act on: `application` and `process`.
    pub services: Services,
    /// What the server does.
    pub phase: watch::Receiver<Phase>,
    /// What the program adds to its server's `info`; absent where there is no program.
    pub told: Option<watch::Receiver<Info>>,
    /// What the checks of the program's health have found; absent where it is not checked.
    pub health: Option<watch::Receiver<Verdict>>,
    /// Why the program stays down; absent until it does.
    ended: watch::Receiver<Option<DownReason>>,
    program: Option<Arc<Supervised>>,
}

impl Wanted<'_> {
    /// The program; absent if neither the configuration nor the caller names one.
    ///
    /// # Errors
    /// [`NoPort`].
    pub fn program(self) -> Result<Option<Program>, NoPort> {
        let server = self.config.and_then(|config| config.server(self.id));
        let configured = self.config.zip(server).and_then(|(config, server)| Program::of(config, server));
        let given = (!self.command.is_empty()).then(|| Launch {
            command: self.command.clone(),
            cwd: None,
            env: BTreeMap::new(),
        });
        let program = match (configured, given) {
            (None, None) => return Ok(None),
            (Some(configured), None) => configured,
            (Some(configured), Some(launch)) => Program { launch, ..configured },
            (None, Some(launch)) => self.unconfigured(launch),
        };
        let ready = self.ready.unwrap_or(program.ready);
        if self.ready == Some(Ready::Port) && program.address.is_none() {
            return Err(NoPort);
        }
        Ok(Some(Program { master: self.master.to_owned(), ready, journal: self.journal, ..program }))
    }

    /// A program that the configuration does not name, with the settings that apply to all programs.
    fn unconfigured(&self, launch: Launch) -> Program {
        let default = Settings::default();
        let settings = &self.config.map_or(&default, |config| &config.settings).supervise;
        Program {
            id: self.id.to_owned(),
            server_type: self.server_type.to_owned(),
            master: self.master.to_owned(),
            launch,
            policy: settings.policy(settings.restart),
            cpus: Vec::new(),
            ready: settings.ready,
            address: None,
            ready_timeout: settings.ready_timeout,
            health: None,
            output_lines: settings.output_lines,
            kept: self.config.map_or_else(Default::default, |config| config.settings.logs),
            logs: None,
            crons: Vec::new(),
            force: false,
            dir: self.config.and_then(|config| config.data_dir(self.id)),
            journal: Journal::default(),
            starts: Starts::unlimited(),
        }
    }
}

impl Beside {
    /// Makes ready for a program, whose lines go to `output`. [`Beside::launch`] starts it.
    ///
    /// # Errors
    /// As [`Supervised::prepare`].
    pub async fn program(program: Program, output: LineSink) -> Result<Self, StartError> {
        let supervised = Arc::new(Supervised::prepare(program, output).await?);
        let Followed { phase, ended } = follow(
            supervised.status(),
            supervised.drain_state(),
            supervised.health().unwrap_or_else(health::unchecked),
        );
        let told = Some(supervised.told());
        let application = Some(supervised.application());
        let services = Services {
            application,
            process: Some(supervised.clone()),
            kept_output: Some(supervised.clone()),
            ..Services::default()
        };
        let health = supervised.health();
        Ok(Beside { services, phase, told, health, ended, program: Some(supervised) })
    }

    /// Starts the program, if there is one.
    pub fn launch(&self) {
        if let Some(program) = &self.program {
            program.launch();
        }
    }

    /// Starts no program: modules act on this process, which is the server. `stop` is cancelled when a module ends it.
    pub fn own_process(id: &str, server_type: &str, stop: CancellationToken) -> Self {
        let own = Arc::new(OwnProcess::new(id, server_type, stop));
        let application = Some(own.application());
        let services = Services { application, process: Some(own), ..Services::default() };
        let phase = watch::Sender::new(Phase::running(std::process::id())).subscribe();
        let ended = watch::Sender::new(None).subscribe();
        Beside { services, phase, told: None, health: None, ended, program: None }
    }

    /// Waits until `stop` is cancelled or the program has ended for good. Then it cancels `stop` and ends the monitor and the program. Calls under
    /// way have `drain` to be answered. Returns whether the program ended by itself and is not brought back.
    pub async fn until_the_end(mut self, monitor: &Monitor, stop: &CancellationToken, drain: Duration) -> bool {
        let end = tokio::select! {
            () = stop.cancelled() => None,
            // The program ended by itself, or on purpose.
            Ok(end) = self.ended.wait_for(Option::is_some) => *end,
        };
        if end == Some(DownReason::GivenUp) {
            // A program that ends at once may do so before there is a connection, and the master would never learn why.
            let told = tokio::time::timeout(TELLING, monitor.answered());
            // Whether it was told or not, and whether the monitor was asked to end meanwhile: it ends now.
            let _ = stop.run_until_cancelled(told).await;
        }
        stop.cancel();
        // The monitor and the program end at the same time: the call that asked for the end may still wait for its answer, and whoever started this
        // monitor does not wait for one after the other.
        let ending = async {
            // A program that is down already is left as it is, because the master is still to be told how it ended.
            if let Some(process) = self.services.process.as_ref().filter(|_| end.is_none()) {
                // A failure does not matter, because this host ends in any case.
                let _ = process.stop().await;
            }
        };
        tokio::join!(monitor.shut_down(drain), ending);
        if let Some(program) = self.program {
            // The process goes on to its end in any case, so that it does not matter whether the disk took all.
            let _ = tokio::task::spawn_blocking(move || program.flush_output(FLUSH)).await;
        }
        end == Some(DownReason::GivenUp)
    }
}
