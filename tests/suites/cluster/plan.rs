//! Changes of the configuration's files while a cluster runs.

use serde_json::{Value, json};

use crate::observing::get;
use crate::support::*;

#[test]
fn files_that_differ_from_what_runs_are_told_and_shown() {
    let one = json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]});
    let cluster = Cluster::start(one, SETTINGS);
    cluster.wait_for(&["chat-1"]);
    assert_eq!(cluster.done(&["plan"]), "nothing differs between the files and what runs\n");
    let before = std::fs::read_to_string(cluster.path("servers.json")).unwrap();

    let mut servers: Value = serde_json::from_str(&before).unwrap();
    servers["chat"].as_array_mut().unwrap().push(json!({"id": "chat-2", "command": ["sleep", "1000"]}));
    cluster.write("servers.json", &servers.to_string());
    let shown =
        eventually("the change is seen", || Some(cluster.done(&["plan"])).filter(|shown| shown.contains("chat-2")));
    assert!(!shown.contains("chat-1"), "{shown}");
    let plan: Value = serde_json::from_str(&cluster.done(&["plan", "--json"])).unwrap();
    assert_eq!(plan["plan"]["new"][0]["id"], "chat-2", "{plan}");
    let events = cluster.done(&["events"]);
    assert!(events.contains("1 server is new") && events.contains("`pomelo plan` shows it"), "{events}");
    let (status, health) = get(&format!("127.0.0.1:{}", cluster.port), "/healthz", "").unwrap();
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["status"]), (200, &json!("ok")), "what runs goes on: {health}");
    assert!(health["problems"][0].as_str().unwrap().contains("the files differ"), "{health}");
    cluster.wait_for(&["chat-1"]);

    cluster.write("servers.json", "{");
    let faults = eventually("it is seen that the file is malformed", || {
        Some(cluster.ask(&["plan"])).filter(|done| done.code == Some(1))
    });
    assert!(faults.err.contains("servers.json"), "{faults:?}");
    cluster.write("servers.json", &before);
    eventually("the files are what runs again", || {
        let done = cluster.ask(&["plan"]);
        (done.out == "nothing differs between the files and what runs\n").then_some(())
    });
}
