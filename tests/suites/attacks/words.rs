//! Words of peers: what they write into a log, onto a terminal and into the admin log, how many lines they cause, and which words nobody else may see.

use std::fs;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use pomelo_host::client::Options;
use pomelo_host::transport::socket_io::client;
use pomelo_host::transport::{Ack, Closed, Peer, Session};
use pomelo_host::wire::{Topic, raw, steers};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{Cluster, Done, Host, SETTINGS, eventually, pomelo, run, two_chats};
use crate::target::Target;

/// What a peer would like others to see: a line of its own, codes for the terminal, and text in the wrong direction.
const HOSTILE: &str = "x\nFORGED stop by admin\r\u{1b}[2J\u{9b}31m\u{202e}\u{200b}y";
/// Only keeps a test that fails from hanging.
const LONG: Duration = Duration::from_secs(60);

/// A connection that says what the test says, and answers `list` as the test says.
struct Attacker {
    _runtime: Runtime,
    peer: Peer,
    frames: Receiver<(Topic, Value)>,
}

struct Listening {
    frames: Mutex<Sender<(Topic, Value)>>,
    /// The figures that are the answer to each request of the master's.
    figures: Option<Value>,
    peer: Peer,
}

impl Session for Listening {
    fn frame(&self, topic: &str, payload: &RawValue, _: Option<Ack>) {
        let (Some(topic), Ok(frame)) = (Topic::parse(topic), serde_json::from_str::<Value>(payload.get())) else {
            return;
        };
        match &self.figures {
            Some(figures) if topic == Topic::Monitor && frame.get("reqId").is_some() => {
                let _ = self.peer.send(Topic::Monitor, raw(&json!({ "respId": frame["reqId"], "body": figures })));
            }
            // A test that is over reads no more.
            _ => drop(self.frames.lock().send((topic, frame))),
        }
    }

    /// The end is told as a frame that no master sends.
    fn closed(&self, _: Closed) {
        let _ = self.frames.lock().send((Topic::Deregister, Value::Null));
    }
}

impl Attacker {
    fn connect(port: u16, figures: Option<Value>) -> Attacker {
        let runtime = Runtime::new().unwrap();
        let (sender, frames) = channel();
        let listening = |peer| Arc::new(Listening { frames: Mutex::new(sender), figures, peer }) as Arc<dyn Session>;
        let address = format!("127.0.0.1:{port}");
        // As much as the test has to say waits to be sent.
        let options = client::Options { outbox: 1 << 20, send_time: LONG, ..client::Options::default() };
        let peer = runtime.block_on(client::connect(&address, options, listening)).unwrap();
        Attacker { _runtime: runtime, peer, frames }
    }

    fn send(&self, topic: Topic, frame: &Value) {
        self.peer.send(topic, raw(frame)).unwrap();
    }

    /// The next frame of a topic that passes.
    fn next(&self, wanted: Topic, passes: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (topic, frame) = self.frames.recv_timeout(LONG).expect("the master answers");
            if topic == wanted && passes(&frame) {
                return frame;
            }
        }
    }

    /// The answer to a registration.
    fn register(&self, register: &Value) -> Value {
        self.send(Topic::Register, register);
        self.next(Topic::Register, |_| true)
    }

    /// Waits until the master has dealt with all that was said before.
    fn heard(&self, topic: Topic) {
        self.send(topic, &json!({ "reqId": 4711, "moduleId": "there-is-none", "body": null }));
        self.next(topic, |frame| frame["respId"] == 4711);
    }

    fn login(port: u16, user: &str) -> Attacker {
        let attacker = Attacker::connect(port, None);
        let register =
            json!({ "type": "client", "id": format!("attacker-{user}"), "username": user, "password": user });
        assert_eq!(attacker.register(&register)["code"], 1);
        attacker
    }
}

/// Nothing steers the terminal, and no line is one of the peer's own.
fn harmless(what: &str, text: &str) {
    let wrong = text.chars().find(|letter| steers(*letter) && !matches!(letter, '\n' | '\t'));
    assert_eq!(wrong, None, "{what}: {text:?}");
    assert!(!text.lines().any(|line| line.trim_start().starts_with("FORGED")), "{what}: {text}");
}

fn printed(what: &str, done: &Done) {
    harmless(what, &done.out);
    harmless(what, &done.err);
}

