//! Input that brings pomelo-admin 1.0.1 down or lets strangers in. Here it does neither.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::App;
use crate::support::eventually;
use crate::wire::{Came, Wire, monitor};

/// A master with tokens, and nothing else.
fn master() -> App {
    master_with("")
}

fn master_with(settings: &str) -> App {
    let mut app = App::new().with_tokens();
    app.write("pomelo.toml", settings);
    app.master();
    eventually("the master listens", || (!app.list().is_null()).then_some(()));
    app
}

/// The master is there, and the same process as before.
fn lives(app: &App) {
    let listed = app.list();
    assert_eq!(listed["master-server-1"]["pid"], app.running["master"].pid(), "{listed}");
}

fn memory(app: &App) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", app.running["master"].pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn r5_malformed_input_is_answered_or_closed_and_the_master_lives() {
    let app = master();
    let ends = |topic: &str, payload: &[u8], what: &str| {
        for mut wire in [Wire::connect(app.port), Wire::client(app.port, what, "admin")] {
            wire.publish(topic, payload);
            wire.ended();
        }
    };
    for (payload, what) in [
        (&b"{"[..], "half"),
        (b"\"{\"", "half in a string"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "nothing"),
        (b"null", "null"),
        (b"[]", "an array"),
        (b"\"null\"", "null in a string"),
    ] {
        ends("client", payload, what);
        ends("monitor", payload, what);
        ends("register", payload, what);
    }
    for id in [json!("__proto__"), json!(""), json!(5), Value::Null, json!("x".repeat(1000))] {
        let mut wire = Wire::connect(app.port);
        wire.send(
            "register",
            &json!({"id": id, "type": "monitor", "serverType": "chat", "token": "t0ken", "info": {}}),
        );
        let came = wire.ended();
        assert!(matches!(&came[..], [Came::Frame(_, answer), Came::Goodbye] if answer["code"] == -1), "{came:?}");
    }
    // Without `info` a monitor is what it says otherwise.
    let mut wire = Wire::connect(app.port);
    wire.send(
        "register",
        &json!({"id": "chat-1", "type": "monitor", "serverType": "chat", "pid": 1, "token": "t0ken"}),
    );
    assert_eq!(wire.next(), Came::Frame("register".into(), json!({"code": 1, "msg": "ok"})));
    wire.quoted("monitor", &json!({"reqId": 1, "moduleId": "__masterwatcher__", "body": null}));
    let Came::Frame(_, answer) = wire.next() else { panic!() };
    assert!(answer["respId"] == 1 && answer["error"]["message"].is_string(), "{answer}");
    drop(wire);
    // A client's odd requests are answered each with a failure.
    let mut client = Wire::client(app.port, "odd", "admin");
    let odd = [
        Value::Null,
        json!({"signal": "add", "args": ["bad"]}),
        json!({"signal": "add", "args": [null]}),
        json!({"signal": "add"}),
        json!({"signal": "add", "args": ["host=127.0.0.1"]}),
        json!({"signal": "restart", "ids": null, "type": {}}),
        json!({"signal": null}),
        json!({}),
        json!("list"),
    ];
    for (id, body) in odd.into_iter().enumerate() {
        let answer = client.ask(id as u64 + 1, "__console__", body.clone());
        assert!(answer["error"]["message"].is_string(), "{body}: {answer}");
    }
    // No monitor but the master's own is there.
    let listed = client.ask(90, "__console__", json!({"signal": "list"}));
    assert_eq!(listed["body"]["msg"].as_object().unwrap().len(), 1, "{listed}");
    lives(&app);
}

#[test]
fn a3_a_reconnect_without_a_valid_registration_before_is_closed_without_an_answer() {
    let app = master();
    let mut forged = Wire::connect(app.port);
    forged.send("reconnect", &monitor("chat-server-1", "chat", None));
    assert_eq!(forged.ended(), [], "a server that is told no would never come back");
    // A wrong token is told so, and its reconnect does no better.
    let mut wrong = Wire::connect(app.port);
    wrong.send("register", &monitor("chat-server-1", "chat", Some("wrong")));
    assert!(matches!(&wrong.ended()[..], [Came::Frame(_, answer), Came::Goodbye] if answer["code"] == -1));
    let mut again = Wire::connect(app.port);
    again.send("reconnect", &monitor("chat-server-1", "chat", None));
    assert_eq!(again.ended(), []);
    let mut shown = Wire::connect(app.port);
    shown.send("reconnect", &monitor("chat-server-1", "chat", Some("wrong")));
    assert_eq!(shown.ended(), []);
    assert_eq!(app.list().as_object().unwrap().len(), 1);
    lives(&app);
}

