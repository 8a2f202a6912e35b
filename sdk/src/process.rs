//! [`Process`], [`KeptOutput`] and [`Starter`]: running programs.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::{kept_output, process, starter};
use crate::failure::{Result, from_host};
use crate::json;

/// The process that this host stands beside; on the master's own monitor, the master.
#[derive(Debug)]
pub struct Process {
    _private: (),
}

impl Process {
    pub(crate) const fn new() -> Self {
        Self { _private: () }
    }

    /// Figures of the process now, an object: `pid`; `rss`, `heapTotal` and `heapUsed` in bytes; `uptime` in seconds; `cpu`, percent of one
    /// core since the last call; `restarts`, how often the host has brought the program back; `state`, `running`, `starting`,
    /// `backing-off` or `exited`. Fails with `bad-answer` where they do not make a `T`.
    pub fn stats<T: DeserializeOwned>(&self) -> Result<T> {
        json::answer(process::stats())
    }

    /// Stops the process for good: asks it to end, and kills its process group when the host's deadline has passed. Returns when it has ended;
    /// the host then deregisters and ends too. On the master this returns at once, and the host ends when the calls under way are answered.
    pub fn stop(&self) -> Result {
        process::stop().map_err(from_host)
    }

    /// Kills the process group for good, without asking the process to end. Otherwise like [`stop`](Process::stop).
    pub fn kill(&self) -> Result {
        process::kill().map_err(from_host)
    }

    /// Stops the process and starts it again. Returns the new process id when the program runs. Fails with `not-available` on the master,
    /// because a master cannot restart itself.
    pub fn restart(&self) -> Result<u32> {
        process::restart().map_err(from_host)
    }

    /// What the machine is and how it is doing, an object with the members of pomelo-monitor's system information.
    pub fn system<T: DeserializeOwned>(&self) -> Result<T> {
        json::answer(process::system())
    }

    /// Figures of the process with the members of pomelo-monitor's process information.
    pub fn usage<T: DeserializeOwned>(&self) -> Result<T> {
        json::answer(process::usage())
    }

    /// The newest lines that the program has written, at most `lines`; with `since`, those after that line's number. Where there is no such
    /// line yet, waits for one, at most `wait`. The answer is an object: `lines`, of `{n, time, error, text}`, and `last`.
    pub fn output<T: DeserializeOwned>(&self, since: Option<u64>, lines: u32, wait: Duration) -> Result<T> {
        let wait = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        json::answer(process::output(since, lines, wait))
    }

    /// Names of the log files in the application's log directory.
    pub fn logs(&self) -> Result<Vec<String>> {
        process::logs().map_err(from_host)
    }

    /// The last lines, at most `lines`, of a log file in that directory.
    pub fn log_tail(&self, name: &str, lines: u32) -> Result<Vec<String>> {
        process::log_tail(name, lines).map_err(from_host)
    }
}

/// What programs have written, as it is kept in files: also of servers that do not run.
#[derive(Debug)]
pub struct KeptOutput {
    _private: (),
}

impl KeptOutput {
    pub(crate) const fn new() -> Self {
        Self { _private: () }
    }

    /// Lines of a server's output. The query is an object: `lines`, `since`, `from`, `grep`, `bytes`, `wait`, all optional. The answer is an
    /// object: `lines`, of `{n, time, error, text}`, `last`, `end`, `endTime` and `more`. A monitor reads the output of its own server, the master that of
    /// every server of its machine. Fails with `not-found` for a server that is unknown and has no output, and with `not-available` for a server of
    /// another machine.
    pub fn read<T: DeserializeOwned>(&self, server_id: &str, query: &impl Serialize) -> Result<T> {
        json::answer(kept_output::read(server_id, &json::encode(query)?))
    }
}

/// The master's starter of servers.
#[derive(Debug)]
pub struct Starter {
    _private: (),
}

impl Starter {
    pub(crate) const fn new() -> Self {
        Self { _private: () }
    }

    /// Starts a server that is configured or was added, and does not run. The server is no longer kept down. Returns when it has joined. Fails with
    /// `not-available` where this host has no starter.
    pub fn start(&self, id: &str) -> Result {
        starter::start(id).map_err(from_host)
    }

    /// Adds servers to those that are configured, and starts them. All are checked before any is started. Returns the outcome of each, by id.
    pub fn add(&self, servers: &[impl Serialize]) -> Result<Vec<(String, Result)>> {
        let outcomes = starter::add(&json::encode(servers)?).map_err(from_host)?;
        Ok(outcomes.into_iter().map(|(id, outcome)| (id, outcome.map_err(from_host))).collect())
    }

    /// With `down`, keeps servers down that are stopped on purpose, until they are started; a restart of the master does not change that.
    /// Without `down`, the servers are no longer kept down.
    pub fn hold(&self, ids: &[String], down: bool) -> Result {
        starter::hold(ids, down).map_err(from_host)
    }
}
