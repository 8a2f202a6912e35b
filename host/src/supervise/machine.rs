//! What this machine is and does, and what a process has used, under the names that npm's `pomelo-monitor` gives them.
//!
//! pomelo-monitor asks Node, `iostat`, `ps` and `pidstat`; here everything is read from the kernel, so that nothing else has to be installed.

use std::collections::BTreeMap;
use std::fs;

use chrono::Local;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::unistd::{SysconfVar, sysconf};
use serde_json::{Map, Value, json};
use sysinfo::System;

use crate::failure::{Failure, code};

/// What the machine is and how it is doing: `hostname`, `type`, `platform`, `arch`, `release`; `uptime` in seconds; `loadavg` over 1, 5 and 15
/// minutes; `totalmem` and `freemem` in bytes; `cpus`, each with `model`, `speed` in MHz and `times` in ms; `networkInterfaces`, from name to
/// addresses; `versions` of this program; and `iostat`, means since the machine started: `disk` (kB read and written in all and per
/// second, transfers per second; all disks together) and `cpu` (percent). It reads files; not for a thread that others wait for.
pub fn system() -> Value {
    let load = System::load_average().ok();
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let cpus = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    let models = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let (total, free) = memory();
    let uptime = System::uptime().unwrap_or_default();
    json!({
        "hostname": System::host_name().unwrap_or_default(),
        "type": kernel(),
        "platform": if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS },
        "arch": node_arch(),
        "release": System::kernel_version().unwrap_or_default(),
        "uptime": uptime,
        "loadavg": load.map_or([0.0; 3], |load| [load.one, load.five, load.fifteen]),
        "totalmem": total,
        "freemem": free,
        "cpus": cpus.enumerate().map(|(n, line)| cpu(line, &models, n)).collect::<Vec<_>>(),
        "networkInterfaces": interfaces(),
        "versions": { "pomelo": crate::wire::VERSION },
        "iostat": { "date": time(), "disk": disk(uptime), "cpu": cpu_shares(&stat) },
    })
}

/// What a process has used: `time`, `serverId`, `serverType`, `pid`; `cpuAvg`, its CPU time as a share of its life, and `memAvg`, its resident memory as a
/// share of all, percent, as `ps` has them; `vsz` and `rss` in KiB; `usr`, `sys` and `gue`, percent of one core on average. It reads files.
///
/// # Errors
/// `not-available` where there is no such process, or the system does not tell.
pub fn usage(pid: u32, server_id: &str, server_type: &str) -> Result<Value, Failure> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let parsed = read("stat").zip(read("status")).and_then(|(stat, status)| {
        let used = Used::parse(&stat, ticks(), System::boot_time().ok()?)?;
        let kib = |name| kib(&status, name);
        Some((used, kib("VmSize").unwrap_or(0), kib("VmRSS").unwrap_or(0)))
    });
    let Some((used, vsz, rss)) = parsed else {
        let what = format!("the system tells nothing of process {pid}");
        return Err(Failure::new(code::NOT_AVAILABLE, what));
    };
    let percent = |seconds: f64| rounded(100.0 * seconds / used.life.max(0.01));
    Ok(json!({
        "time": time(), "serverId": server_id, "serverType": server_type, "pid": pid,
        "cpuAvg": percent(used.user + used.system),
        "memAvg": rounded(100.0 * rss as f64 * 1024.0 / (memory().0.max(1)) as f64),
        "vsz": vsz, "rss": rss,
        "usr": percent(used.user), "sys": percent(used.system), "gue": percent(used.guest),
    }))
}

/// Local time as pomelo-monitor writes it.
fn time() -> String {
    Local::now().format("%Y-%-m-%-d %H:%M:%S").to_string()
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The kernel's name as `uname` and Node have it.
fn kernel() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        "freebsd" => "FreeBSD",
        other => other,
    }
}

/// Node's word for this machine's processor.
fn node_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        "x86" => "ia32",
        other => other,
    }
}

