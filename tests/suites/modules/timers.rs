//! Periodic modules.

use pomelo_host::console::ModuleSettings;
use serde_json::{Value, json};

use crate::support::{Ask, Plan, described, eventually, fixture, grants, settings_of};

const PROBE: &[&str] = &["cluster", "uplink"];

/// The probe with a timer. The interval is below a second, so that it is raised to one.
fn periodic(kind: &str) -> Vec<u8> {
    let descriptor = json!({"ids": [{"id": "probe", "type": kind, "interval": 0.01, "delay": -1}]});
    described(&fixture("probe"), &descriptor)
}

async fn number(client: &impl Ask, module: &str, key: &str) -> u64 {
    let value = client.ask(module, json!({"do": "get", "key": key})).await.unwrap();
    if value == Value::Null { 0 } else { value.as_u64().unwrap() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m3_pull_calls_the_master_without_a_message_and_a_disabled_module_has_no_turns() {
    // The second id has the same timer, and tells how time goes on.
    let clock = ModuleSettings { file: Some("probe.wasm".into()), ..grants(PROBE) };
    let cluster =
        Plan::with([("probe", periodic("pull"))]).say("probe", grants(PROBE)).say("clock", clock).start().await;
    let client = cluster.admin().await;
    let turns = async |id: &str, least: u64| {
        eventually("turns", async || Some(number(&client, id, "turns").await).filter(|turns| *turns >= least)).await
    };
    turns("probe", 1).await;
    client.order("disable", Some("probe")).await.unwrap();
    // A turn that had begun may still end.
    let clock = number(&client, "clock", "turns").await;
    let calls = || cluster.status("probe").unwrap().stats["master-handler"].calls;
    turns("clock", clock + 1).await;
    let at_rest = calls();
    turns("clock", clock + 3).await;
    assert_eq!(calls(), at_rest, "no turn while it is disabled");
    client.order("enable", Some("probe")).await.unwrap();
    let before = number(&client, "probe", "turns").await;
    turns("probe", before + 1).await;
    // A monitor has no turns of a pull module.
    let server = cluster.server("chat-1", "chat").await;
    turns("clock", number(&client, "clock", "turns").await + 2).await;
    let on_monitor = server.monitor.console().modules().into_iter().find(|status| status.id == "probe").unwrap();
    assert!(!on_monitor.stats.contains_key("monitor-handler"), "{:?}", on_monitor.stats);
    server.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m3_push_calls_every_monitor_without_a_message() {
    let cluster = Plan::with([("probe", periodic("push"))]).say("probe", grants(PROBE)).start().await;
    let servers = [cluster.server("chat-1", "chat").await, cluster.server("gate-1", "gate").await];
    let client = cluster.admin().await;
    for server in ["chat-1", "gate-1", "master-1"] {
        let key = format!("turn:{server}");
        eventually("turns of a monitor", async || (number(&client, "probe", &key).await >= 2).then_some(())).await;
    }
    assert_eq!(number(&client, "probe", "turns").await, 0, "the master has no turns of a push module");
    for server in servers {
        server.stop().await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m3_a_turn_that_comes_while_the_last_one_runs_is_left_out_and_counted() {
    // The descriptor's timer would hardly fire in this test: the configuration's interval counts.
    let descriptor = json!({"ids": [{"id": "probe", "type": "pull", "interval": 1000}]});
    let settings = ModuleSettings { interval: Some(1.0), ..settings_of(&json!({"turn-asks": "hand-1"}), PROBE) };
    let cluster =
        Plan::with([("probe", described(&fixture("probe"), &descriptor))]).say("probe", settings).start().await;
    let mut hand = cluster.hand("hand-1").await;
    let question = hand.asked().await;
    let skipped = async || cluster.status("probe").filter(|status| status.skipped_turns >= 2);
    eventually("turns that are left out", skipped).await;
    assert_eq!(hand.waiting(), 0, "turns do not overlap");
    hand.answer(&question, &json!(null));
    hand.asked().await;
    cluster.stop().await;
}
