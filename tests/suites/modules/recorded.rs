//! What clients of a real pomelo-admin asked, and were answered, as recorded between pomelo 2.2.7 and pomelo-admin 1.0.1: the same questions get
//! answers in which those clients find everything where it was.

use std::sync::Arc;

use pomelo_host::console::ModuleSettings;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Ask, FakeApplication, Plan, code_of, eventually, info};

/// A question and its answer, of which only some servers were kept.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exchange {
    module_id: String,
    body: Value,
    answer: Option<Value>,
    error: Option<String>,
}

fn exchanges() -> Vec<Exchange> {
    serde_json::from_str(include_str!("recorded.json")).unwrap()
}

/// Says where `ours` lacks something that `theirs` has, or has it in another form.
fn compare(path: &str, theirs: &Value, ours: &Value, faults: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                match ours.get(key) {
                    Some(found) => compare(&format!("{path}/{key}"), value, found, faults),
                    None => faults.push(format!("{path}/{key} is missing")),
                }
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => match (theirs.first(), ours.first()) {
            (Some(theirs), Some(ours)) => compare(&format!("{path}/0"), theirs, ours, faults),
            (Some(_), None) => faults.push(format!("{path}/0 is missing")),
            (None, _) => {}
        },
        (Value::String(_), Value::String(_)) | (Value::Number(_), Value::Number(_)) | (Value::Null, Value::Null) => {}
        _ => faults.push(format!("{path} is {ours} instead of {theirs}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_recorded_questions_are_answered_in_pomelos_form() {
    let every_second = || ModuleSettings { interval: Some(1.0), delay: Some(0.0), ..ModuleSettings::default() };
    let plan = Plan::default().system_monitor().say("nodeInfo", every_second()).say("systemInfo", every_second());
    let cluster = plan.start().await;
    let connections = json!({"totalConnCount": 0, "loginedCount": 0, "loginedList": []});
    let components =
        json!({"proxy": {}, "remote": {}, "backendSession": {}, "channel": {}, "server": {}, "monitor": {}});
    let mut servers = Vec::new();
    for (id, server_type, said) in [
        ("chat-server-1", "chat", json!({"host": "127.0.0.1", "port": 23060})),
        ("connector-server-1", "connector", json!({"host": "127.0.0.1", "port": 23050, "frontend": "true"})),
        ("gate-server-1", "gate", json!({"host": "127.0.0.1", "frontend": "true"})),
    ] {
        let served = FakeApplication::new(id).answering("connections", connections.clone());
        let served = served.answering("components", components.clone()).answering("get", json!("chat"));
        servers.push(cluster.beside(id, server_type, info(said), Arc::new(served).services()).await);
    }
    let admin = cluster.admin().await;
    let exchanges = exchanges();
    assert!(!exchanges.is_empty());
    for Exchange { module_id, body, answer, error } in exchanges {
        if error.is_some() {
            assert_eq!(code_of(&admin.ask(&module_id, &body).await), "bad-message", "{body}");
            continue;
        }
        let theirs = answer.expect("an answer or an error");
        let look = async || {
            let mut faults = Vec::new();
            compare("", &theirs, &admin.ask(&module_id, &body).await.unwrap(), &mut faults);
            // The caches fill within a second.
            let cached = module_id.ends_with("Info") && faults.iter().all(|fault| fault.ends_with("is missing"));
            assert!(faults.is_empty() || cached, "{module_id} {body}: {faults:#?}");
            faults.is_empty().then_some(())
        };
        eventually(&format!("an answer of {module_id} in the form of {theirs}"), look).await;
    }
    for server in servers {
        server.stop().await;
    }
    cluster.stop().await;
}
