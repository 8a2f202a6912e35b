//! Settings of a module in the configuration, as the module sees them.

use pomelo_host::console::ModuleSettings;
use pomelo_host::plugin::Limits;
use serde_json::{Value, json};

use crate::support::{Ask, Plan, code_of, fixture, settings_of};

const PROBE: &[&str] = &["cluster", "uplink"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2b_one_file_under_several_ids_has_options_and_a_store_for_each() {
    let second = ModuleSettings { file: Some("probe.wasm".into()), ..settings_of(&json!({"who": "second"}), PROBE) };
    let cluster = Plan::with([("probe", fixture("probe"))])
        .say("probe", settings_of(&json!({"who": "first", "list": [1, 2]}), PROBE))
        .say("second", second)
        .start()
        .await;
    let client = cluster.viewer().await;
    let look = async |id: &str| client.ask(id, json!({"do": "look"})).await.unwrap();
    let first = look("probe").await;
    assert_eq!(first["id"], "probe");
    assert_eq!(first["options"], json!({"who": "first", "list": [1, 2]}));
    assert_eq!((&first["server"], &first["type"]), (&json!("master-1"), &json!("master")));
    assert_eq!((&first["user"], &first["level"]), (&json!("monitor"), &json!(2)), "who calls is the connection's word");
    let second = look("second").await;
    assert_eq!((&second["id"], &second["options"]), (&json!("second"), &json!({"who": "second"})));
    client.ask("second", json!({"do": "set", "key": "k", "value": 1})).await.unwrap();
    assert_eq!(client.ask("probe", json!({"do": "get", "key": "k"})).await.unwrap(), Value::Null);
    assert_eq!(client.order("list", None).await.unwrap(), json!({"modules": ["probe", "second", "watchServer"]}));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2b_a_module_is_loaded_on_the_server_types_that_it_is_for() {
    let settings = ModuleSettings {
        server_types: vec!["master".into(), "chat".into()],
        ..settings_of(&json!({"for": "chat"}), PROBE)
    };
    let cluster = Plan::with([("probe", fixture("probe"))]).say("probe", settings).start().await;
    let servers = [cluster.server("chat-1", "chat").await, cluster.server("gate-1", "gate").await];
    let client = cluster.admin().await;
    let ask = async |server: &str| client.ask("probe", json!({"do": "ask", "server": server})).await;
    let chat = ask("chat-1").await.unwrap();
    assert_eq!((&chat["server"], &chat["type"]), (&json!("chat-1"), &json!("chat")));
    assert_eq!(chat["options"], json!({"for": "chat"}));
    let gate = ask("gate-1").await;
    assert_eq!(code_of(&gate), "unknown-module", "{gate:?}");
    for server in servers {
        server.stop().await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_settings_take_effect_while_the_module_runs() {
    let cluster =
        Plan::with([("probe", fixture("probe"))]).say("probe", settings_of(&json!({"n": 1}), PROBE)).start().await;
    let client = cluster.admin().await;
    let [console, _] = cluster.master.consoles();
    let look = async || client.ask("probe", json!({"do": "look"})).await;
    assert_eq!(look().await.unwrap()["options"], json!({"n": 1}));
    client.ask("probe", json!({"do": "set", "key": "k", "value": 1})).await.unwrap();
    let say = |settings: ModuleSettings| {
        let mut all = Plan::default().settings;
        all.modules.insert("probe".into(), settings);
        all
    };
    let applied = console.apply(say(settings_of(&json!({"n": 2}), PROBE))).await;
    assert_eq!(applied.modules["probe"], ["options"]);
    assert_eq!(look().await.unwrap()["options"], json!({"n": 2}));
    assert!(console.apply(say(settings_of(&json!({"n": 2}), PROBE))).await.is_empty());
    // A limit counts for the next call, and the store and the calls before it are kept.
    let limits = Limits { answer: 1, ..Plan::default().settings.limits };
    let applied =
        console.apply(say(ModuleSettings { limits: Some(limits), ..settings_of(&json!({"n": 2}), PROBE) })).await;
    assert_eq!(applied.modules["probe"], ["limits"]);
    assert_eq!(code_of(&look().await), "bad-answer");
    // A grant that is taken away takes the module out, with the reason.
    let applied = console.apply(say(settings_of(&json!({"n": 2}), &["uplink"]))).await;
    assert!(applied.refused["probe"].contains("add \"cluster\" to `grants`"), "{applied:?}");
    assert_eq!(code_of(&look().await), "unknown-module");
    assert!(console.refused()["probe"].contains("cluster"));
    // A grant that is given has the refused file installed again, without a change of the file.
    let applied = console.apply(say(settings_of(&json!({"n": 2}), PROBE))).await;
    assert_eq!(applied.again, ["probe"]);
    crate::support::eventually("the module is in force again", async || look().await.ok()).await;
    assert_eq!(client.ask("probe", json!({"do": "get", "key": "k"})).await.unwrap(), json!(1));
    cluster.stop().await;
}
