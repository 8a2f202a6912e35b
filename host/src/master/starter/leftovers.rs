//! `restart-force`: processes that an earlier run of a server left behind, outside its group, and that would hold its ports.
//!
//! They are known by their environment: every program is told its server's id and its master. Nothing else is ever killed.

use std::fs;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long killed processes are waited for.
const KILLED: Duration = Duration::from_secs(5);
/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Kills what is left of a server whose monitor is down; how many processes that were.
pub(super) async fn kill_all(id: &str, master: &str) -> usize {
    let (server, master) = (format!("POMELO_SERVER_ID={id}"), format!("POMELO_MASTER={master}"));
    let found = tokio::task::spawn_blocking(move || find(&server, &master)).await.unwrap_or_default();
    let begun = Instant::now();
    for pid in &found {
        tracing::warn!(server = %id, pid = pid.as_raw(), "what is left of an earlier run is killed");
        // One that has just ended is as good as killed.
        let _ = kill(*pid, Signal::SIGKILL);
    }
    while found.iter().any(|pid| kill(*pid, None) != Err(Errno::ESRCH)) && begun.elapsed() < KILLED {
        tokio::time::sleep(LOOK).await;
    }
    found.len()
}

/// The processes whose environment holds both variables. Those of other users cannot be read, and are not ours.
fn find(server: &str, master: &str) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pid = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok().filter(|pid| *pid > 1)?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let has = |wanted: &str| environment.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes());
        (has(server) && has(master)).then(|| Pid::from_raw(pid))
    };
    processes.filter_map(pid).collect()
}
