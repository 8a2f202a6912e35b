//! The figures of a process that is not there.

use pomelo_host::plugin::capability::Stats;

pub fn stats(pid: u32) -> Stats {
    Stats {
        pid,
        rss: 52_000_000,
        heap_total: 40_000_000,
        heap_used: 13_470_000,
        uptime: 31.2,
        cpu: 1.0,
        restarts: 0,
        state: "running",
        last_exit: None,
    }
}
