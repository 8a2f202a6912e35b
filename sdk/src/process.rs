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
    /// `unready`, `draining`, `stopping`, `backing-off` or `exited`. Fails with `bad-answer` where they do not make a `T`.
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

    /// Drains the process: the other servers do not see it from now on, and its connections come to an end. Returns when it has none, when it has
    /// ended, or when `deadline`, a day at most, is over. That time does not count towards the deadline of the call. It stays hidden until it is ended
    /// or [put back](Process::undrain). Fails with `not-available` where no program runs, and where the drain is taken back meanwhile.
    pub fn drain(&self, deadline: Duration) -> Result {
        let deadline = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        process::drain(deadline).map_err(from_host)
    }

    /// Takes a drain back: the other servers see the process again. Does nothing where it does not drain.
    pub fn undrain(&self) -> Result {
        process::undrain().map_err(from_host)
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

/// The master's fleet, and the jobs that start and end its servers. Fails with `not-available` where this host has none.
#[derive(Debug)]
pub struct Starter {
    _private: (),
}

impl Starter {
    pub(crate) const fn new() -> Self {
        Self { _private: () }
    }

    /// The servers of the fleet, an array of objects with `id`, `serverType`, `wanted`, `state`, `since`, `why` and so on.
    pub fn servers<T: DeserializeOwned>(&self) -> Result<T> {
        json::answer(starter::servers())
    }

    /// Begins a job, and returns it when it is kept durably. The WIT package says what an order is. Fails with `busy` where another job owns one of
    /// the servers.
    pub fn submit<T: DeserializeOwned>(&self, order: &(impl Serialize + ?Sized)) -> Result<T> {
        json::answer(starter::submit(&json::encode(order)?))
    }

    /// The jobs that are kept, the newest first.
    pub fn jobs<T: DeserializeOwned>(&self) -> Result<T> {
        json::answer(starter::jobs())
    }

    /// Waits until a job has changed since that revision, or is over, at most for the time given and a minute, and returns it. That time does not
    /// count towards the deadline of the call.
    pub fn wait<T: DeserializeOwned>(&self, job: u64, revision: u64, at_most: Duration) -> Result<T> {
        let at_most = u32::try_from(at_most.as_millis()).unwrap_or(u32::MAX);
        json::answer(starter::wait(job, revision, at_most))
    }

    /// Cancels a job, and returns it.
    pub fn cancel<T: DeserializeOwned>(&self, job: u64) -> Result<T> {
        json::answer(starter::cancel(job))
    }

    /// Lets a job go on that has paused, and returns it.
    pub fn resume<T: DeserializeOwned>(&self, job: u64) -> Result<T> {
        json::answer(starter::resume(job))
    }

    /// Takes the drain of servers back. Returns the ids of those that drained or were to drain.
    pub fn undrain(&self, ids: &[String]) -> Result<Vec<String>> {
        starter::undrain(ids).map_err(from_host)
    }
}
