//! What becomes of files that change: refused, taken back, replaced, removed.

use std::sync::Arc;
use std::time::Duration;

use pomelo_host::client::AdminClient;
use pomelo_host::console::{Console, Origin, Source};
use pomelo_host::plugin::Grants;
use serde_json::{Value, json};

use crate::support::{Ask, Cluster, Plan, code_of, described, eventually, fixture, grants, renewed, sha256};

const PROBE: &[&str] = &["cluster", "uplink"];

async fn with_probe() -> (Cluster, AdminClient, Vec<u8>) {
    let file = fixture("probe");
    let cluster = Plan::with([("probe", file.clone())]).say("probe", grants(PROBE)).start().await;
    let client = cluster.admin().await;
    (cluster, client, file)
}

async fn get(client: &AdminClient, key: &str) -> Value {
    client.ask("probe", json!({"do": "get", "key": key})).await.unwrap()
}

async fn set(client: &AdminClient, key: &str, value: &str) {
    client.ask("probe", json!({"do": "set", "key": key, "value": value})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_a_bad_file_is_refused_with_a_sentence_and_the_old_version_runs_on() {
    let cluster = Plan::with([("echo", fixture("echo-v1"))]).start().await;
    let client = cluster.admin().await;
    let v2 = fixture("echo-v2");
    let wrong_import = described(&fixture("greedy"), &json!({"ids": [{"id": "echo"}]}));
    // Each file has a sentence of its own. So neither the refusal of the file before it nor that of a file that is just being written, and empty, is
    // taken for it.
    let bad: [(&[u8], &str); 7] = [
        (&v2[..v2.len() / 2], "not a WebAssembly file: unexpected end-of-file"),
        (b"", "not a WebAssembly file: it is empty"),
        (b"garbage all over", "not a WebAssembly file: it does not begin with `\\0asm`"),
        (b"\0asm\x01\0\0\0", "core WebAssembly module"),
        (&fixture("echo-bad-start"), "`start` of module echo failed: This flavour does not start."),
        (&wrong_import, "imports `pomelo:admin/process@0.1.0`"),
        (&described(&v2, &json!({"ids": [{"id": "no good"}]})), "`no good`"),
    ];
    for (file, part) in bad {
        cluster.overwrite("echo", file);
        let why = cluster.refused("echo", part).await;
        let shown = client.order("modules", None).await.unwrap();
        let shown = shown["modules"].as_array().unwrap().iter().find(|module| module["id"] == "echo").unwrap().clone();
        assert_eq!(shown["refused"], why);
        assert_eq!(shown["version"], "1.0.0");
        assert_eq!(client.ask("echo", part).await.unwrap(), json!({"version": 1, "echo": part}));
    }
    cluster.overwrite("echo", &v2);
    cluster.in_force("echo", &sha256(&v2)).await;
    assert_eq!(cluster.status("echo").unwrap().refused, None, "what was refused is no matter any more");
    assert_eq!(client.ask("echo", ()).await.unwrap()["version"], 2);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_a_version_that_traps_right_after_the_swap_is_taken_back() {
    let cluster = Plan::with([("echo", fixture("echo-v1"))]).start().await;
    let client = cluster.admin().await;
    let bad = fixture("echo-trap");
    cluster.drop_in("echo", &bad);
    cluster.in_force("echo", &sha256(&bad)).await;
    assert_eq!(code_of(&client.ask("echo", 1).await), "trap");
    eventually("the version before it", async || client.ask("echo", 1).await.ok()).await;
    let why = cluster.refused("echo", "trapped right after it had taken over").await;
    assert!(why.contains("the version before it is back"), "{why}");
    assert_eq!(cluster.status("echo").unwrap().digest, sha256(&fixture("echo-v1")));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_a_dropped_file_runs_and_a_removed_one_is_unknown() {
    let cluster = Plan::default().start().await;
    let client = cluster.admin().await;
    let server = cluster.server("chat-1", "chat").await;
    let on_monitor = || server.monitor.console().modules().iter().any(|status| status.id == "echo");
    let file = fixture("echo-v1");
    assert_eq!(code_of(&client.ask("echo", 1).await), "unknown-module");
    cluster.drop_in("echo", &file);
    eventually("the module", async || client.ask("echo", 1).await.ok()).await;
    eventually("the module on a monitor", async || on_monitor().then_some(())).await;
    cluster.remove("echo");
    eventually("its removal", async || (code_of(&client.ask("echo", 1).await) == "unknown-module").then_some(())).await;
    eventually("its removal on a monitor", async || (!on_monitor()).then_some(())).await;
    cluster.drop_in("echo", &file);
    eventually("its return", async || client.ask("echo", 1).await.ok()).await;
    server.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_a_file_runs_is_replaced_and_is_refused_on_every_host_that_watches_its_directory() {
    let cluster = Plan::default().start().await;
    let servers = [cluster.server("chat-1", "chat").await, cluster.server("gate-1", "gate").await];
    let mut consoles = Vec::from(cluster.master.consoles());
    consoles.extend(servers.iter().map(|server| server.monitor.console().clone()));
    let everywhere = async |digest: &str, refused: bool| {
        let is_so = |console: &Console| {
            let status = console.modules().into_iter().find(|status| status.id == "echo");
            status.is_some_and(|status| status.digest == digest && status.refused.is_some() == refused)
        };
        consoles.iter().all(is_so).then_some(())
    };
    for version in ["echo-v1", "echo-v2"] {
        let file = fixture(version);
        cluster.drop_in("echo", &file);
        eventually(version, async || everywhere(&sha256(&file), false).await).await;
    }
    cluster.drop_in("echo", b"garbage");
    eventually("the refusal, and the old version", async || everywhere(&sha256(&fixture("echo-v2")), true).await).await;
    for server in servers {
        server.stop().await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_a_file_that_is_renamed_runs_on_under_its_new_name() {
    let cluster = Plan::with([("echo", fixture("echo-v1"))]).start().await;
    let client = cluster.admin().await;
    cluster.rename("echo", "other");
    let moved = async || cluster.status("echo").filter(|status| status.source.ends_with("other.wasm"));
    eventually("the module from the renamed file", moved).await;
    assert_eq!(client.ask("echo", 1).await.unwrap()["echo"], 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_of_two_files_with_one_id_the_second_is_refused_and_takes_over_when_the_first_goes() {
    let cluster = Plan::with([("a", fixture("echo-v1")), ("b", fixture("echo-v2"))]).start().await;
    let client = cluster.admin().await;
    let why = cluster.refused("b", "`echo`").await;
    assert!(why.contains("a.wasm") && why.contains("remove one of the two"), "{why}");
    assert_eq!(client.ask("echo", 1).await.unwrap()["version"], 1);
    cluster.remove("a");
    let second = async || client.ask("echo", 1).await.ok().filter(|answer| answer["version"] == 2);
    eventually("the second file", second).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_the_same_file_again_changes_nothing() {
    let (cluster, client, file) = with_probe().await;
    assert_eq!(get(&client, "starts").await, 1);
    let path = cluster.status("probe").unwrap().source;
    let source = Source {
        name: "probe".into(),
        origin: Origin::File(path.into()),
        bytes: Arc::from(file.clone()),
        grants: Grants::default(),
    };
    let installed = cluster.console().install(source).await.unwrap();
    assert!(!installed.changed);
    assert_eq!((installed.ids, installed.digest), (vec!["probe".to_owned()], sha256(&file)));
    assert_eq!(get(&client, "starts").await, 1, "`start` is called once a version");
    // By way of the directory, with another version to tell that it has been looked at.
    cluster.drop_in("probe", &file);
    let new = renewed(&file, 1);
    cluster.drop_in("probe", &new);
    cluster.in_force("probe", &sha256(&new)).await;
    assert_eq!(get(&client, "starts").await, 2);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_the_store_outlives_a_version_and_a_removal() {
    let (cluster, client, file) = with_probe().await;
    set(&client, "kept", "for long").await;
    let new = renewed(&file, 1);
    cluster.drop_in("probe", &new);
    cluster.in_force("probe", &sha256(&new)).await;
    assert_eq!(get(&client, "kept").await, "for long");
    cluster.remove("probe");
    eventually("its removal", async || cluster.status("probe").is_none().then_some(())).await;
    cluster.drop_in("probe", &file);
    cluster.in_force("probe", &sha256(&file)).await;
    assert_eq!(get(&client, "kept").await, "for long");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_what_a_refused_start_stored_is_not_seen() {
    let (cluster, client, file) = with_probe().await;
    set(&client, "on-start", "fail").await;
    cluster.drop_in("probe", &renewed(&file, 1));
    cluster.refused("probe", "`start` of module probe failed: It was told not to start. (bad-start)").await;
    assert_eq!(get(&client, "starts").await, 1);
    assert_eq!(cluster.status("probe").unwrap().digest, sha256(&file));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_what_a_start_stores_is_seen_from_the_swap_on_and_a_newer_file_cancels_it() {
    let (cluster, client, file) = with_probe().await;
    let mut hand = cluster.hand("hand-1").await;
    set(&client, "on-start", "hand-1").await;
    let (second, third) = (renewed(&file, 2), renewed(&file, 3));
    cluster.drop_in("probe", &second);
    let _never_answered = hand.asked().await;
    assert_eq!(get(&client, "starts").await, 1, "what the start under way stored is held back");
    cluster.drop_in("probe", &third);
    let question = hand.asked().await;
    assert_eq!(cluster.status("probe").unwrap().digest, sha256(&file), "the old version is in force until the swap");
    hand.answer(&question, &json!("go"));
    cluster.in_force("probe", &sha256(&third)).await;
    assert_eq!(get(&client, "starts").await, 2, "that of the cancelled start is not among them");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_a_call_under_way_ends_on_the_old_version() {
    let (cluster, client, file) = with_probe().await;
    let mut hand = cluster.hand("hand-1").await;
    let new = renewed(&file, 1);
    let waiting = client.ask("probe", json!({"do": "ask", "server": "hand-1"}));
    let swap = async {
        let question = hand.asked().await;
        cluster.drop_in("probe", &new);
        cluster.in_force("probe", &sha256(&new)).await;
        // New calls are answered by the new version meanwhile.
        assert_eq!(get(&client, "starts").await, 2);
        hand.answer(&question, &json!("late"));
    };
    let (answer, ()) = tokio::join!(waiting, swap);
    assert_eq!(answer.unwrap(), "late");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_a_call_that_does_not_end_on_the_old_version_fails_with_reloaded() {
    let file = fixture("probe");
    let mut plan = Plan::with([("probe", file.clone())]).say("probe", grants(PROBE));
    plan.settings.drain = Some(Duration::from_millis(200));
    let cluster = plan.start().await;
    let client = cluster.admin().await;
    let mut hand = cluster.hand("hand-1").await;
    for removed in [false, true] {
        let waiting = client.ask("probe", json!({"do": "ask", "server": "hand-1"}));
        let change = async {
            let _never_answered = hand.asked().await;
            if removed {
                cluster.remove("probe");
            } else {
                cluster.drop_in("probe", &renewed(&file, 1));
            }
        };
        let (answer, ()) = tokio::join!(waiting, change);
        assert_eq!(code_of(&answer), "reloaded", "{answer:?}");
    }
    cluster.stop().await;
}
