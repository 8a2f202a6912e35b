//! What Linux tells of processes and of the machine under `/proc`. Only this file reads it, by the `procfs` crate.
//!
//! On other systems everything that is asked for is absent or empty.

/// CPU time of a process and how long it has lived, seconds; its memory, bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessUsage {
    /// CPU time in the program.
    pub user: f64,
    /// CPU time in the kernel.
    pub system: f64,
    /// CPU time in virtual machines; a part of `user`.
    pub guest: f64,
    /// Time since it was started.
    pub life: f64,
    /// Address space.
    pub virtual_memory: u64,
    /// Resident memory.
    pub resident: u64,
}

/// How a processor has spent its time since the machine started, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// In programs.
    pub user: u64,
    /// In programs of low priority.
    pub nice: u64,
    /// In the kernel.
    pub system: u64,
    /// Without work.
    pub idle: u64,
    /// Without work, while a disk is waited for.
    pub iowait: u64,
    /// In interrupts.
    pub irq: u64,
    /// In deferred parts of interrupts.
    pub softirq: u64,
    /// Taken by other machines on the same hardware.
    pub steal: u64,
}

/// One processor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cpu {
    /// The maker's name; empty where it is not told.
    pub model: String,
    /// MHz; 0 where it is not told.
    pub speed: u64,
    /// How its time was spent.
    pub times: CpuTimes,
}

/// All processors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cpus {
    /// Together.
    pub total: CpuTimes,
    /// Each.
    pub each: Vec<Cpu>,
}

/// What a block device has moved since the machine started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    /// Its name under `/dev`.
    pub name: String,
    /// Transfers that are done.
    pub transfers: u64,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

#[cfg(target_os = "linux")]
pub use linux::{
    block_devices, boot_id, cpus, group_memory, ignores_hangup, open_files, private_memory, process_usage,
    processes_with, start_time,
};
#[cfg(not(target_os = "linux"))]
pub use other::{
    block_devices, boot_id, cpus, group_memory, ignores_hangup, open_files, private_memory, process_usage,
    processes_with, start_time,
};

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsStr;
    use std::time::{SystemTime, UNIX_EPOCH};

    use procfs::process::{Process, all_processes};
    use procfs::{CpuInfo, CpuTime, Current, CurrentSI, KernelStats};

    use super::{BlockDevice, Cpu, CpuTimes, Cpus, ProcessUsage};

    /// The kernel's unit in `/proc/diskstats`, whatever the device's own is.
    const SECTOR: u64 = 512;

    fn process(pid: u32) -> Option<Process> {
        Process::new(pid.try_into().ok()?).ok()
    }

    /// Private memory of a process in all, swapped out or not, and what of it is resident, bytes.
    pub fn private_memory(pid: u32) -> Option<(u64, u64)> {
        let status = process(pid)?.status().ok()?;
        let resident = status.rssanon? * 1024;
        // `VmData` would count what is only reserved: terabytes in a program that runs WebAssembly.
        Some((resident + status.vmswap.unwrap_or(0) * 1024, resident))
    }

    /// Resident memory of all processes of a group, bytes; absent where there is none.
    pub fn group_memory(group: u32) -> Option<u64> {
        let group = i32::try_from(group).ok()?;
        let stats = all_processes().ok()?.filter_map(|process| process.ok()?.stat().ok());
        let members = stats.filter(|stat| stat.pgrp == group && stat.state != 'Z');
        members.map(|stat| stat.rss * procfs::page_size()).reduce(|sum, more| sum + more)
    }

    /// What a process has used.
    pub fn process_usage(pid: u32) -> Option<ProcessUsage> {
        let stat = process(pid)?.stat().ok()?;
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        let booted = procfs::boot_time_secs().ok()? as f64;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Some(ProcessUsage {
            user: seconds(stat.utime),
            system: seconds(stat.stime),
            guest: seconds(stat.guest_time.unwrap_or(0)),
            life: now - booted - seconds(stat.starttime),
            virtual_memory: stat.vsize,
            resident: stat.rss * procfs::page_size(),
        })
    }

    /// When a process was started, seconds since 1970-01-01 00:00 UTC.
    pub fn start_time(pid: u32) -> Option<f64> {
        let stat = process(pid)?.stat().ok()?;
        let booted = procfs::boot_time_secs().ok()? as f64;
        Some(booted + stat.starttime as f64 / procfs::ticks_per_second() as f64)
    }

    /// How many files and sockets a process has open.
    pub fn open_files(pid: u32) -> Option<usize> {
        process(pid)?.fd_count().ok()
    }

    /// The processes whose environment has all these variables, each `NAME=value`. Those of other users cannot be read, and are not among them.
    pub fn processes_with(variables: &[String]) -> Vec<u32> {
        let has_all = |process: &Process| {
            let Ok(environment) = process.environ() else { return false };
            let has =
                |(name, value): (&str, &str)| environment.get(OsStr::new(name)).is_some_and(|found| found == value);
            variables.iter().all(|variable| variable.split_once('=').is_some_and(has))
        };
        let all = all_processes().into_iter().flatten().flatten();
        all.filter(has_all).filter_map(|process| process.pid().try_into().ok()).collect()
    }

    /// All processors; none where the system does not tell.
    pub fn cpus() -> Cpus {
        let Ok(stats) = KernelStats::current() else { return Cpus::default() };
        let info = CpuInfo::current().ok();
        let field = |n, name| info.as_ref().and_then(|info| info.get_field(n, name));
        let each = stats.cpu_time.iter().enumerate().map(|(n, time)| Cpu {
            model: field(n, "model name").unwrap_or_default().to_owned(),
            speed: field(n, "cpu MHz").and_then(|mhz| mhz.parse::<f64>().ok()).map_or(0, |mhz| mhz as u64),
            times: time.into(),
        });
        Cpus { total: (&stats.total).into(), each: each.collect() }
    }

    impl From<&CpuTime> for CpuTimes {
        fn from(time: &CpuTime) -> Self {
            CpuTimes {
                user: time.user_ms(),
                nice: time.nice_ms(),
                system: time.system_ms(),
                idle: time.idle_ms(),
                iowait: time.iowait_ms().unwrap_or(0),
                irq: time.irq_ms().unwrap_or(0),
                softirq: time.softirq_ms().unwrap_or(0),
                steal: time.steal_ms().unwrap_or(0),
            }
        }
    }

    /// All block devices: disks, their partitions, and those that stand for others.
    pub fn block_devices() -> Vec<BlockDevice> {
        let device = |disk: procfs::DiskStat| BlockDevice {
            name: disk.name,
            transfers: disk.reads + disk.writes,
            read: disk.sectors_read * SECTOR,
            written: disk.sectors_written * SECTOR,
        };
        procfs::diskstats().unwrap_or_default().into_iter().map(device).collect()
    }

    /// What tells the machine's run since it was started from every other; empty where that is not told.
    pub fn boot_id() -> String {
        let id = procfs::sys::kernel::random::boot_id().unwrap_or_default();
        id.trim().to_owned()
    }

    /// Whether this process ignores SIGHUP, by its own decision or that of whoever started it.
    pub fn ignores_hangup() -> bool {
        // Signals are counted from 1, and SIGHUP is the first.
        Process::myself().and_then(|own| own.status()).is_ok_and(|status| status.sigign & 1 != 0)
    }
}