#[test]
fn a1_a_refused_socket_is_closed_and_gets_nothing_of_the_id_it_claimed() {
    let app = master();
    let mut real = Wire::monitor(app.port, "chat-server-1", "chat");
    // The real one owes an answer.
    let mut client = Wire::client(app.port, "asks", "admin");
    client.quoted("client", &json!({"reqId": 1, "moduleId": "__console__", "body": {"signal": "list"}}));
    assert!(matches!(real.next(), Came::Frame(topic, _) if topic == "monitor"));
    let mut thief = Wire::connect(app.port);
    thief.send("register", &monitor("chat-server-1", "chat", Some("wrong")));
    // What it goes on to send is not looked at.
    for password in 0..200 {
        let client = json!({"type": "client", "id": "x", "username": "admin", "password": password.to_string()});
        thief.send("register", &client);
    }
    let came = thief.ended();
    let told: Vec<_> = came.iter().filter(|came| **came != Came::Goodbye).collect();
    // It may be closed for what it went on to send before it is answered.
    assert!(
        told.len() <= 1 && told.iter().all(|came| matches!(came, Came::Frame(_, answer) if answer["code"] == -1)),
        "{came:?}"
    );
    lives(&app);
}

#[test]
fn a2_who_asks_is_who_registered_whatever_the_body_says() {
    let app = master();
    let mut admin = Wire::client(app.port, "boss", "admin");
    let mut real = Wire::monitor(app.port, "chat-server-1", "chat");
    let mut low = Wire::client(app.port, "low", "monitor");
    let body = json!({"signal": "stop", "ids": ["chat-server-1"], "clientId": "boss", "username": "admin"});
    let refused = low.ask(1, "__console__", body);
    assert_eq!(refused["error"]["code"], "forbidden", "{refused}");
    for (id, module, body) in [
        (2, "watchServer", json!({"comd": "run", "param": "process.exit()", "clientId": "boss", "username": "admin"})),
        (3, "scripts", json!({"command": "run", "script": "1", "clientId": "boss", "username": "admin"})),
    ] {
        let refused = low.ask(id, module, body);
        assert!(refused["error"].is_object(), "{refused}");
    }
    low.quoted(
        "client",
        &json!({"reqId": 4, "command": "disable", "moduleId": "__console__", "body": {"clientId": "boss"}}),
    );
    assert!(matches!(low.next(), Came::Frame(_, answer) if answer["error"]["code"] == "forbidden"));
    // The monitor was asked for nothing: a ping is answered next.
    real.raw(b"\xc0\x00");
    assert_eq!(real.next(), Came::Pong);
    assert!(admin.ask(1, "__console__", json!({"signal": "list"}))["body"]["missing"].is_object());
}

#[test]
fn r7_requests_that_nobody_answers_end_and_leave_nothing() {
    let app = master_with("[module.__console__]\noptions = { timeout = 300, stop-timeout = 300 }\n");
    let mut mute = Wire::monitor(app.port, "chat-server-1", "chat");
    let mut client = Wire::client(app.port, "asks", "admin");
    for id in 1..=50 {
        client.quoted("client", &json!({"reqId": id, "moduleId": "__console__", "body": {"signal": "list"}}));
    }
    for _ in 1..=50 {
        let Came::Frame(_, answer) = client.next() else { panic!() };
        assert!(answer["body"]["missing"]["chat-server-1"].is_string(), "{answer}");
    }
    // Nobody asked for these.
    for id in [json!(1), json!(10_000), json!("x"), json!("7")] {
        mute.quoted("monitor", &json!({"respId": id, "error": 1}));
    }
    mute.raw(b"\xc0\x00");
    while mute.next() != Came::Pong {}
    lives(&app);
}

#[test]
fn r7_sockets_that_never_register_are_closed() {
    let app = master_with("[network]\nregister_deadline_ms = 300\n");
    let begun = Instant::now();
    let mut sockets: Vec<Wire> = (0..500).map(|_| Wire::connect(app.port)).collect();
    for socket in &mut sockets {
        assert_eq!(socket.ended(), []);
    }
    assert!(begun.elapsed() < Duration::from_secs(30));
    lives(&app);
}

