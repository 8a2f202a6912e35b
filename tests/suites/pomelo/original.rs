//! Monitors of ours join an original master, npm's unmodified pomelo.

use std::collections::BTreeSet;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::app::{App, SERVERS, node};
use crate::support::{Host, Stopped, eventually, gone, ids, members, pomelo, run, runs, send, view, view_file};
use crate::wire::{Came, Wire};

/// The server beside which a monitor of ours stands.
const OURS: &str = "chat-server-2";
/// Its program: a server that says that it was asked to end, and ends.
const PROGRAM: &str = "trap 'echo asked > asked; exit 0' TERM; while :; do sleep 0.05; done";

/// A monitor of ours beside the program, with the application's own configuration.
fn ours(app: &mut App) {
    let (master, config) = (format!("127.0.0.1:{}", app.port), app.path("config"));
    let mut command = pomelo(&["monitor", "--pomelo-master", &master, "--id", OURS, "--config"]);
    command.arg(config).args(["--", "sh", "-c", PROGRAM]).current_dir(app.dir.path());
    let log = app.path("ours.log");
    app.running.insert(OURS.into(), Host::start(command, log));
}

/// The application with an original master, and `servers` of pomelo's.
fn with_original_master(servers: &[&str]) -> App {
    let mut app = App::new().with_tokens();
    app.write("pomelo.toml", "[supervise]\nready_delay_ms = 20\nbackoff_min_ms = 50\nrestart = \"always\"\n");
    app.original_master();
    for id in servers {
        app.server(id);
    }
    ours(&mut app);
    app
}

/// The line of npm's `pomelo list` for a server, word by word.
fn listed(app: &App, id: &str) -> Option<Vec<String>> {
    let done = app.tool(&["list"]);
    let line = done.out.lines().find(|line| line.contains(id))?;
    Some(line.split_whitespace().map(str::to_owned).collect())
}

/// Waits until npm's `pomelo list` shows our server, and says its program's process.
fn program(app: &App) -> u32 {
    eventually("our server is listed", || {
        let pid: u32 = listed(app, OURS)?.get(2)?.parse().ok()?;
        (runs(pid) && view_file(pid).is_some()).then_some(pid)
    })
}

/// Waits until a program's view has these servers. The master's own monitor is not in an original master's table.
fn sees(file: &Path, servers: &[&str]) {
    eventually(&format!("{servers:?} are seen"), || (members(file) == ids(servers)).then_some(()));
}

/// What an administrator with npm's pomelo-admin is answered: to a command, or to a request of a module.
fn asked(app: &App, arguments: &[&str]) -> Value {
    let mut asking = node();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/js/pomelo_command.js");
    asking.args([script, &app.port.to_string()]).args(arguments);
    let done = run(asking);
    let answer = done.out.lines().last().and_then(|line| serde_json::from_str(line).ok());
    answer.unwrap_or_else(|| panic!("{done:?}"))
}

#[test]
fn r5_a_monitor_of_ours_is_one_of_the_servers_of_an_original_master() {
    let others: Vec<&str> = SERVERS.into_iter().filter(|id| *id != OURS).collect();
    let mut app = with_original_master(&others);
    // It counts among those that have started.
    for id in &others {
        app.wait_for(id, "afterStartAll", |_| true);
    }
    let pid = program(&app);
    let file = view_file(pid).unwrap();
    sees(&file, &SERVERS);
    eventually("our program is told that all have started", || (view(&file)["startOver"] == true).then_some(()));
    let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let master = format!("POMELO_MASTER=127.0.0.1:{}", app.port);
    assert!(environment.split('\0').any(|variable| variable == master), "{environment}");
    let told = &view(&file)["servers"][OURS];
    assert_eq!((&told["serverType"], &told["id"]), (&json!("chat"), &json!(OURS)), "{told}");
    for id in &others {
        let events = app.events(id);
        let known: BTreeSet<_> =
            events.iter().filter(|(event, _)| event == "add").map(|(_, ids)| ids.to_string()).collect();
        assert!(known.iter().any(|ids| ids.contains(OURS)), "{id} knows {known:?}");
    }

    // A process that ends is seen to go, and its successor to come.
    send(pid, Signal::SIGKILL);
    app.wait_for("gate-server-1", "remove", |ids| ids == &json!([OURS]));
    app.wait_for("gate-server-1", "add", |ids| ids == &json!([OURS]));
    let next = eventually("another process is listed", || Some(program(&app)).filter(|next| *next != pid));
    sees(&view_file(next).unwrap(), &SERVERS);

    let stopped = app.tool(&["stop", OURS]);
    assert_eq!((stopped.code, stopped.err.as_str()), (Some(0), ""), "{stopped:?}");
    assert_eq!(app.running.get_mut(OURS).unwrap().ended().code(), Some(0));
    gone(next);
    assert!(app.path("asked").exists(), "it was asked to end");
    let removed = |events: &[(String, Value)]| {
        events.iter().filter(|(event, ids)| event == "remove" && ids == &json!([OURS])).count() == 2
    };
    app.wait_until("gate-server-1", removed);
    assert_eq!(listed(&app, OURS), None);
    assert!(!others.iter().any(|id| app.events(id).iter().any(|(event, _)| event == "uncaught")));
}

