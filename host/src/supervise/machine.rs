//! What this machine is and does, and what a process has used, under the names that npm's `pomelo-monitor` gives them.
//!
//! pomelo-monitor asks Node, `iostat`, `ps` and `pidstat`; here everything is read from the kernel, so that nothing else has to be installed.

use std::collections::BTreeMap;
use std::fs;

use chrono::Local;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use serde_json::{Map, Value, json};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::failure::{Failure, code};
use crate::util::proc::{self, Cpu, CpuTimes};

/// The machine and its load: `hostname`, `type`, `platform`, `arch`, `release`; `uptime` in seconds; `loadavg` over 1, 5 and 15 minutes; `totalmem`
/// and `freemem` in bytes; `cpus`, each with `model`, `speed` in MHz and `times` in ms; `networkInterfaces`, from name to addresses; `versions` of
/// this program; and `iostat`, means since the machine started: `disk` (kB read and written in all and per second, transfers per second; all disks
/// together) and `cpu` (percent). It reads files, so it must not run on a thread of the runtime.
pub fn system() -> Value {
    let load = System::load_average().ok();
    let cpus = proc::cpus();
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
        "cpus": cpus.each.iter().map(cpu).collect::<Vec<_>>(),
        "networkInterfaces": interfaces(),
        "versions": { "pomelo": crate::wire::VERSION },
        "iostat": { "date": time(), "disk": disk(uptime), "cpu": cpu_shares(&cpus.total) },
    })
}

/// What a process has used: `time`, `serverId`, `serverType`, `pid`; `cpuAvg`, its CPU time as a share of its life, and `memAvg`, its resident
/// memory as a share of all, percent, as `ps` has them; `vsz` and `rss` in KiB; `usr`, `sys` and `gue`, percent of one core on average. It reads
/// files.
///
/// # Errors
/// `not-available` where there is no such process, or the system does not tell.
pub fn usage(pid: u32, server_id: &str, server_type: &str) -> Result<Value, Failure> {
    let Some(used) = proc::process_usage(pid) else {
        let what = format!("the system tells nothing of process {pid}");
        return Err(Failure::new(code::NOT_AVAILABLE, what));
    };
    let percent = |seconds: f64| rounded(100.0 * seconds / used.life.max(0.01));
    Ok(json!({
        "time": time(), "serverId": server_id, "serverType": server_type, "pid": pid,
        "cpuAvg": percent(used.user + used.system),
        "memAvg": rounded(100.0 * used.resident as f64 / (memory().0.max(1)) as f64),
        "vsz": used.virtual_memory / 1024, "rss": used.resident / 1024,
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

/// All memory, and what is available of it, bytes.
fn memory() -> (u64, u64) {
    let kind = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    System::new_with_specifics(kind).map_or((0, 0), |system| (system.total_memory(), system.available_memory()))
}

fn cpu(Cpu { model, speed, times }: &Cpu) -> Value {
    let CpuTimes { user, nice, system, idle, irq, .. } = times;
    let times = json!({ "user": user, "nice": nice, "sys": system, "idle": idle, "irq": irq });
    json!({ "model": model, "speed": speed, "times": times })
}

/// How all processors together have spent their time, percent.
fn cpu_shares(times: &CpuTimes) -> Value {
    let CpuTimes { user, nice, system, idle, iowait, irq, softirq, steal } = times;
    let total = user + nice + system + idle + iowait + irq + softirq + steal;
    let share = |wanted: u64| rounded(100.0 * wanted as f64 / total.max(1) as f64);
    json!({
        "cpu_user": share(*user), "cpu_nice": share(*nice), "cpu_system": share(system + irq + softirq),
        "cpu_iowait": share(*iowait), "cpu_steal": share(*steal), "cpu_idle": share(*idle),
    })
}

/// What all disks together have read and written. Partitions and virtual disks are not counted, because the disks below them are.
fn disk(uptime: u64) -> Value {
    let is_disk = |name: &str| {
        let virtual_ones = ["loop", "ram", "zram", "dm-", "md"];
        !virtual_ones.iter().any(|prefix| name.starts_with(prefix))
            && fs::exists(format!("/sys/block/{}", name.replace('/', "!"))).unwrap_or(false)
    };
    let (mut transfers, mut read, mut written) = (0.0, 0.0, 0.0);
    for disk in proc::block_devices().iter().filter(|device| is_disk(&device.name)) {
        transfers += disk.transfers as f64;
        read += disk.read as f64 / 1024.0;
        written += disk.written as f64 / 1024.0;
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
}
