//! The command lines that monitors are run with.
//!
//! A monitor on another machine is run by `ssh`. Every word of its command is quoted, because the remote shell takes one line. `ssh` holds the monitor's
//! standard input open, and the monitor ends when its input does, so that nothing is left behind when the connection breaks. No secret stands on a
//! command line: a monitor on another machine finds its token in the configuration there.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::path::absolute;
use super::pomelo::App;
use crate::auth::{Secret, Tokens};
use crate::config::{Config, DEMO_TOKEN_VARIABLE, Origin, Server, Ssh};
use crate::failure::{Failure, code};
use crate::journal::Journal;
use crate::monitor;
use crate::supervise::{Input, Output, Policy, Spec, Starts};
use crate::tls;
use crate::wire::raw;

/// How long a monitor may take beyond its program's deadline, to tell its master and end.
pub(super) const MARGIN: Duration = Duration::from_secs(2);
/// The exit code of a monitor whose arguments or configuration are wrong.
const USAGE: i32 = 2;
/// Options of `ssh`: it asks nobody for a password, and notices when the other side has gone. They stand behind the configured ones, because the
/// first of two options wins.
const SSH: [&str; 8] =
    ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"];

/// What the command lines of all monitors of a configuration share.
pub(super) struct Commands {
    /// Program and arguments on this machine, without those of a single monitor.
    here: Vec<String>,
    env: BTreeMap<String, String>,
    /// The same on other machines.
    there: Vec<String>,
    ssh: Ssh,
    policy: Policy,
    /// The turns of all that is started by these commands.
    starts: Starts,
    /// With these exit codes a monitor says that it is not to be started again.
    final_codes: Vec<i32>,
    /// How the servers of a pomelo application are run, which have no command of their own.
    pomelo: Option<App>,
}

impl Commands {
    /// `program` and arguments that come before all others; `master` is where the master listens.
    ///
    /// # Errors
    /// Where the path of the configuration or of the modules' directory is not Unicode.
    pub(super) fn new(
        config: &Config,
        master: &str,
        program: Vec<String>,
        mut policy: Policy,
    ) -> Result<Self, Failure> {
        let ssh = config.settings.ssh.clone().unwrap_or_default();
        let mut env = BTreeMap::new();
        // The master reports servers that come and go, so that monitors report only trouble in the same terminal. An argument and no variable,
        // because their programs would inherit a variable.
        //
        // The system has watches for some hundred processes of a user at most, so that monitors look at the modules' directory themselves.
        let quiet = ["monitor", "--quiet", "--poll"].map(str::to_owned);
        let mut there = ssh.program.clone().map_or_else(|| program.clone(), |program| vec![program]);
        let mut here = program;
        here.extend(quiet.clone());
        there.extend(quiet);
        match &config.origin {
            Origin::Directory(dir) => {
                let dir = absolute(dir, "the configuration")?;
                let environment = ["--env".to_owned(), config.environment.clone()];
                here.extend(["--config".into(), dir.clone()]);
                here.extend(environment.clone());
                there.extend(["--config".into(), ssh.config.clone().unwrap_or(dir)]);
                there.extend(environment);
            }
            Origin::Demo => {
                here.push("--demo".into());
                let tokens = Tokens::new(config.tokens.clone());
                if let Some(token) = tokens.own("master").map(Secret::expose) {
                    env.insert(DEMO_TOKEN_VARIABLE.to_owned(), token.to_owned());
                }
            }
        }
        for command in [&mut here, &mut there] {
            command.extend(["--master".into(), master.to_owned()]);
        }
        // The command line may have named another directory than the configuration that the monitors read.
        let modules = &config.settings.modules;
        if !modules.from_master {
            here.extend(["--modules".into(), absolute(&modules.dir, "the modules' directory")?]);
        }
        // The files may name another as well, which only a new master takes.
        if let Some(data) = &config.settings.data {
            here.extend(["--data".into(), absolute(data, "the data directory")?]);
        }
        there.push("--attached".into());
        policy.stop_deadline += MARGIN;
        let final_codes = vec![monitor::GIVEN_UP.into()];
        let starts = Starts::per_second(config.settings.supervise.starts_per_s, None);
        Ok(Commands { here, env, there, ssh, policy, starts, final_codes, pomelo: App::new(config)? })
    }

