//! What the course of the checks asks of the program, and does with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::check::Asked;
use super::profiles;
use crate::failure::Failure;
use crate::profile;
use crate::supervise::{Ring, Supervisor, resident_of_group};

/// Lines of output that are kept of a program that is ended for its health.
const LAST_LINES: usize = 10;

/// A program that is checked.
pub(in crate::monitor::supervised) trait Patient: Send + Sync + 'static {
    /// The label of the check in metrics, and what it asks, in words.
    fn name(&self) -> (&'static str, String);
    /// Checks the program once, within that time; why it is not well.
    fn check(&self, at_most: Duration) -> impl Future<Output = Result<(), String>> + Send;
    /// Resident memory of the process and all of its group, bytes; absent where it has ended.
    fn memory(&self, pid: u32) -> impl Future<Output = Option<u64>> + Send;
    /// The last lines that it has written.
    fn last_lines(&self) -> impl Future<Output = Vec<String>> + Send;
    /// Takes a CPU profile of the process for that time. The file that it is in.
    fn profile(&self, pid: u32, time: Duration) -> impl Future<Output = Result<PathBuf, Failure>> + Send;
    /// Ends the process, which counts as failed. Answers when it begins to be ended.
    fn restart(&self, pid: u32, why: String) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The program under a monitor.
pub(in crate::monitor::supervised) struct Program {
    /// What is asked of it, if anything is.
    pub asked: Option<Asked>,
    /// Its output.
    pub ring: Arc<Ring>,
    /// The server's data directory.
    pub dir: PathBuf,
    pub supervisor: Supervisor,
}

impl Patient for Program {
    fn name(&self) -> (&'static str, String) {
        self.asked.as_ref().map_or(("none", String::new()), Asked::name)
    }

    async fn check(&self, at_most: Duration) -> Result<(), String> {
        match &self.asked {
            Some(asked) => asked.ask(at_most).await,
            None => Ok(()),
        }
    }

    async fn memory(&self, pid: u32) -> Option<u64> {
        // The files of all processes are read.
        tokio::task::spawn_blocking(move || resident_of_group(pid)).await.ok().flatten()
    }

    async fn last_lines(&self) -> Vec<String> {
        let page = self.ring.read(None, LAST_LINES, Duration::ZERO).await;
        page.lines.into_iter().map(|line| line.text).collect()
    }

    async fn profile(&self, pid: u32, time: Duration) -> Result<PathBuf, Failure> {
        let profile = profile::process(pid, time).await?;
        profiles::save(self.dir.clone(), pid, profile).await
    }

    async fn restart(&self, pid: u32, why: String) -> Result<(), Failure> {
        self.supervisor.unhealthy(pid, why).await
    }
}
