//! What an application does over its control socket: the Node example as a real server, asked by a module of the cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::conversation::Conversation;
use crate::support::*;

/// The Node example as a server's command.
fn node(port: u16) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/node/chat.js");
    json!(["node", script, port.to_string()])
}

/// With the module that asks on a test's behalf.
const SERVED: &str = "[module.served]\ngrants = [\"cluster\", \"application\", \"process\"]\n";

/// A configuration with that module among its own.
fn configured(servers: Value, settings: &str) -> Cluster {
    let cluster = Cluster::configured(servers, &format!("{settings}{SERVED}"));
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/modules/fixtures/served.wasm");
    assert!(module.exists(), "{} is not built: run modules/build.sh", module.display());
    fs::create_dir(cluster.path("modules")).unwrap();
    fs::copy(module, cluster.path("modules/served.wasm")).unwrap();
    cluster
}

/// What a server answers to a wish; the failure's text where it fails.
fn wish(cluster: &Cluster, server: &str, wish: Value) -> Result<Value, String> {
    cluster.request("served", &json!({"server": server, "wish": wish}))
}

fn call(cluster: &Cluster, name: &str, args: Value) -> Result<Value, String> {
    wish(cluster, "chat-1", json!({"call": {"name": name, "args": args}}))
}

/// Waits until the module runs on a server, and the application there offers something.
fn connected(cluster: &Cluster, server: &str) {
    eventually("the application is connected", || {
        let offers = wish(cluster, server, json!("offers")).ok()?;
        (!offers.as_array()?.is_empty()).then_some(())
    });
}

/// The lines that a server's program has written.
fn output(cluster: &Cluster, server: &str) -> Vec<String> {
    let answer = wish(cluster, server, json!({"output": {"since": null, "lines": 1000, "wait": 0}})).unwrap();
    let lines = answer["lines"].as_array().unwrap().iter();
    lines.map(|line| line["text"].as_str().unwrap().to_owned()).collect()
}

fn says(cluster: &Cluster, server: &str, line: &str) {
    eventually(&format!("{server} says `{line}`"), || {
        output(cluster, server).iter().any(|said| said == line).then_some(())
    });
}

