//! The command lines of servers of pomelo 2.x. No monitor of ours stands beside them, because they register with the master themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::path::absolute;
use crate::config::{Config, Origin, Server};
use crate::failure::Failure;
use crate::journal::{Event, Journal, kind};
use crate::supervise::kept_output::OutputFile;
use crate::supervise::{Input, Output, Policy, Restart, Ring, Spec, Starts, print_lines};

/// The exit code of a pomelo server that was killed on purpose: -1.
const KILLED: i32 = 255;

/// How the servers of an application of pomelo 2.x are run.
pub(super) struct App {
    node: String,
    /// The application's main program, and the directory that it is in.
    main: String,
    dir: PathBuf,
    environment: String,
    policy: Policy,
    config: Config,
}

impl App {
    /// Absent if the configuration names no application.
    ///
    /// # Errors
    /// Where the path of the application is not Unicode.
    pub(super) fn new(config: &Config) -> Result<Option<Self>, Failure> {
        let (Some(app), Origin::Directory(_)) = (&config.settings.pomelo.app, &config.origin) else { return Ok(None) };
        let main = absolute(app, "pomelo's application")?;
        let dir = Path::new(&main).parent().map_or_else(PathBuf::new, Path::to_owned);
        let (node, environment) = (config.settings.pomelo.node.clone(), config.environment.clone());
        let policy = config.settings.supervise.policy(Restart::OnFailure);
        Ok(Some(App { node, main, dir, environment, policy, config: config.clone() }))
    }

    /// What is run for a server. Its members are arguments, as pomelo's own starter has them. A server that ends in order was stopped, and stays down.
    pub(super) fn spec(&self, server: &Server, journal: &Journal, starts: Starts) -> Spec {
        let restart = if server.restart == Restart::Never { Restart::Never } else { Restart::OnFailure };
        Spec {
            id: server.id.clone(),
            command: self.command(server),
            cwd: Some(self.dir.clone()),
            env: BTreeMap::new(),
            env_remove: Vec::new(),
            policy: Policy { restart, ..self.policy.clone() },
            final_codes: vec![KILLED],
            output: self.output(server, journal),
            input: Input::Empty,
            cpus: server.cpus.clone(),
            leftovers: Vec::new(),
            starts,
        }
    }

    /// Prints a server's lines as a monitor does, and keeps them in a file of the server's data directory.
    fn output(&self, server: &Server, journal: &Journal) -> Output {
        let id = &server.id;
        let Some(dir) = self.config.data_dir(id) else { return Output::Lines(print_lines()) };
        match OutputFile::open(&dir, self.config.settings.logs, id, journal.clone()) {
            // Nobody asks for lines in memory, because there is no monitor.
            Ok(file) => Output::Kept(print_lines(), Arc::new(Ring::kept_in(1, file))),
            Err(error) => {
                let message = format!("the output of {id} is not kept: {error}");
                tracing::warn!(server = id, "{message}");
                journal.record(Event::new(kind::ALARM, message).server(id.clone()));
                Output::Lines(print_lines())
            }
        }
    }

    /// What is run for a server on another machine, by the shell there.
    pub(super) fn remote(&self, server: &Server) -> String {
        let line = shell_words::join(self.command(server));
        let dir = self.dir.to_string_lossy();
        format!("cd {} && exec {line}", shell_words::quote(&dir))
    }

    fn command(&self, server: &Server) -> Vec<String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut command = vec![self.node.clone()];
        match server.info.get("args") {
            Some(Value::Array(args)) => command.extend(args.iter().map(text)),
            Some(Value::String(args)) => command.extend([args.trim().to_owned()]),
            _ => {}
        }
        command.extend([self.main.clone(), format!("env={}", self.environment)]);
        command.extend(server.info.iter().map(|(key, value)| format!("{key}={}", text(value))));
        command
    }
}
