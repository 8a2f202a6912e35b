//! The files of the configuration, applied while the cluster runs.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::modules::built;
use crate::observing::get;
use crate::support::*;

/// A server that says which version of it runs, and ends when it is asked to.
const VERSIONED: &str = "echo version $V; trap 'exit 0' TERM; while :; do sleep 0.05; done";

fn server(id: &str, version: &str) -> Value {
    json!({"id": id, "script": VERSIONED, "env": {"V": version}})
}

/// The versions that a server has said so far.
fn versions(cluster: &Cluster, id: &str) -> Vec<String> {
    let logs = cluster.done(&["logs", id]);
    logs.lines().filter_map(|line| Some(line.split_once("version ")?.1.trim().to_owned())).collect()
}

fn said(cluster: &Cluster, id: &str, expected: &[&str]) {
    let what = format!("{id} has said {expected:?}");
    eventually(&what, || (versions(cluster, id) == expected).then_some(()));
}

/// Replaces `servers.json`, with commands and directories as the cluster's own file has them.
fn edit(cluster: &Cluster, mut servers: Value) {
    for server in servers.as_object_mut().unwrap().values_mut().flat_map(|list| list.as_array_mut().unwrap()) {
        let server = server.as_object_mut().unwrap();
        if let Some(script) = server.remove("script") {
            server.insert("command".into(), json!(["sh", "-c", script]));
        }
        server.insert("cwd".into(), ".".into());
    }
    cluster.write("servers.json", &servers.to_string());
}

fn fleet(cluster: &Cluster) -> Vec<Value> {
    let listed: Value = serde_json::from_str(&cluster.done(&["list", "--json"])).unwrap();
    listed["servers"].as_array().unwrap().clone()
}

fn nothing_differs(cluster: &Cluster) {
    assert_eq!(cluster.done(&["plan"]), "nothing differs between the files and what runs\n");
}

#[test]
fn servers_are_brought_to_the_files_and_the_others_left_alone() {
    let before = json!({"chat": [server("chat-1", "1"), server("chat-2", "1"), server("chat-3", "1")], "gate": [server("gate-1", "1")]});
    let cluster = Cluster::start(before.clone(), SETTINGS);
    let listed = cluster.wait_for(&["chat-1", "chat-2", "chat-3", "gate-1"]);
    cluster.done(&["stop", "chat-3"]);
    let nothing = cluster.ask(&["apply"]);
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(0), "nothing differs between the files and what runs\n"));

    let after = json!({"chat": [server("chat-1", "2"), server("chat-3", "2"), server("chat-4", "2")], "gate": [server("gate-1", "1")]});
    edit(&cluster, after);
    let asked = cluster.ask(&["apply"]);
    assert_eq!(asked.code, Some(2), "nobody can be asked: {asked:?}");
    assert!(asked.out.contains("~ chat-1 (chat): env.V") && asked.err.contains("--yes"), "{asked:?}");
    let mentioned = cluster.ask(&["list"]);
    assert!(mentioned.err.contains("the files differ from what runs"), "{mentioned:?}");

    let applied = cluster.ask(&["apply", "--yes"]);
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert!(applied.out.contains("chat-3 is down, and takes the change when it is started"), "{applied:?}");
    assert!(applied.out.contains("applied: chat-1, chat-2, chat-4"), "{applied:?}");
    nothing_differs(&cluster);
    let running = cluster.wait_for(&["chat-1", "chat-4", "gate-1"]);
    assert_eq!(pid(&running, "gate-1"), pid(&listed, "gate-1"), "it has not changed");
    said(&cluster, "chat-1", &["1", "2"]);
    said(&cluster, "chat-4", &["2"]);
    gone(pid(&listed, "chat-2"));
    let known: Vec<Value> = fleet(&cluster).iter().map(|server| server["id"].clone()).collect();
    assert_eq!(known, ["chat-1", "chat-3", "chat-4", "gate-1"]);
    cluster.done(&["restart", "chat-3"]);
    said(&cluster, "chat-3", &["1", "2"]);
    let events = cluster.done(&["events"]);
    assert!(
        events.contains("the files of the configuration were applied: 1 server is new, 2 servers have changed"),
        "{events}"
    );

    let described = cluster.done(&["describe", "chat-1"]);
    for part in ["run by       env.V: …", "run by       command: [\"sh\",", "modules      ", "chat-1/output.log"] {
        assert!(described.contains(part), "{part}: {described}");
    }
    let metrics = get(&format!("127.0.0.1:{}", cluster.port), "/metrics", "").unwrap().1;
    let used = "pomelo_server_resident_memory_bytes{id=\"chat-1\",type=\"chat\"} ";
    let used = metrics.lines().find_map(|line| line.strip_prefix(used)?.parse::<f64>().ok());
    assert!(used.is_some_and(|bytes| bytes > 100_000.0), "{metrics}");

    // Back again.
    edit(&cluster, before);
    cluster.done(&["apply", "--yes", "--max-unavailable", "2"]);
    cluster.wait_for(&["chat-1", "chat-2", "chat-3", "gate-1"]);
    said(&cluster, "chat-1", &["1", "2", "1"]);
}