#[test]
fn w3_w4_p_c6_c7_the_node_example_is_told_asked_and_ended_over_its_socket() {
    let [port] = free_ports();
    let servers = json!({"chat": [{"id": "chat-1", "port": port, "command": node(port), "ready": "control"}],
                         "gate": [{"id": "gate-1", "script": GRACEFUL}]});
    let mut cluster = configured(servers, SETTINGS);
    let crons = json!({"chat": [{"id": 7, "time": "* * * * * *", "action": "chatCron.send", "text": "tick"}]});
    cluster.write("crons.json", &crons.to_string());
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1", "gate-1"]);
    connected(&cluster, "chat-1");

    // W4: it is told the view and that all have started.
    says(&cluster, "chat-1", "all 3 servers have started");
    // What it adds to its `info` is seen by others, and so is not what is for the monitor alone.
    let file = view_file(cluster.pid("gate-1")).unwrap();
    let info = eventually("what it says of itself is seen", || {
        let info = view(&file)["servers"]["chat-1"].clone();
        (info["users"] == "many").then_some(info)
    });
    assert_eq!((&info["port"], info.get("ready")), (&json!(port), None));

    // P: who is connected, settings.
    let mut user = Conversation::with(port);
    user.say("login ann");
    user.hears("welcome, ann");
    let logins = call(&cluster, "connections", json!({})).unwrap();
    assert_eq!((&logins["totalConnCount"], &logins["loginedList"][0]["uid"]), (&json!(1), &json!("ann")));
    call(&cluster, "set", json!({"key": "color", "value": {"r": 1}})).unwrap();
    call(&cluster, "enable", json!({"key": "echo"})).unwrap();
    assert_eq!(call(&cluster, "get", json!({"key": "color"})).unwrap(), json!({"r": 1}));
    assert_eq!(call(&cluster, "settings", json!({})).unwrap()["echo"], true);
    let unknown = call(&cluster, "get", json!({"key": "nothing"})).unwrap_err();
    assert!(unknown.contains("there is no setting nothing"), "the application's own failure arrives: {unknown}");
    let lacks = call(&cluster, "logins", json!({})).unwrap_err();
    assert!(lacks.contains("the application of chat-1 does not offer `logins`; it offers: blacklist,"), "{lacks}");
    let mute = wish(&cluster, "gate-1", json!({"call": {"name": "get", "args": {}}})).unwrap_err();
    assert!(mute.contains("the program of gate-1 is not connected to its control socket"), "{mute}");

    // C6: the configured cron fires, one that is added fires, and none after it was removed.
    user.hears("tick");
    let bad =
        json!([{"id": 8, "time": "* * * * * *", "action": "chatCron.send"}, {"id": 9, "time": "often", "action": "x"}]);
    let refused = wish(&cluster, "chat-1", json!({"addCrons": bad})).unwrap_err();
    assert!(refused.contains("the cron `9`: the time `often` is not six fields"), "{refused}");
    let listed = wish(&cluster, "chat-1", json!("crons")).unwrap();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &json!("7")), "none was added");
    let added = json!([{"id": 8, "time": "* * * * * *", "action": "chatCron.send", "text": "tock"}]);
    wish(&cluster, "chat-1", json!({"addCrons": added})).unwrap();
    user.hears("tock");
    let lost = json!([{"id": "lost", "time": "* * * * * *", "action": "nobody.home"}]);
    wish(&cluster, "chat-1", json!({"addCrons": lost})).unwrap();
    eventually("a cron whose action is not offered says so", || {
        let listed = wish(&cluster, "chat-1", json!("crons")).unwrap();
        let lost = listed.as_array().unwrap().iter().find(|cron| cron["id"] == "lost")?.clone();
        lost["lastError"].as_str()?.contains("does not offer `nobody.home`").then_some(())
    });
    let removed = wish(&cluster, "chat-1", json!({"removeCrons": ["7", "8", "lost", "9"]})).unwrap();
    assert_eq!(removed, json!(["7", "8", "lost"]));
    assert_eq!(wish(&cluster, "chat-1", json!("crons")).unwrap(), json!([]));

    // C7: who is on the blacklist is turned away.
    call(&cluster, "blacklist", json!(["127.0.0.1"])).unwrap();
    assert_eq!(Conversation::with(port).line(), None);

    // C2: it is asked over the socket, ends by itself, and nobody has to kill it.
    let running = cluster.pid("chat-1");
    assert_eq!(cluster.done(&["restart", "chat-1"]), "restarted\n");
    gone(running);
    cluster.wait_for(&["chat-1", "gate-1"]);
    connected(&cluster, "chat-1");
    assert!(output(&cluster, "chat-1").contains(&"ending within 20000 ms".to_owned()));
    let stats = wish(&cluster, "chat-1", json!("stats")).unwrap();
    assert_eq!((&stats["lastExit"]["how"], &stats["restarts"]), (&json!("ended with code 0"), &json!(1)));
    assert!(stats["lastExit"]["time"].as_u64().unwrap() > 1_600_000_000_000);
    assert_eq!(
        wish(&cluster, "chat-1", json!("crons")).unwrap(),
        json!([]),
        "crons are the monitor's, not the process's"
    );
    assert_eq!(cluster.done(&["stop", "chat-1"]), "stopped: chat-1\n");
    assert!(!cluster.hosts[0].log().contains("did not end when asked"));
}

/// A program that says what it is told over its control socket, and what its script does besides. It needs Node.
fn told(script: &str) -> Value {
    let program = format!(
        r#"const socket = require("net").connect(process.env.POMELO_CONTROL);
        const say = (message) => socket.write(JSON.stringify(message) + "\n");
        const lines = require("readline").createInterface({{ input: socket }});
        const hear = (then) => lines.on("line", (line) => then(JSON.parse(line)));
        setInterval(() => {{}}, 1000);
        {script}"#
    );
    json!(["node", "-e", program])
}

