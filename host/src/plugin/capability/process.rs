//! `process`: the process that a host stands beside.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;

use super::unavailable::{not_available, unavailable};
use crate::failure::{Failure, code};
use crate::plugin::bindings::pomelo::admin::{process::Host, types};
use crate::plugin::instance_state::InstanceState;
use crate::wire::raw;

/// The longest time that a drain may be given.
const LONGEST_DRAIN: Duration = Duration::from_secs(24 * 60 * 60);
/// What a drain may take longer than its time, until it is answered.
const DRAIN_MARGIN: Duration = Duration::from_secs(1);
/// Why a host cannot drain.
const NO_DRAIN: &str = "this host runs no program of its own that could drain";

/// What the interface `process` acts on.
pub trait Process: Send + Sync + 'static {
    /// Figures of the process now.
    fn stats(&self) -> Result<Stats, Failure>;
    /// Stops the program for good; answers when it has ended.
    fn stop(&self) -> BoxFuture<'_, Result<(), Failure>>;
    /// Kills the program's process group for good; answers when it has ended.
    fn kill(&self) -> BoxFuture<'_, Result<(), Failure>>;
    /// Stops the program and starts it again; answers with the new process id.
    fn restart(&self) -> BoxFuture<'_, Result<u32, Failure>>;
    /// Hides the server from the others and lets its connections come to an end; answers when none is left or the time is over.
    fn drain(&self, _deadline: Duration) -> BoxFuture<'_, Result<(), Failure>> {
        unavailable("process", NO_DRAIN)
    }
    /// Takes a drain back.
    fn undrain(&self) -> BoxFuture<'_, Result<(), Failure>> {
        unavailable("process", NO_DRAIN)
    }
    /// What the machine is and how it is doing: JSON as the interface says.
    fn system(&self) -> BoxFuture<'_, Result<Value, Failure>> {
        unavailable("process", "this host does not look at its machine")
    }
    /// Figures as pomelo-monitor has them: JSON as the interface says.
    fn usage(&self) -> BoxFuture<'_, Result<Value, Failure>> {
        unavailable("process", "this host does not look at its process")
    }
    /// What the program has written: JSON as the interface says.
    fn output(&self, _since: Option<u64>, _lines: usize, _wait: Duration) -> BoxFuture<'_, Result<Value, Failure>> {
        unavailable("process", "this host does not keep what its process writes")
    }
    /// Names of the files in the application's log directory.
    fn logs(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        unavailable("process", "this host knows no log directory")
    }
    /// The last lines of one of them.
    fn log_tail(&self, _name: String, _lines: usize) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        unavailable("process", "this host knows no log directory")
    }
}

/// Figures of a process, as `process.stats` gives them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Process id; 0 where no process runs.
    pub pid: u32,
    /// Resident memory, bytes.
    pub rss: u64,
    /// Private memory, swapped out or resident, bytes: what comes nearest to pomelo's `heapTotal` of a Node process.
    pub heap_total: u64,
    /// Resident private memory, bytes.
    pub heap_used: u64,
    /// Seconds since the process started.
    pub uptime: f64,
    /// Percent of one core since the last call.
    pub cpu: f32,
    /// How often the program was brought back.
    pub restarts: u64,
    /// `running`, `starting`, `draining`, `stopping`, `backing-off` or `exited`.
    pub state: &'static str,
    /// How the program last ended. Absent where it has not ended yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<LastExit>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastExit {
    /// The manner, in words: `ended with code 1`, `was ended by signal 9`.
    pub how: String,
    /// When, milliseconds since 1970-01-01 00:00 UTC.
    pub time: u64,
    /// The last lines of its standard error, at most 10.
    pub lines: Vec<String>,
}

impl InstanceState {
    fn process(&self) -> Result<Arc<dyn Process>, Failure> {
        let process = self.call()?.context.services.process.clone();
        process.ok_or_else(|| not_available("process", "this host stands beside no process"))
    }
}

impl Host for InstanceState {
    fn stats(&mut self) -> Result<String, types::Failure> {
        Ok(Box::<str>::from(raw(&self.process()?.stats()?)).into())
    }

    async fn stop(&mut self) -> Result<(), types::Failure> {
        let process = self.process()?;
        Ok(self.wait(process.stop()).await?)
    }

    async fn kill(&mut self) -> Result<(), types::Failure> {
        let process = self.process()?;
        Ok(self.wait(process.kill()).await?)
    }

    async fn restart(&mut self) -> Result<u32, types::Failure> {
        let process = self.process()?;
        Ok(self.wait(process.restart()).await?)
    }

    async fn drain(&mut self, deadline_ms: u32) -> Result<(), types::Failure> {
        let process = self.process()?;
        let deadline = Duration::from_millis(deadline_ms.into());
        if deadline > LONGEST_DRAIN {
            let what = format!("a drain may take {} ms at most, not {deadline_ms}", LONGEST_DRAIN.as_millis());
            return Err(Failure::new(code::BAD_MESSAGE, what).into());
        }
        Ok(self.wait_patiently(deadline + DRAIN_MARGIN, process.drain(deadline)).await?)
    }

    async fn undrain(&mut self) -> Result<(), types::Failure> {
        let process = self.process()?;
        Ok(self.wait(process.undrain()).await?)
    }

    async fn system(&mut self) -> Result<String, types::Failure> {
        let process = self.process()?;
        Ok(self.wait(process.system()).await?.to_string())
    }

    async fn usage(&mut self) -> Result<String, types::Failure> {
        let process = self.process()?;
        Ok(self.wait(process.usage()).await?.to_string())
    }

    async fn output(&mut self, since: Option<u64>, lines: u32, wait_ms: u32) -> Result<String, types::Failure> {
        let process = self.process()?;
        let (_, deadline) = self.nested(Duration::from_millis(wait_ms.into()))?;
        let wait = deadline.saturating_duration_since(Instant::now());
        Ok(self.wait(process.output(since, lines as usize, wait)).await?.to_string())
    }

    async fn logs(&mut self) -> Result<Vec<String>, types::Failure> {
        let process = self.process()?;
        Ok(self.wait(process.logs()).await?)
    }

    async fn log_tail(&mut self, name: String, lines: u32) -> Result<Vec<String>, types::Failure> {
        let process = self.process()?;
        Ok(self.wait(process.log_tail(name, lines as usize)).await?)
    }
}
