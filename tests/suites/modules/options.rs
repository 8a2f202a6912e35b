//! Settings of a module in the configuration, as the module sees them.

use pomelo_host::console::ModuleSettings;
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