/// The unit of times in `/proc`, per second.
fn ticks() -> f64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().map_or(100.0, |ticks| ticks as f64)
}

/// All memory, and what could be had of it, bytes.
fn memory() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name| kib(&text, name).unwrap_or(0) * 1024;
    (bytes("MemTotal"), bytes("MemAvailable"))
}

/// A line `Name:   123 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// A line `cpu0 user nice system idle iowait irq softirq steal …` of `/proc/stat`.
fn fields(line: &str) -> Vec<f64> {
    line.split_ascii_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect()
}

fn cpu(line: &str, models: &str, n: usize) -> Value {
    let fields = fields(line);
    let millis = |field: usize| (fields.get(field).copied().unwrap_or(0.0) * 1000.0 / ticks()) as u64;
    let member = |name: &str| {
        let lines = models.lines().filter_map(|line| line.split_once(':')).filter(|(key, _)| key.trim() == name);
        lines.map(|(_, value)| value.trim().to_owned()).nth(n)
    };
    let speed = member("cpu MHz").and_then(|mhz| mhz.parse::<f64>().ok()).map_or(0, |mhz| mhz as u64);
    json!({
        "model": member("model name").unwrap_or_default(),
        "speed": speed,
        "times": { "user": millis(0), "nice": millis(1), "sys": millis(2), "idle": millis(3), "irq": millis(5) },
    })
}

/// How all processors together have spent their time, percent.
fn cpu_shares(stat: &str) -> Value {
    let fields = stat.lines().find(|line| line.starts_with("cpu ")).map(fields).unwrap_or_default();
    // Guests' time is in `user` already.
    let total: f64 = fields.iter().take(8).sum();
    let share = |wanted: &[usize]| {
        let sum: f64 = wanted.iter().filter_map(|field| fields.get(*field)).sum();
        rounded(100.0 * sum / total.max(1.0))
    };
    json!({
        "cpu_user": share(&[0]), "cpu_nice": share(&[1]), "cpu_system": share(&[2, 5, 6]),
        "cpu_iowait": share(&[4]), "cpu_steal": share(&[7]), "cpu_idle": share(&[3]),
    })
}

/// What all disks together have moved; parts of disks and what stands for other disks are not counted again.
fn disk(uptime: u64) -> Value {
    const SECTOR: f64 = 512.0;
    let is_disk = |name: &str| {
        let virtual_ones = ["loop", "ram", "zram", "dm-", "md"];
        !virtual_ones.iter().any(|prefix| name.starts_with(prefix))
            && fs::exists(format!("/sys/block/{}", name.replace('/', "!"))).unwrap_or(false)
    };
    let (mut transfers, mut read, mut written) = (0.0, 0.0, 0.0);
    for line in fs::read_to_string("/proc/diskstats").unwrap_or_default().lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |field: usize| words.get(field).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
        if words.get(2).is_some_and(|name| is_disk(name)) {
            transfers += number(3) + number(7);
            read += number(5) * SECTOR / 1024.0;
            written += number(9) * SECTOR / 1024.0;
        }
    }
    let per_second = |value: f64| rounded(value / uptime.max(1) as f64);
    json!({
        "kb_read": rounded(read), "kb_wrtn": rounded(written),
        "kb_read_per": per_second(read), "kb_wrtn_per": per_second(written), "tps": per_second(transfers),
    })
}

