//! A `start` that fails, and a peer that leaves.

use serde_json::json;

use crate::support::{Ask, GENEROUS, Plan, code_of, eventually, fixture, settings_of, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_a_start_that_fails_is_called_again_and_does_not_take_the_host_down() {
    let settings = settings_of(&json!({"failing-starts": 1}), &["cluster", "uplink"]);
    let files = [("echo", fixture("echo-v1")), ("probe", fixture("probe"))];
    let cluster = Plan::with(files).say("probe", settings).start().await;
    let client = cluster.admin().await;
    assert_eq!(client.ask("echo", 1).await.unwrap()["echo"], 1);
    let started = async || {
        let starts = client.ask("probe", json!({"do": "get", "key": "starts"})).await.unwrap();
        (starts == 2).then_some(())
    };
    eventually("a second start", started).await;
    let failed = cluster.status("probe").unwrap();
    assert_eq!(failed.stats["lifecycle"].failures, 1);
    assert!(failed.last_error.unwrap().contains("It does not start yet."));
    // On a monitor as well: its store is its own, so its first start fails, too.
    let server = cluster.server("chat-1", "chat").await;
    let status = || server.monitor.console().modules().into_iter().find(|status| status.id == "probe");
    let again = async || status().filter(|status| status.stats.get("lifecycle").is_some_and(|stats| stats.calls == 2));
    let status = eventually("a second start on the monitor", again).await;
    assert_eq!(status.stats["lifecycle"].failures, 1);
    server.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_a_request_whose_monitor_disconnects_fails_with_disconnected() {
    let settings = settings_of(&json!({}), &["cluster", "uplink"]);
    let cluster = Plan::with([("probe", fixture("probe"))]).say("probe", settings).start().await;
    let client = cluster.admin().await;
    let mut hand = cluster.hand("hand-1").await;
    let waiting = client.ask("probe", json!({"do": "ask", "server": "hand-1"}));
    let leave = async {
        let _never_answered = hand.asked().await;
        hand.cut();
    };
    let (answer, ()) = tokio::join!(waiting, leave);
    assert_eq!(code_of(&answer), "disconnected", "{answer:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_under_which_nothing_runs_ends_long_before_its_deadline() {
    let deadline = 2 * GENEROUS;
    let settings = settings_of(&json!({}), &["cluster", "uplink"]);
    let files = [("probe", fixture("probe")), ("echo", fixture("echo-v1"))];
    let cluster = Plan::with(files).say("probe", settings).start().await;
    let server = cluster.server("chat-1", "chat").await;
    soon("the end of the monitor", server.monitor.shut_down(deadline)).await;
    soon("the end of the master", cluster.master.shut_down(deadline)).await;
}
