//! What a cluster costs as it grows: joins 1, 10, 100 and 1000 monitors to one master over loopback sockets. The master has a process of its
//! own, because its memory and CPU time are measured. The monitors share another process and one engine.
//!
//! `cargo run --release --example scale` measures all four; `-- 100` one of them; `-- --tls` all over TLS. The process with the monitors is given the
//! authority's file (`--ca FILE`). A thousand monitors need 1,100 file descriptors a process
//! (`ulimit -n 4096`). `RUST_LOG=warn` shows what goes wrong.

#[path = "../../tests/support/fleet/mod.rs"]
mod fleet;

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fleet::{Fleet, MemoryApplication};
use futures_util::future::join_all;
use pomelo_host::client::AdminClient;
use pomelo_host::tls::{Authority, ClientFiles, ClientTls, Lifetime, ServerFiles, ServerTls};
use serde_json::json;

/// How often `list` is asked for.
const LISTS: usize = 21;

fn main() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = |text: &String| text.parse().expect("a number of monitors");
    let tls = arguments.first().is_some_and(|first| first == "--tls");
    match &arguments[usize::from(tls)..] {
        [] => {
            say(
                "monitors | all know all | a view's changes: all, most | list p50 | master's RSS: alone, all, peak | its CPU",
            );
            for monitors in ["1", "10", "100", "1000"] {
                let ended = Command::new(program()).args(tls.then_some("--tls")).arg(monitors).status();
                assert!(ended.is_ok_and(|ended| ended.success()), "the measurement of {monitors} monitors failed");
            }
        }
        [monitors] => runtime.block_on(measure(count(monitors), tls)),
        [monitors, master, more @ ..] => {
            let ca = match more {
                [option, file] if option == "--ca" => Some(file.into()),
                _ => None,
            };
            runtime.block_on(join(count(monitors), master.parse().expect("an address"), ca));
        }
    }
}

/// Prints a line, or ends with code 1 where it cannot: figures that nobody sees are not worth the time.
fn say(text: impl Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        let _ = writeln!(io::stderr(), "scale: standard output cannot be written to: {error}");
        std::process::exit(1);
    }
}

fn program() -> std::path::PathBuf {
    std::env::current_exe().expect("a program")
}

/// The master's side.
async fn measure(monitors: usize, tls: bool) {
    let mut fleet = Fleet::new(16);
    let authority = tls.then(Secured::new);
    fleet.server_tls = authority.as_ref().map(Secured::server);
    let (master, _own) = fleet.master(0).await;
    let alone = memory("VmRSS");
    let mut child = Command::new(program())
        .args([monitors.to_string(), master.address().to_string()])
        .args(authority.iter().flat_map(|authority| ["--ca".into(), authority.ca().into_os_string()]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process for the monitors");
    let output = child.stdout.take().expect("its output");
    let said = tokio::task::spawn_blocking(move || BufReader::new(output).lines().next());
    let said = said.await.expect("a thread").expect("the monitors have ended").expect("text");
    let joined = cpu();

    let client = fleet::client(master.address()).await;
    let list = list(&client, monitors).await;
    say(format!(
        "{monitors:8} | {said} | {:6.2} ms | {alone}, {}, {} MiB | {joined:.2} s",
        list.as_secs_f64() * 1e3,
        memory("VmRSS"),
        memory("VmHWM"),
    ));
    drop(child.stdin.take());
    child.wait().expect("its end");
}

/// The monitors' side: says how it went, and stays until its input ends.
async fn join(monitors: usize, master: SocketAddr, ca: Option<PathBuf>) {
    // Each monitor keeps a warm instance of two modules, and may have more under way.
    let mut fleet = Fleet::new(u32::try_from(2 * monitors).unwrap_or(u32::MAX).clamp(256, 3000));
    fleet.client_tls = ca.map(|ca| {
        let files = ClientFiles { ca: Some(ca), ..ClientFiles::default() };
        ClientTls::load(files).expect("the authority's file")
    });
    // The code is compiled once, and before the clock runs.
    let first = fleet.monitor("chat-server-0", "chat", 5000, master).await;
    first.monitor.registered().await;
    let began = Instant::now();
    let joins = (1..monitors).map(|number| {
        let (fleet, port) = (fleet.clone(), 5000 + u16::try_from(number % 50_000).unwrap_or_default());
        async move { fleet.monitor(&format!("chat-server-{number}"), "chat", port, master).await }
    });
    let nodes: Vec<_> = std::iter::once(first).chain(join_all(joins).await).collect();
    let known = |application: &MemoryApplication| application.view(|view| view.len());
    loop {
        let behind = nodes.iter().filter(|node| known(&node.application) != monitors + 1).count();
        if behind == 0 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(180), "{behind} of {monitors} do not know all");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let knew = began.elapsed().as_secs_f64();
    let changes = || nodes.iter().map(|node| node.application.counts().changes());
    let (all, most) = (changes().sum::<usize>(), changes().max().unwrap_or_default());
    say(format!("{knew:10.3} s | {all:8}, {most:4} | {:7.2} s", cpu()));
    let wait = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    wait.await.expect("a thread").expect("the end of the input");
    std::process::exit(0);
}

/// An authority in a directory, and the master's certificate.
struct Secured(tempfile::TempDir);

impl Secured {
    fn new() -> Secured {
        let secured = Secured(tempfile::tempdir().expect("a directory"));
        let (authority, own) = Authority::make("scale").expect("an authority");
        let master = authority.host(&["127.0.0.1".to_owned()], Lifetime::days(1)).expect("a certificate");
        for (name, text) in
            [("ca.pem", own.certificate), ("master.pem", master.certificate), ("master.key", master.key)]
        {
            std::fs::write(secured.0.path().join(name), text).expect("a file");
        }
        secured
    }

    fn ca(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }

    fn server(&self) -> ServerTls {
        let at = |name: &str| self.0.path().join(name);
        let files = ServerFiles { certificate: at("master.pem"), key: at("master.key"), client_ca: None };
        ServerTls::load(files).expect("the certificate")
    }
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
