//! What a module that does nothing wrong sees of hostile ones: the time of its calls, and of `list`, while a real master runs each hostile module of the suite
//! `hostile`; and the most memory that the master has had meanwhile.
//!
//! `cargo run --release --example hostile` prints the table. `-- NAME…` measures only those whose name has one of the texts. `POMELO=FILE` measures another
//! program, such as an earlier version. Master and monitors are processes of their own: this program is `pomelo` where it is called with its commands.

#[path = "../../tests/support/hostile.rs"]
mod hostile;
#[path = "../../tests/support/shapes.rs"]
mod shapes;

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hostile::Hostile;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pomelo_host::client::{AdminClient, Options};
use procfs::process::Process;
use serde_json::{Value, json};

/// How long the neighbour asks.
const ASKS: Duration = Duration::from_secs(8);
/// How long a master may take to start, and a module to be in force.
const LONG: Duration = Duration::from_secs(120);
/// How often files are saved, where they are saved again and again.
const SAVED: Duration = Duration::from_millis(100);
/// The neighbour, which `modules/build.sh` makes.
const ECHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/modules/fixtures/echo-v1.wasm");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| ["start", "monitor", "master", "__compile"].contains(&first.as_str())) {
        return pomelo_host::cli::main();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    say(
        "hostile module | calls p50, p99, most | `list` p50, most | until `list` shows all servers | master's RSS at most",
    );
    let nothing = Hostile { name: "none", ..Hostile::default() };
    for hostile in std::iter::once(nothing).chain(hostile::all()) {
        if arguments.is_empty() || arguments.iter().any(|part| hostile.name.contains(part.as_str())) {
            runtime.block_on(measure(&hostile));
        }
    }
    ExitCode::SUCCESS
}

/// Prints a line, or ends with code 1 where it cannot: figures that nobody sees are not worth the time.
fn say(text: impl Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        let _ = writeln!(io::stderr(), "hostile: standard output cannot be written to: {error}");
        std::process::exit(1);
    }
}

