//! CPU affinity: which CPUs a program runs on.
//!
//! A process inherits the affinity of the thread that starts it. That thread takes the program's affinity during the start, so that all threads of
//! the program run on its CPUs from the first instruction.

use std::io;

/// Runs `start` on the given CPUs; without any, on all that this host may use.
///
/// # Errors
/// Those of `start`, and one if this host may use none of these CPUs.
#[cfg(target_os = "linux")]
pub(super) fn on<T>(cpus: &[usize], start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    if cpus.is_empty() {
        return start();
    }
    // 0 stands for the calling thread.
    let this = Pid::from_raw(0);
    let mut wanted = CpuSet::new();
    cpus.iter().try_for_each(|cpu| wanted.set(*cpu))?;
    let before = sched_getaffinity(this)?;
    sched_setaffinity(this, &wanted).map_err(|error| {
        let cpus: Vec<_> = cpus.iter().map(usize::to_string).collect();
        io::Error::new(io::Error::from(error).kind(), format!("there is no CPU {} for it: {error}", cpus.join(", ")))
    })?;
    let started = start();
    if let Err(error) = sched_setaffinity(this, &before) {
        tracing::error!(%error, "a thread of this host stays on the CPUs of a program");
    }
    started
}

/// As on Linux, but CPUs cannot be given.
///
/// # Errors
/// Those of `start`, and one if CPUs are given.
#[cfg(not(target_os = "linux"))]
pub(super) fn on<T>(cpus: &[usize], start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if cpus.is_empty() { start() } else { Err(io::Error::other("CPUs can be named on Linux only")) }
}

/// Whether this host may run a program on a CPU, by its number. This uses `on`, so that it agrees with the start of a program.
pub fn has_cpu(cpu: usize) -> bool {
    on(&[cpu], || Ok(())).is_ok()
}