    /// Monitors of this machine read their configuration from that file, as [`Texts::write`](crate::config::Texts::write) has written it.
    ///
    /// # Errors
    /// Where the path is not Unicode.
    pub(super) fn reads(&mut self, file: &Path) -> Result<(), Failure> {
        self.here.extend(["--files".into(), absolute(file, "the data directory")?]);
        // A configuration that is in force is good, so that a monitor which cannot use it never will: its server is not in it any more.
        self.final_codes.push(USAGE);
        Ok(())
    }

    /// A monitor that finds another one of its server is not started again either.
    pub(super) fn yielding(mut self) -> Self {
        self.final_codes.push(monitor::RUNS_ALREADY.into());
        self
    }

    /// Whether a monitor that finds another one of its server is tried again.
    pub(super) fn yields(&self) -> bool {
        self.final_codes.contains(&monitor::RUNS_ALREADY.into())
    }

    /// Whether servers without a command of their own are those of a pomelo application.
    pub(super) fn runs_pomelo(&self) -> bool {
        self.pomelo.is_some()
    }

    /// What is run for a server: its monitor, or the server itself if it is one of pomelo's; with `by_ssh`, the `ssh` that runs it on the server's host. The
    /// command describes a server that was `added` in full, because no configuration has it.
    ///
    /// # Errors
    /// If `ssh` would read the host as something else.
    pub(super) fn spec(&self, server: &Server, added: bool, by_ssh: bool, journal: &Journal) -> Result<Spec, Failure> {
        if let Some(app) = self.pomelo.as_ref().filter(|_| server.launch.is_none()) {
            let spec = app.spec(server, journal, self.starts.clone());
            if !by_ssh {
                return Ok(spec);
            }
            let command = self.ssh(&server.host, &app.remote(server))?;
            return Ok(Spec { command, cwd: None, cpus: Vec::new(), ..spec });
        }
        let mut one = Vec::new();
        if added {
            one.extend(["--server".to_owned(), raw(&server.info).get().to_owned()]);
        }
        one.extend(["--id".into(), server.id.clone()]);
        let command = if by_ssh {
            let line = shell_words::join(self.there.iter().chain(&one));
            // With `exec` the monitor replaces the shell, so that its exit code is that of `ssh`.
            self.ssh(&server.host, &format!("exec {line}"))?
        } else {
            self.here.iter().cloned().chain(one).collect()
        };
        Ok(Spec {
            id: format!("the monitor of {}", server.id),
            command,
            cwd: None,
            env: if by_ssh { BTreeMap::new() } else { self.env.clone() },
            // What its configuration says of TLS counts, and not what was meant for the commands of a terminal.
            env_remove: tls::VARIABLES.map(str::to_owned).to_vec(),
            // Longer than its program's own, so that the monitor can end the program and tell how.
            policy: Policy {
                stop_deadline: self.policy.stop_deadline.max(server.ending_deadline() + MARGIN),
                ..self.policy.clone()
            },
            final_codes: self.final_codes.clone(),
            // Inherited, because a monitor marks its own lines and its program's.
            output: Output::Inherit,
            input: if by_ssh { Input::Open } else { Input::Empty },
            cpus: Vec::new(),
            leftovers: Vec::new(),
            starts: self.starts.clone(),
        })
    }

    /// The `ssh` that runs a line on a host.
    fn ssh(&self, host: &str, line: &str) -> Result<Vec<String>, Failure> {
        let bad =
            host.is_empty() || host.starts_with('-') || host.contains(|c: char| c.is_control() || c.is_whitespace());
        // A text with a user in front would not begin with `-`, and still be no host.
        if bad || host.contains('@') {
            let what = format!("`{}` is no host that can be given to `ssh`", crate::wire::shown(host));
            return Err(Failure::new(code::BAD_MESSAGE, what));
        }
        let destination = self.ssh.user.as_ref().map_or_else(|| host.to_owned(), |user| format!("{user}@{host}"));
        let mut command = vec!["ssh".to_owned()];
        command.extend(self.ssh.options.iter().cloned());
        command.extend(SSH.map(str::to_owned));
        command.extend(["-T".into(), "--".into(), destination, line.to_owned()]);
        Ok(command)
    }
}