#[cfg(not(target_os = "linux"))]
#[allow(missing_docs, reason = "as on Linux")]
mod other {
    use super::{BlockDevice, Cpus, ProcessUsage};

    pub fn private_memory(_pid: u32) -> Option<(u64, u64)> {
        None
    }

    pub fn group_memory(_group: u32) -> Option<u64> {
        None
    }

    pub fn process_usage(_pid: u32) -> Option<ProcessUsage> {
        None
    }

    pub fn start_time(_pid: u32) -> Option<f64> {
        None
    }

    pub fn open_files(_pid: u32) -> Option<usize> {
        None
    }

    pub fn processes_with(_variables: &[String]) -> Vec<u32> {
        Vec::new()
    }

    pub fn cpus() -> Cpus {
        Cpus::default()
    }

    pub fn block_devices() -> Vec<BlockDevice> {
        Vec::new()
    }

    pub fn boot_id() -> String {
        String::new()
    }

    pub fn ignores_hangup() -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_told_of_and_one_that_is_not_there_is_absent() {
        let own = std::process::id();
        let (private, resident) = private_memory(own).unwrap();
        assert!(private >= resident && resident > 4096, "{private} {resident}");
        let usage = process_usage(own).unwrap();
        assert!(usage.resident > resident / 2 && usage.virtual_memory > usage.resident, "{usage:?}");
        assert!((0.0..86_400.0).contains(&usage.life), "{usage:?}");
        assert_eq!((private_memory(u32::MAX), process_usage(u32::MAX)), (None, None));
    }

    #[test]
    fn a_process_is_found_by_all_its_variables_and_by_no_fewer() {
        let mark = format!("POMELO_TEST_MARK={}", std::process::id());
        let (name, value) = mark.split_once('=').unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").env(name, value).spawn().unwrap();
        let found = processes_with(std::slice::from_ref(&mark));
        let both = processes_with(&[mark.clone(), "POMELO_TEST_MARK_2=x".to_owned()]);
        let longer = processes_with(&[format!("{mark}0")]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((found, both, longer), (vec![child.id()], Vec::new(), Vec::new()));
    }

    #[test]
    fn every_processor_has_spent_some_time() {
        let cpus = cpus();
        assert!(!cpus.each.is_empty() && cpus.each.iter().all(|cpu| cpu.times.idle + cpu.times.user > 0), "{cpus:?}");
        assert!(cpus.total.idle >= cpus.each[0].times.idle);
    }
}
