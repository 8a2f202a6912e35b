//! Memory and CPU time of a process.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::plugin::capability::Stats;

/// Reads figures of processes, and remembers the last reading so that CPU use can be told.
#[derive(Default)]
pub struct Figures(Mutex<Last>);

#[derive(Default)]
struct Last {
    /// Absent until the first reading, and on systems that sysinfo does not know: their figures are 0.
    system: Option<System>,
    /// Process, when, and its CPU time by then, ms.
    reading: Option<(u32, Instant, u64)>,
}

impl Figures {
    /// Figures of one process that has run for `uptime`, not of its descendants; memory and CPU are 0 where it has just ended. `restarts` and
    /// `state` are the caller's to fill in. The first reading's `cpu` is the mean since the process started.
    pub fn read(&self, pid: u32, uptime: Duration) -> Stats {
        let mut last = self.0.lock();
        let kind = ProcessRefreshKind::nothing().with_memory().with_cpu().without_tasks();
        let id = Pid::from_u32(pid);
        if last.system.is_none() {
            last.system = System::new().ok();
        }
        if let Some(system) = &mut last.system {
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), true, kind);
        }
        let process = last.system.as_ref().and_then(|system| system.process(id));
        let (rss, used) = process.map_or((0, 0), |process| (process.memory(), process.accumulated_cpu_time()));
        let now = Instant::now();
        let (before, over) = match last.reading {
            Some((known, when, used)) if known == pid => (used, now - when),
            _ => (0, uptime),
        };
        last.reading = Some((pid, now, used));
        let (heap_total, heap_used) = private_memory(pid).unwrap_or((rss, rss));
        let cpu = if over.is_zero() {
            0.0
        } else {
            Duration::from_millis(used.saturating_sub(before)).div_duration_f32(over) * 100.0
        };
        Stats {
            pid,
            rss,
            heap_total,
            heap_used,
            uptime: uptime.as_secs_f64(),
            cpu,
            restarts: 0,
            state: "running",
            last_exit: None,
        }
    }
}

/// Private memory in all (`RssAnon` and `VmSwap`) and what of it is resident (`RssAnon`), bytes; absent where the system does not tell.
fn private_memory(pid: u32) -> Option<(u64, u64)> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    parse(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse(status: &str) -> Option<(u64, u64)> {
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    let resident = kib("RssAnon")? * 1024;
    // `VmData` would count what is only reserved: terabytes in a program that runs WebAssembly.
    Some((resident + kib("VmSwap").unwrap_or(0) * 1024, resident))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_this_process_are_plausible() {
        let figures = Figures::default();
        let first = figures.read(std::process::id(), Duration::from_secs(1));
        assert!(first.rss > 1 << 20 && first.heap_total > 0 && first.heap_used > 0, "{first:?}");
        let second = figures.read(std::process::id(), Duration::from_secs(2));
        assert!(second.cpu.is_finite() && second.cpu >= 0.0, "{second:?}");
    }

    #[test]
    fn proc_status_is_read_by_name() {
        let text = "Name:\tx\nVmSwap:\t    2048 kB\nRssAnon:\t     512 kB\n";
        assert_eq!(parse(text), Some((2560 * 1024, 512 * 1024)));
        assert_eq!(parse("Name:\tzombie\n"), None);
    }
}
