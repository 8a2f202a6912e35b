//! Starting, stopping, killing and restarting the servers of a configuration.

use serde_json::json;

use crate::support::*;

/// Two chat servers and a gate, all of which end when asked.
fn three() -> serde_json::Value {
    json!({"chat": [{"id": "chat-1", "script": GRACEFUL}, {"id": "chat-2", "script": GRACEFUL}],
           "gate": [{"id": "gate-1", "port": free_ports::<1>()[0], "frontend": true, "script": GRACEFUL}]})
}

#[test]
fn c2_s4_a_stopped_server_ends_gracefully_leaves_every_view_and_stays_down() {
    let cluster = Cluster::start(three(), SETTINGS);
    let listed = cluster.wait_for(&["chat-1", "chat-2", "gate-1"]);
    let (stopped, other) = (pid(&listed, "chat-1"), view_file(pid(&listed, "gate-1")).unwrap());
    wait_for_members(&other, &["chat-1", "chat-2", "gate-1"]);
    eventually("w4: all configured servers have started", || (view(&other)["startOver"] == true).then_some(()));

    assert_eq!(cluster.done(&["stop", "chat-1"]), "stopped: chat-1\n");
    gone(stopped);
    assert!(cluster.path("chat-1.term").exists(), "it was asked");
    wait_for_members(&other, &["chat-2", "gate-1"]);
    eventually("it is listed no more", || cluster.list().get("chat-1").is_none().then_some(()));
    // A server that is restarted meanwhile shows that the supervisors have had their turn.
    cluster.done(&["restart", "chat-2"]);
    cluster.wait_for(&["chat-2", "gate-1"]);

    let again = cluster.ask(&["stop", "chat-1", "gate-1"]);
    assert_eq!(again.out, "stopped: chat-1, gate-1\n", "one that is down already is as it was wanted: {}", again.err);
    let unknown = cluster.ask(&["stop", "chat-2", "chat-8"]);
    assert_eq!(unknown.code, Some(1));
    assert_eq!(unknown.out, "stopped: chat-2\n", "what can be done is done");
    assert!(unknown.err.contains("chat-8 (There is no such server.)"), "{}", unknown.err);
}

