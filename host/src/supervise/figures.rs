//! Memory and CPU time of a process.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::plugin::capability::Stats;
use crate::util::proc::{group_memory, private_memory};

/// Reads figures of processes. It remembers the last reading, because CPU use is the difference between two.
#[derive(Default)]
pub struct Figures(Mutex<Last>);

#[derive(Default)]
struct Last {
    /// Absent until the first reading, and on systems that sysinfo does not know. Figures are then 0.
    system: Option<System>,
    /// The process, the time of the reading, and the process's CPU time by then, ms.
    reading: Option<(u32, Instant, u64)>,
}

impl Figures {
    /// Figures of one process that has run for `uptime`, without its descendants. Memory and CPU are 0 if the process has just ended. The caller
    /// fills in `restarts` and `state`. The first reading's `cpu` is the mean since the process started.
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

/// Resident memory of all processes of a group, bytes. What several of them share counts once for each. Absent where the group is empty. On systems
/// other than Linux it is that of the leader alone. Looks at every process of the machine, and blocks the thread meanwhile.
pub fn resident_of_group(leader: u32) -> Option<u64> {
    group_memory(leader).or_else(|| {
        let id = Pid::from_u32(leader);
        let mut system = System::new().ok()?;
        let kind = ProcessRefreshKind::nothing().with_memory().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), true, kind);
        system.process(id).map(sysinfo::Process::memory)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_this_process_are_plausible() {
        let figures = Figures::default();
        let begun = Instant::now();
        let first = figures.read(std::process::id(), Duration::from_secs(1));
        assert!(first.rss > 1 << 20 && first.heap_total > 0 && first.heap_used > 0, "{first:?}");
        // The loop uses CPU time until the system has counted some, because the system counts it in steps of some milliseconds.
        let busy = loop {
            let until = Instant::now() + Duration::from_millis(50);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            let now = figures.read(std::process::id(), begun.elapsed());
            if now.cpu > 0.0 {
                break now.cpu;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "this process works, and its figures do not move");
        };
        let cpus = std::thread::available_parallelism().map_or(1.0, |cpus| cpus.get() as f32);
        // A reading may include CPU time from before the last reading, because the system counts it in coarse steps.
        assert!(busy <= 100.0 * cpus * 2.0, "{busy}");
    }

    #[test]
    fn the_memory_of_a_group_is_that_of_all_its_processes() {
        let group = nix::unistd::getpgrp().as_raw().unsigned_abs();
        let own = Figures::default().read(std::process::id(), Duration::from_secs(1)).rss;
        // What the test program has may shrink between the two readings, but not to half.
        assert!(resident_of_group(group).unwrap() >= own / 2);
        assert_eq!(resident_of_group(u32::MAX), None);
    }

    #[test]
    fn a_process_that_is_not_there_has_figures_of_zero() {
        let none = Figures::default().read(u32::MAX, Duration::from_secs(1));
        assert_eq!((none.rss, none.heap_total, none.heap_used, none.cpu), (0, 0, 0, 0.0));
    }
}