#[test]
fn a_monitors_words_forge_no_line_and_steer_no_terminal() {
    let target = Target::start("");
    let port = target.cluster.port;
    let info = json!({ "host": "127.0.0.1", "port": 1 });
    let good = json!({ "type": "monitor", "id": "evil-1", "serverType": "evil", "pid": 1, "info": info });
    let with = |member: &str, value: Value| {
        let mut register = good.clone();
        register[member] = value;
        register
    };
    for (part, register) in [
        ("an id", with("id", HOSTILE.into())),
        ("an id", with("id", "evil\u{202e}1-live".into())),
        ("an id", with("id", " evil-1".into())),
        ("`serverType`", with("serverType", HOSTILE.into())),
        ("`serverType`", with("serverType", "\u{feff}chat".into())),
        ("`host`", with("info", json!({ "host": HOSTILE }))),
        ("malformed registration", with("type", HOSTILE.into())),
    ] {
        let answer = Attacker::connect(port, None).register(&register);
        assert_eq!(answer["code"], -1, "{register}: {answer}");
        let said = answer["msg"].as_str().unwrap();
        assert!(said.contains(part), "{said}");
        harmless("the answer to a registration", said);
    }
    let user = json!({ "type": "client", "id": "c", "username": HOSTILE, "password": "x" });
    let answer = Attacker::connect(port, None).register(&user);
    assert!(answer["code"] == -1 && answer["msg"].as_str().unwrap().contains("user's name"), "{answer}");

    // One that is let in, because its names are good, and then says what it likes.
    let figures = json!({
        "serverId": "evil-1", HOSTILE: HOSTILE,
        "body": { "serverId": HOSTILE, "serverType": HOSTILE, "pid": HOSTILE, "rss": HOSTILE, "state": HOSTILE, HOSTILE: HOSTILE,
            "lastExit": { "how": HOSTILE, "time": 1, "lines": [HOSTILE] } },
    });
    let evil = Attacker::connect(port, Some(figures));
    assert_eq!(evil.register(&with("info", json!({ "host": "127.0.0.1", "port": 1, HOSTILE: HOSTILE })))["code"], 1);
    evil.send(Topic::Monitor, &json!({ "moduleId": HOSTILE, "body": HOSTILE }));
    evil.send(
        Topic::Event,
        &json!({ "kind": HOSTILE, "message": HOSTILE, "module": HOSTILE, "lines": [HOSTILE], "ago": 0 }),
    );
    evil.send(
        Topic::Phase,
        &json!({ "phase": "running", "why": HOSTILE, "exit": { "how": HOSTILE, "agoMs": 1, "lines": [HOSTILE] } }),
    );
    evil.heard(Topic::Monitor);

    let ask = |arguments: &[&str]| target.cluster.ask(arguments);
    let list = json!({ "signal": "list" }).to_string();
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["describe", "evil-1"],
        &["describe", "evil-1", "--json"],
        &["request", "__console__", &list],
        &["events"],
        &["events", "--json"],
        &["modules"],
        &["request", HOSTILE, "{}"],
        &["request", "__console__", &json!({ "signal": HOSTILE }).to_string()],
        &["stop", HOSTILE],
        &["logs", "evil-1"],
        &["jobs"],
    ] {
        printed(&format!("{arguments:?}"), &ask(arguments));
    }
    let told = ask(&["list", "--json"]);
    assert_eq!(told.answer().unwrap()["msg"]["evil-1"]["pid"], HOSTILE, "it is escaped, and means the same");
    assert!(ask(&["events"]).out.contains("\\u202e"), "it is shown, escaped");
    let mut shell = pomelo(&["shell"]);
    shell.arg(format!("--port={port}"));
    printed(
        "the shell",
        &crate::support::run_with_input(shell, "show servers\nlist\nevents\nuse evil-1\nshow config master\n"),
    );
    harmless("the admin log", &fs::read_to_string(target.cluster.admin_log()).unwrap());
    let log = target.cluster.hosts[0].log();
    harmless("the master's log", &log);
    assert!(log.contains("a notify failed") && log.contains("a registration was refused"), "{log}");
    target.held();
}