#[test]
fn c2_a_program_that_agrees_to_end_and_does_not_is_killed_with_its_children_after_the_deadline() {
    let stubborn = told(
        r#"process.on("SIGTERM", () => console.log("a signal came"));
        const child = require("child_process").spawn("sleep", ["1000"]);
        say({ hello: { offers: ["stop"] } });
        hear(({ id, call, args }) => {
            if (call) { require("fs").writeFileSync("told", args.deadlineMs + " " + child.pid); say({ id, result: null }); }
        });"#,
    );
    let servers = json!({"chat": [{"id": "chat-1", "command": stubborn, "ready": "control"}]});
    let cluster = Cluster::start(servers, "[supervise]\nstop_deadline_ms = 400\n");
    let pid = pid(&cluster.wait_for(&["chat-1"]), "chat-1");
    assert_eq!(cluster.done(&["stop", "chat-1"]), "stopped: chat-1\n");
    gone(pid);
    let told = fs::read_to_string(cluster.path("told")).unwrap();
    let (deadline, child) = told.split_once(' ').unwrap();
    assert_eq!(deadline, "400");
    gone(child.parse().unwrap());
    let log = cluster.hosts[0].log();
    assert!(log.contains("did not end when asked") && !log.contains("a signal came"), "{log}");
}

#[test]
fn c2_a_program_that_cannot_end_as_it_was_asked_is_sent_a_signal() {
    let failing = told(
        r#"process.on("SIGTERM", () => { console.log("a signal came"); process.exit(0); });
        say({ hello: { offers: ["stop"] } });
        hear(({ id, call }) => { if (call) say({ id, error: { code: "failed", message: "not today" } }); });"#,
    );
    let servers = json!({"chat": [{"id": "chat-1", "command": failing, "ready": "control"}]});
    let cluster = Cluster::start(servers, SETTINGS);
    cluster.wait_for(&["chat-1"]);
    assert_eq!(cluster.done(&["stop", "chat-1"]), "stopped: chat-1\n");
    eventually("the signal is told", || cluster.hosts[0].log().contains("a signal came").then_some(()));
    assert!(cluster.hosts[0].log().contains("not today"));
}

#[test]
fn s2_a_server_is_registered_when_its_program_says_so_or_listens_and_ended_when_it_never_does() {
    let [port, never] = free_ports();
    let late = told(
        r#"say({ hello: { ready: false } });
        require("fs").watch(".", () => { if (require("fs").existsSync("go")) say({ id: 1, call: "ready" }); });"#,
    );
    let listens = format!(
        "while ! test -e go; do sleep 0.02; done; exec node -e 'require(\"net\").createServer().listen({port}, \"127.0.0.1\")'"
    );
    let servers = json!({"chat": [{"id": "says", "command": late, "ready": "control"}],
        "gate": [{"id": "listens", "port": port, "script": listens, "ready": "port"}],
        "idle": [{"id": "never", "port": never, "script": "echo up >> starts; exec sleep 1000", "ready": "port"}],
        "plain": [{"id": "plain", "script": GRACEFUL}]});
    // The patience is for those that get ready; the one that does not is looked at first.
    let cluster = Cluster::start(servers, &format!("{SETTINGS}ready_timeout_ms = 15000\n"));
    let file = view_file(pid(&cluster.wait_for(&["plain"]), "plain")).unwrap();
    wait_for_members(&file, &["plain"]);
    cluster.write("go", "");
    cluster.wait_for(&["plain", "says", "listens"]);
    eventually("one that is never ready is ended and tried again", || {
        let starts = fs::read_to_string(cluster.path("starts")).unwrap_or_default();
        (starts.lines().count() > 1).then_some(())
    });
    assert!(cluster.hosts[0].log().contains(&format!("nobody listened on 127.0.0.1:{never} for 15 s")));
    let said =
        crate::journal::event(&cluster, "exit", &format!("because nobody listened on 127.0.0.1:{never} for 15 s"));
    assert_eq!(said["server"], "never");
}