#[test]
fn c4_restart_gives_a_new_process_and_brings_back_what_was_stopped() {
    let cluster = Cluster::start(three(), SETTINGS);
    let before = cluster.wait_for(&["chat-1", "chat-2", "gate-1"]);
    let file = view_file(pid(&before, "gate-1")).unwrap();
    assert_eq!(cluster.done(&["restart", "--type", "chat"]), "restarted\n");
    let after = cluster.wait_for(&["chat-1", "chat-2", "gate-1"]);
    for id in ["chat-1", "chat-2"] {
        assert_ne!(pid(&before, id), pid(&after, id));
        gone(pid(&before, id));
        eventually("the view names the new process", || {
            (view(&file)["servers"][id]["pid"] == after[id]["pid"]).then_some(())
        });
    }
    assert_eq!(pid(&before, "gate-1"), pid(&after, "gate-1"));
    assert_eq!(after["chat-1"]["restarts"], 1);

    // Directly after another, as a script would.
    for _ in 0..3 {
        cluster.done(&["stop", "chat-1"]);
        assert_eq!(cluster.done(&["restart", "chat-1"]), "restarted\n");
    }
    let back = cluster.wait_for(&["chat-1", "chat-2", "gate-1"]);
    wait_for_members(&file, &["chat-1", "chat-2", "gate-1"]);
    wait_for_members(&view_file(pid(&back, "chat-1")).unwrap(), &["chat-1", "chat-2", "gate-1"]);

    let unknown = cluster.ask(&["restart", "chat-1", "nobody"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("nobody"), "{}", unknown.err);
    let unknown = cluster.ask(&["restart", "--type", "nothing"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("nothing"), "{}", unknown.err);

    assert_eq!(cluster.done(&["restart", "--all"]), "restarted\n", "all but the master");
    let all = cluster.wait_for(&["chat-1", "chat-2", "gate-1"]);
    assert_ne!(pid(&back, "gate-1"), pid(&all, "gate-1"));
    assert_eq!(pid(&back, "master"), pid(&all, "master"));
}

#[test]
fn c2_stop_without_ids_ends_everything_and_the_answer_arrives() {
    let mut cluster = Cluster::start(three(), SETTINGS);
    let listed = cluster.wait_for(&["chat-1", "chat-2", "gate-1"]);
    assert_eq!(cluster.done(&["stop", "--all"]), "stopped: chat-1, chat-2, gate-1, master\n");
    for id in ["chat-1", "chat-2", "gate-1"] {
        gone(pid(&listed, id));
        assert!(cluster.path(&format!("{id}.term")).exists(), "{id} was asked");
    }
    assert_eq!(cluster.hosts[0].ended().code(), Some(0));
    assert_eq!(cluster.ask(&["list"]).code, Some(3));
}

#[test]
fn c3_kill_without_ids_ends_everything_at_once() {
    let deaf = "trap '' TERM; while :; do sleep 0.05; done";
    let servers = json!({"chat": [{"id": "chat-1", "script": GRACEFUL}, {"id": "deaf-1", "script": deaf}]});
    let mut cluster = Cluster::start(servers, SETTINGS);
    let listed = cluster.wait_for(&["chat-1", "deaf-1"]);
    assert_eq!(cluster.done(&["kill", "--all", "--json"]), "{\"code\":\"ok\"}\n");
    ["chat-1", "deaf-1"].iter().for_each(|id| gone(pid(&listed, id)));
    assert!(!cluster.path("chat-1.term").exists(), "nobody was asked");
    assert_eq!(cluster.hosts[0].ended().code(), Some(0));
}

#[test]
fn c2_a_program_that_ignores_the_asking_is_killed_after_the_deadline() {
    let deaf = "trap '' TERM; sleep 1000 & echo $! > child; wait; while :; do sleep 0.05; done";
    let servers = json!({"chat": [{"id": "deaf-1", "script": deaf}]});
    let cluster = Cluster::start(servers, "[supervise]\nready_delay_ms = 20\nstop_deadline_ms = 300\n");
    let listed = cluster.wait_for(&["deaf-1"]);
    let child =
        eventually("it has a child", || std::fs::read_to_string(cluster.path("child")).ok()?.trim().parse().ok());
    assert_eq!(cluster.done(&["stop", "deaf-1"]), "stopped: deaf-1\n");
    gone(pid(&listed, "deaf-1"));
    gone(child);
    assert!(cluster.hosts[0].log().contains("did not end when asked"));
}

#[test]
fn s4_a_server_that_keeps_failing_backs_off_and_can_be_restarted_and_stopped() {
    let servers = json!({"chat": [{"id": "chat-1", "script": "test -e good || exit 7; exec sleep 1000"}],
                         "gate": [{"id": "gate-1", "script": GRACEFUL}]});
    // So long that only a command brings it back.
    let settings = "[supervise]\nready_delay_ms = 20\nbackoff_min_ms = 3600000\nbackoff_max_ms = 3600000\n";
    let cluster = Cluster::start(servers, settings);
    let backing_off =
        || eventually("it backs off", || (cluster.list()["chat-1"]["state"] == "backing-off").then_some(()));
    let runs_and_fails = || {
        cluster.write("good", "");
        assert_eq!(cluster.done(&["restart", "chat-1"]), "restarted\n");
        let listed = cluster.wait_for(&["chat-1", "gate-1"]);
        std::fs::remove_file(cluster.path("good")).unwrap();
        send(pid(&listed, "chat-1"), nix::sys::signal::Signal::SIGKILL);
        backing_off();
    };
    // It has never run, and is listed all the same; the log says why.
    backing_off();
    let log = cluster.hosts[0].log();
    assert!(log.lines().any(|line| line.contains("[chat-1]") && line.contains("code 7")), "{log}");
    cluster.wait_for(&["gate-1"]);
    assert_eq!(members(&view_file(cluster.pid("gate-1")).unwrap()), ids(&["gate-1", "master"]));
    runs_and_fails();
    let table = cluster.done(&["list"]);
    assert!(table.contains("backing-off"), "{table}");
    runs_and_fails();
    assert_eq!(cluster.done(&["stop", "chat-1"]), "stopped: chat-1\n");
    eventually("it is gone", || cluster.list().get("chat-1").is_none().then_some(()));
}

#[test]
fn s4_servers_that_are_started_elsewhere_join_the_running_master() {
    let mut cluster = Cluster::configured(three(), SETTINGS);
    cluster.host("master", &[]);
    cluster.wait_for(&[]);
    cluster.host("start", &["--id", "chat-2"]);
    let listed = cluster.wait_for(&["chat-2"]);
    cluster.host("start", &["--type", "gate"]);
    cluster.wait_for(&["chat-2", "gate-1"]);
    wait_for_members(&view_file(pid(&listed, "chat-2")).unwrap(), &["chat-2", "gate-1"]);

    // The process that started it goes when nothing is left for it to do; a signal ends it and what it started.
    cluster.done(&["stop", "chat-2"]);
    assert_eq!(cluster.hosts[1].ended().code(), Some(0));
    let gate = cluster.pid("gate-1");
    cluster.hosts[2].signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(cluster.hosts[2].ended().code(), Some(0));
    gone(gate);
    cluster.wait_for(&[]);

    let config = cluster.dir.path().to_str().unwrap().to_owned();
    let unknown = run(pomelo(&["start", "--config", &config, "--id", "nobody"]));
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.err.contains("nobody") && unknown.err.contains("chat-1"), "{}", unknown.err);
}

#[test]
fn s4_a_killed_master_leaves_no_orphans() {
    let mut cluster = Cluster::start(three(), SETTINGS);
    let listed = cluster.wait_for(&["chat-1", "chat-2", "gate-1"]);
    let programs = ["chat-1", "chat-2", "gate-1"].map(|id| pid(&listed, id));
    let monitors = programs.map(parent);
    cluster.hosts[0].signal(nix::sys::signal::Signal::SIGKILL);
    cluster.hosts[0].ended();
    monitors.into_iter().chain(programs).for_each(gone);
}

#[test]
fn s4_a_program_that_is_not_to_be_brought_back_runs_once_until_somebody_restarts_it() {
    let once = "echo $PPID >> ran; exit 7";
    let servers = json!({"chat": [{"id": "chat-1", "restart": "never", "script": once}],
                         "gate": [{"id": "gate-1", "script": GRACEFUL}]});
    let cluster = Cluster::start(servers, SETTINGS);
    let monitors = || std::fs::read_to_string(cluster.path("ran")).unwrap_or_default();
    let first = eventually("it runs", || monitors().lines().next()?.parse().ok());
    gone(first);
    // The starter has seen the end of the monitor: it starts one at once only when it is down.
    eventually("the starter gives up", || cluster.hosts[0].log().contains("ended with code 6").then_some(()));
    cluster.done(&["restart", "gate-1"]);
    cluster.wait_for(&["gate-1"]);
    assert_eq!(monitors(), format!("{first}\n"));
    cluster.ask(&["restart", "chat-1"]);
    eventually("it runs once more", || (monitors().lines().count() == 2).then_some(()));
}

#[test]
fn s4_what_the_command_line_says_of_port_and_modules_reaches_the_monitors() {
    let [configured, port] = free_ports();
    let script = format!("echo $POMELO_MASTER ${{master}} > said; {GRACEFUL}");
    let mut cluster = Cluster::at(configured, json!({"chat": [{"id": "chat-1", "script": script}]}), SETTINGS);
    // Relative: the monitors are told the whole path.
    cluster.host("start", &["--port", &port.to_string(), "--modules", "others"]);
    cluster.port = port;
    let listed = cluster.wait_for(&["chat-1"]);
    let address = format!("127.0.0.1:{port}");
    assert_eq!(std::fs::read_to_string(cluster.path("said")).unwrap(), format!("{address} {address}\n"));
    let others = cluster.dir.path().canonicalize().unwrap().join("others");
    let monitor = command_line(parent(pid(&listed, "chat-1")));
    assert!(monitor.contains(&format!(" --modules {} ", others.display())), "{monitor}");
}

#[test]
fn s4_servers_of_a_type_that_belong_elsewhere_are_named_and_passed_over() {
    let far = |id: &str| json!({"id": id, "host": "192.0.2.1", "script": GRACEFUL});
    let servers = json!({"chat": [far("far"), {"id": "chat-1", "script": GRACEFUL}], "gate": [far("away")]});
    let mut cluster = Cluster::configured(servers, SETTINGS);
    cluster.host("master", &[]);
    cluster.wait_for(&[]);
    cluster.host("start", &["--type", "chat"]);
    cluster.wait_for(&["chat-1"]);
    assert!(cluster.hosts[1].log().contains("pomelo monitor --id far"), "{}", cluster.hosts[1].log());
    let none = run(pomelo(&["start", "--config", cluster.dir.path().to_str().unwrap(), "--type", "gate"]));
    assert_eq!((none.code, none.err.contains("no server was started: away")), (Some(1), true), "{none:?}");
}

#[test]
fn a_program_inherits_neither_secrets_nor_what_its_monitor_is_to_log() {
    let configured = json!({"chat": [{"id": "chat-1", "script": GRACEFUL, "env": {"POMELO_TOKEN": "its own"}}]});
    for (set, log) in [(None, false), (Some("info"), true)] {
        let mut cluster = Cluster::configured(configured.clone(), SETTINGS);
        let mut start = pomelo(&["start", "--config", cluster.dir.path().to_str().unwrap()]);
        start.env("POMELO_TOKEN", "t0ken").env("POMELO_PASSWORD", "pa55word").envs(set.map(|log| ("POMELO_LOG", log)));
        cluster.hosts.push(Host::start(start, cluster.path("log")));
        let program = cluster.wait_for(&["chat-1"])["chat-1"]["pid"].clone();
        let environment = std::fs::read_to_string(format!("/proc/{program}/environ")).unwrap();
        assert!(!environment.contains("t0ken") && !environment.contains("pa55word"), "{environment}");
        assert!(environment.contains("POMELO_TOKEN=its own\0"), "what it is given on purpose stays: {environment}");
        assert_eq!(environment.contains("POMELO_LOG=info"), log, "{environment}");
        assert_eq!(environment.contains("POMELO_LOG"), log, "{environment}");
    }
}
