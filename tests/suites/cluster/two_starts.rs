//! Two starts of one server, and monitors that lack something that they need.

use std::net::TcpListener;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::*;

/// The code of a start that finds its server running.
const RUNS_ALREADY: Option<i32> = Some(8);

/// A server that writes down every start.
fn counted(id: &str) -> serde_json::Value {
    json!({"id": id, "script": format!("echo up >> {id}.starts; {GRACEFUL}")})
}

/// A command with a cluster's configuration.
fn with_config(cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = pomelo(arguments);
    command.arg("--config").arg(cluster.dir.path()).current_dir(cluster.dir.path());
    command
}

/// What the log says of each start of a program.
const STARTED: &str = "started id=\"chat-1\"";

fn starts(cluster: &Cluster, id: &str) -> usize {
    std::fs::read_to_string(cluster.path(&format!("{id}.starts"))).unwrap_or_default().lines().count()
}

#[test]
fn a_monitor_that_lacks_something_ends_before_its_program_ran() {
    let cluster = Cluster::configured(json!({"chat": [counted("chat-1")]}), SETTINGS);
    cluster.write("no-directory", "");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, why) in [(["--modules", "no-directory"], "no-directory"), (["--http", &taken], &taken)] {
        let mut monitor = with_config(&cluster, &["monitor", "--id", "chat-1"]);
        let done = run({
            monitor.args(arguments).env("POMELO_LOG", "debug");
            monitor
        });
        assert_eq!((done.code, done.err.contains(why)), (Some(1), true), "{done:?}");
        let log = done.out + &done.err;
        assert_eq!((log.contains(STARTED), starts(&cluster, "chat-1")), (false, 0), "{log}");
    }
    let mut monitor = with_config(&cluster, &["monitor", "--id", "chat-1"]);
    monitor.env("POMELO_LOG", "debug");
    let monitor = Host::start(monitor, cluster.path("whole.log"));
    eventually("nothing is missing, and the program runs", || (starts(&cluster, "chat-1") == 1).then_some(()));
    assert!(monitor.log().contains(STARTED), "{}", monitor.log());
}

#[test]
fn a_start_beside_a_running_server_says_so_and_undoes_no_stop() {
    let [port] = free_ports();
    let servers = json!({"chat": [counted("chat-1"), counted("chat-2")], "gate": [demo_server("gate-1", port, false)]});
    let mut cluster = Cluster::start(servers, SETTINGS);
    let before = cluster.wait_for(&["chat-1", "chat-2", "gate-1"]);
    // One without a port is found by its monitor, one with a port by the starter.
    for id in ["chat-1", "gate-1"] {
        let done = run(with_config(&cluster, &["start", "--id", id]));
        let said = done.err.contains(&format!("{id} runs already, so that nothing was started"));
        assert_eq!((done.code, said), (RUNS_ALREADY, true), "{done:?}");
    }
    let done = run(with_config(&cluster, &["start", "--type", "chat"]));
    let said = done.err.contains("chat-1, chat-2 run already, so that nothing was started");
    assert_eq!((done.code, said), (RUNS_ALREADY, true), "{done:?}");
    let after = cluster.wait_for(&["chat-1", "chat-2", "gate-1"]);
    for id in ["chat-1", "chat-2", "gate-1"] {
        assert_eq!(pid(&before, id), pid(&after, id));
    }

    cluster.done(&["stop", "chat-2"]);
    gone(pid(&before, "chat-2"));
    cluster.host("start", &["--type", "chat"]);
    eventually("the other server of the type is started", || (starts(&cluster, "chat-2") == 2).then_some(()));
    cluster.wait_for(&["chat-1", "chat-2", "gate-1"]);
    let log = || cluster.hosts[1].log();
    eventually("the one that runs is named", || log().contains("chat-1 runs already").then_some(()));
    eventually("its monitor has ended", || log().contains("ended with code 8").then_some(()));
    cluster.done(&["stop", "chat-1"]);
    gone(pid(&before, "chat-1"));
    // Servers that are restarted show that the supervisors of both hosts have had their turn.
    cluster.done(&["restart", "chat-2", "gate-1"]);
    cluster.wait_for(&["chat-2", "gate-1"]);
    assert_eq!(starts(&cluster, "chat-1"), 1, "it stays down");
}

#[test]
fn a_master_tries_again_while_another_monitor_has_its_server() {
    let mut cluster = Cluster::configured(json!({"chat": [counted("chat-1")]}), SETTINGS);
    cluster.host("monitor", &["--id", "chat-1"]);
    eventually("the program runs", || (starts(&cluster, "chat-1") == 1).then_some(()));
    cluster.host("start", &[]);
    let before = cluster.wait_for(&["chat-1"]);
    assert_eq!(starts(&cluster, "chat-1"), 1, "the master leaves it alone, whether it has joined first or not");
    cluster.hosts[0].signal(Signal::SIGKILL);
    gone(pid(&before, "chat-1"));
    eventually("the master brings it back", || (starts(&cluster, "chat-1") == 2).then_some(()));
    cluster.wait_for(&["chat-1"]);
}
