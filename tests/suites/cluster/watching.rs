//! What `watchServer` and the system monitor's modules say of real servers: the demo's program, asked from the command line.

use std::fs;

use serde_json::{Value, json};

use crate::conversation::Conversation;
use crate::support::*;

/// Figures are gathered every second.
const WATCHED: &str =
    "[modules]\nsystem_monitor = true\n[module.nodeInfo]\ninterval = 1\n[module.systemInfo]\ninterval = 1\n";

fn watch(cluster: &Cluster, comd: &str, context: &str, param: Value) -> Result<Value, String> {
    cluster.request("watchServer", &json!({"comd": comd, "context": context, "param": param}))
}

#[test]
fn p_watchserver_looks_into_real_servers_and_turns_their_settings() {
    let [user_port, chat_port] = free_ports();
    let servers = json!({"connector": [demo_server("connector-1", user_port, true)], "chat": [demo_server("chat-1", chat_port, false)]});
    let cluster = Cluster::start(servers, SETTINGS);
    cluster.wait_for(&["connector-1", "chat-1"]);
    let chat = |comd: &str, param: Value| watch(&cluster, comd, "chat-1", param).unwrap();

    let rows = watch(&cluster, "servers", "all", Value::Null).unwrap();
    assert_eq!(rows["missing"], json!({}));
    let row = &rows["msg"]["chat-1"];
    assert_eq!((&row["host"], &row["port"]), (&json!("127.0.0.1"), &json!(chat_port)));
    assert_eq!(row["pid"], cluster.pid("chat-1"));
    assert!(row["heapUsed"].as_str().unwrap().parse::<f64>().unwrap() > 0.0, "{row}");
    assert_eq!(rows["msg"]["master"]["serverType"], "master");
    let of_fleet = |rows: &Value, id: &str| {
        let servers = rows["servers"].as_array().unwrap();
        servers.iter().find(|server| server["id"] == id).cloned().unwrap()
    };
    assert_eq!(of_fleet(&rows, "chat-1")["state"], "running");

    let mut user = Conversation::with(user_port);
    user.say("login ann");
    user.hears("welcome, ann");
    for comd in ["connections", "logins"] {
        let all = watch(&cluster, comd, "all", Value::Null).unwrap();
        let connector = &all["msg"]["connector-1"];
        assert_eq!((&connector["serverId"], &connector["totalConnCount"]), (&json!("connector-1"), &json!(1)));
        assert_eq!(connector["loginedList"][0]["uid"], "ann");
        assert_eq!(all["msg"].as_object().unwrap().len(), 1, "frontend servers alone: {all}");
    }
    assert!(watch(&cluster, "connections", "chat-1", Value::Null).unwrap_err().contains("no frontend server"));

    assert_eq!(chat("set", json!({"key": "color", "value": "red"})), "set color:red ok");
    assert_eq!(chat("enable", json!("echo")), "enable echo ok");
    assert_eq!(chat("get", json!("color")), "red");
    assert_eq!(chat("settings", Value::Null), json!({"color": "red", "echo": true}));
    assert!(chat("handler", Value::Null).is_object() && chat("components", Value::Null).is_object());
    let status = chat("status", Value::Null);
    assert_eq!(status["msg"]["body"]["pid"], cluster.pid("chat-1"));
    assert!(status["msg"]["body"]["application"].is_object(), "{status}");
    let memory = chat("memory", Value::Null);
    assert!(memory.as_str().unwrap().starts_with("chat-1: rss "), "{memory}");
    let unknown = watch(&cluster, "get", "chat-1", json!("nothing")).unwrap_err();
    assert!(unknown.contains("nothing"), "the application's own failure arrives: {unknown}");

    // One that is down has a row in the fleet, and none of pomelo's.
    cluster.done(&["stop", "chat-1"]);
    let rows = watch(&cluster, "servers", "all", Value::Null).unwrap();
    assert_eq!((of_fleet(&rows, "chat-1")["state"].as_str(), rows["msg"].get("chat-1")), (Some("stopped"), None));
    assert_eq!(rows["missing"], json!({}));
}

#[test]
fn p_the_system_monitor_tells_of_real_machines_processes_and_logs() {
    let [port] = free_ports();
    let mut cluster =
        Cluster::configured(json!({"chat": [demo_server("chat-1", port, false)]}), &format!("{SETTINGS}{WATCHED}"));
    fs::create_dir(cluster.path("logs")).unwrap();
    cluster.write("logs/con-log-chat-1.log", "one\n[t] [INFO] con-log - {\"route\":\"a.b.c\",\"timeUsed\":2}\n");
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1"]);

    let kept = |module: &str| {
        eventually(&format!("{module} knows all"), || {
            let kept = cluster.request(module, &Value::Null).ok()?;
            ["master", "chat-1"].iter().all(|id| kept.get(id).is_some()).then_some(kept)
        })
    };
    let processes = kept("nodeInfo");
    assert_eq!(processes["chat-1"]["pid"], cluster.pid("chat-1"));
    assert!(processes["chat-1"]["rss"].as_u64().unwrap() > 0, "{processes}");
    let machine = &kept("systemInfo")["chat-1"];
    for figure in ["cpu_user", "cpu_idle", "tps", "totalmem", "freemem", "free/total", "m_1", "m_15"] {
        assert!(machine[figure].is_number(), "{figure} of {machine}");
    }
    assert!(machine["Time"].is_string() && machine["hostname"].is_string(), "{machine}");

    let log = cluster.request("monitorLog", &json!({"serverId": "chat-1", "logfile": "con-log", "number": 1})).unwrap();
    let line = json!({"route": "a.b.c", "serverId": "chat-1", "timeUsed": 2, "params": "{\"route\":\"a.b.c\",\"timeUsed\":2}"});
    assert_eq!(log["body"]["dataArray"], json!([line]));
    let none = cluster.request("monitorLog", &json!({"serverId": "chat-1", "logfile": "../pomelo.toml"})).unwrap_err();
    assert!(none.contains("plain name"), "{none}");
}
