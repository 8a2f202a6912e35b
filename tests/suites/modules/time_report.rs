//! The tutorial's module: the master asks for every server's time, keeps it, and clients read what is kept.

use std::time::{SystemTime, UNIX_EPOCH};

use pomelo_host::console::ModuleSettings;
use serde_json::Value;

use crate::support::{Ask, Plan, eventually, grants, module};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_a_client_reads_the_kept_time_of_every_server() {
    let settings = ModuleSettings { interval: Some(1.0), ..grants(&["cluster", "uplink"]) };
    let cluster = Plan::default().say("timeReport", settings).start().await;
    let servers = [cluster.server("chat-1", "chat").await, cluster.server("gate-1", "gate").await];
    // Dropped into the directory of a cluster that runs.
    cluster.drop_in("time-report", &module("time-report"));
    let viewer = cluster.viewer().await;
    let times = async || {
        let answer = viewer.ask("timeReport", ()).await.ok()?;
        answer.as_object().cloned()
    };
    let all = eventually("the times of all", async || times().await.filter(|times| times.len() == 3)).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    for id in ["chat-1", "gate-1", "master-1"] {
        let time = all.get(id).and_then(Value::as_u64).unwrap_or_else(|| panic!("{id} is missing: {all:?}"));
        assert!(time <= now && now - time < 60_000, "{id}: {time}, now {now}");
    }
    let newer = async || times().await.filter(|times| times["chat-1"].as_u64() > all["chat-1"].as_u64());
    eventually("a newer time", newer).await;

    let [leaving, staying] = servers;
    leaving.stop().await;
    let gone = async || times().await.filter(|times| !times.contains_key("chat-1"));
    let left = eventually("the end of a server that left", gone).await;
    assert!(left.contains_key("gate-1"));
    staying.stop().await;
    cluster.stop().await;
}
