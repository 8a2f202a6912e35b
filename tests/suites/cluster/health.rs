//! Health while it runs: real programs that become unwell, and what is done about it.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::drain::{is, server};
use crate::journal::{event, events};
use crate::observing::{get, metric};
use crate::support::*;

/// Monitors serve their health too.
fn settings() -> String {
    format!("{SETTINGS}[monitor]\nhttp = \"127.0.0.1:0\"\n")
}

/// A server over HTTP that a test makes unwell, with that `health`.
fn server_with(health: Value) -> Value {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/js/ill.js");
    json!({"id": "web-1", "port": free_ports::<1>()[0], "ready": "port", "command": ["node", program, "${port}"], "health": health})
}

/// A cluster of that server and of another one, which both run; the other's view.
fn cluster(health: Value) -> (Cluster, std::path::PathBuf) {
    let servers = json!({"web": [server_with(health)], "gate": [{"id": "gate-1", "script": GRACEFUL}]});
    let cluster = Cluster::start(servers, &settings());
    let file = view_file(pid(&cluster.wait_for(&["web-1", "gate-1"]), "gate-1")).unwrap();
    wait_for_members(&file, &["web-1", "gate-1"]);
    (cluster, file)
}

/// The address at which the monitor of `web-1` shows its health.
fn monitor(cluster: &Cluster) -> String {
    eventually("its monitor says where its health is", || {
        let wanted = |event: &Value| event["kind"] == "http" && event["server"] == "web-1";
        let said = events(cluster).into_iter().find(wanted)?["message"].as_str()?.to_owned();
        Some(said.split("http://").nth(1)?.trim_end_matches('/').to_owned())
    })
}

/// The status that a monitor's `/healthz` has in the end, with a problem that has that part.
fn health_is(address: &str, status: u16, part: &str) {
    eventually(&format!("/healthz is {status}: {part}"), || {
        let (code, body) = get(address, "/healthz", "")?;
        (code == status && body.contains(part)).then_some(())
    });
}