#[test]
fn p_output_logs_and_figures_are_those_of_the_program() {
    let script = "mkdir -p logs; echo one > logs/chat.log; echo two >> logs/chat.log; ln -sf ../master.json logs/out.log; \
                  echo hello; echo trouble >&2; while ! test -e go; do sleep 0.02; done; echo went; exec sleep 1000";
    let mut cluster = configured(json!({"chat": [{"id": "chat-1", "script": script}]}), SETTINGS);
    cluster.host("start", &[]);
    let pid = pid(&cluster.wait_for(&["chat-1"]), "chat-1");
    let first = eventually("two lines are kept", || {
        let answer = wish(&cluster, "chat-1", json!({"output": {"since": null, "lines": 10, "wait": 0}})).ok()?;
        (answer["last"] == 2).then_some(answer)
    });
    let mut lines: Vec<_> =
        first["lines"].as_array().unwrap().iter().map(|line| (&line["text"], &line["error"])).collect();
    lines.sort_by_key(|(text, _)| text.to_string());
    assert_eq!(lines, [(&json!("hello"), &json!(false)), (&json!("trouble"), &json!(true))]);
    let next = std::thread::scope(|scope| {
        let asked =
            scope.spawn(|| wish(&cluster, "chat-1", json!({"output": {"since": 2, "lines": 10, "wait": 8000}})));
        cluster.write("go", "");
        asked.join().unwrap().unwrap()
    });
    assert_eq!((&next["lines"][0]["n"], &next["lines"][0]["text"]), (&json!(3), &json!("went")));

    assert_eq!(wish(&cluster, "chat-1", json!("logs")).unwrap(), json!(["chat.log"]), "no link leads out");
    let tail = |name: &str| wish(&cluster, "chat-1", json!({"logTail": {"name": name, "lines": 1}}));
    assert_eq!(tail("chat.log").unwrap(), json!(["two"]));
    assert!(tail("out.log").unwrap_err().contains("it leads out of the log directory"));
    assert!(tail("../master.json").unwrap_err().contains("no plain file name"));

    let usage = wish(&cluster, "chat-1", json!("usage")).unwrap();
    assert_eq!((&usage["pid"], &usage["serverType"]), (&json!(pid), &json!("chat")));
    assert!(wish(&cluster, "chat-1", json!("system")).unwrap()["totalmem"].as_u64().unwrap() > 0);
    assert_eq!(wish(&cluster, "master", json!("usage")).unwrap()["pid"], cluster.hosts[0].pid());
    let none = wish(&cluster, "master", json!({"output": {"since": null, "lines": 1, "wait": 0}})).unwrap_err();
    assert!(none.contains("does not keep what its process writes"), "{none}");

    cluster.done(&["restart", "chat-1"]);
    let stats = wish(&cluster, "chat-1", json!("stats")).unwrap();
    assert_eq!(stats["lastExit"]["how"], "was ended by signal 15");
    assert_eq!(stats["lastExit"]["lines"], json!(["trouble"]));
}

/// An example program, built as the program under test is.
fn example(name: &str) -> PathBuf {
    let built = Path::new(POMELO).parent().unwrap();
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", "pomelo-host", "--example", name]);
    build.arg("--target-dir").arg(built.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    if built.ends_with("release") {
        build.arg("--release");
    }
    let done = run(build);
    assert_eq!(done.code, Some(0), "{}", done.err);
    built.join("examples").join(name)
}

#[test]
fn the_rust_example_serves_under_a_monitor_and_by_itself() {
    let example = example("chat");
    let servers = json!({"chat": [{"id": "chat-1", "command": [example], "ready": "control"}]});
    let mut cluster = configured(servers, SETTINGS);
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1"]);
    let mut alone = Command::new(&example);
    alone.args(["chat-2", &format!("127.0.0.1:{}", cluster.port)]).env("POMELO_LOG", "info");
    let log = cluster.path("alone.log");
    cluster.hosts.push(Host::start(alone, log));
    let listed = cluster.wait_for(&["chat-1", "chat-2"]);
    assert_eq!(pid(&listed, "chat-2"), cluster.hosts[1].pid(), "it is its own server");
    says(&cluster, "chat-1", "1 servers have joined");
    connected(&cluster, "chat-1");
    call(&cluster, "set", json!({"key": "greeting", "value": "hello"})).unwrap();
    assert_eq!(call(&cluster, "get", json!({"key": "greeting"})).unwrap(), "hello");

    assert_eq!(cluster.done(&["stop", "chat-1", "chat-2"]), "stopped: chat-1, chat-2\n");
    assert!(cluster.hosts[1].ended().success());
    assert!(cluster.hosts[1].log().contains("ending within 10s"), "{}", cluster.hosts[1].log());
}
