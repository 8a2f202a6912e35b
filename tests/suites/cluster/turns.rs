//! Turns to start: after a failure of many, programs are started one after another, over all monitors of a machine.

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::support::*;

/// What the fleet says of a server.
fn record(cluster: &Cluster, id: &str) -> Option<Value> {
    let listed: Value = serde_json::from_str(&cluster.ask(&["list", "--json"]).out).ok()?;
    listed["servers"].as_array()?.iter().find(|server| server["id"] == id).cloned()
}

/// Takes the turns of programs that have ended, for so long. Later than a test can take, so that none of them comes.
fn take_all_turns(cluster: &Cluster, time: Duration) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
    cluster.write("data/.starts", &format!("{} 0 {}\n", boot.trim(), (now + time).as_nanos()));
}

#[test]
fn programs_that_end_together_wait_for_their_turn_and_an_order_does_not_wait_for_theirs() {
    let script = "echo up; while :; do sleep 0.05; done";
    let servers = json!({"chat": [{"id": "chat-1", "script": script}, {"id": "chat-2", "script": script}]});
    let cluster = Cluster::start(servers, SETTINGS);
    let before = cluster.wait_for(&["chat-1", "chat-2"]);
    take_all_turns(&cluster, Duration::from_secs(1800));
    for id in ["chat-1", "chat-2"] {
        send(pid(&before, id), Signal::SIGKILL);
    }
    for id in ["chat-1", "chat-2"] {
        let waits = eventually("it waits for its turn, as all surfaces say", || {
            record(&cluster, id).filter(|server| server["why"].as_str().is_some_and(|why| why.contains("its turn")))
        });
        assert_eq!(waits["state"], "backing-off");
        assert!(waits["why"].as_str().unwrap().contains("was ended by signal 9"), "{waits}");
    }
    assert_eq!(cluster.done(&["restart", "chat-1"]), "restarted\n");
    cluster.wait_for(&["chat-1"]);
    assert_eq!(cluster.done(&["stop", "chat-2"]), "stopped: chat-2\n");
    // The turns come, and the next one that ends is back.
    take_all_turns(&cluster, Duration::ZERO);
    let listed = cluster.list();
    send(pid(&listed, "chat-1"), Signal::SIGKILL);
    eventually("it runs again", || {
        let again = cluster.list()["chat-1"]["pid"].as_u64()?;
        (again != 0 && again != u64::from(pid(&listed, "chat-1"))).then_some(())
    });
}
