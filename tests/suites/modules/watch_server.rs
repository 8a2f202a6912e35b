//! `watchServer`: every command, asked as pomelo's tools ask.

use std::sync::Arc;

use pomelo_host::client::AdminClient;
use pomelo_host::failure::Failure;
use serde_json::{Value, json};

use crate::support::{Ask, Cluster, FakeApplication, Plan, Server, code_of, info, settings_of};

/// Bodies carry what pomelo's clients put into them.
async fn watch(client: &AdminClient, comd: &str, context: &str, param: Value) -> Result<Value, Failure> {
    let body =
        json!({"comd": comd, "context": context, "param": param, "clientId": "c-1", "username": "admin", "level": 1});
    client.ask("watchServer", body).await
}

async fn frontend(cluster: &Cluster, served: &Arc<FakeApplication>, id: &str, port: u16) -> Server {
    let info = info(json!({"host": "10.0.0.7", "port": port, "frontend": "true"}));
    cluster.beside(id, "connector", info, served.services()).await
}

async fn backend(cluster: &Cluster, served: &Arc<FakeApplication>, id: &str) -> Server {
    cluster.beside(id, "chat", info(json!({"host": "10.0.0.8", "port": 6050})), served.services()).await
}

fn connections(count: u32) -> Value {
    json!({"totalConnCount": count, "loginedCount": 1, "loginedList": [{"loginTime": 1, "uid": "ann", "address": "10.1.1.1:7"}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_watchserver_servers_and_modules_are_those_of_the_cluster() {
    let cluster = Plan::default().start().await;
    let chat = backend(&cluster, &Arc::new(FakeApplication::new("chat-1")), "chat-1").await;
    let mut hand = cluster.hand("silent-1").await;
    let viewer = cluster.viewer().await;

    let servers = watch(&viewer, "servers", "all", json!("")).await.unwrap();
    let expected = json!({
        "serverId": "chat-1", "serverType": "chat", "host": "10.0.0.8", "port": 6050, "pid": 4711, "heapUsed": "13.47", "uptime": "0.52",
    });
    assert_eq!(servers["msg"]["chat-1"], expected);
    assert_eq!(servers["msg"]["master-1"]["serverType"], "master");
    // Who does not answer in time is named.
    hand.asked().await;
    let missing = servers["missing"].as_object().unwrap();
    assert_eq!(missing.keys().collect::<Vec<_>>(), ["silent-1"]);

    let modules = watch(&viewer, "modules", "all", json!("")).await.unwrap();
    assert_eq!(modules, json!({"msg": ["__console__", "__masterwatcher__", "watchServer"]}));
    let modules = watch(&viewer, "modules", "chat-1", json!("")).await.unwrap();
    assert_eq!(modules, json!({"msg": ["__console__", "__monitorwatcher__", "watchServer"]}));
    chat.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_watchserver_connections_and_logins_are_those_of_frontends() {
    let short = settings_of(&json!({"timeout": 1000}), &[]);
    let cluster = Plan::default().say("watchServer", short).start().await;
    let first = Arc::new(FakeApplication::new("connector-1").answering("connections", connections(3)));
    let second = Arc::new(FakeApplication::new("connector-2"));
    let third = Arc::new(FakeApplication::new("connector-3").silent("connections").answering("logins", connections(5)));
    let chat = Arc::new(FakeApplication::new("chat-1").answering("connections", connections(9)));
    let servers = [
        frontend(&cluster, &first, "connector-1", 4050).await,
        frontend(&cluster, &second, "connector-2", 4051).await,
        frontend(&cluster, &third, "connector-3", 4052).await,
        backend(&cluster, &chat, "chat-1").await,
    ];
    let viewer = cluster.viewer().await;
    let with_id = |id: &str, mut body: Value| {
        body["serverId"] = id.into();
        body
    };

    let all = watch(&viewer, "connections", "all", json!("")).await.unwrap();
    assert_eq!(all["msg"], json!({"connector-1": with_id("connector-1", connections(3))}));
    let missing = &all["missing"];
    assert_eq!(missing["connector-2"], "the application does not offer `connections`");
    assert!(missing["connector-3"].is_string() && missing.get("chat-1").is_none(), "{missing}");

    // One function may serve both.
    let logins = watch(&viewer, "logins", "connector-1", json!("")).await.unwrap();
    assert_eq!(logins["msg"], json!({"connector-1": with_id("connector-1", connections(3))}));
    let logins = watch(&viewer, "logins", "connector-3", json!("")).await.unwrap();
    assert_eq!(logins["msg"]["connector-3"]["totalConnCount"], 5);

    // Of one server alone the reason is the failure.
    let none = watch(&viewer, "connections", "connector-2", json!("")).await.unwrap_err();
    assert_eq!(none.message, "the application does not offer `connections`");
    assert_eq!(code_of(&watch(&viewer, "connections", "connector-3", json!("")).await), "timeout");
    assert_eq!(code_of(&watch(&viewer, "connections", "chat-1", json!("")).await), "not-frontend");
    assert_eq!(code_of(&watch(&viewer, "connections", "chat-9", json!("")).await), "not-found");
    for server in servers {
        server.stop().await;
    }
    let nobody = watch(&viewer, "connections", "all", json!("")).await;
    assert_eq!(nobody, Ok(json!({"msg": {}, "missing": {}})));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_watchserver_reads_what_an_application_offers() {
    let cluster = Plan::default().start().await;
    let proxies = json!({"chat": {"chatRemote": {"add": "function"}}});
    let settings = json!({"env": "development", "dbPassword": "p", "master": {"host": "h"}, "proxyConfig": {"a": 1}});
    let served = FakeApplication::new("chat-1")
        .answering("proxies", proxies.clone())
        .answering("handlers", json!({"chat": {"chatHandler": {"send": "function"}}}))
        .answering("components", json!({"proxy": {"bufferMsg": true}, "server": {}}))
        .answering("settings", settings)
        .answering("status", json!({"rooms": 3}))
        .answering("get", json!("chat"));
    let served = Arc::new(served);
    let chat = backend(&cluster, &served, "chat-1").await;
    let (admin, viewer) = (cluster.admin().await, cluster.viewer().await);
    let seen = async |comd: &str, param: Value| watch(&viewer, comd, "chat-1", param).await.unwrap();
    let all = async |comd: &str, param: Value| watch(&admin, comd, "chat-1", param).await.unwrap();

    assert_eq!(seen("proxy", json!("")).await, proxies);
    assert_eq!(seen("handler", json!("")).await, json!({"chat": {"chatHandler": {"send": "function"}}}));
    let status = seen("status", json!("")).await;
    assert_eq!(status["msg"]["serverId"], "chat-1");
    assert_eq!(status["msg"]["body"]["cpuAvg"], "3.0");
    assert_eq!(status["msg"]["body"]["application"], json!({"rooms": 3}));
    // What may hold secrets is for level 1.
    assert_eq!(seen("components", json!("")).await, json!({"proxy": {}, "server": {}}));
    assert_eq!(all("components", json!("")).await["proxy"], json!({"bufferMsg": true}));
    assert_eq!(seen("settings", json!("")).await, json!({"env": "development", "master": "object"}));
    let settings = all("settings", json!("")).await;
    assert_eq!(settings, json!({"env": "development", "dbPassword": "p", "master": {"host": "h"}}));

    assert_eq!(seen("get", json!("serverType")).await, "chat");
    assert_eq!(all("config", json!("proxy")).await, "chat");
    let keys: Vec<_> = served.called().into_iter().filter(|(name, _)| name == "get").map(|(_, args)| args).collect();
    assert_eq!(keys, [json!({"key": "serverType"}), json!({"key": "proxyConfig"})]);
    for key in ["proxyConfig", "dbPassword"] {
        assert_eq!(code_of(&watch(&viewer, "get", "chat-1", json!(key)).await), "forbidden", "{key}");
    }
    assert_eq!(code_of(&watch(&viewer, "config", "chat-1", json!("proxy")).await), "forbidden");
    assert_eq!(all("config", json!("master")).await["masterInfo"]["id"], "master-1");
    chat.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_watchserver_turns_what_an_application_lets_be_turned() {
    let cluster = Plan::default().start().await;
    let served = FakeApplication::new("chat-1");
    let served =
        ["set", "enable", "disable"].into_iter().fold(served, |served, name| served.answering(name, Value::Null));
    let served = Arc::new(served);
    let chat = backend(&cluster, &served, "chat-1").await;
    let admin = cluster.admin().await;
    let told = async |comd: &str, param: Value| watch(&admin, comd, "chat-1", param).await.unwrap();

    assert_eq!(told("set", json!({"key": "name", "value": "x"})).await, "set name:x ok");
    assert_eq!(told("set", json!({"key": "size", "value": [1]})).await, "set size:[1] ok");
    assert_eq!(told("enable", json!("rpcDebugLog")).await, "enable rpcDebugLog ok");
    assert_eq!(told("disable", json!("rpcDebugLog")).await, "disable rpcDebugLog ok");
    assert_eq!(told("run", json!("(component)")).await, json!({"ran": "(component)"}));
    assert_eq!(
        told("cpu", json!({"filepath": "/tmp/x", "times": "2", "force": false})).await["meta"]["product"],
        "chat-1"
    );
    let memory = told("memory", json!({"filepath": "/tmp/x", "force": false})).await;
    let expected = "chat-1: rss 52.00 MB, heapTotal 40.00 MB, heapUsed 13.47 MB. No snapshot was written: the application does not \
                    offer `memory`.";
    assert_eq!(memory, expected);
    let called = [
        ("set", json!({"key": "name", "value": "x"})),
        ("set", json!({"key": "size", "value": [1]})),
        ("enable", json!({"key": "rpcDebugLog"})),
        ("disable", json!({"key": "rpcDebugLog"})),
        ("run", json!({})),
        ("cpu", json!(2.0)),
    ];
    assert_eq!(served.called(), called.map(|(name, args)| (name.to_owned(), args)));

    let outcome = async |comd: &str, param: Value| watch(&admin, comd, "chat-1", param).await;
    for (comd, param) in [
        ("set", Value::Null),
        ("set", json!({"value": 1})),
        ("set", json!({"key": ""})),
        ("enable", json!(7)),
        ("run", json!("")),
        ("get", Value::Null),
        ("config", json!("")),
        ("cpu", json!({"times": 0})),
        ("cpu", json!({"times": "2; reboot"})),
        ("cpu", json!({"times": 3600})),
    ] {
        assert_eq!(code_of(&outcome(comd, param.clone()).await), "bad-message", "{comd} {param}");
    }
    assert_eq!(served.called().len(), 6, "what is malformed reaches no application");
    chat.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_watchserver_lets_level_2_look_and_nothing_else() {
    let cluster = Plan::default().start().await;
    let served = FakeApplication::new("chat-1").answering("set", Value::Null).answering("enable", Value::Null);
    let served = Arc::new(served.answering("disable", Value::Null).answering("memory", Value::Null));
    let chat = backend(&cluster, &served, "chat-1").await;
    let viewer = cluster.viewer().await;
    for comd in ["set", "enable", "disable", "run", "cpu", "memory", "config"] {
        // The body claims level 1 and an admin's name.
        let outcome = watch(&viewer, comd, "chat-1", json!({"key": "a", "value": 1, "times": 1})).await;
        assert_eq!(code_of(&outcome), "forbidden", "{comd}");
    }
    assert_eq!(served.called(), [], "nothing has reached the application");
    chat.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_watchserver_answers_what_is_malformed_with_a_failure() {
    let cluster = Plan::default().start().await;
    let chat = backend(&cluster, &Arc::new(FakeApplication::new("chat-1")), "chat-1").await;
    let admin = cluster.admin().await;
    for body in [
        Value::Null,
        json!({}),
        json!([]),
        json!("servers"),
        json!({"comd": "servers"}),
        json!({"comd": "", "context": "all"}),
        json!({"comd": "servers", "context": null}),
        json!({"comd": ["servers"], "context": "all"}),
    ] {
        assert_eq!(code_of(&admin.ask("watchServer", &body).await), "bad-message", "{body}");
    }
    let unknown = watch(&admin, "bogus", "all", Value::Null).await.unwrap_err();
    assert_eq!(unknown.code, "unknown-comd");
    assert!(unknown.message.contains("bogus") && unknown.message.contains("settings"), "{unknown}");
    for comd in
        ["status", "proxy", "handler", "components", "settings", "set", "enable", "disable", "run", "cpu", "memory"]
    {
        for context in ["all", "*", "type:chat"] {
            let outcome = watch(&admin, comd, context, json!("x")).await;
            assert_eq!(code_of(&outcome), "bad-message", "{comd} {context}");
        }
        assert_eq!(code_of(&watch(&admin, comd, "chat-9", json!("x")).await), "not-found", "{comd}");
    }
    // What the application does not offer is said in a sentence.
    for (comd, name) in
        [("proxy", "proxies"), ("handler", "handlers"), ("components", "components"), ("settings", "settings")]
    {
        let failure = watch(&admin, comd, "chat-1", Value::Null).await.unwrap_err();
        assert_eq!(failure.message, format!("the application does not offer `{name}`"));
    }
    chat.stop().await;
    cluster.stop().await;
}
