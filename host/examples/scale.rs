//! What a cluster costs as it grows: joins 1, 10, 100 and 1000 monitors to one master, all in this process, over loopback sockets.
//!
//! `cargo run --release --example scale` measures all four, each in a process of its own; `-- 100` one of them. A thousand monitors need some
//! 2,100 file descriptors (`ulimit -n 8192`). Memory is that of master and monitors together: a monitor of one's own process has its own
//! engine besides.

#[path = "../../tests/fleet/mod.rs"]
mod fleet;

use std::time::{Duration, Instant};

use fleet::{Fleet, Node, Served};
use futures_util::future::join_all;
use pomelo_host::client::AdminClient;
use pomelo_host::master::Master;
use serde_json::json;

/// How often `list` is asked for.
const LISTS: usize = 21;

fn main() {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let monitors: Option<usize> = std::env::args().nth(1).and_then(|text| text.parse().ok());
    match monitors {
        Some(monitors) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
            runtime.block_on(measure(monitors));
        }
        None => {
            println!(
                "monitors | all know all | messages | a view's changes | list p50 | RSS before / with all / peak | CPU"
            );
            let program = std::env::current_exe().expect("a program");
            for monitors in ["1", "10", "100", "1000"] {
                let ended = std::process::Command::new(&program).arg(monitors).status();
                assert!(ended.is_ok_and(|ended| ended.success()), "the measurement of {monitors} monitors failed");
            }
        }
    }
}

async fn measure(monitors: usize) {
    let instances = u32::try_from(monitors).unwrap_or(u32::MAX).clamp(512, 2048);
    let fleet = Fleet::new(instances);
    let (master, own) = fleet.master(0).await;
    let alone = memory("VmRSS");

    let began = Instant::now();
    let joins = (0..monitors).map(|number| {
        let (fleet, address) = (fleet.clone(), master.address());
        let port = u16::try_from(number % 50_000).unwrap_or_default() + 5000;
        async move { fleet.monitor(&format!("chat-server-{number}"), "chat", port, address).await }
    });
    let nodes = join_all(joins).await;
    let all = || nodes.iter().map(|node| &*node.served).chain([&*own]);
    while !all().all(|served| served.view(|view| view.len()) == monitors + 1) {
        assert!(began.elapsed() < Duration::from_secs(120), "{}", behind(&nodes, &master, monitors));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let knew = began.elapsed();
    let changes = || all().map(|served| served.counts().changes());
    let (messages, most) = (changes().sum::<usize>(), changes().max().unwrap_or_default());

    let client = fleet::client(master.address()).await;
    let list = list(&client, monitors).await;
    println!(
        "{monitors:8} | {:10.3} s | {messages:8} | {most:16} | {:5.2} ms | {alone} / {} / {} MiB | {:.1} s",
        knew.as_secs_f64(),
        list.as_secs_f64() * 1e3,
        memory("VmRSS"),
        memory("VmHWM"),
        cpu(),
    );
}

/// Why it does not come to an end.
fn behind(nodes: &[Node], master: &Master, monitors: usize) -> String {
    let known = |served: &Served| served.view(|view| view.len());
    let behind = nodes.iter().filter(|node| known(&node.served) != monitors + 1).count();
    format!("{behind} of {monitors} do not know all; the master knows {}", master.members().count().0)
}

/// The median time of a `list`.
async fn list(client: &AdminClient, monitors: usize) -> Duration {
    let mut times = Vec::new();
    for _ in 0..LISTS {
        let began = Instant::now();
        let answer = client.request("__console__", json!({ "signal": "list" })).await.expect("a list");
        times.push(began.elapsed());
        let answer: serde_json::Value = serde_json::from_str(answer.get()).expect("JSON");
        let listed = answer["msg"].as_object().map_or(0, |servers| servers.len());
        assert_eq!(listed, monitors + 1, "missing: {}", answer["missing"]);
    }
    times.sort();
    times[LISTS / 2]
}

/// A figure of this process's memory, MiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
}

/// CPU time that this process has used, seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    // utime and stime, in hundredths of a second.
    let ticks = [11, 12].map(|field| fields.get(field).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default());
    ticks.iter().sum::<f64>() / 100.0
}
