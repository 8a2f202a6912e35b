//! Modules of a running cluster, as an operator handles them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::*;

/// A built module of `target/modules`.
pub fn built(name: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/modules").join(name);
    assert!(file.exists(), "{} is not built: run modules/build.sh", file.display());
    file
}

/// What `modules --json` says.
fn modules(cluster: &Cluster) -> Value {
    serde_json::from_str(&cluster.done(&["modules", "--json"])).unwrap()
}

fn module(modules: &Value, id: &str) -> Option<Value> {
    modules["modules"].as_array()?.iter().find(|module| module["id"] == id).cloned()
}

#[test]
fn x1_m5_a_dropped_module_runs_is_disabled_replaced_and_removed() {
    let cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), SETTINGS);
    cluster.wait_for(&["chat-1"]);
    let unknown = cluster.ask(&["request", "echo", "1"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("unknown module echo"), "{}", unknown.err);

    let file = cluster.path("modules").join("echo.wasm");
    fs::copy(built("fixtures/echo-v1.wasm"), &file).unwrap();
    let answer = eventually("it runs", || {
        let done = cluster.ask(&["request", "echo", r#"{"x":1}"#]);
        (done.code == Some(0)).then_some(done.out)
    });
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap(), json!({"version": 1, "echo": {"x": 1}}));

    let echo = module(&modules(&cluster), "echo").unwrap();
    let has = |name: &str| echo.get(name).is_some();
    let members = "id roles handlers version digest state calls failures lastError source";
    assert!(members.split(' ').all(has), "{echo}");
    assert_eq!((&echo["version"], &echo["state"], &echo["calls"]), (&"1.0.0".into(), &"enabled".into(), &1.into()));
    assert_eq!(echo["source"].as_str().unwrap(), fs::canonicalize(&file).unwrap().to_str().unwrap());

    cluster.done(&["modules", "disable", "echo"]);
    let disabled = cluster.ask(&["request", "echo", "1"]);
    assert_eq!(disabled.code, Some(1));
    assert!(disabled.err.contains("module echo is disabled"), "{}", disabled.err);
    assert_eq!(module(&modules(&cluster), "echo").unwrap()["state"], "disabled");
    assert!(cluster.done(&["modules", "list"]).contains("disabled"));
    cluster.done(&["modules", "enable", "echo"]);
    cluster.done(&["request", "echo"]);
    let unknown = cluster.ask(&["modules", "disable", "nothing"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("nothing"), "{}", unknown.err);
    let guest = cluster.ask(&["modules", "disable", "echo", "--username=monitor", "--password=monitor"]);
    assert_eq!((guest.code, guest.err.contains("level")), (Some(1), true), "{guest:?}");

    fs::copy(built("fixtures/echo-v2.wasm"), &file).unwrap();
    eventually("the new version runs", || {
        cluster.done(&["request", "echo", "1"]).contains("\"version\":2").then_some(())
    });

    // What is refused is shown with the reason, and the version in force stays.
    fs::write(&file, "no module").unwrap();
    fs::write(cluster.path("modules").join("junk.wasm"), "no module either").unwrap();
    let table = eventually("the files are refused", || {
        let table = cluster.done(&["modules"]);
        (table.contains("its newest file was refused") && table.contains("junk.wasm was refused")).then_some(table)
    });
    assert!(table.lines().take(4).all(|line| line.trim_end().chars().count() <= 80), "it fits 80 columns:\n{table}");
    cluster.done(&["request", "echo", "1"]);

    fs::remove_file(&file).unwrap();
    eventually("it is removed", || (cluster.ask(&["request", "echo", "1"]).code == Some(1)).then_some(()));
}

#[test]
fn x2_what_a_module_asks_for_is_read_off_its_file_and_its_prints_are_in_the_log() {
    let (greedy, wasi) = (built("fixtures/greedy.wasm"), built("fixtures/wasi.wasm"));
    let inspect = |arguments: &[&str]| run(pomelo(&[&["modules", "inspect"], arguments].concat()));
    let seen = inspect(&[greedy.to_str().unwrap()]);
    assert_eq!(seen.code, Some(0), "{seen:?}");
    for part in [
        "pomelo:admin/process@0.1.0",
        "missing",
        "stops, kills, restarts",
        "[module.\"greedy\"]\n  grants = [\"process\"]",
    ] {
        assert!(seen.out.contains(part), "{part} is not in\n{}", seen.out);
    }
    let seen: Value = serde_json::from_str(&inspect(&[wasi.to_str().unwrap(), "--json"]).out).unwrap();
    let imports = seen["imports"].as_array().unwrap();
    let clock = imports.iter().find(|import| import["name"] == "wasi:clocks/wall-clock@0.2.0").unwrap();
    assert_eq!((&clock["granted"], &clock["grant"]), (&json!(true), &Value::Null), "{clock}");
    let junk = inspect(&["Cargo.toml", "./Cargo.toml"]);
    assert_eq!(junk.code, Some(2), "one at a time: {junk:?}");
    let junk = inspect(&["./Cargo.toml"]);
    assert!(junk.code == Some(1) && junk.err.contains("it is not a WebAssembly file"), "{junk:?}");

    let settings = format!("{SETTINGS}[module.greedy]\ngrants = [\"process\"]\n");
    let mut cluster = Cluster::configured(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), SETTINGS);
    let modules = cluster.path("modules");
    fs::create_dir(&modules).unwrap();
    fs::copy(&greedy, modules.join("greedy.wasm")).unwrap();
    fs::copy(&wasi, modules.join("wasi.wasm")).unwrap();
    let dir = cluster.path("").display().to_string();
    let checked = run(pomelo(&["check", &dir]));
    assert!(
        checked.out.contains("greedy.wasm") && checked.out.contains("add \"process\" to `grants`"),
        "{}",
        checked.out
    );
    fs::write(
        cluster.path("pomelo.toml"),
        fs::read_to_string(cluster.path("pomelo.toml")).unwrap().replace(SETTINGS, &settings),
    )
    .unwrap();
    let checked = run(pomelo(&["check", &dir]));
    assert!(!checked.out.contains("greedy.wasm"), "{}", checked.out);
    let granted = inspect(&[modules.join("greedy.wasm").to_str().unwrap(), "--config", &dir]);
    assert!(granted.out.contains("granted") && !granted.out.contains("missing"), "{}", granted.out);

    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1"]);
    eventually("it runs", || {
        let done = cluster.ask(&["request", "wasi", r#"{"out":"whole\nand in","err":"a warning\n"}"#]);
        (done.code == Some(0)).then_some(())
    });
    eventually("what it prints is logged", || {
        let log = cluster.hosts[0].log();
        let logged = |level: &str, text: &str| {
            log.lines().any(|line| line.contains(level) && line.contains(text) && line.contains("module=\"wasi\""))
        };
        (logged("INFO", "whole") && logged("INFO", "and in") && logged("WARN", "a warning")).then_some(())
    });
    let of_file: Value = serde_json::from_str(
        &inspect(&[modules.join("greedy.wasm").to_str().unwrap(), "--json", "--config", &dir]).out,
    )
    .unwrap();
    let in_force: Value = serde_json::from_str(&cluster.done(&["modules", "inspect", "greedy", "--json"])).unwrap();
    assert_eq!(in_force, of_file, "the file and the module in force are the same");
    let console = cluster.done(&["modules", "inspect", "__console__"]);
    assert!(console.contains("reads the fleet; starts, stops") && !console.contains("missing"), "{console}");
    let unknown = cluster.ask(&["modules", "inspect", "nothing"]);
    assert!(unknown.code == Some(1) && unknown.err.contains("unknown module nothing"), "{unknown:?}");
}

#[test]
fn t_the_tutorials_module_asks_all_monitors_and_gives_what_it_keeps() {
    let settings = format!("{SETTINGS}[module.timeReport]\ngrants = [\"cluster\", \"uplink\"]\ninterval = 1\n");
    let cluster = Cluster::configured(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), &settings);
    fs::create_dir(cluster.path("modules")).unwrap();
    fs::copy(built("time-report.wasm"), cluster.path("modules").join("time-report.wasm")).unwrap();
    let mut cluster = cluster;
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1"]);
    eventually("the cached times have the server's", || {
        let done = cluster.ask(&["request", "timeReport"]);
        done.out.contains("chat-1").then_some(())
    });
}

/// How many instances of inotify a process has.
fn inotify(pid: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    open.filter(|target| target.to_string_lossy().contains("inotify")).count()
}

#[test]
fn monitors_that_the_master_has_begun_take_none_of_the_systems_few_watches() {
    let servers = json!({"chat": [{"id": "chat-1", "script": GRACEFUL}, {"id": "chat-2", "script": GRACEFUL}]});
    let mut cluster = Cluster::configured(servers, SETTINGS);
    // It runs as the process of `env`, which has become it.
    cluster.host("start", &[]);
    let listed = cluster.wait_for(&["chat-1", "chat-2"]);
    let monitors = ["chat-1", "chat-2"].map(|id| parent(pid(&listed, id)));
    assert_eq!((inotify(cluster.hosts[0].pid()), monitors.map(inotify)), (1, [0, 0]));
    // One that somebody else begins waits for the system's events.
    cluster.done(&["stop", "chat-2"]);
    cluster.host("monitor", &["--id", "chat-2"]);
    cluster.wait_for(&["chat-1", "chat-2"]);
    assert_eq!(inotify(cluster.hosts[1].pid()), 1);
}
