//! Servers of pomelo's and monitors of ours under one master of ours, and a master that does not answer for a while.

use serde_json::{Value, json};

use crate::app::{App, SERVERS};
use crate::support::{Host, Stopped, eventually, members, pid, pomelo, runs, view_file};
use crate::tcp_table::connections;

/// The server beside which a monitor of ours stands.
const OURS: &str = "chat-server-2";
/// The others.
const THEIRS: [&str; 4] = ["chat-server-1", "connector-server-1", "connector-server-2", "gate-server-1"];
/// Its program.
const PROGRAM: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

#[test]
fn r5_w2_c2_c4_m5_servers_of_pomelos_and_monitors_of_ours_are_one_cluster() {
    let mut app = App::new().with_tokens();
    app.write("pomelo.toml", "[supervise]\nready_delay_ms = 20\n");
    app.master();
    for id in THEIRS {
        app.server(id);
    }
    let (master, config) = (format!("127.0.0.1:{}", app.port), app.path("config"));
    let mut command = pomelo(&["monitor", "--master", &master, "--id", OURS, "--config"]);
    command.arg(config).args(["--", "sh", "-c", PROGRAM]).current_dir(app.dir.path());
    app.running.insert(OURS.into(), Host::start(command, app.path("ours.log")));

    // Each counts among those that all wait for, is listed, and is known to the others.
    for id in THEIRS {
        app.wait_for(id, "afterStartAll", |_| true);
        app.wait_for(id, "add", |ids| ids.as_array().is_some_and(|ids| ids.contains(&json!(OURS))));
    }
    let listed = app.wait_for_list(&SERVERS);
    let view = view_file(pid(&listed, OURS)).unwrap();
    eventually("our server's program sees pomelo's", || {
        let seen = members(&view);
        SERVERS.iter().all(|id| seen.contains(*id)).then_some(())
    });

    // A command that every monitor is told reaches those that understand it, and harms none.
    for command in ["disable", "enable"] {
        assert_eq!(app.ask(&["modules", command, "watchServer"]).code, Some(0));
    }
    assert_eq!(app.wait_for_list(&SERVERS)["gate-server-1"]["pid"], listed["gate-server-1"]["pid"]);

    let told = |kind: &str, id: &str| {
        let all = |value: &Value| value.as_array().is_some_and(|ids| ids.contains(&json!(id)));
        app.events("gate-server-1").iter().filter(|(event, ids)| event == kind && all(ids)).count()
    };
    let added = told("add", OURS);
    assert_eq!(app.ask(&["restart", OURS]).code, Some(0));
    eventually("pomelo's servers are told that it went and came", || {
        (told("remove", OURS) == 1 && told("add", OURS) > added).then_some(())
    });
    let now = app.wait_for_list(&SERVERS);
    assert_ne!(now[OURS]["pid"], listed[OURS]["pid"]);

    // Ours and theirs are stopped in one breath, and the rest is told of both.
    let stopped = app.ask(&["stop", OURS, "chat-server-1"]);
    assert_eq!(
        (stopped.code, stopped.out.as_str()),
        (Some(0), "stopped: chat-server-1, chat-server-2\n"),
        "{stopped:?}"
    );
    for id in [OURS, "chat-server-1"] {
        assert!(!runs(pid(&now, id)), "{id} has ended");
        app.wait_for("gate-server-1", "remove", |ids| ids.as_array().is_some_and(|ids| ids.contains(&json!(id))));
    }
    app.wait_for_list(&["connector-server-1", "connector-server-2", "gate-server-1"]);
}

#[test]
fn r5_a_master_that_does_not_answer_for_a_while_strands_nobody() {
    let mut app = App::new().with_tokens();
    app.start();
    let standing = || connections(app.port).iter().filter(|connection| connection.is_established()).count();
    let before = standing();
    let silent = Stopped::new(app.running["master"].pid());
    let seen = app.events("connector-server-2").len();
    app.cut("connector-server-2");
    // It knocks again at a master that says nothing.
    eventually("the server is at the door", || {
        let closed = connections(app.port).iter().any(|connection| connection.is_closed_by_peer());
        (closed && standing() >= before).then_some(())
    });
    drop(silent);
    app.wait_until("connector-server-2", |events| events[seen..].iter().any(|(event, _)| event == "replace"));
    app.wait_for_list(&SERVERS);
    assert_eq!(app.play("chat-server-1")[2]["sent"]["code"], 200);
}
