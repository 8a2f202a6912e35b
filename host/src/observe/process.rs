//! What this process uses, under the names that Prometheus' clients have for it.

use super::{Family, Type};
use crate::util::proc;

/// The metrics of this process; none where the system does not tell.
pub(super) fn families() -> Vec<Family> {
    let pid = std::process::id();
    let mut families = Vec::new();
    if let Some(usage) = proc::process_usage(pid) {
        let cpu = Family::new(
            "process_cpu_seconds_total",
            Type::Counter,
            "CPU time of this process, in the program and in the kernel.",
        );
        families.push(cpu.of(usage.user + usage.system));
        let resident = Family::gauge("process_resident_memory_bytes", "Resident memory of this process.");
        families.push(resident.of(usage.resident as f64));
        let space = Family::gauge("process_virtual_memory_bytes", "Address space of this process.");
        families.push(space.of(usage.virtual_memory as f64));
    }
    if let Some(started) = proc::start_time(pid) {
        let start = Family::gauge(
            "process_start_time_seconds",
            "When this process was started, seconds since 1970-01-01 00:00 UTC.",
        );
        families.push(start.of(started));
    }
    if let Some(open) = proc::open_files(pid) {
        families
            .push(Family::gauge("process_open_fds", "Files and sockets that this process has open.").of(open as f64));
    }
    families
}
