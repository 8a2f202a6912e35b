//! npm's `socket.io-client` as a client of the master: the scripts of `tests/fixtures/js` make the checks and say what they have checked.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::*;

/// Runs a script of `tests/fixtures/js`; what it printed.
pub fn script(name: &str, arguments: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/js");
    assert!(
        folder.join("node_modules/socket.io-client").exists(),
        "npm's socket.io-client is missing: run `npm ci --ignore-scripts` in tests/fixtures/js"
    );
    let mut node = Command::new("node");
    node.arg(name).args(arguments).current_dir(folder);
    let Done { code, out, err } = run(node);
    assert_eq!(code, Some(0), "{out}\n{err}");
    out
}

#[test]
fn a1_a2_r5_foreign_clients_register_ask_and_are_kept_in_bounds() {
    let settings = format!("{SETTINGS}[network]\nregister_deadline_ms = 1000\n");
    let mut cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), &settings);
    let before = cluster.wait_for(&["chat-1"]);
    let said = script("admin.js", &[&cluster.port.to_string()]);
    let checks =
        ["listed by event", "listed by acknowledgement", "level 2 lists and does not stop", "wrong passwords refused"];
    let more =
        ["nothing before registration", "one client of an id", "unregistered are closed", "malformed is harmless"];
    for check in checks.into_iter().chain(more) {
        assert!(said.lines().any(|line| line == check), "{check} is not in {said}");
    }
    assert_eq!(cluster.wait_for(&["chat-1"])["chat-1"]["pid"], before["chat-1"]["pid"]);
    let log = cluster.hosts[0].log();
    assert!(!log.contains("panicked") && !log.contains("secret-password"), "{log}");
    cluster.done(&["stop", "--all"]);
    assert_eq!(cluster.hosts[0].ended().code(), Some(0));
    let admin_log = std::fs::read_to_string(cluster.admin_log()).unwrap();
    assert!(!admin_log.contains("secret-password"), "{admin_log}");
}