#[test]
fn a_modules_words_forge_no_line_and_steer_no_terminal() {
    let mut cluster = Cluster::configured(two_chats(), SETTINGS);
    fs::create_dir_all(cluster.path("modules")).unwrap();
    let echo = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/modules/fixtures/echo-v1.wasm")).unwrap();
    // Of the same length, so that the file stays what it is.
    let changed = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let (mut bytes, mut at) = (echo.clone(), 0);
        while let Some(found) = bytes[at..].windows(from.len()).position(|part| part == from.as_bytes()) {
            bytes[at + found..at + found + from.len()].copy_from_slice(to.as_bytes());
            at += found + from.len();
        }
        bytes
    };
    for (name, from, to) in [
        ("line", r#""id":"echo""#, r#""id":"e\nF""#),
        ("turned", r#""id":"echo""#, "\"id\":\"e\u{202e}\""),
        ("version", r#""version":"1.0.0""#, "\"version\":\"1\u{202e}0\""),
    ] {
        fs::write(cluster.path("modules").join(format!("{name}.wasm")), changed(from, to)).unwrap();
    }
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1", "chat-2"]);
    let modules = eventually("all files were looked at", || {
        let modules = cluster.ask(&["modules", "--json"]);
        let told: Value = serde_json::from_str(&modules.out).ok()?;
        let in_force = told["modules"].as_array()?.iter().any(|module| module["id"] == "echo");
        (told["refused"].as_object()?.len() == 2 && in_force).then_some(modules)
    });
    printed("modules --json", &modules);
    let told = modules.answer().unwrap();
    for (name, part) in [("line", r"`e\nF`"), ("turned", r"`e\u202e`")] {
        assert!(told["refused"][name].as_str().unwrap().contains(part), "{told}");
    }
    let table = cluster.ask(&["modules"]);
    printed("modules", &table);
    assert!(table.out.contains(r"1\u202e0"), "{table:?}");
    harmless("the master's log", &cluster.hosts[0].log());
}

#[test]
fn a_monitor_whose_messages_are_refused_without_pause_writes_few_lines() {
    let target = Target::start("");
    let evil = Attacker::connect(target.cluster.port, None);
    assert_eq!(evil.register(&json!({ "type": "monitor", "id": "evil-1", "serverType": "evil" }))["code"], 1);
    let before = target.cluster.hosts[0].log().len();
    for n in 0..20_000 {
        evil.send(
            Topic::Monitor,
            &json!({ "moduleId": format!("there-is-none-{n}-{}", "x".repeat(1000)), "body": null }),
        );
        // What waits to be read stays little, so that only the lines count here.
        if n % 500 == 0 {
            evil.heard(Topic::Monitor);
        }
    }
    evil.heard(Topic::Monitor);
    // Connections that are closed, and registrations that are refused.
    for _ in 0..300 {
        let stranger = Attacker::connect(target.cluster.port, None);
        assert_eq!(stranger.register(&json!({ "type": "monitor", "id": "evil*" }))["code"], -1);
    }
    let stopped = target.stop("chat-1");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    let log = eventually("what was left out is told", || {
        let log = target.cluster.hosts[0].log();
        log.contains("lines about peers were left out").then_some(log)
    });
    let written = log.len() - before;
    assert!(written < 64 << 10, "{written} bytes for refused messages");
    assert!(log[before..].contains("a notify failed") && log[before..].contains("a registration was refused"), "{log}");
    target.held();
}

#[test]
fn a_level_2_user_displaces_nothing_from_the_admin_log() {
    let target = Target::start("[admin_log]\nmax_mib = 1\nkeep = 1\n");
    let stopped = target.stop("chat-2");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    let attacker = Attacker::login(target.cluster.port, "monitor");
    attacker
        .send(Topic::Client, &json!({ "moduleId": "__console__", "body": { "signal": "stop", "ids": ["chat-1"] } }));
    attacker.heard(Topic::Client);
    for n in 0..20_000 {
        attacker.send(Topic::Client, &json!({ "command": "list" }));
        attacker.send(
            Topic::Client,
            &json!({ "moduleId": "__console__", "body": { "signal": "kill", "ids": ["chat-1"] } }),
        );
        attacker.send(Topic::Client, &json!({ "moduleId": format!("made-up-{n}"), "body": null }));
        if n % 200 == 0 {
            attacker.heard(Topic::Client);
        }
    }
    attacker.heard(Topic::Client);
    let others = target.stop("chat-1");
    assert_eq!(others.code, Some(0), "{others:?}");
    let file = target.cluster.admin_log();
    let whole = |name: &std::path::Path| fs::read_to_string(name).unwrap_or_default();
    let text = eventually("the last stop is in the file", || {
        let text = whole(&file.with_extension("log.1")) + &whole(&file);
        (text.matches(r#""operation":"stop""#).count() >= 3 && text.ends_with('\n')).then_some(text)
    });
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |user: &str, result: &str, target: &str| {
        let is = |line: &&Value| line["user"] == user && line["result"] == result && line["targets"] == json!([target]);
        lines.iter().filter(is).filter(|line| line["operation"] == "stop").count()
    };
    assert_eq!(find("admin", "ok", "chat-2"), 1, "the stop before the flood");
    assert_eq!(find("monitor", "forbidden", "chat-1"), 1, "the refusal before the flood");
    assert_eq!(find("admin", "ok", "chat-1"), 1, "the stop after the flood");
    assert!(
        lines.iter().any(|line| line["operation"] == "kill" && line["user"] == "monitor"),
        "the first of each sort"
    );
    assert!(text.len() < 256 << 10, "{} bytes", text.len());
    // Each is told in the end: alone, or with the others of its sort.
    let mut cluster = target.cluster;
    cluster.done(&["stop", "--all"]);
    cluster.hosts[0].ended();
    let told: u64 = cluster
        .asked()
        .iter()
        .filter(|line| line["operation"] == "kill")
        .map(|line| line["count"].as_u64().unwrap_or(1))
        .sum();
    assert_eq!(told, 20_000);
}

#[test]
fn the_last_lines_of_a_program_are_shown_to_those_alone_who_may_ask_for_logs() {
    let broken =
        json!({ "chat": [{ "id": "chat-1", "script": "echo a-secret-line >&2; exit 3", "restart": "never" }] });
    let cluster = Cluster::start(broken, &format!("{SETTINGS}[commands]\nlevels = {{ events = 2 }}\n"));
    let ask = |user: &str, arguments: &[&str]| {
        let done = cluster.ask(&[arguments, &["-u", user, "-p", user]].concat());
        done.out + &done.err
    };
    let list = json!({ "signal": "list" }).to_string();
    eventually("the program has failed, and is told of", || {
        (ask("admin", &["describe", "chat-1"]).contains("a-secret-line")
            && ask("admin", &["events"]).contains("a-secret-line"))
        .then_some(())
    });
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["describe", "chat-1"],
        &["describe", "chat-1", "--json"],
        &["events"],
        &["events", "--json"],
        &["request", "__console__", &list],
        &["request", "watchServer", r#"{"comd":"servers","context":"all"}"#],
    ] {
        let said = ask("monitor", arguments);
        assert!(!said.contains("a-secret-line"), "{arguments:?}: {said}");
    }
    for arguments in [&["describe", "chat-1"][..], &["events"], &["list", "--json"]] {
        let said = ask("monitor", arguments);
        assert!(said.contains("ended with code 3"), "how it ended is told: {arguments:?}: {said}");
    }
    let refused = ask("monitor", &["logs", "chat-1"]);
    assert!(refused.contains("forbidden"), "{refused}");
}

#[test]
fn the_most_talkative_log_has_no_password_and_no_token() {
    let mut cluster = Cluster::configured(two_chats(), SETTINGS);
    let (password, token) = ("hunter2-is-the-password", "t0ken-of-all-monitors-here");
    let md5 = Options { password: password.into(), ..Options::default() }.password_md5().expose().to_owned();
    cluster.write(
        "adminUser.json",
        &json!([{ "id": "1", "username": "admin", "password": password, "level": 1 }]).to_string(),
    );
    let tokens = json!([{ "type": "master", "token": token }, { "type": "chat", "token": token }]);
    cluster.write("adminServer.json", &tokens.to_string());
    for format in ["text", "json"] {
        let config = cluster.dir.path().to_str().unwrap().to_owned();
        let mut command = pomelo(&["start", "--config", &config]);
        command.current_dir(&config).env("POMELO_LOG", "trace").env("POMELO_LOG_FORMAT", format);
        cluster.hosts.push(Host::start(command, cluster.path(&format!("{format}.log"))));
        let ask = |arguments: &[&str]| {
            let mut command = pomelo(arguments);
            command.arg(format!("--port={}", cluster.port)).env("POMELO_PASSWORD", password);
            command.env("POMELO_LOG", "trace").env("POMELO_LOG_FORMAT", format);
            run(command)
        };
        eventually("both servers run", || {
            let listed: Value = serde_json::from_str(&ask(&["list", "--json"]).out).ok()?;
            let running = listed["msg"].as_object()?.values().filter(|server| server["state"] == "running");
            (running.count() == 3).then_some(())
        });
        // As pomelo's tools send it, in clear, wrongly, and as what is no text.
        for secret in
            [json!(md5), json!(password), json!([password]), json!({ password: token }), json!(271828182845_u64)]
        {
            for topic in [Topic::Register, Topic::Reconnect] {
                let is_md5 = secret == json!(md5);
                for register in [
                    json!({ "type": "client", "id": "c", "username": "admin", "password": secret, "md5": is_md5 }),
                    json!({ "type": "monitor", "id": "chat-7", "serverType": "gate", "token": secret }),
                ] {
                    let attacker = Attacker::connect(cluster.port, None);
                    attacker.send(topic, &register);
                    // It is answered, or the connection ends.
                    attacker.frames.recv_timeout(LONG).expect("the master has dealt with it");
                }
            }
        }
        let done = ask(&["stop", "--all"]);
        cluster.hosts.last_mut().unwrap().ended();
        let log = cluster.hosts.last().unwrap().log();
        assert!(log.contains("pomelo_host") || log.contains("a client has registered"), "the log is talkative");
        for (what, text) in [("the hosts' log", &log), ("a command's", &done.err), ("a command's answer", &done.out)] {
            for secret in [password, &md5, token, "271828182845"] {
                let line = text.lines().find(|line| line.contains(secret));
                assert_eq!(line, None, "{what} shows {secret}");
            }
        }
    }
}
