//! Calls that wait for calls: neither deadlock nor failure with the smallest settings.

use std::time::Duration;

use futures_util::future::join_all;
use pomelo_host::plugin::{EngineLimits, Limits, MAX_DEPTH};
use serde_json::json;

use crate::support::{Ask, Plan, code_of, fixture, grants};

/// One call at a time of everything.
fn smallest() -> Plan {
    let mut plan = Plan::default();
    plan.settings.limits = Limits {
        instances: 1,
        reserve: 1,
        running: 1,
        cpu: Duration::from_secs(5),
        wall: Duration::from_secs(30),
        ..Limits::default()
    };
    plan.engine = EngineLimits { total_instances: 16, ..EngineLimits::default() };
    plan
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_lists_at_once_are_answered_with_the_smallest_settings() {
    let cluster = smallest().start().await;
    let servers = join_all(["chat-1", "chat-2", "gate-1"].map(|id| cluster.server(id, "chat"))).await;
    let client = cluster.viewer().await;
    let lists = join_all((0..100).map(|_| client.ask("__console__", json!({"signal": "list"})))).await;
    for list in lists {
        let list = list.unwrap();
        assert_eq!(list["missing"], json!({}));
        let listed: Vec<_> = list["msg"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(listed, ["chat-1", "chat-2", "gate-1", "master-1"]);
    }
    for server in servers {
        server.stop().await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_nest_to_the_depth_that_is_allowed_and_no_deeper_with_the_smallest_settings() {
    let mut plan = smallest().say("relay", grants(&["cluster", "uplink"]));
    plan.files.push(("relay", fixture("relay")));
    let cluster = plan.start().await;
    let server = cluster.server("chat-1", "chat").await;
    let client = cluster.viewer().await;
    let relay = |target: &str, depth: u32| client.ask("relay", json!({"target": target, "depth": depth}));
    // The client's call is at depth 0; each leg goes down to the monitor and back up to the master, and the last one stays there.
    let deepest = u32::from(MAX_DEPTH / 2 - 1);
    for target in ["chat-1", "master-1"] {
        assert_eq!(relay(target, 0).await.unwrap(), 3);
        assert_eq!(relay(target, deepest).await.unwrap(), MAX_DEPTH + 1, "so many handlers were at work");
        let failure = relay(target, deepest + 1).await.unwrap_err();
        assert_eq!(failure.code, "too-deep", "{failure}");
    }
    let at_once = (0..50).map(|number| relay(["chat-1", "master-1"][number % 2], deepest));
    for answer in join_all(at_once).await {
        assert_eq!(answer.unwrap(), MAX_DEPTH + 1);
    }
    let too_deep = (0..50).map(|_| relay("chat-1", 40));
    for answer in join_all(too_deep).await {
        assert_eq!(code_of(&answer), "too-deep");
    }
    server.stop().await;
    cluster.stop().await;
}
