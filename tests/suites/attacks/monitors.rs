//! A monitor, or somebody with the token of any type of server.

use std::fs;

use pomelo_host::wire::Topic;
use serde_json::json;

use crate::peers::Registered;
use crate::support::{Cluster, SETTINGS, eventually, two_chats};
use crate::target::Target;

#[tokio::test(flavor = "multi_thread")]
async fn notifies_without_pause_do_not_take_the_memory() {
    let target = Target::start("");
    let monitor = Registered::monitor(target.address(), "chat-9").await;
    let body = json!({"action": "record", "id": "chat-9", "padding": "x".repeat(64 << 10)});
    for _ in 0..2000 {
        assert!(monitor.notify(Topic::Monitor, "__masterwatcher__", &body));
    }
    let stopped = target.stop("chat-1");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    target.held();
}

#[tokio::test(flavor = "multi_thread")]
async fn notifies_whose_calls_wait_stay_at_their_sender() {
    // A module whose handler asks another server.
    let relay = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/modules/fixtures/relay.wasm")).unwrap();
    let target = Target::of(|| {
        let settings = format!("{SETTINGS}[module.relay]\ngrants = [\"cluster\", \"uplink\"]\n");
        let mut cluster = Cluster::configured(two_chats(), &settings);
        fs::create_dir_all(cluster.path("modules")).unwrap();
        fs::write(cluster.path("modules/relay.wasm"), relay).unwrap();
        cluster.host("start", &[]);
        cluster
    });
    eventually("the module is in force", || {
        target.cluster.ask(&["modules", "--json"]).out.contains("\"relay\"").then_some(())
    });
    let silent = Registered::monitor(target.address(), "chat-silent").await;
    let monitor = Registered::monitor(target.address(), "chat-9").await;
    let body = json!({"target": "chat-silent", "depth": 1, "padding": "x".repeat(4 << 10)});
    for _ in 0..4000 {
        assert!(monitor.notify(Topic::Monitor, "relay", &body));
    }
    silent.seen.at_least(2).await;
    let stopped = target.stop("chat-1");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    // None was taken in and then refused: what the master has not read costs it nothing.
    assert!(!target.cluster.hosts[0].log().contains("(busy)"));
    assert!(!monitor.seen.is_closed());
    target.held();
}

#[tokio::test(flavor = "multi_thread")]
async fn monitors_that_register_without_end_leave_level_1_a_place() {
    const PLACES: usize = 64;
    let target = Target::start(&format!("[network]\nmax_connections = {PLACES}\n"));
    let mut monitors = Vec::new();
    let refusal = loop {
        let monitor =
            Registered::asks(target.address(), &Registered::as_monitor(&format!("m-{}", monitors.len()))).await;
        match monitor.seen.refusal() {
            Some(refusal) => break refusal,
            None => monitors.push(monitor),
        }
        assert!(monitors.len() < PLACES, "there are no more places");
    };
    assert!(refusal.contains("max_connections"), "{refusal}");
    let stopped = target.stop("chat-1");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert!(monitors.iter().all(|monitor| !monitor.seen.is_closed()), "nobody has to go for that");
    target.held();
}
