//! npm's `pomelo` and `pomelo-cli` drive the cluster.

use std::io::Write;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::app::{App, SERVERS};
use crate::support::{Host, eventually, gone, pid, send};

#[test]
fn r5_pomelos_own_list_and_stop_show_and_end_pomelos_servers() {
    let mut app = App::new().with_tokens();
    app.start();
    let listed = app.tool(&["list"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    for id in SERVERS.iter().chain(&["master-server-1"]) {
        let line = listed.out.lines().find(|line| line.contains(id));
        let pid = app.running.get(*id).map_or(String::new(), |host| host.pid().to_string());
        assert!(line.is_some_and(|line| line.contains(&pid)), "{id} {pid}: {}", listed.out);
    }

    let stopped = app.tool(&["stop", "chat-server-2"]);
    assert_eq!((stopped.code, stopped.err.as_str()), (Some(0), ""), "{stopped:?}");
    assert_eq!(app.running.get_mut("chat-server-2").unwrap().ended().code(), Some(0));
    for id in SERVERS.iter().filter(|id| **id != "chat-server-2") {
        app.wait_for(id, "remove", |ids| ids == &json!(["chat-server-2"]));
    }
    let unknown = app.tool(&["stop", "nobody"]);
    assert!(unknown.err.contains("nobody"), "{unknown:?}");
    app.wait_for_list(&["chat-server-1", "connector-server-1", "connector-server-2", "gate-server-1"]);

    let refused = app.tool(&["list", "-p", "wrong"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
}

/// Our starter runs the application's servers, as pomelo's own does.
fn started() -> App {
    let mut app = App::new().with_tokens();
    app.write("pomelo.toml", "[pomelo]\napp = \"../app.js\"\n");
    app.ours("master", &["start"]);
    app.all_started();
    app
}

#[test]
fn s4_the_starter_runs_pomelos_servers_and_pomelos_tool_adds_restarts_and_kills() {
    let mut app = started();
    assert_eq!(app.play("chat-server-1")[2]["sent"]["code"], 200);
    let listed = app.wait_for_list(&SERVERS);

    let port = app.free_port();
    let (port, id) = (format!("port={port}"), "id=chat-server-3");
    let added = app.tool(&["add", "host=127.0.0.1", &port, "serverType=chat", id]);
    assert!(added.out.contains("Successfully add server."), "{added:?}");
    app.wait_for("chat-server-3", "afterStartAll", |_| true);
    app.wait_for("connector-server-1", "add", |ids| ids == &json!(["chat-server-3"]));
    assert_eq!(app.play("chat-server-3")[2]["heard"]["said"]["by"], "chat-server-3");
    let bad = app.tool(&["add", "host=127.0.0.1", &port, "serverType=chat", "id=chat-server-4"]);
    assert!(bad.err.contains("used twice"), "{bad:?}");

    let restarted = app.tool(&["restart", "-i", "chat-server-1"]);
    assert!(restarted.out.contains("Successfully restart server."), "{restarted:?}");
    app.wait_for_count("chat-server-1", "afterStartAll", 2);
    let now = app.list();
    assert_ne!(now["chat-server-1"]["pid"], listed["chat-server-1"]["pid"]);
    assert_eq!(now["chat-server-2"]["pid"], listed["chat-server-2"]["pid"]);
    assert_eq!(app.play("chat-server-1")[2]["sent"]["code"], 200);

    let stopped = app.tool(&["stop", "chat-server-2"]);
    assert_eq!(stopped.err, "", "{stopped:?}");
    gone(pid(&listed, "chat-server-2"));
    // Killed by somebody else, it comes back; stopped on purpose it does not.
    send(pid(&listed, "gate-server-1"), Signal::SIGKILL);
    app.wait_for_count("gate-server-1", "afterStartAll", 2);
    app.wait_for_list(&["chat-server-1", "chat-server-3", "connector-server-1", "connector-server-2", "gate-server-1"]);

    let listed = app.list();
    let killed = app.tool(&["kill"]);
    assert!(killed.out.contains("All the servers have been terminated!"), "{killed:?}");
    for id in listed.as_object().unwrap().keys() {
        gone(pid(&listed, id));
    }
    app.running.get_mut("master").unwrap().ended();
}

#[test]
fn a5_a_session_of_pomelo_cli_shows_and_changes_the_cluster() {
    let mut app = App::new().with_tokens();
    app.start();
    let port = app.port.to_string();
    let arguments = ["-h", "127.0.0.1", "-P", &port, "-u", "admin", "-p", "admin"];
    let mut session = Session::start(app.npm("pomelo-cli", &arguments), app.path("session.log"));
    session.until("admin@pomelo : all>");
    session.say("show servers");
    let shown = session.until("gate-server-1");
    assert!(SERVERS.iter().all(|id| shown.contains(id)), "{shown}");
    session.say("use chat-server-1");
    session.until("admin@pomelo : chat-server-1>");
    session.say("get name");
    session.until("'chat'");
    session.say("use all");
    session.until("admin@pomelo : all>");
    session.say("show connections");
    session.until("totalConnCount");
    for command in [
        "addCron id=7 serverId=chat-server-1 'time=0 0 3 * * *' action=chatCron.tick",
        "blacklist 10.9.8.7",
        "stop chat-server-2",
    ] {
        session.say(command);
        session.until("[yes/no]");
        session.say("yes");
    }
    app.wait_for("chat-server-1", "crons", |times| times == &json!(["0 0 3 * * *"]));
    assert_eq!(app.running.get_mut("chat-server-2").unwrap().ended().code(), Some(0));
    session.say("quit");
    session.until("bye admin");
}

/// A program that is talked to line by line.
struct Session {
    host: Host,
    input: ChildStdin,
    read: usize,
}

impl Session {
    fn start(mut command: Command, log: PathBuf) -> Session {
        command.stdin(Stdio::piped());
        let mut host = Host::start(command, log);
        let input = host.stdin();
        Session { host, input, read: 0 }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// What it writes from here until that.
    fn until(&mut self, text: &str) -> String {
        let (log, from) = (&self.host, self.read);
        let said = eventually(&format!("it writes {text}"), || {
            let log = log.log();
            let end = from + log.get(from..)?.find(text)? + text.len();
            Some(log[from..end].to_owned())
        });
        self.read += said.len();
        said
    }
}
