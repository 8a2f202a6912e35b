//! Processes that an earlier run of a program left behind outside its process group. They may hold what the next run needs: a port, a lock.
//!
//! They are recognised by variables of their environment, because every process inherits its parent's. No other process is killed.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::util::proc::processes_with;

/// How long to wait for killed processes to end.
const KILLED: Duration = Duration::from_secs(5);
/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Kills the processes whose environment has all these variables, each `NAME=value`. Returns how many there were, 0 if there are no variables.
pub async fn kill_leftovers(marks: &[String]) -> usize {
    if marks.is_empty() {
        return 0;
    }
    let wanted = marks.to_vec();
    let found = tokio::task::spawn_blocking(move || processes_with(&wanted)).await.unwrap_or_default();
    // `kill` of 0 would kill this process's own group, and 1 is the system's first process.
    let pids = found.into_iter().filter_map(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1);
    let found: Vec<Pid> = pids.map(Pid::from_raw).collect();
    let begun = Instant::now();
    for pid in &found {
        tracing::warn!(pid = pid.as_raw(), ?marks, "what is left of an earlier run is killed");
        // The process may have just ended.
        let _ = kill(*pid, Signal::SIGKILL);
    }
    while found.iter().any(|pid| kill(*pid, None) != Err(Errno::ESRCH)) && begun.elapsed() < KILLED {
        tokio::time::sleep(LOOK).await;
    }
    found.len()
}
