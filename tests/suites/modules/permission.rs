//! A module can do only what it imports and the operator granted.

use std::time::{SystemTime, UNIX_EPOCH};

use pomelo_host::console::{Origin, Source};
use pomelo_host::plugin::Grants;
use serde_json::json;

use crate::support::{Ask, Plan, code_of, eventually, fixture, grants, module, renewed, sha256};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_a_file_that_imports_what_was_not_granted_is_refused_with_the_line_to_write() {
    let cluster = Plan::with([("greedy", fixture("greedy"))]).start().await;
    let client = cluster.admin().await;
    let why = cluster.refused("greedy", "process").await;
    assert!(why.contains("`pomelo:admin/process@0.1.0`"), "it names the import: {why}");
    assert!(why.contains("add \"process\" to `grants` of [module.\"greedy\"] in pomelo.toml"), "{why}");
    assert_eq!(code_of(&client.ask("greedy", ()).await), "unknown-module");
    let seen = client.order("modules", None).await.unwrap();
    assert_eq!(seen["refused"]["greedy"], why);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_what_leads_nowhere_of_wasi_needs_no_grant_and_the_reason_of_a_trap_is_told() {
    let cluster = Plan::with([("wasi", fixture("wasi"))]).start().await;
    let client = cluster.viewer().await;
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let answer = client.ask("wasi", json!({"out": "a line\nand a part of one"})).await.unwrap();
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!((before..=after).contains(&answer["seconds"].as_u64().unwrap()), "{answer}");
    assert_ne!(answer["random"][0], answer["random"][1]);

    let failure = client.ask("wasi", json!({"err": "no luck\n\u{1b}[2Jtoday\n", "trap": true})).await.unwrap_err();
    let said = failure.to_string();
    assert_eq!(failure.code, "trap");
    assert!(said.contains("; it printed: no luck") && said.contains("today") && !said.contains('\u{1b}'), "{said}");
    // It is the word of that call only.
    let failure = client.ask("wasi", json!({"trap": true})).await.unwrap_err();
    assert!(!failure.to_string().contains("it printed"), "{failure}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_with_the_grant_the_file_is_loaded() {
    let cluster = Plan::with([("greedy", fixture("greedy"))]).say("greedy", grants(&["process"])).start().await;
    let client = cluster.admin().await;
    assert!(cluster.status("greedy").is_some() && cluster.console().refused().is_empty());
    // The master's modules have no process: the failure comes from the call, which was let through.
    assert_eq!(code_of(&client.ask("greedy", ()).await), "not-available");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_a_file_that_claims_a_built_in_id_is_refused() {
    let cluster = Plan::with([("console", module("console"))]).start().await;
    let client = cluster.admin().await;
    let why = cluster.refused("console", "__console__").await;
    // The embedded one's grants are not for whoever names itself so.
    assert!(why.contains("allow_replace_builtin") || why.contains("not granted"), "{why}");
    assert_eq!(cluster.status("__console__").unwrap().source, "built-in");
    assert!(client.ask("__console__", json!({"signal": "list"})).await.is_ok());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_where_it_is_allowed_a_file_takes_a_built_in_place_and_gives_it_back() {
    let mut plan = Plan::default();
    plan.settings.replace_builtin = true;
    let cluster = plan.start().await;
    let client = cluster.admin().await;
    let list = json!({"signal": "list"});
    let source = || cluster.status("__console__").map(|status| status.source);
    let from_file = async || source().filter(|source| source.ends_with("console.wasm"));
    let built_in = async || source().filter(|source| source == "built-in");

    cluster.drop_in("console", &module("console"));
    eventually("the file in the place of the built-in", from_file).await;
    assert_eq!(client.ask("__console__", &list).await.unwrap()["missing"], json!({}));
    cluster.remove("console");
    // No call falls between the two.
    let answered = async || {
        assert_eq!(client.ask("__console__", &list).await.unwrap()["missing"], json!({}));
        built_in().await
    };
    eventually("the built-in", answered).await;

    // A next version of the file that answers to other ids leaves the place, too.
    cluster.drop_in("console", &renewed(&module("console"), 1));
    eventually("the file in the place of the built-in", from_file).await;
    cluster.drop_in("console", &fixture("echo-v1"));
    cluster.in_force("echo", &sha256(&fixture("echo-v1"))).await;
    eventually("the built-in", built_in).await;
    assert!(client.ask("__console__", &list).await.is_ok());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_dropped_right_after_a_swap_leaves_no_id_unanswered() {
    let mut plan = Plan::default();
    plan.settings.replace_builtin = true;
    let cluster = plan.start().await;
    let (client, console) = (cluster.admin().await, cluster.console());
    let source = |bytes: Vec<u8>| Source {
        name: "console".into(),
        origin: Origin::File("console.wasm".into()),
        bytes: bytes.into(),
        grants: Grants::default(),
    };
    console.install(source(module("console"))).await.unwrap();
    assert_eq!(cluster.status("__console__").unwrap().source, "console.wasm");
    // The next version answers to another id, so that the built-in module is to come back. A newer file ends the task in that moment.
    let mut installing = Box::pin(console.install(source(fixture("echo-v1"))));
    while futures_util::poll!(&mut installing).is_pending() && cluster.status("echo").is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    drop(installing);
    let built_in = async || cluster.status("__console__").filter(|status| status.source == "built-in");
    eventually("the built-in", built_in).await;
    assert!(client.ask("__console__", json!({"signal": "list"})).await.is_ok());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_every_version_of_the_watchdog_is_told_of_a_server_once() {
    let mut plan = Plan::default();
    plan.settings.replace_builtin = true;
    let cluster = plan.start().await;
    let calls = || cluster.status("__masterwatcher__")?.stats.get("server-events").map(|stats| stats.calls);
    let source = || cluster.status("__masterwatcher__").map(|status| status.source);
    let file = async || source().filter(|source| source.ends_with("watchdog.wasm"));
    let built_in = async || source().filter(|source| source == "built-in");
    let mut hands = Vec::new();
    // Back and forth with an event in between, and at last without one.
    for turn in 0..3 {
        cluster.drop_in("watchdog", &module("watchdog"));
        eventually("the file", file).await;
        if turn < 2 {
            hands.push(cluster.hand(&format!("file-{turn}")).await);
        }
        cluster.remove("watchdog");
        eventually("the built-in", built_in).await;
        hands.push(cluster.hand(&format!("embedded-{turn}")).await);
    }
    let before = eventually("the first events", async || calls()).await;
    const MORE: u64 = 20;
    for number in 0..MORE {
        let so_far = calls();
        hands.push(cluster.hand(&format!("last-{number}")).await);
        eventually("an event", async || (calls() > so_far).then_some(())).await;
    }
    let told = calls().unwrap() - before;
    // One more where a change from before had not been told yet.
    assert!(told <= MORE + 1, "{MORE} servers came, and the watchdog was called {told} times");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m4_another_modules_store_is_read_with_a_grant_only() {
    let second = pomelo_host::console::ModuleSettings { file: Some("probe.wasm".into()), ..grants(&[]) };
    let cluster = Plan::with([("probe", fixture("probe"))])
        .say("probe", grants(&["cluster", "uplink", "store:second"]))
        .say("second", second)
        .start()
        .await;
    let client = cluster.admin().await;
    for id in ["probe", "second"] {
        client.ask(id, json!({"do": "set", "key": "k", "value": id})).await.unwrap();
    }
    let read = |from: &str| json!({"do": "read", "module": from, "key": "k"});
    assert_eq!(client.ask("probe", read("second")).await.unwrap(), "second");
    assert_eq!(client.ask("probe", read("probe")).await.unwrap(), "probe", "one's own needs no grant");
    let failure = client.ask("second", read("probe")).await.unwrap_err();
    assert_eq!(failure.code, "forbidden");
    assert!(failure.message.contains("`store:probe`"), "{failure}");
    cluster.stop().await;
}