#[test]
fn r7_a_frame_above_the_limit_ends_the_connection_before_it_is_buffered() {
    let app = master();
    let before = memory(&app);
    let mut strangers: Vec<Wire> = (0..20).map(|_| Wire::connect(app.port)).collect();
    for stranger in &mut strangers {
        // The header says 64 MiB; a little of it follows.
        stranger.raw(b"\x30\x80\x80\x80\x20\x00\x06client");
        stranger.raw(&vec![b'x'; 64 << 10]);
    }
    for stranger in &mut strangers {
        assert_eq!(stranger.ended(), []);
    }
    let mut member = Wire::monitor(app.port, "chat-server-1", "chat");
    member.raw(b"\x30\x80\x80\x80\x20\x00\x07monitor");
    assert_eq!(member.ended(), []);
    let grown = memory(&app).saturating_sub(before);
    assert!(grown < 20 << 10, "it grew by {grown} KiB");
    // QoS above 0, SUBSCRIBE, a second CONNECT, the answers of a server.
    for packet in
        [&b"\x32\x05\x00\x01a\x00\x01"[..], b"\x82\x06\x00\x01\x00\x01a\x00", b"\x10\x00", b"\x20\x02\x00\x00"]
    {
        let mut wire = Wire::monitor(app.port, "chat-server-2", "chat");
        wire.raw(packet);
        assert_eq!(wire.ended(), [], "{packet:?}");
    }
    let mut five = Wire::open(app.port);
    five.raw(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00");
    let mut answer = Vec::new();
    five.rest(&mut answer);
    assert_eq!(answer, [0x20, 2, 0, 1], "it is told that it speaks another version");
    lives(&app);
}

#[test]
fn r4_a_second_monitor_of_an_id_that_leaves_is_not_the_first_ones_end() {
    let app = master();
    let mut watcher = Wire::monitor(app.port, "gate-server-1", "gate");
    watcher.quoted("monitor", &json!({"reqId": 1, "moduleId": "__masterwatcher__", "body": {"action": "subscribe"}}));
    assert!(matches!(watcher.next(), Came::Frame(_, answer) if answer["respId"] == 1));
    let mut first = Wire::monitor(app.port, "chat-server-1", "chat");
    let mut told = Vec::new();
    let added = |told: &mut Vec<Value>, watcher: &mut Wire, id: &str| loop {
        let Came::Frame(_, order) = watcher.next() else { panic!() };
        let done = order["body"]["action"] == "addServer" && order["body"]["server"]["id"] == id;
        told.push(order["body"].clone());
        if done {
            break;
        }
    };
    added(&mut told, &mut watcher, "chat-server-1");
    let mut second = Wire::connect(app.port);
    let mut payload = monitor("chat-server-1", "chat", Some("t0ken"));
    payload["info"]["port"] = 2.into();
    second.send("register", &payload);
    assert_eq!(second.next(), Came::Frame("register".into(), json!({"code": 1, "msg": "ok"})));
    second.raw(b"\xe0\x00");
    second.ended();
    // A later change is told after whatever would have been told of the second.
    let _third = Wire::monitor(app.port, "chat-server-2", "chat");
    added(&mut told, &mut watcher, "chat-server-2");
    assert!(told.iter().all(|order| order["action"] != "removeServer"), "{told:?}");
    first.raw(b"\xc0\x00");
    assert_eq!(first.next(), Came::Pong);
}

#[test]
fn c2_a_stop_of_an_unknown_id_is_answered_once() {
    let app = master();
    let mut client = Wire::client(app.port, "asks", "admin");
    client.quoted(
        "client",
        &json!({"reqId": 1, "moduleId": "__console__", "body": {"signal": "stop", "ids": ["nobody"]}}),
    );
    assert!(matches!(client.next(), Came::Frame(_, answer) if answer["respId"] == 1 && answer["error"].is_object()));
    client.quoted("client", &json!({"reqId": 2, "moduleId": "__console__", "body": {"signal": "list"}}));
    assert!(
        matches!(client.next(), Came::Frame(_, answer) if answer["respId"] == 2 && answer["body"]["msg"].is_object())
    );
    // A ping is answered after whatever was sent before it: there was one answer to each request.
    client.raw(b"\xc0\x00");
    assert_eq!(client.next(), Came::Pong);
}
