//! Who may say what to whom: the three roles, and the callbacks that their messages come to.

use futures_util::future::join_all;
use pomelo_host::client::{AdminClient, Options};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Ask, Cluster, Plan, Server, code_of, eventually, fixture, grants};

/// A master, two chat servers and a gate, all with the module `roles`.
async fn of_three() -> (Cluster, Vec<Server>) {
    let cluster = Plan::with([("roles", fixture("roles"))]).say("roles", grants(&["cluster", "uplink"])).start().await;
    let servers = [("chat-1", "chat"), ("chat-2", "chat"), ("gate-1", "gate")];
    let servers = join_all(servers.map(|(id, server_type)| cluster.server(id, server_type))).await;
    (cluster, servers)
}

async fn end(cluster: Cluster, servers: Vec<Server>) {
    for server in servers {
        server.stop().await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_the_master_asks_one_server_those_of_a_type_or_all() {
    let (cluster, servers) = of_three().await;
    let client = cluster.viewer().await;
    let asked = async |targets: &[&str]| {
        let answers = client.ask("roles", json!({"do": "ask", "targets": targets})).await.unwrap();
        let answers = answers.as_object().unwrap().clone();
        for (id, answer) in answers.iter().filter(|(_, answer)| answer.is_object()) {
            // M2: what the master says comes to `monitorHandler`; the master's own id is told to nobody, since a monitor has one master.
            assert_eq!(*answer, json!({"callback": "monitor_handler", "server": id, "caller": null}));
        }
        answers
            .into_iter()
            .map(|(id, answer)| answer.as_str().map_or(id.clone(), |code| format!("{id}: {code}")))
            .collect::<Vec<_>>()
    };
    assert_eq!(asked(&["chat-2"]).await, ["chat-2"]);
    assert_eq!(asked(&["type:chat"]).await, ["chat-1", "chat-2"]);
    assert_eq!(asked(&["*"]).await, ["chat-1", "chat-2", "gate-1", "master-1"]);
    assert_eq!(asked(&["gate-1", "nobody"]).await, ["gate-1", "nobody: not-found"]);
    end(cluster, servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_r3_a_client_has_the_master_tell_servers_which_act_on_it() {
    let (cluster, servers) = of_three().await;
    let client = cluster.viewer().await;
    client.ask("roles", json!({"do": "tell", "targets": ["type:chat"], "what": "hush"})).await.unwrap();
    for id in ["chat-1", "chat-2"] {
        let told = async || {
            let told = client.ask("roles", json!({"do": "told", "server": id})).await.unwrap();
            (told == json!({"told:master": "hush"})).then_some(())
        };
        eventually("a notify", told).await;
    }
    // All of it came by the same connections, in order: the gate was told nothing.
    assert_eq!(client.ask("roles", json!({"do": "told", "server": "gate-1"})).await.unwrap(), json!({}));
    end(cluster, servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_r2_r3_a_monitor_asks_and_tells_its_master_which_keeps_it_for_clients() {
    let (cluster, servers) = of_three().await;
    let client = cluster.viewer().await;
    let answer = client.ask("roles", json!({"do": "up", "server": "gate-1"})).await.unwrap();
    assert_eq!(answer, json!({"callback": "master_handler", "server": "master-1", "caller": "gate-1"}));
    // The notify came before the request on the same connection, but is a call of its own.
    let told = async || {
        let told = client.ask("roles", json!({"do": "told"})).await.unwrap();
        (told == json!({"told:gate-1": "a word"})).then_some(())
    };
    eventually("what the monitor told", told).await;
    end(cluster, servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_module_pushes_progress_to_the_client_that_waits_and_to_no_other() {
    let (cluster, servers) = of_three().await;
    let (pushes, mut pushed) = mpsc::channel(8);
    let options = Options {
        port: cluster.master.address().port(),
        username: "monitor".into(),
        password: "monitor".into(),
        pushes: Some(pushes),
        ..Options::default()
    };
    let client = AdminClient::connect(options).await.unwrap();
    assert_eq!(client.ask("roles", json!({"do": "progress"})).await.unwrap(), "done");
    // They were sent before the answer, so they are here.
    for done in [1, 2] {
        let push = pushed.try_recv().unwrap();
        assert_eq!((push.module.as_str(), push.body.get()), ("roles", json!({"done": done}).to_string().as_str()));
    }
    let other = cluster.viewer().await;
    other.ask("roles", json!({"do": "progress"})).await.unwrap();
    client.ask("roles", json!({"do": "told"})).await.unwrap();
    assert!(pushed.try_recv().is_err(), "the other client's progress is not this one's");
    // Nobody waits for the answer to a notify.
    client.notify("roles", json!({"do": "progress"})).unwrap();
    let failed = async || cluster.status("roles").unwrap().last_error.filter(|error| error.contains("no client waits"));
    eventually("a failure that says so", failed).await;
    end(cluster, servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_r6_the_master_has_a_monitor_of_its_own_with_instances_and_a_store_of_its_own() {
    let (cluster, servers) = of_three().await;
    let client = cluster.viewer().await;
    let listed = client.ask("__console__", json!({"signal": "list"})).await.unwrap();
    assert_eq!(listed["msg"]["master-1"]["serverType"], "master");
    client.ask("roles", json!({"do": "tell", "targets": ["master-1"], "what": "to yourself"})).await.unwrap();
    let told = async || {
        let told = client.ask("roles", json!({"do": "told", "server": "master-1"})).await.unwrap();
        (told == json!({"told:master": "to yourself"})).then_some(())
    };
    eventually("the master's own monitor", told).await;
    assert_eq!(client.ask("roles", json!({"do": "told"})).await.unwrap(), json!({}), "the master's store is another");
    end(cluster, servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m1_every_callback_is_optional_and_one_that_is_not_there_is_a_failure() {
    let files = [("roles", fixture("roles")), ("echo", fixture("echo-v1"))];
    let cluster = Plan::with(files).say("roles", grants(&["cluster", "uplink"])).start().await;
    let handlers = |id: &str| cluster.status(id).unwrap().handlers;
    assert_eq!(handlers("echo"), ["client-handler"]);
    assert_eq!(handlers("roles"), ["master-handler", "monitor-handler", "client-handler"]);
    assert_eq!(handlers("__masterwatcher__"), ["master-handler", "monitor-handler", "server-events", "lifecycle"]);
    let client = cluster.viewer().await;
    let asked: Result<Value, _> = client.ask("__masterwatcher__", json!({"action": "query"})).await;
    assert_eq!(code_of(&asked), "forbidden", "what declares nothing for clients is for level 1");
    let asked = cluster.admin().await.ask("__masterwatcher__", json!({"action": "query"})).await;
    assert_eq!(code_of(&asked), "no-handler");
    cluster.stop().await;
}
