//! Processes that an earlier run of a program left behind outside its group, and that hold what the next run needs: a port, a lock.
//!
//! They are known by their environment, which is handed down. Nothing else is ever killed.

use std::fs;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long killed processes are waited for.
const KILLED: Duration = Duration::from_secs(5);
/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Kills the processes whose environment has all these variables, each `NAME=value`; how many they were. Without variables it is none.
pub async fn kill_leftovers(marks: &[String]) -> usize {
    if marks.is_empty() {
        return 0;
    }
    let wanted = marks.to_vec();
    let found = tokio::task::spawn_blocking(move || find(&wanted)).await.unwrap_or_default();
    let begun = Instant::now();
    for pid in &found {
        tracing::warn!(pid = pid.as_raw(), ?marks, "what is left of an earlier run is killed");
        // One that has just ended is as good as killed.
        let _ = kill(*pid, Signal::SIGKILL);
    }
    while found.iter().any(|pid| kill(*pid, None) != Err(Errno::ESRCH)) && begun.elapsed() < KILLED {
        tokio::time::sleep(LOOK).await;
    }
    found.len()
}

/// Processes of other users cannot be read, and are not ours.
fn find(marks: &[String]) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pid = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok().filter(|pid| *pid > 1)?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let has = |mark: &String| environment.split(|byte| *byte == 0).any(|one| one == mark.as_bytes());
        marks.iter().all(has).then(|| Pid::from_raw(pid))
    };
    processes.filter_map(pid).collect()
}
