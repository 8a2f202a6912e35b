//! Modules that compute. None of them is limited more than any other module is: what holds is that others have their share.

use std::fs;
use std::time::Duration;

use futures_util::future::join_all;
use pomelo_host::client::{AdminClient, Options};
use serde_json::{Value, json};

use crate::hostile::{self, File};
use crate::neighbour::Neighbour;
use crate::support::{Cluster, SETTINGS, eventually, two_chats};
use crate::target::Target;

/// Settings under which a call may compute for a day.
fn without_end(ids: &[&str]) -> String {
    let limits = |id: &&str| format!("[module.{id}.limits]\ncpu_ms = 86400000\nwall_ms = 86400000\n");
    ids.iter().map(limits).collect()
}

fn put(cluster: &Cluster, files: &[File]) {
    let directory = cluster.path("modules");
    fs::create_dir_all(&directory).unwrap();
    for (name, bytes) in files {
        fs::write(directory.join(name).with_extension("wasm"), bytes).unwrap();
    }
}

/// What the master shows of a module.
fn module(cluster: &Cluster, id: &str) -> Option<Value> {
    let shown: Value = serde_json::from_str(&cluster.done(&["modules", "--json"])).unwrap();
    shown["modules"].as_array().unwrap().iter().find(|module| module["id"] == *id).cloned()
}

/// Puts files there, and waits until they are in force.
fn in_force(target: &Target, files: &[File]) {
    put(&target.cluster, files);
    for (name, _) in files {
        eventually(&format!("{name} is in force"), || module(&target.cluster, name));
    }
}

async fn client(target: &Target) -> AdminClient {
    AdminClient::connect(Options { port: target.cluster.port, ..Options::default() }).await.unwrap()
}

/// Has so many calls of a module under way until each of so many rounds is over. How they end does not matter.
async fn calls(target: &Target, id: &str, at_once: usize, rounds: usize) {
    let clients = join_all((0..at_once).map(|_| client(target))).await;
    let calling = clients.iter().map(async |client| {
        for _ in 0..rounds {
            let _ = client.request(id, Value::Null).await;
        }
    });
    join_all(calling).await;
}

/// Calls that compute, while the neighbour asks.
async fn beside(work: &str, at_once: usize, rounds: usize) {
    let target = Target::start("");
    let neighbour = Neighbour::of(&target).await;
    in_force(&target, &[hostile::file("hostile", [work, "", ""])]);
    let seen = neighbour.asks_during(calls(&target, "hostile", at_once, rounds)).await;
    assert!(seen.answered > 0);
    let cpu = module(&target.cluster, "hostile").unwrap()["cpuMs"].as_u64().unwrap();
    assert!(cpu > 0, "what it has used is shown");
    target.held();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_compute_leave_others_their_share() {
    beside(hostile::COMPUTES, 2, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_shorter_than_a_slice_leave_others_their_share() {
    beside(hostile::SHORT, 16, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_of_host_calls_that_never_wait_leaves_others_their_share() {
    beside(hostile::LOGS, 2, 4).await;
    beside(hostile::GETS, 2, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_that_fill_their_memory_again_and_again_leave_others_their_share() {
    beside(hostile::GROWS, 4, 4).await;
}

/// More guests than any machine has processors compute and do not end. The neighbour's requests have their usual deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_calls_without_end_keeps_nobody_from_an_answer() {
    const FILES: [&str; 8] = ["h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7"];
    const CALLS: usize = 16;
    let target = Target::start(&without_end(&FILES));
    let neighbour = Neighbour::of(&target).await;
    in_force(&target, &FILES.map(|name| hostile::file(name, [hostile::FOREVER, "", ""])));
    let clients = join_all(FILES.map(|_| client(&target))).await;
    let crowd = FILES.iter().zip(&clients).flat_map(|(id, client)| (0..CALLS).map(|_| client.request(id, 1)));
    let mut crowd = std::pin::pin!(join_all(crowd));
    let asking = neighbour.asks(300);
    let seen = tokio::select! {
        seen = asking => seen,
        _ = &mut crowd => panic!("calls that never end have ended"),
    };
    assert_eq!(seen.answered, 300);
    let stopped = target.stop("chat-1");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    target.held();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_timers_of_a_file_have_one_share() {
    let target = Target::start("");
    let neighbour = Neighbour::of(&target).await;
    put(&target.cluster, &[hostile::timers(hostile::COMPUTES)]);
    eventually("t63 is in force", || module(&target.cluster, "t63"));
    let admin = client(&target).await;
    // Until they have computed for some seconds.
    let computed = async {
        loop {
            let shown = admin.command("modules", None, Value::Null).await.unwrap();
            let shown: Value = serde_json::from_str(shown.get()).unwrap();
            let timer = shown["modules"].as_array().unwrap().iter().find(|module| module["id"] == "t0").unwrap();
            if timer["cpuMs"].as_u64() > Some(3000) {
                break;
            }
            let listed = admin.request("__console__", json!({"signal": "list"})).await;
            assert!(listed.is_ok(), "{listed:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let seen = neighbour.asks_during(computed).await;
    assert!(seen.answered > 0);
    target.held();
}

/// Files that are there before the master, and whose `start` does not end: the cluster starts as if they were not there.
#[tokio::test(flavor = "multi_thread")]
async fn files_whose_start_does_not_end_keep_no_server_from_its_start() {
    const FILES: [&str; 10] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"];
    let target = Target::of(|| {
        let mut cluster = Cluster::configured(two_chats(), &format!("{SETTINGS}{}", without_end(&FILES)));
        put(&cluster, &FILES.map(|name| hostile::file(name, ["", hostile::FOREVER, ""])));
        cluster.host("start", &[]);
        cluster
    });
    let neighbour = Neighbour::of(&target).await;
    for id in FILES {
        let shown = eventually(&format!("{id} is in force"), || module(&target.cluster, id));
        assert_eq!(shown["state"], "starting", "{shown}");
    }
    assert_eq!(module(&target.cluster, "echo").unwrap()["state"], "enabled");
    let seen = neighbour.asks(100).await;
    assert_eq!(seen.answered, 100);
    target.held();
}

/// The same for files that compute before they have an instance. They are refused when they have used their CPU time, which is a second here.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_compute_before_they_are_instances_keep_no_server_from_its_start() {
    let target = Target::of(|| {
        let mut cluster = Cluster::configured(two_chats(), SETTINGS);
        put(&cluster, &hostile::files(3, "begins", ["", "", hostile::FOREVER]));
        cluster.host("start", &[]);
        cluster
    });
    let refused = eventually("all are refused", || {
        let shown: Value = serde_json::from_str(&target.cluster.done(&["modules", "--json"])).unwrap();
        shown["refused"].as_object().filter(|refused| refused.len() == 3).cloned()
    });
    assert!(refused.values().all(|why| why.as_str().unwrap().contains("CPU time")), "{refused:?}");
    target.held();
}