#[test]
fn a_server_whose_check_fails_is_unready_leaves_the_views_and_comes_back() {
    let (cluster, file) =
        cluster(json!({"http": "/healthz?of=${id}", "interval_ms": 100, "failures": 2, "then": "unready"}));
    let (before, address) = (cluster.pid("web-1"), monitor(&cluster));
    health_is(&address, 200, "\"ok\"");
    assert_eq!(metric(&get(&address, "/metrics", "").unwrap().1, "pomelo_healthy", &[]), Some(1.0));

    cluster.write("sick", "");
    is(&cluster, "web-1", "unready");
    wait_for_members(&file, &["gate-1"]);
    let ill = "/healthz was answered with status 503: the database is away, 2 times in a row";
    eventually("the reason is told", || server(&cluster, "web-1")["why"].as_str()?.ends_with(ill).then_some(()));
    assert_eq!(cluster.list()["web-1"]["state"], "unready", "its monitor says the same");
    event(&cluster, "unhealthy", ill);
    health_is(&address, 503, ill);
    let text = get(&address, "/metrics", "").unwrap().1;
    assert_eq!(metric(&text, "pomelo_healthy", &[]), Some(0.0), "{text}");
    assert!(metric(&text, "pomelo_health_failures_total", &[r#"check="http""#]) >= Some(2.0), "{text}");
    assert!(runs(before));

    std::fs::remove_file(cluster.path("sick")).unwrap();
    is(&cluster, "web-1", "running");
    wait_for_members(&file, &["web-1", "gate-1"]);
    event(&cluster, "healthy", "the program is healthy again: GET http://127.0.0.1:");
    health_is(&address, 200, "\"ok\"");
    assert_eq!(cluster.pid("web-1"), before, "it was not restarted");

    // One that is unready can be stopped.
    cluster.write("sick", "");
    is(&cluster, "web-1", "unready");
    assert_eq!(cluster.done(&["stop", "web-1"]), "stopped: web-1\n");
    gone(before);
    is(&cluster, "web-1", "stopped");
}

#[test]
fn a_report_is_told_and_nothing_else_happens() {
    let health = json!({"command": ["sh", "-c", "test ! -e sick || { echo no such table >&2; exit 3; }"],
        "interval_ms": 100, "failures": 1});
    let (cluster, file) = cluster(health);
    let (before, address) = (cluster.pid("web-1"), monitor(&cluster));
    cluster.write("sick", "");
    let ill = "`sh` ended with code 3: no such table";
    let said = event(&cluster, "unhealthy", ill);
    assert_eq!(
        (&said["server"], &said["message"]),
        (&json!("web-1"), &json!(format!("the program is unhealthy: {ill}")))
    );
    health_is(&address, 200, ill);
    health_is(&address, 200, "\"degraded\"");
    assert_eq!(metric(&get(&address, "/metrics", "").unwrap().1, "pomelo_healthy", &[]), Some(0.0));
    assert_eq!(server(&cluster, "web-1")["state"], "running");
    assert_eq!((cluster.pid("web-1"), members(&file)), (before, ids(&["web-1", "gate-1", "master"])));
    std::fs::remove_file(cluster.path("sick")).unwrap();
    event(&cluster, "healthy", "the program is healthy again: `sh` ends with code 0");
    health_is(&address, 200, "\"ok\"");
    assert!(!events(&cluster).iter().any(|event| event["kind"] == "health-restart" || event["kind"] == "restart"));
}

#[test]
fn a_server_that_hangs_is_restarted_and_leaves_its_last_lines_and_a_profile() {
    let health = json!({"http": "/", "interval_ms": 100, "timeout_ms": 2000, "failures": 1, "then": "restart", "profile_ms": 300});
    let (cluster, file) = cluster(health);
    let before = cluster.pid("web-1");
    let data = cluster.path("perf.data");
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-g", "-F", "99", "-p", &before.to_string(), "-o"])
        .arg(data)
        .args(["--", "sleep", "0.05"]);
    let allowed = perf.output().is_ok_and(|done| done.status.success());

    cluster.write("hang", "");
    let ended = event(&cluster, "health-restart", "/ was not answered within 2 s");
    assert_eq!(ended["lines"], json!(["listening", "looking for the answer"]));
    let said = ended["message"].as_str().unwrap();
    if allowed {
        let path = said.split("what it did for 300 ms is in ").nth(1).unwrap_or_else(|| panic!("{said}"));
        assert!(Path::new(path).starts_with(cluster.path("data/web-1/profiles").canonicalize().unwrap()), "{path}");
        let profile: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let threads = profile["threads"].as_array().unwrap();
        let process = before.to_string();
        assert!(threads.iter().any(|thread| thread["pid"] == process), "{threads:?}");
    } else {
        assert!(said.contains("no CPU profile was taken: ") && said.contains("perf"), "{said}");
    }
    gone(before);
    let exit = event(&cluster, "exit", "the program was ended, because GET http://127.0.0.1:");
    assert!(exit["message"].as_str().unwrap().ends_with(" and is started again"), "{exit}");
    event(&cluster, "restart", "the program runs again");
    let after = cluster.wait_for(&["web-1", "gate-1"]);
    assert_ne!(pid(&after, "web-1"), before);
    wait_for_members(&file, &["web-1", "gate-1"]);
    let described = server(&cluster, "web-1");
    assert_eq!((&described["wanted"], &described["restarts"]), (&json!("up"), &json!(1)), "{described}");
}

#[test]
fn a_server_that_has_more_memory_than_it_may_is_restarted() {
    let health =
        json!({"http": "/", "interval_ms": 100, "max_memory_mib": 250, "max_memory_then": "restart", "failures": 2});
    let (cluster, _) = cluster(health);
    let before = cluster.pid("web-1");
    cluster.write("eat", "");
    let said = event(&cluster, "health-restart", "more than `max_memory_mib` = 250, 2 times in a row");
    assert!(said["message"].as_str().unwrap().starts_with("the program is ended, because its memory is "), "{said}");
    gone(before);
    assert_ne!(pid(&cluster.wait_for(&["web-1", "gate-1"]), "web-1"), before);
}

#[test]
fn a_function_over_the_control_socket_is_asked_and_a_program_without_it_is_unwell() {
    let [port] = free_ports();
    let mut well = demo_server("chat-1", port, false);
    well["health"] = json!({"control": "status", "interval_ms": 100, "failures": 1, "then": "unready"});
    let ill = json!({"id": "mute-1", "script": GRACEFUL,
        "health": {"control": "status", "interval_ms": 100, "failures": 1, "then": "report"}});
    let cluster = Cluster::start(json!({"chat": [well], "mute": [ill]}), SETTINGS);
    cluster.wait_for(&["chat-1", "mute-1"]);
    let said = event(&cluster, "unhealthy", "it does not offer `status` over its control socket");
    assert_eq!(said["server"], "mute-1");
    assert!(!events(&cluster).iter().any(|event| event["kind"] == "unhealthy" && event["server"] == "chat-1"));
    cluster.wait_for(&["chat-1", "mute-1"]);
}