#[test]
fn until_they_are_applied_nothing_takes_the_files() {
    let cluster = Cluster::start(json!({"chat": [server("chat-1", "1")]}), SETTINGS);
    let listed = cluster.wait_for(&["chat-1"]);
    edit(&cluster, json!({"chat": [server("chat-1", "2")]}));
    cluster.done(&["restart", "chat-1"]);
    said(&cluster, "chat-1", &["1", "1"]);
    cluster.done(&["stop", "chat-1"]);
    cluster.done(&["restart", "chat-1"]);
    said(&cluster, "chat-1", &["1", "1", "1"]);
    // Its monitor is started anew, and reads what is in force.
    let monitor = parent(cluster.pid("chat-1"));
    assert!(command_line(monitor).contains("monitor") && monitor != std::process::id(), "{listed}");
    send(monitor, Signal::SIGKILL);
    said(&cluster, "chat-1", &["1", "1", "1", "1"]);
    // What is half written or wrong is not taken.
    cluster.write("servers.json", "{");
    let faulty = cluster.ask(&["apply", "--yes"]);
    assert!(faulty.code == Some(1) && faulty.err.contains("servers.json"), "{faulty:?}");
    send(parent(cluster.pid("chat-1")), Signal::SIGKILL);
    said(&cluster, "chat-1", &["1", "1", "1", "1", "1"]);
    edit(&cluster, json!({"chat": [server("chat-1", "2")]}));
    let other = cluster.request("__console__", &json!({"signal": "apply", "plan": "0123456789abcdef"}));
    assert!(other.as_ref().is_err_and(|why| why.contains("have changed since that plan was made")), "{other:?}");
    said(&cluster, "chat-1", &["1", "1", "1", "1", "1"]);
    cluster.done(&["apply", "--yes"]);
    said(&cluster, "chat-1", &["1", "1", "1", "1", "1", "2"]);
}

#[test]
fn what_a_paused_job_has_not_done_is_still_planned() {
    let chats = |version: &str| json!([server("chat-1", version), server("chat-2", version)]);
    let all = |version: &str| json!({"chat": chats(version), "gate": [server("gate-1", "1")]});
    let cluster = Cluster::start(all("1"), SETTINGS);
    cluster.wait_for(&["chat-1", "chat-2", "gate-1"]);
    let broken = json!({"id": "chat-1", "script": "exit 3", "restart": "never"});
    edit(&cluster, json!({"chat": [broken, server("chat-2", "2")]}));
    let paused = cluster.ask(&["apply", "--yes"]);
    assert!(paused.code == Some(1) && paused.err.contains("has paused"), "{paused:?}");
    let plan = cluster.done(&["plan"]);
    assert!(plan.contains("~ chat-2 (chat): env.V") && !plan.contains("chat-1"), "{plan}");
    assert!(plan.contains("- gate-1 (gate)"), "{plan}");
    let job = paused.err.split(" has paused").next().unwrap().rsplit("job ").next().unwrap();
    cluster.done(&["jobs", job, "--cancel"]);
    eventually("the job is over", || cluster.done(&["jobs", job]).contains("is failed").then_some(()));
    said(&cluster, "chat-2", &["1"]);
    let plan = cluster.done(&["plan"]);
    assert!(plan.contains("- gate-1 (gate)"), "it runs on, and is not forgotten: {plan}");
    // The way back touches only what has failed.
    let before = ["chat-2", "gate-1"].map(|id| cluster.pid(id));
    edit(&cluster, all("1"));
    cluster.done(&["apply", "--yes"]);
    let listed = cluster.wait_for(&["chat-1", "chat-2", "gate-1"]);
    assert_eq!(["chat-2", "gate-1"].map(|id| pid(&listed, id)), before, "they run as the files say");
    nothing_differs(&cluster);
}

