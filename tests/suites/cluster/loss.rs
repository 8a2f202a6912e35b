//! Members that fall silent, and a master that dies.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use pomelo_host::client::{AdminClient, Options};
use serde_json::{Value, json};

use crate::observing::get;
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_hundred_clients_list_at_once_while_a_monitor_is_silent() {
    let cluster = Cluster::start(two_chats(), SETTINGS);
    let listed = cluster.wait_for(&["chat-1", "chat-2"]);
    let silent = Stopped::new(parent(pid(&listed, "chat-1")));
    let clients = (0..100).map(|_| {
        let options = Options { port: cluster.port, ..Options::default() };
        tokio::spawn(async move {
            let client = AdminClient::connect(options).await.unwrap();
            let answer = client.request("__console__", json!({"signal": "list"})).await.unwrap();
            client.close().await;
            serde_json::from_str::<Value>(answer.get()).unwrap()
        })
    });
    for client in clients.collect::<Vec<_>>() {
        let answer = client.await.unwrap();
        let others = answer["msg"].as_object().unwrap();
        assert_eq!(others.keys().collect::<Vec<_>>(), ["chat-2", "master"]);
        assert_eq!(others["chat-2"]["pid"], listed["chat-2"]["pid"]);
        let missing = answer["missing"].as_object().unwrap();
        assert_eq!(missing.keys().collect::<Vec<_>>(), ["chat-1"], "{answer}");
    }
    // The command line shows what there is, and says what is missing.
    let shown = cluster.ask(&["list"]);
    assert_eq!(shown.code, Some(1));
    assert!(shown.out.contains("chat-2") && shown.err.contains("chat-1"), "{shown:?}");
    drop(silent);
    let again = cluster.wait_for(&["chat-1", "chat-2"]);
    assert_eq!(again["chat-1"]["pid"], listed["chat-1"]["pid"]);
}

#[test]
fn w5_a_silent_monitor_is_taken_out_of_the_views_and_comes_back() {
    // On pomelo's wire the shortest silence that counts is a second and a half.
    for wire in ["socket.io", "pomelo"] {
        a_silent_monitor(wire);
    }
}

fn a_silent_monitor(wire: &str) {
    let network = format!("[network]\nwire = \"{wire}\"\nping_interval_ms = 200\nping_timeout_ms = 500\n");
    let cluster = Cluster::start(two_chats(), &format!("{network}[supervise]\nready_delay_ms = 20\n"));
    let listed = cluster.wait_for(&["chat-1", "chat-2"]);
    let files: BTreeMap<_, _> =
        ["chat-1", "chat-2"].map(|id| (id, view_file(pid(&listed, id)).unwrap())).into_iter().collect();
    wait_for_members(&files["chat-2"], &["chat-1", "chat-2"]);
    let silent = Stopped::new(parent(pid(&listed, "chat-1")));
    wait_for_members(&files["chat-2"], &["chat-2"]);
    drop(silent);
    wait_for_members(&files["chat-2"], &["chat-1", "chat-2"]);
    wait_for_members(&files["chat-1"], &["chat-1", "chat-2"]);
    assert_eq!(cluster.wait_for(&["chat-1", "chat-2"])["chat-1"]["restarts"], 0, "the program went on");
    // The master's own monitor is in its process.
    let (_, metrics) = get(&format!("127.0.0.1:{}", cluster.port), "/metrics", "").unwrap();
    let of_monitors = |transport: &str| metrics.contains(&format!("pomelo_frames_total{{transport=\"{transport}\""));
    assert_eq!(of_monitors("mqtt"), wire == "pomelo", "{metrics}");
}

#[test]
fn w5_views_outlive_the_master_and_are_whole_with_the_next_one() {
    let mut cluster = Cluster::configured(two_chats(), SETTINGS);
    cluster.host("master", &[]);
    cluster.host("monitor", &["--id", "chat-1"]);
    cluster.host("monitor", &["--id", "chat-2"]);
    let listed = cluster.wait_for(&["chat-1", "chat-2"]);
    let files = ["chat-1", "chat-2"].map(|id| view_file(pid(&listed, id)).unwrap());
    files.iter().for_each(|file| wait_for_members(file, &["chat-1", "chat-2"]));

    cluster.hosts[0].signal(Signal::SIGKILL);
    cluster.hosts[0].ended();
    eventually("the monitors notice", || cluster.hosts[1].log().contains("no longer registered").then_some(()));
    assert_eq!(cluster.ask(&["list"]).code, Some(3));
    for file in &files {
        assert_eq!(members(file), ids(&["chat-1", "chat-2", "master"]), "the view is kept");
    }

    cluster.host("master", &[]);
    let back = cluster.wait_for(&["chat-1", "chat-2"]);
    for id in ["chat-1", "chat-2"] {
        assert_eq!(
            (pid(&back, id), back[id]["restarts"].as_u64()),
            (pid(&listed, id), Some(0)),
            "the programs went on"
        );
    }
    // The new master's own process is what tells the new view from the old.
    for file in &files {
        eventually("the view is the new master's", || {
            (view(file)["servers"]["master"]["pid"] == back["master"]["pid"]).then_some(())
        });
        wait_for_members(file, &["chat-1", "chat-2"]);
    }
    // And changes reach them again.
    cluster.done(&["stop", "chat-1"]);
    wait_for_members(&files[1], &["chat-2"]);
}

#[test]
fn s4_w5_m4_a_master_that_was_killed_finds_its_fleet_what_was_stopped_and_what_modules_kept() {
    let settings = format!("{SETTINGS}[module.roles]\ngrants = [\"cluster\", \"uplink\"]\n");
    let mut cluster = Cluster::configured(two_chats(), &settings);
    let modules = cluster.path("modules");
    std::fs::create_dir_all(&modules).unwrap();
    std::fs::copy(super::modules::built("fixtures/roles.wasm"), modules.join("roles.wasm")).unwrap();
    // The servers are another host's, so that the master's death is not theirs.
    cluster.host("start", &["--type=chat"]);
    cluster.host("master", &[]);
    let before = cluster.wait_for(&["chat-1", "chat-2"]);
    eventually("the module runs on the monitor", || {
        (cluster.ask(&["request", "roles", r#"{"do":"up","server":"chat-1"}"#]).code == Some(0)).then_some(())
    });
    let kept = "{\"told:chat-1\":\"a word\"}\n";
    eventually("the master keeps it", || {
        (cluster.done(&["request", "roles", r#"{"do":"told"}"#]) == kept).then_some(())
    });
    // With its answer, all that was kept before is on the disk.
    assert_eq!(cluster.done(&["stop", "chat-2"]), "stopped: chat-2\n");
    for _ in 0..2 {
        let mut master = cluster.hosts.pop().unwrap();
        master.signal(Signal::SIGKILL);
        master.ended();
        drop(master);
        cluster.host("master", &[]);
        let after = cluster.wait_for(&["chat-1"]);
        assert_eq!(after["chat-1"]["pid"], before["chat-1"]["pid"], "its program went on");
        assert_eq!(cluster.done(&["request", "roles", r#"{"do":"told"}"#]), kept);
    }
}
