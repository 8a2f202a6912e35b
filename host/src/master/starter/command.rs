//! The command lines that monitors are run with.
//!
//! A monitor elsewhere is run by `ssh`, whose remote shell takes one line: every word of it is quoted. That `ssh` holds the monitor's standard input
//! open, and the monitor ends when that ends: however the connection goes, nothing is left behind there. No secret stands on a command line; a
//! monitor elsewhere finds its token in the configuration there.

use std::collections::BTreeMap;
use std::path::Path;

use super::pomelo::App;
use crate::auth::{Secret, Tokens};
use crate::config::{Config, DEMO_TOKEN_VARIABLE, Origin, Server, Ssh};
use crate::failure::{Failure, code};
use crate::monitor;
use crate::supervise::{Input, Output, Policy, Spec};
use crate::wire::raw;

/// Options of `ssh` that stand behind the configured ones, so that those win: it asks nobody for a password, and notices when the other side has gone.
const SSH: [&str; 8] =
    ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"];

/// What the command lines of all monitors of a configuration share.
pub(super) struct Commands {
    /// Program and arguments here, but for those of a single monitor.
    here: Vec<String>,
    env: BTreeMap<String, String>,
    /// Program and arguments elsewhere.
    there: Vec<String>,
    ssh: Ssh,
    policy: Policy,
    /// How servers without a program of their own are run, where they are pomelo's.
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
        // What is to be said of servers that come and go the master says; in the same terminal monitors report trouble only. An argument and
        // no variable, which their programs would inherit.
        let quiet = ["monitor".to_owned(), "--quiet".into()];
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
        // It may have been named on the command line, instead of what the monitors would read in the configuration.
        here.extend(["--modules".into(), absolute(&config.settings.modules.dir, "the modules' directory")?]);
        there.push("--attached".into());
        policy.stop_deadline += super::monitors::MARGIN;
        Ok(Commands { here, env, there, ssh, policy, pomelo: App::new(config)? })
    }

    /// What is run for a server: its monitor, or, where it is one of pomelo's, the server itself; or the `ssh` that runs either on the server's host. A
    /// server that was `added` is described in full.
    ///
    /// # Errors
    /// Where `ssh` would read the host as something else.
    pub(super) fn spec(&self, server: &Server, added: bool, by_ssh: bool) -> Result<Spec, Failure> {
        if let Some(app) = self.pomelo.as_ref().filter(|_| server.launch.is_none()) {
            let spec = app.spec(server);
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
            // The shell gives its place to the monitor, whose exit code is then that of `ssh`.
            self.ssh(&server.host, &format!("exec {line}"))?
        } else {
            self.here.iter().cloned().chain(one).collect()
        };
        Ok(Spec {
            id: format!("the monitor of {}", server.id),
            command,
            cwd: None,
            env: if by_ssh { BTreeMap::new() } else { self.env.clone() },
            env_remove: Vec::new(),
            policy: self.policy.clone(),
            final_code: Some(monitor::GIVEN_UP.into()),
            // A monitor names itself in its log, and its program in front of the program's lines.
            output: Output::Inherit,
            input: if by_ssh { Input::Open } else { Input::Empty },
            cpus: Vec::new(),
            leftovers: Vec::new(),
        })
    }

    /// The `ssh` that runs a line on a host.
    fn ssh(&self, host: &str, line: &str) -> Result<Vec<String>, Failure> {
        let bad =
            host.is_empty() || host.starts_with('-') || host.contains(|c: char| c.is_control() || c.is_whitespace());
        // With a user in front it would not begin with `-`, and still be no host.
        if bad || host.contains('@') {
            let what = format!("`{}` is no host that `ssh` could be told", crate::wire::shown(host));
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

pub(super) fn absolute(dir: &Path, what: &str) -> Result<String, Failure> {
    // Arguments are texts here, and monitors run where this host does not always.
    let dir = std::path::absolute(dir).ok().and_then(|dir| dir.into_os_string().into_string().ok());
    let unusable = || format!("no monitors can be started: the path of {what} is not Unicode");
    dir.ok_or_else(|| Failure::new(code::NOT_AVAILABLE, unusable()))
}
