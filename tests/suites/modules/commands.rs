//! What callers are told of modules that cannot answer, and the commands that enable and disable them.

use serde_json::json;

use crate::support::{Ask, Plan, code_of, eventually, fixture, grants, renewed, sha256};

const PROBE: &[&str] = &["cluster", "uplink"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m6_an_unknown_module_a_missing_handler_and_a_handlers_own_failure_are_told_apart() {
    let files = [("echo", fixture("echo-v1")), ("misbehave", fixture("misbehave"))];
    let cluster = Plan::with(files).say("misbehave", grants(&["cluster"])).start().await;
    let client = cluster.admin().await;
    let unknown = client.ask("nobody", ()).await.unwrap_err();
    assert_eq!((&*unknown.code, &*unknown.message), ("unknown-module", "unknown module nobody"));
    let own = client.ask("misbehave", json!({"do": "dance"})).await.unwrap_err();
    assert_eq!((&*own.code, &*own.message), ("bad-message", "It cannot dance."));
    let absent = client.ask("__masterwatcher__", json!({})).await.unwrap_err();
    assert_eq!(
        (&*absent.code, &*absent.message),
        ("no-handler", "module __masterwatcher__ does not have a client-handler")
    );
    // Still there after all of that.
    assert_eq!(client.ask("echo", "x").await.unwrap(), json!({"version": 1, "echo": "x"}));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_enable_and_disable_answer_1_or_minus_1_and_need_level_1() {
    let cluster = Plan::with([("echo", fixture("echo-v1"))]).start().await;
    let (admin, viewer) = (cluster.admin().await, cluster.viewer().await);
    assert_eq!(admin.order("disable", Some("echo")).await.unwrap(), 1);
    assert_eq!(admin.order("disable", Some("nobody")).await.unwrap(), -1);
    assert_eq!(admin.order("enable", Some("nobody")).await.unwrap(), -1);
    let disabled = admin.ask("echo", 1).await.unwrap_err();
    assert_eq!((&*disabled.code, &*disabled.message), ("disabled", "module echo is disabled"));
    assert_eq!(code_of(&viewer.order("enable", Some("echo")).await), "forbidden");
    assert_eq!(code_of(&admin.ask("echo", 1).await), "disabled", "a refused command changes nothing");
    assert_eq!(admin.order("enable", Some("echo")).await.unwrap(), 1);
    assert_eq!(code_of(&viewer.order("disable", Some("echo")).await), "forbidden");
    assert_eq!(viewer.ask("echo", 1).await.unwrap()["echo"], 1);
    assert_eq!(code_of(&admin.order("enable", None).await), "bad-message");
    assert_eq!(code_of(&admin.order("explode", Some("echo")).await), "bad-message");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_list_leaves_out_ids_between_underscores() {
    let cluster = Plan::with([("echo", fixture("echo-v1"))]).start().await;
    let viewer = cluster.viewer().await;
    assert_eq!(viewer.order("list", None).await.unwrap(), json!({"modules": ["echo", "watchServer"]}));
    let all = viewer.order("modules", None).await.unwrap();
    let ids: Vec<_> = all["modules"].as_array().unwrap().iter().map(|module| module["id"].clone()).collect();
    assert!(ids.contains(&json!("__console__")) && ids.contains(&json!("echo")), "{ids:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_the_state_survives_a_reload_and_reaches_monitors_connected_and_later() {
    let file = fixture("probe");
    let cluster = Plan::with([("probe", file.clone())]).say("probe", grants(PROBE)).start().await;
    let client = cluster.admin().await;
    let early = cluster.server("chat-1", "chat").await;
    assert_eq!(client.order("disable", Some("probe")).await.unwrap(), 1);
    let late = cluster.server("chat-2", "chat").await;
    for server in [&early, &late] {
        eventually("the state on a monitor", async || (server.monitor.console().disabled() == ["probe"]).then_some(()))
            .await;
    }

    let new = renewed(&file, 1);
    cluster.drop_in("probe", &new);
    cluster.in_force("probe", &sha256(&new)).await;
    assert_eq!(code_of(&client.ask("probe", json!({"do": "look"})).await), "disabled");
    assert_eq!(cluster.status("probe").unwrap().state, "disabled");
    cluster.remove("probe");
    eventually("the removal", async || cluster.status("probe").is_none().then_some(())).await;
    cluster.drop_in("probe", &file);
    cluster.in_force("probe", &sha256(&file)).await;
    assert_eq!(code_of(&client.ask("probe", json!({"do": "look"})).await), "disabled", "the state belongs to the id");

    assert_eq!(client.order("enable", Some("probe")).await.unwrap(), 1);
    let ask = json!({"do": "ask", "server": "chat-2"});
    let answered = async || client.ask("probe", &ask).await.ok();
    assert_eq!(eventually("an answer of the monitor's", answered).await["server"], "chat-2");
    for server in [early, late] {
        server.stop().await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_a_monitor_that_registers_while_the_state_changes_ends_with_the_masters() {
    let cluster = Plan::with([("echo", fixture("echo-v1"))]).start().await;
    let client = cluster.admin().await;
    let mut servers = Vec::new();
    for turn in 0..8 {
        let change = async {
            for command in ["disable", "enable", "disable", "enable"].iter().cycle().take(200 + turn % 2) {
                client.order(command, Some("echo")).await.unwrap();
            }
        };
        let id = format!("chat-{turn}");
        let (server, ()) = tokio::join!(cluster.server(&id, "chat"), change);
        let wanted = cluster.console().disabled();
        eventually("the master's state on the monitor", async || {
            (server.monitor.console().disabled() == wanted).then_some(())
        })
        .await;
        servers.push(server);
    }
    for server in servers {
        server.stop().await;
    }
    cluster.stop().await;
}
