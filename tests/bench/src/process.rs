//! What processes use: a master, and this one.

use std::time::Duration;

use anyhow::{Context, Result};
use procfs::process::Process;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// A process that is measured.
pub struct Measured(i32);

impl Measured {
    /// By its number.
    pub fn new(id: u32) -> Measured {
        Measured(id.cast_signed())
    }

    fn process(&self) -> Result<Process> {
        Process::new(self.0).context("the master has ended")
    }

    /// CPU time that it has used.
    ///
    /// # Errors
    /// If it has ended, as with the others.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = self.process()?.stat()?;
        let ticks = stat.utime + stat.stime;
        Ok(Duration::from_micros(ticks * 1_000_000 / procfs::ticks_per_second()))
    }

    /// The most memory that it has had resident, MiB.
    pub fn peak_mib(&self) -> Result<f64> {
        Ok(self.process()?.status()?.vmhwm.unwrap_or_default() as f64 / 1024.0)
    }

    /// The memory that it has resident, MiB.
    pub fn resident_mib(&self) -> Result<f64> {
        Ok(self.process()?.status()?.vmrss.unwrap_or_default() as f64 / 1024.0)
    }

    /// CPU time that the threads have used which it has now. Finer than [`Measured::cpu`], for a process that has little to do.
    pub fn cpu_of_threads(&self) -> Result<Duration> {
        let mut sum = 0;
        for task in self.process()?.tasks()?.flatten() {
            // A thread may have ended meanwhile.
            sum += task.schedstat().map_or(0, |stat| stat.sum_exec_runtime);
        }
        Ok(Duration::from_nanos(sum))
    }

    /// How often its threads have waited: each wait ends with a wake-up.
    pub fn wake_ups(&self) -> Result<u64> {
        let mut sum = 0;
        for task in self.process()?.tasks()?.flatten() {
            // A thread may have ended meanwhile.
            sum += task.status().ok().and_then(|status| status.voluntary_ctxt_switches).unwrap_or_default();
        }
        Ok(sum)
    }
}

/// CPU time that this process has used, with all of its threads.
pub fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Lets this process, and the masters that it starts, open as many files as they may. How many that is.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // What cannot be raised is found out by whoever needs more.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
