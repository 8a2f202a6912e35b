//! Our `watchServer` asks unmodified servers of pomelo: each command gets what pomelo's own master would get.

use serde_json::{Value, json};

use crate::app::{App, SERVERS};

fn watch(app: &App, comd: &str, context: &str, param: Value) -> Result<Value, String> {
    let body = json!({"comd": comd, "context": context, "param": param});
    app.ask(&["request", "watchServer", &body.to_string()]).answer()
}

#[test]
fn p_watchserver_asks_unmodified_servers_of_pomelo() {
    let mut app = App::new().with_tokens();
    app.start();
    let one = |comd: &str, id: &str, param: Value| {
        watch(&app, comd, id, param).unwrap_or_else(|failure| panic!("{comd}: {failure}"))
    };

    let servers = one("servers", "all", Value::Null);
    assert_eq!(servers["missing"], json!({}));
    for id in SERVERS {
        let row = &servers["msg"][id];
        assert_eq!(row["pid"], app.running[id].pid(), "{row}");
        assert!(row["heapUsed"].is_string() && row["uptime"].is_string() && row["host"] == "127.0.0.1", "{row}");
    }
    let connections = one("connections", "all", Value::Null);
    let frontends = ["connector-server-1", "connector-server-2", "gate-server-1"];
    assert_eq!(connections["missing"], json!({}));
    for id in frontends {
        let count = json!({"serverId": id, "totalConnCount": 0, "loginedCount": 0, "loginedList": []});
        assert_eq!(connections["msg"][id], count);
    }
    assert_eq!(connections["msg"].as_object().map(serde_json::Map::len), Some(frontends.len()));

    let modules = one("modules", "chat-server-1", Value::Null);
    assert!(modules["msg"].as_array().unwrap().contains(&json!("watchServer")), "{modules}");
    assert!(one("components", "chat-server-1", Value::Null)["server"].is_object());
    // pomelo 2.2.7 keeps its handlers elsewhere than pomelo-admin 1.0.1 looks for them, and says so to any master.
    assert!(watch(&app, "handler", "chat-server-1", Value::Null).unwrap_err().contains("no handler loaded"));
    match watch(&app, "proxy", "connector-server-1", Value::Null) {
        Ok(proxies) => assert!(proxies["connector"].is_object(), "{proxies}"),
        Err(failure) => assert!(failure.contains("no proxy loaded"), "{failure}"),
    }
    assert_eq!(one("config", "connector-server-1", json!("connector"))["heartbeat"], 30);
    assert_eq!(one("get", "chat-server-1", json!("name")), "chat");
    assert_eq!(one("set", "chat-server-1", json!({"key": "color", "value": "red"})), "set color:red ok");
    assert_eq!(one("get", "chat-server-1", json!("color")), "red");
    assert_eq!(one("enable", "chat-server-1", json!("echo")), "enable echo ok");
    let settings = one("settings", "chat-server-1", Value::Null);
    assert_eq!((&settings["color"], &settings["echo"]), (&json!("red"), &json!(true)));
    assert_eq!(one("run", "chat-server-1", json!("app.getServerId()")), "'chat-server-1'");
    // What pomelo's server says of a failure arrives: this one lacks a package.
    let memory = watch(&app, "memory", "chat-server-1", json!({"filepath": app.path("heap"), "force": true}));
    assert!(memory.unwrap_err().contains("heapdump"));
}
