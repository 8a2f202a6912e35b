//! Scripts and profiles as an operator asks for them, of servers in processes of their own.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::*;

/// The modules are switched on, and a script may use little.
fn settings() -> String {
    format!("{SETTINGS}[modules]\nsystem_monitor = true\n[scripts.limits]\ncpu_ms = 50\n")
}

fn request(cluster: &Cluster, module: &str, message: &Value) -> Done {
    cluster.ask(&["request", module, &message.to_string(), "--timeout", "80"])
}

#[test]
fn p_scripts_are_saved_in_the_servers_data_directory_and_run_there() {
    let cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), &settings());
    cluster.wait_for(&["chat-1"]);
    let scripts = |message: Value| request(&cluster, "scripts", &message);
    let text = r#"(module (func (export "run") (result i32) (i32.const 42)))"#;
    let saved = scripts(json!({"command": "save", "serverId": "chat-1", "filename": "answer.wat", "body": text}));
    assert_eq!((saved.code, saved.out.trim()), (Some(0), "null"), "{saved:?}");
    let file = cluster.path("data/chat-1/scripts/answer.wat");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let run = json!({"command": "run", "serverId": "chat-1", "filename": "answer.wat"});
    assert_eq!(scripts(run.clone()).out.trim(), "42");

    // What an operator puts there is a script as well.
    std::fs::write(&file, r#"(module (func (export "run") (result i32) (loop (br 0)) (i32.const 0)))"#).unwrap();
    let endless = scripts(run);
    assert_eq!(endless.code, Some(1));
    assert!(endless.err.contains("script:answer.wat: monitor-handler used more than 50 ms of CPU time"), "{endless:?}");
}

#[test]
fn p_profiler_five_seconds_of_a_servers_program_fit_into_an_answer() {
    let cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": "while :; do :; done"}]}), &settings());
    cluster.wait_for(&["chat-1"]);
    let pid = cluster.pid("chat-1").to_string();
    let data = cluster.path("perf.data");
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-g", "-F", "99", "-p", &pid, "-o"]).arg(data).args(["--", "sleep", "0.05"]);
    let allowed = perf.output().is_ok_and(|done| done.status.success());
    let start = json!({"action": "start", "type": "CPU", "serverId": "chat-1", "seconds": 5});
    let done = request(&cluster, "profiler", &start);
    if !allowed {
        assert_eq!(done.code, Some(1));
        assert!(done.err.contains("perf"), "{}", done.err);
        return;
    }
    assert_eq!(done.code, Some(0), "{}", done.err);
    let profile: Value = serde_json::from_str(&done.out).unwrap();
    let threads = profile["threads"].as_array().unwrap();
    let shell = threads.iter().find(|thread| thread["pid"] == pid).unwrap_or_else(|| panic!("no thread of {pid}"));
    assert_eq!((&shell["name"], &shell["processName"]), (&json!("sh"), &json!("sh")));
    assert!(shell["samples"]["length"].as_u64() > Some(100), "{}", shell["samples"]["length"]);
    let meta = &profile["meta"];
    assert!(meta["categories"].as_array().unwrap().iter().any(|category| category["name"] == "User"), "{meta}");
}
