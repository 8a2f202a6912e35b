//! Servers that take longer than a call of a module may: orders wait for them, and say what has come of them.

use serde_json::json;

use crate::support::*;

/// Ready after eleven seconds, which is longer than a call may take (`wall_ms`, ten seconds).
const SLOW: &str = "[supervise]\nready_delay_ms = 11000\nbackoff_min_ms = 50\nstop_deadline_ms = 30000\n";
/// Ends eleven seconds after it was asked to.
const SLOW_TO_END: &str = "trap 'sleep 11; exit 0' TERM; while :; do sleep 0.05; done";

#[test]
fn an_order_waits_for_servers_that_are_slow_to_start_and_to_end() {
    let cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": SLOW_TO_END}]}), SLOW);
    cluster.wait_for(&["chat-1"]);
    let [port] = free_ports();
    let port = format!("port={port}");
    assert_eq!(cluster.done(&["add", "id=chat-2", "serverType=chat", "host=127.0.0.1", &port]), "added: chat-2\n");
    cluster.wait_for(&["chat-1", "chat-2"]);
    assert_eq!(cluster.done(&["restart", "--type", "chat"]), "restarted\n");
    assert_eq!(cluster.done(&["stop", "chat-1", "chat-2"]), "stopped: chat-1, chat-2\n");
    cluster.wait_for(&[]);
}