/// A master with two servers. Dropped, it ends: its servers end with it.
struct Master {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Master {
    /// Starts one with these settings, and these files in its modules' directory.
    fn start(settings: &str, files: &[hostile::File]) -> Master {
        let directory = tempfile::tempdir().expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let write = |name: &str, value: Value| {
            fs::write(directory.path().join(name), value.to_string()).expect("a file");
        };
        write("master.json", json!({"id": "master", "port": port}));
        let server = |id| json!({"id": id, "command": ["sleep", "1000000"]});
        write("servers.json", json!({"chat": [server("chat-1"), server("chat-2")]}));
        write("adminUser.json", json!([{"id": "1", "username": "admin", "password": "admin", "level": 1}]));
        fs::write(directory.path().join("pomelo.toml"), format!("[supervise]\nready_delay_ms = 20\n{settings}"))
            .expect("a file");
        fs::create_dir(directory.path().join("modules")).expect("a directory");
        fs::copy(ECHO, directory.path().join("modules/echo.wasm")).expect("the neighbour: run modules/build.sh");
        put(directory.path(), files);
        let program =
            std::env::var_os("POMELO").map_or_else(|| std::env::current_exe().expect("a program"), Into::into);
        let log = File::create(directory.path().join("log")).expect("a file");
        let child = Command::new(program)
            .arg("start")
            .arg("--config")
            .arg(directory.path())
            .env("POMELO_CACHE", std::env::temp_dir().join("pomelo-hostile-cache"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("a master");
        Master { child, port, directory }
    }

    async fn client(&self) -> AdminClient {
        let began = Instant::now();
        loop {
            match AdminClient::connect(Options { port: self.port, ..Options::default() }).await {
                Ok(client) => return client,
                Err(error) if began.elapsed() > LONG => panic!("no connection: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// The most memory that it has had resident, MiB.
    fn peak_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
    }
}

fn put(directory: &Path, files: &[hostile::File]) {
    for (name, bytes) in files {
        fs::write(directory.join("modules").join(name).with_extension("wasm"), bytes).expect("a file");
    }
}

/// The monitor of chat-1, which stands still while this lives.
struct Silent(Pid);

impl Silent {
    fn new(listed: &Value) -> Silent {
        let program = listed["msg"]["chat-1"]["pid"].as_i64().and_then(|pid| pid.try_into().ok()).expect("chat-1 runs");
        let monitor = Process::new(program).and_then(|process| process.stat()).expect("its process").ppid;
        kill(Pid::from_raw(monitor), Signal::SIGSTOP).expect("it is ours");
        Silent(Pid::from_raw(monitor))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // It may have ended.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// Asks again and again until an answer is as it should be.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < LONG, "{what}: not within {LONG:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a module is in force. One that was refused is not.
async fn in_force(client: &AdminClient, id: &str) -> bool {
    let Ok(shown) = client.command("modules", None, Value::Null).await else { return false };
    let shown: Value = serde_json::from_str(shown.get()).unwrap_or_default();
    shown["modules"].as_array().is_some_and(|modules| modules.iter().any(|module| module["id"] == *id))
}

async fn list(client: &AdminClient) -> Option<Value> {
    let answer = client.request("__console__", json!({"signal": "list"})).await.ok()?;
    serde_json::from_str(answer.get()).ok()
}

async fn measure(hostile: &Hostile) {
    let began = Instant::now();
    let master = Master::start(hostile.settings, if hostile.present { &hostile.files } else { &[] });
    let client = master.client().await;
    until("all servers run", async || {
        let listed = list(&client).await.unwrap_or_default();
        listed["msg"].as_object().is_some_and(|msg| msg.len() == 3 && msg.values().all(|it| it["state"] == "running"))
    })
    .await;
    let started = began.elapsed();
    until("the neighbour answers", async || client.request("echo", 1).await.is_ok()).await;
    if !hostile.present {
        put(master.directory.path(), &hostile.files);
    }
    let (ids, at_once) = &hostile.called;
    let timers = hostile.files.iter().any(|(name, _)| name == "timers");
    for id in ids.iter().map(String::as_str).chain(timers.then_some("t63")) {
        until(id, async || in_force(&client, id).await).await;
    }
    let silent = if hostile.silent { Some(Silent::new(&list(&client).await.unwrap_or_default())) } else { None };
    let clients = join_all(ids.iter().flat_map(|_| 0..*at_once).map(|_| master.client())).await;
    let names = ids.iter().flat_map(|id| std::iter::repeat_n(id, *at_once));
    let calling = names.zip(&clients).map(async |(id, client)| {
        loop {
            // A call that is refused must not become a loop without a pause.
            if client.request(id, &hostile.message).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let (other, ends) = (master.client().await, Instant::now() + ASKS);
    let asking = async {
        let mut times = Vec::new();
        while Instant::now() < ends {
            let asked = Instant::now();
            client.request("echo", times.len()).await.expect("the neighbour's answer");
            times.push(asked.elapsed());
        }
        times
    };
    let listing = async {
        let mut times = Vec::new();
        while Instant::now() < ends {
            let asked = Instant::now();
            list(&other).await.expect("a list");
            times.push(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        times
    };
    let saving = async {
        for version in 0_u64.. {
            tokio::time::sleep(SAVED).await;
            // A section without meaning at the end: other bytes, and the same component.
            let other = |(name, bytes): &hostile::File| {
                (name.clone(), [&bytes[..], &[0, 10, 1, b'v'], &version.to_le_bytes()].concat())
            };
            put(master.directory.path(), &hostile.files.iter().map(other).collect::<Vec<_>>());
        }
    };
    let (mut calls, mut lists) = tokio::select! {
        _ = join_all(calling), if !ids.is_empty() => unreachable!("they call for ever"),
        () = saving, if hostile.saved_again => unreachable!("they are saved for ever"),
        times = async { tokio::join!(asking, listing) } => times,
    };
    drop(silent);
    calls.sort_unstable();
    lists.sort_unstable();
    let millis = |times: &[Duration], percent: usize| {
        times
            .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
            .map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    say(format!(
        "{} | {:.1}, {:.1}, {:.1} ms | {:.1}, {:.1} ms | {:.1} s | {} MiB",
        hostile.name,
        millis(&calls, 50),
        millis(&calls, 99),
        millis(&calls, 100),
        millis(&lists, 50),
        millis(&lists, 100),
        started.as_secs_f64(),
        master.peak_mib(),
    ));
}