#[test]
fn a_server_takes_the_port_of_another_that_is_gone() {
    let [port] = free_ports();
    let named = |id: &str| json!({"chat": [demo_server(id, port, false)]});
    let cluster = Cluster::start(named("old"), SETTINGS);
    cluster.wait_for(&["old"]);
    cluster.write("servers.json", &named("new").to_string());
    let shell = pomelo(&["shell", "--port", &cluster.port.to_string()]);
    let done = run_with_input(shell, "plan\napply\n");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.contains("- old (chat)") && done.out.contains("applied: new, old"), "{done:?}");
    // One that only changes waits as well.
    let [other] = free_ports();
    let both = json!({"chat": [demo_server("new", port, false), demo_server("other", other, false)]});
    cluster.write("servers.json", &both.to_string());
    cluster.done(&["apply", "--yes"]);
    cluster.wait_for(&["new", "other"]);
    cluster.write("servers.json", &named("other").to_string());
    cluster.done(&["apply", "--yes"]);
    cluster.wait_for(&["other"]);
}

#[test]
fn a_server_that_was_added_and_is_configured_then_is_one_server() {
    let [port] = free_ports();
    let one = json!({"chat": [server("chat-1", "1")]});
    let mut cluster = Cluster::start(one, SETTINGS);
    cluster.wait_for(&["chat-1"]);
    cluster.done(&["add", "id=chat-2", "serverType=chat", "host=127.0.0.1", &format!("port={port}")]);
    let added = pid(&cluster.wait_for(&["chat-1", "chat-2"]), "chat-2");
    edit(&cluster, json!({"chat": [server("chat-1", "1"), server("chat-2", "2")]}));
    cluster.done(&["apply", "--yes"]);
    said(&cluster, "chat-2", &["1", "2"]);
    gone(added);
    let origins = |cluster: &Cluster| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        fleet(cluster).iter().map(|server| (text(&server["id"]), text(&server["origin"]))).collect()
    };
    let configured = ["chat-1", "chat-2"].map(|id| (id.to_owned(), "configured".to_owned()));
    assert_eq!(origins(&cluster), configured);
    cluster.done(&["stop", "chat-2"]);
    cluster.wait_for(&["chat-1"]);
    // The next master knows it as one server as well, which was stopped.
    cluster.hosts[0].signal(Signal::SIGTERM);
    cluster.hosts[0].ended();
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1"]);
    assert_eq!(origins(&cluster), configured);
}

#[test]
fn settings_of_modules_take_effect_on_all_hosts_without_a_restart() {
    let cluster = Cluster::configured(json!({"chat": [server("chat-1", "1")]}), SETTINGS);
    fs::create_dir(cluster.path("modules")).unwrap();
    fs::copy(built("time-report.wasm"), cluster.path("modules").join("time-report.wasm")).unwrap();
    let mut cluster = cluster;
    cluster.host("start", &[]);
    let listed = cluster.wait_for(&["chat-1"]);
    eventually("the file is refused without its grants", || {
        cluster.done(&["modules"]).contains("time-report.wasm was refused").then_some(())
    });
    let granted =
        "[module.timeReport]\ngrants = [\"cluster\", \"uplink\"]\ninterval = 1\n[commands]\nlevels = { plan = 2 }\n";
    cluster.write("pomelo.toml", &format!("{SETTINGS}[network]\noutbox = 99\n{granted}"));
    let as_monitor = ["plan", "--username=monitor", "--password=monitor"];
    assert_eq!(cluster.ask(&as_monitor).code, Some(1), "the level is not in force");
    let applied = cluster.done(&["apply", "--yes"]);
    assert!(applied.contains("[network] outbox: only a new master takes it"), "{applied}");
    // The monitor of chat-1 has it too, because it answers.
    eventually("the module runs on all hosts", || {
        cluster.ask(&["request", "timeReport"]).out.contains("chat-1").then_some(())
    });
    assert!(cluster.ask(&as_monitor).out.contains("[network] outbox"), "what only a new master takes still differs");
    assert_eq!(cluster.pid("chat-1"), pid(&listed, "chat-1"));
    let events = cluster.done(&["events"]);
    assert!(!events.contains("cannot be taken"), "{events}");
}

#[test]
fn a_hangup_without_a_terminal_means_to_look_at_the_files_again() {
    let mut cluster = Cluster::configured(json!({"chat": [server("chat-1", "1"), server("chat-2", "1")]}), SETTINGS);
    cluster.host("master", &[]);
    cluster.host("monitor", &["--id", "chat-1"]);
    cluster.wait_for(&["chat-1"]);
    cluster.write("servers.json", "{");
    for host in &cluster.hosts {
        host.signal(Signal::SIGHUP);
    }
    let why = |cluster: &Cluster| {
        let events = cluster.done(&["events"]);
        (events.contains("and what was read before stays")
            && events.contains("the files of the configuration cannot be taken"))
        .then_some(())
    };
    eventually("both have looked, and say that they cannot take the file", || why(&cluster));
    cluster.wait_for(&["chat-1"]);
}