/// Addresses by interface, in Node's form.
fn interfaces() -> Map<String, Value> {
    let Ok(addresses) = getifaddrs() else { return Map::new() };
    let addresses: Vec<_> = addresses.collect();
    let macs: BTreeMap<&str, String> = addresses
        .iter()
        .filter_map(|address| {
            let bytes = address.address.as_ref()?.as_link_addr()?.addr()?;
            let text: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            Some((address.interface_name.as_str(), text.join(":")))
        })
        .collect();
    let mut by_name = Map::new();
    for address in &addresses {
        let storage = address.address.as_ref();
        let v4 = storage.and_then(|address| address.as_sockaddr_in()).map(|address| (address.ip().to_string(), "IPv4"));
        let v6 =
            || storage.and_then(|address| address.as_sockaddr_in6()).map(|address| (address.ip().to_string(), "IPv6"));
        let Some((text, family)) = v4.or_else(v6) else { continue };
        let netmask = address.netmask.as_ref().and_then(|mask| {
            let v4 = mask.as_sockaddr_in().map(|mask| mask.ip().to_string());
            v4.or_else(|| mask.as_sockaddr_in6().map(|mask| mask.ip().to_string()))
        });
        let entry = json!({
            "address": text, "netmask": netmask, "family": family,
            "mac": macs.get(address.interface_name.as_str()),
            "internal": address.flags.contains(InterfaceFlags::IFF_LOOPBACK),
        });
        let list = by_name.entry(address.interface_name.clone()).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(entry);
        }
    }
    by_name
}

/// CPU time of a process and how long it has lived, seconds.
#[derive(Debug, PartialEq)]
struct Used {
    user: f64,
    system: f64,
    guest: f64,
    life: f64,
}

impl Used {
    /// From `/proc/PID/stat`, with the machine's start in seconds since 1970.
    fn parse(stat: &str, ticks: f64, boot: u64) -> Option<Used> {
        // The second field is the program's name in brackets and may hold anything; counting begins behind it, at the third.
        let rest = &stat[stat.rfind(')')? + 1..];
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let seconds = |field: usize| Some(fields.get(field - 3)?.parse::<f64>().ok()? / ticks);
        let now = Local::now().timestamp_millis() as f64 / 1000.0;
        let started = boot as f64 + seconds(22)?;
        Some(Used { user: seconds(14)?, system: seconds(15)?, guest: seconds(43)?, life: now - started })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_the_machine_is_described_as_pomelo_monitor_does() {
        let system = system();
        for name in ["hostname", "type", "platform", "arch", "release"] {
            assert!(system[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {system}");
        }
        assert!(system["totalmem"].as_u64().unwrap() >= system["freemem"].as_u64().unwrap());
        assert!(system["freemem"].as_u64().unwrap() > 0 && system["uptime"].as_u64().unwrap() > 0);
        assert!(system["cpus"][0]["times"]["user"].as_u64().is_some());
        assert_eq!(system["loadavg"].as_array().unwrap().len(), 3);
        let shares: f64 = system["iostat"]["cpu"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
        assert!((99.0..101.0).contains(&shares), "{}", system["iostat"]);
        assert!(system["iostat"]["disk"]["tps"].as_f64().is_some());
    }

    #[test]
    fn p_what_a_process_has_used_is_told_and_one_that_is_not_there_is_no_panic() {
        let used = usage(std::process::id(), "chat-1", "chat").unwrap();
        assert_eq!((&used["serverId"], &used["serverType"]), (&json!("chat-1"), &json!("chat")));
        assert!(used["rss"].as_u64().unwrap() > 1024 && used["vsz"].as_u64() > used["rss"].as_u64(), "{used}");
        for name in ["cpuAvg", "memAvg", "usr", "sys", "gue"] {
            assert!(used[name].as_f64().is_some_and(|share| share >= 0.0), "{name}: {used}");
        }
        assert_eq!(usage(u32::MAX, "a", "b").unwrap_err().code, code::NOT_AVAILABLE);
    }

    #[test]
    fn a_programs_name_cannot_shift_its_figures() {
        let stat = format!("7 (a b) c) S {}", (4..=52).map(|n| n.to_string()).collect::<Vec<_>>().join(" "));
        let used = Used::parse(&stat, 1.0, 0).unwrap();
        assert_eq!((used.user, used.system, used.guest), (14.0, 15.0, 43.0));
        assert_eq!(Used::parse("7 (a", 1.0, 0), None);
    }
}