#[test]
fn r5_a_monitor_of_ours_comes_back_to_a_restarted_original_master() {
    let mut app = with_original_master(&["gate-server-1"]);
    let pid = program(&app);
    let file = view_file(pid).unwrap();
    sees(&file, &["gate-server-1", OURS]);
    drop(app.running.remove("master"));
    eventually("the monitor notices", || app.running[OURS].log().contains("no longer registered").then_some(()));
    app.original_master();
    assert_eq!(program(&app), pid, "the program has run on");
    sees(&file, &["gate-server-1", OURS]);
    // Servers that come after are seen by it, and it by them.
    app.server("chat-server-1");
    sees(&file, &["chat-server-1", "gate-server-1", OURS]);
    app.wait_for("chat-server-1", "add", |ids| ids.as_array().unwrap().contains(&json!(OURS)));
    app.running.get("chat-server-1").unwrap().signal(Signal::SIGKILL);
    sees(&file, &["gate-server-1", OURS]);
}

#[test]
fn r5_a_monitor_of_ours_that_an_original_master_refuses_is_not_stranded() {
    let mut app = with_original_master(&[]);
    let pid = program(&app);
    // Somebody else is there under its id when it comes back, as its own dead connection would be.
    let frozen = Stopped::new(app.running[OURS].pid());
    drop(app.running.remove("master"));
    app.original_master();
    let mut other = Wire::connect(app.port);
    let info = json!({"id": OURS, "serverType": "chat", "host": "127.0.0.1", "port": 1});
    other.send("reconnect", &json!({"id": OURS, "type": "monitor", "serverType": "chat", "pid": 1, "info": info}));
    assert_eq!(other.next(), Came::Frame("reconnect_ok".into(), json!({"code": 1, "msg": "ok"})));
    drop(frozen);
    let refused = "the master refuses the registration: id has been registered";
    eventually("it is refused", || app.running[OURS].log().contains(refused).then_some(()));
    drop(other);
    assert_eq!(program(&app), pid);
}

#[test]
fn r5_an_original_master_is_answered_where_it_looks_for_answers() {
    let mut app = with_original_master(&[]);
    let pid = program(&app);
    let ask = |module: &str, body: Value| asked(&app, &["request", module, &body.to_string()])["answer"].take();
    let shown = ask("watchServer", json!({"comd": "servers", "context": "all"}));
    let ours = &shown["msg"][OURS];
    assert_eq!((&ours["serverType"], &ours["pid"]), (&json!("chat"), &json!(pid)), "{shown}");
    let status = ask("watchServer", json!({"comd": "status", "context": OURS}));
    assert_eq!(status["msg"]["body"]["pid"], json!(pid), "{status}");
    let modules = ask("watchServer", json!({"comd": "get", "context": OURS, "param": "name"}));
    assert!(modules.is_null(), "a program without functions has no settings: {modules}");

    // Restarted in place; the master would start it itself, and says that it was not.
    let restarted = app.tool(&["restart", "-i", OURS]);
    assert_ne!(restarted.out + &restarted.err, "", "the master answers");
    let next = eventually("another process is listed", || Some(program(&app)).filter(|next| *next != pid));

    let killed = app.tool(&["kill"]);
    assert!(killed.err.is_empty() && !killed.out.contains("remained"), "{killed:?}");
    gone(next);
    app.running.get_mut(OURS).unwrap().ended();
    app.running.get_mut("master").unwrap().ended();
}

#[test]
fn r5_commands_that_an_original_master_passes_on_do_no_harm() {
    let mut app = with_original_master(&[]);
    let pid = program(&app);
    let file = view_file(pid).unwrap();
    // They make monitors of pomelo-admin's throw, the master's own among them.
    for (action, enabled) in [("disable", "enabled=false"), ("enable", "enabled=true")] {
        assert_eq!(asked(&app, &[action, "watchServer"]), json!({"error": null, "answer": 1}));
        eventually("the command has come", || app.running[OURS].log().contains(enabled).then_some(()));
    }
    app.server("gate-server-1");
    sees(&file, &["gate-server-1", OURS]);
    app.wait_for("gate-server-1", "add", |ids| ids.as_array().unwrap().contains(&json!(OURS)));
    assert!(runs(pid) && !app.running[OURS].log().contains("no longer registered"));
}

#[test]
fn r5_a_monitor_without_a_program_joins_an_original_master() {
    let mut app = App::new().with_tokens();
    app.original_master();
    app.server("gate-server-1");
    app.wait_for("gate-server-1", "started", |_| true);
    let address = format!("127.0.0.1:{}", app.port);
    app.ours("chat-server-1", &["monitor", "--pomelo-master", &address, "--id", "chat-server-1"]);
    // The others are told of it, as of one of their own.
    app.wait_for("gate-server-1", "add", |ids| ids == &json!(["chat-server-1"]));
    let pid = app.running["chat-server-1"].pid().to_string();
    eventually("it is listed with its figures", || {
        let listed = app.tool(&["list"]);
        listed.out.lines().any(|line| line.contains("chat-server-1") && line.contains(&pid)).then_some(())
    });
    let stopped = app.tool(&["stop", "chat-server-1"]);
    assert_eq!(stopped.err, "", "{stopped:?}");
    app.running.get_mut("chat-server-1").unwrap().ended();
    app.wait_for("gate-server-1", "remove", |ids| ids == &json!(["chat-server-1"]));
}
