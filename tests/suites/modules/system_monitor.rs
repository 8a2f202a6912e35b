//! The modules that `system_monitor` switches on: figures of machines and processes, and logs.

use std::sync::Arc;

use pomelo_host::console::ModuleSettings;
use serde_json::{Map, Value, json};

use crate::support::{Ask, Cluster, FakeApplication, Plan, code_of, eventually, info};

/// Both modules at work every second.
fn lively() -> Plan {
    let every_second = || ModuleSettings { interval: Some(1.0), delay: Some(0.0), ..ModuleSettings::default() };
    Plan::default().system_monitor().say("nodeInfo", every_second()).say("systemInfo", every_second())
}

async fn kept(cluster: &Cluster, module: &str, id: &str) -> Map<String, Value> {
    let viewer = cluster.viewer().await;
    let look = async || {
        let answer = viewer.ask(module, ()).await.expect("a viewer may read the cache");
        answer.as_object().filter(|kept| kept.contains_key(id)).cloned()
    };
    eventually(&format!("the figures of {id} in {module}"), look).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_without_the_switch_there_is_no_system_monitor() {
    let cluster = Plan::default().start().await;
    let admin = cluster.admin().await;
    for module in ["nodeInfo", "systemInfo", "monitorLog"] {
        assert_eq!(code_of(&admin.ask(module, ()).await), "unknown-module", "{module}");
    }
    assert!(admin.ask("watchServer", json!({"comd": "servers", "context": "all"})).await.is_ok());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_nodeinfo_keeps_the_figures_of_every_process() {
    let cluster = lively().start().await;
    let served = Arc::new(FakeApplication::new("chat-1"));
    let chat = cluster.beside("chat-1", "chat", info(json!({})), served.services()).await;
    let figures = kept(&cluster, "nodeInfo", "chat-1").await;
    let chat_1 = &figures["chat-1"];
    for member in ["time", "serverId", "serverType", "pid", "cpuAvg", "memAvg", "vsz", "rss", "usr", "sys", "gue"] {
        assert!(chat_1.get(member).is_some(), "{member} is missing: {chat_1}");
    }
    assert_eq!((&chat_1["serverId"], &chat_1["pid"]), (&json!("chat-1"), &json!(4711)));
    // Who has left is not shown any more.
    chat.stop().await;
    let viewer = cluster.viewer().await;
    let gone = async || {
        let kept = viewer.ask("nodeInfo", ()).await.ok()?;
        kept.get("chat-1").is_none().then_some(())
    };
    eventually("the end of a server that left", gone).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_systeminfo_keeps_the_figures_of_every_machine_in_pomelos_form() {
    let cluster = lively().start().await;
    let served = Arc::new(FakeApplication::new("chat-1"));
    let chat = cluster.beside("chat-1", "chat", info(json!({})), served.services()).await;
    let figures = kept(&cluster, "systemInfo", "chat-1").await;
    let expected = json!({
        "Time": "2026-11-22 1:45:29 PM", "hostname": "vm", "serverId": "chat-1", "cpu_user": 50.69, "cpu_nice": 2.79,
        "cpu_system": 6.57, "cpu_iowait": 1.9, "cpu_steal": 0.32, "cpu_idle": 37.74, "tps": 209.01, "kb_read": 569.61,
        "kb_wrtn": 8_492_649, "kb_read_per": 5101.89, "kb_wrtn_per": 5638.53, "totalmem": 25_276_502_016_u64,
        "freemem": 23_111_622_656_u64, "free/total": 0.9143, "m_1": 4.86, "m_5": 3.63, "m_15": 2.37,
    });
    assert_eq!(figures["chat-1"], expected);
    chat.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_a_server_that_comes_is_asked_at_once() {
    // The timers alone would ask it after an hour.
    let seldom = || ModuleSettings { interval: Some(3600.0), delay: Some(3600.0), ..ModuleSettings::default() };
    let plan = Plan::default().system_monitor().say("nodeInfo", seldom()).say("systemInfo", seldom());
    let cluster = plan.start().await;
    let served = Arc::new(FakeApplication::new("chat-1"));
    let chat = cluster.beside("chat-1", "chat", info(json!({})), served.services()).await;
    for module in ["nodeInfo", "systemInfo"] {
        assert_eq!(kept(&cluster, module, "chat-1").await["chat-1"]["serverId"], "chat-1");
    }
    chat.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_monitorlog_gives_the_last_lines_of_a_log() {
    let cluster = Plan::default().system_monitor().start().await;
    let route = r#"{"route":"chat.chatHandler.send","time":1,"timeUsed":3}"#;
    let line = format!("[2026-11-22 13:45:29.004] [INFO] con-log - {route}");
    let served =
        FakeApplication::new("chat-1").log("con-log-chat-1.log", &["first", "second", &line]).log("crash.log", &[]);
    let chat = cluster.beside("chat-1", "chat", info(json!({})), Arc::new(served).services()).await;
    let admin = cluster.admin().await;
    let ask = |body: Value| admin.ask("monitorLog", body);
    let last = ask(json!({"serverId": "chat-1", "logfile": "con-log", "number": "2"})).await.unwrap();
    let expected = json!({"serverId": "chat-1", "body": {"logfile": "con-log", "dataArray": [
        {"serverId": "chat-1", "params": "second"},
        {"time": 1, "route": "chat.chatHandler.send", "serverId": "chat-1", "timeUsed": 3, "params": route},
    ]}});
    assert_eq!(last, expected);
    let all = ask(json!({"serverId": "chat-1", "logfile": "con-log-chat-1.log"})).await.unwrap();
    assert_eq!(all["body"]["dataArray"].as_array().map(Vec::len), Some(3));

    let other = ask(json!({"serverId": "chat-1", "logfile": "rpc-log"})).await.unwrap_err();
    assert!(other.message.contains("con-log-chat-1.log, crash.log"), "it names those that there are: {other}");
    for name in ["../../etc/passwd", "/etc/passwd", "a;reboot", "$(reboot)", ""] {
        let outcome = ask(json!({"serverId": "chat-1", "logfile": name})).await;
        assert_eq!(code_of(&outcome), "bad-message", "{name}");
    }
    assert_eq!(code_of(&ask(json!({"serverId": "chat-9", "logfile": "con-log"})).await), "not-found");
    for malformed in [Value::Null, json!("con-log"), json!({"serverId": ["chat-1"]}), json!({})] {
        assert_eq!(code_of(&ask(malformed.clone()).await), "bad-message", "{malformed}");
    }
    // A log may hold anything.
    let viewer = cluster.viewer().await;
    let outcome = viewer.ask("monitorLog", json!({"serverId": "chat-1", "logfile": "con-log", "level": 1})).await;
    assert_eq!(code_of(&outcome), "forbidden");
    chat.stop().await;
    cluster.stop().await;
}
