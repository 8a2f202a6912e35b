//! Servers that are added to a running cluster, and what a master that is started again knows of them.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::*;

/// A chat server and a gate; their program writes its port, as it was told.
fn two() -> Value {
    let [chat, gate] = free_ports();
    let script = format!("echo ${{port}} > ${{id}}.port; {GRACEFUL}");
    json!({"chat": [{"id": "chat-1", "port": chat, "script": script}],
           "gate": [{"id": "gate-1", "port": gate, "frontend": true, "script": script}]})
}

#[test]
fn c5_an_added_server_runs_what_its_type_runs_and_is_a_member_like_others() {
    let cluster = Cluster::start(two(), SETTINGS);
    let listed = cluster.wait_for(&["chat-1", "gate-1"]);
    let [port] = free_ports();
    let added = cluster.done(&["add", "host=127.0.0.1", &format!("port={port}"), "serverType=chat", "id=chat-9"]);
    assert_eq!(added, "added: chat-9\n");
    // Whoever is told that it was added finds it.
    assert_eq!(cluster.list()["chat-9"]["state"], "running");
    eventually("it runs with a port of its own", || {
        (std::fs::read_to_string(cluster.path("chat-9.port")).ok()?.trim() == port.to_string()).then_some(())
    });
    wait_for_members(&view_file(pid(&listed, "gate-1")).unwrap(), &["chat-1", "chat-9", "gate-1"]);

    assert_eq!(cluster.done(&["restart", "chat-9"]), "restarted\n");
    assert_eq!(cluster.done(&["stop", "chat-9"]), "stopped: chat-9\n");
    eventually("it has left", || cluster.list().get("chat-9").is_none().then_some(()));
    // Its id remains that of a chat server.
    let arguments = ["monitor", "--id=chat-9", "--type=gate", &format!("--master=127.0.0.1:{}", cluster.port)];
    let mut stranger = pomelo(&arguments);
    stranger.current_dir(cluster.dir.path());
    let stranger = Host::start(stranger, cluster.path("stranger.log"));
    eventually("it is refused", || stranger.log().contains("as a server of type `chat`").then_some(()));
    drop(stranger);
    assert_eq!(cluster.done(&["restart", "chat-9"]), "restarted\n");
    cluster.wait_for(&["chat-1", "chat-9", "gate-1"]);
}

#[test]
fn c5_add_checks_all_before_it_starts_any() {
    let cluster = Cluster::start(two(), SETTINGS);
    cluster.wait_for(&["chat-1", "gate-1"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = (taken.local_addr().unwrap().port(), taken);
    let [free] = free_ports();
    let (busy, free) = (format!("port={}", taken.0), format!("port={free}"));
    let guest = ["--username=monitor", "--password=monitor"];
    let one = |id: &'static str| vec!["add", "host=127.0.0.1", "serverType=chat", id, free.as_str()];
    for (arguments, said) in [
        (vec!["add", "host=127.0.0.1", "serverType=chat", "id=chat-9", &busy], "is in use by another program"),
        (vec!["add", "host=127.0.0.1", "serverType=chat", "id=chat-9"], "Missing: port"),
        (vec!["add", "host=127.0.0.1", "serverType=caht", "id=chat-9", &free], "did you mean `chat`?"),
        (one("id=chat-1"), "`chat-1` is used twice"),
        ([one("id=chat-9"), vec!["command=touch${IFS}evil"]].concat(), "`command` is for the configuration alone"),
        ([one("id=chat-9"), vec!["room=$(touch evil)"]].concat(), "`room` must be"),
        ([one("id=chat-9"), guest.to_vec()].concat(), "needs level 1"),
    ] {
        let refused = cluster.ask(&arguments);
        assert_eq!((refused.code, refused.err.contains(said)), (Some(1), true), "{arguments:?}: {refused:?}");
    }
    // Of several only one is wrong.
    let body = json!({"signal": "add", "args": [["host=127.0.0.1", "serverType=chat", "id=chat-8", free],
        ["host=127.0.0.1", "serverType=chat", "id=chat-9", busy]]});
    let refused = cluster.ask(&["request", "__console__", &body.to_string()]);
    assert_eq!((refused.code, refused.err.contains("chat-9 needs it")), (Some(1), true), "{refused:?}");
    cluster.wait_for(&["chat-1", "gate-1"]);
    assert!(!cluster.path("evil").exists() && !cluster.path("chat-8.port").exists());
}

#[test]
fn c5_a_cluster_of_servers_is_added_with_ports_that_count_up() {
    let cluster = Cluster::start(two(), SETTINGS);
    cluster.wait_for(&["chat-1", "gate-1"]);
    let port = eventually("two ports that follow each other are free", || {
        let [port] = free_ports();
        TcpListener::bind(("127.0.0.1", port.checked_add(1)?)).is_ok().then_some(port)
    });
    let ports = format!("port={port}++");
    let added = cluster.done(&["add", "host=127.0.0.1", &ports, "serverType=chat", "clusterCount=2"]);
    assert_eq!(added, "added: cluster-server-chat-0, cluster-server-chat-1\n");
    cluster.wait_for(&["chat-1", "gate-1", "cluster-server-chat-0", "cluster-server-chat-1"]);
    for (id, port) in [("cluster-server-chat-0", port), ("cluster-server-chat-1", port + 1)] {
        eventually("it has its port", || {
            let told = std::fs::read_to_string(cluster.path(&format!("{id}.port"))).ok()?;
            (told.trim() == port.to_string()).then_some(())
        });
    }
}

#[test]
fn c2_c3_c4_a_server_that_cannot_be_reached_is_not_said_to_have_ended() {
    let settings = format!("{SETTINGS}[master]\ngrace_ms = 600000\n");
    let mut cluster = Cluster::start(json!({"gate": [{"id": "gate-1", "script": GRACEFUL}]}), &settings);
    let one = ["--id", "chat-1", "--type", "chat", "--", "sh", "-c", GRACEFUL];
    cluster.monitor(&one);
    cluster.wait_for(&["chat-1", "gate-1"]);
    // Its connection breaks, and its place is kept for as long as this test takes.
    cluster.hosts[1].signal(nix::sys::signal::Signal::SIGKILL);
    cluster.hosts[1].ended();
    eventually("the connection is lost", || {
        let listed = cluster.ask(&["list"]);
        listed.err.contains("chat-1 (chat-1 cannot be reached)").then_some(())
    });
    let stop = cluster.ask(&["stop", "chat-1"]);
    assert_eq!((stop.code, stop.err.contains("chat-1 cannot be reached")), (Some(1), true), "{stop:?}");
    let kill = cluster.ask(&["kill", "chat-1", "--json"]);
    assert_eq!(kill.out, "{\"code\":\"remained\",\"serverIds\":[\"chat-1\"]}\n");
    let restart = cluster.ask(&["restart", "chat-1"]);
    assert_eq!((restart.code, restart.err.contains("chat-1 cannot be reached")), (Some(1), true), "{restart:?}");

    cluster.monitor(&one);
    cluster.wait_for(&["chat-1", "gate-1"]);
    assert_eq!(cluster.done(&["stop", "chat-1"]), "stopped: chat-1\n");
}

#[test]
fn s4_stopped_servers_stay_down_and_added_ones_come_back_when_the_master_was_killed() {
    let mut cluster = Cluster::start(two(), SETTINGS);
    cluster.wait_for(&["chat-1", "gate-1"]);
    let [port] = free_ports();
    cluster.done(&["add", "host=127.0.0.1", &format!("port={port}"), "serverType=chat", "id=chat-9"]);
    assert_eq!(cluster.done(&["stop", "chat-1"]), "stopped: chat-1\n");
    for _ in 0..2 {
        cluster.hosts[0].signal(nix::sys::signal::Signal::SIGKILL);
        cluster.hosts[0].ended();
        cluster.hosts.clear();
        cluster.host("start", &[]);
        cluster.wait_for(&["chat-9", "gate-1"]);
    }
    let log = cluster.hosts[0].log();
    assert!(log.contains("pomelo restart chat-1"), "it says how it is started: {log}");
    let file = view_file(cluster.pid("gate-1")).unwrap();
    eventually("w4: all that are to run have started", || (view(&file)["startOver"] == true).then_some(()));
    assert_eq!(cluster.list().get("chat-1"), None, "it stays down");

    assert_eq!(cluster.done(&["restart", "chat-1"]), "restarted\n");
    cluster.wait_for(&["chat-1", "chat-9", "gate-1"]);
    cluster.done(&["stop", "--all"]);
    cluster.hosts[0].ended();
    cluster.hosts.clear();
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1", "chat-9", "gate-1"]);
}

#[test]
fn s4_whoever_starts_a_stopped_server_elsewhere_wants_it_up() {
    let mut cluster = Cluster::start(two(), SETTINGS);
    cluster.wait_for(&["chat-1", "gate-1"]);
    assert_eq!(cluster.done(&["stop", "chat-1"]), "stopped: chat-1\n");
    cluster.wait_for(&["gate-1"]);
    cluster.host("start", &["--id", "chat-1"]);
    cluster.wait_for(&["chat-1", "gate-1"]);
    // That host ends, and the master with all it has started.
    cluster.hosts.pop();
    cluster.wait_for(&["gate-1"]);
    cluster.hosts[0].signal(nix::sys::signal::Signal::SIGKILL);
    cluster.hosts[0].ended();
    cluster.hosts.clear();
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1", "gate-1"]);
}

#[test]
fn s4_twenty_servers_start_on_one_machine() {
    let ports = free_ports::<20>();
    let servers: Vec<Value> =
        (0..20).map(|n| json!({"id": format!("chat-{n:02}"), "port": ports[n], "script": GRACEFUL})).collect();
    let cluster = Cluster::start(json!({"chat": servers}), SETTINGS);
    let ids: Vec<String> = (0..20).map(|n| format!("chat-{n:02}")).collect();
    let listed = cluster.wait_for(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    wait_for_members(&view_file(pid(&listed, "chat-19")).unwrap(), &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let log = cluster.hosts[0].log();
    assert!(!log.contains(" ERROR ") && !log.contains("was not started"), "{log}");
}

#[test]
fn s4_a_busy_port_is_found_before_the_server_is_started() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let servers = json!({"chat": [{"id": "chat-1", "port": port, "script": format!("touch started; {GRACEFUL}")}],
                         "gate": [{"id": "gate-1", "script": GRACEFUL}]});
    let cluster = Cluster::start(servers, SETTINGS);
    cluster.wait_for(&["gate-1"]);
    let said = format!("127.0.0.1:{port} is in use by another program");
    eventually("it is said", || cluster.hosts[0].log().contains(&said).then_some(()));
    let again = cluster.ask(&["restart", "chat-1"]);
    assert_eq!((again.code, again.err.contains(&said)), (Some(1), true), "{again:?}");
    assert!(!cluster.path("started").exists());
    drop(taken);
    assert_eq!(cluster.done(&["restart", "chat-1"]), "restarted\n");
    cluster.wait_for(&["chat-1", "gate-1"]);
}

#[test]
fn s4_a_server_runs_on_the_cpus_that_are_its_own() {
    // Whatever CPUs this machine has, this test may use the first of them.
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        line.trim().to_owned()
    };
    let first: String = allowed(&own).chars().take_while(char::is_ascii_digit).collect();
    let servers = json!({"chat": [{"id": "chat-1", "cpu": first.parse::<u32>().unwrap(), "script": GRACEFUL}],
                         "gate": [{"id": "gate-1", "script": GRACEFUL}, {"id": "gate-2", "cpu": "1000", "script": GRACEFUL}]});
    let cluster = Cluster::start(servers, SETTINGS);
    let listed = cluster.wait_for(&["chat-1", "gate-1"]);
    let status = |id: &str| std::fs::read_to_string(format!("/proc/{}/status", pid(&listed, id))).unwrap();
    assert_eq!(allowed(&status("chat-1")), first);
    assert_eq!(allowed(&status("gate-1")), allowed(&own));
    eventually("a CPU that there is not is said", || {
        cluster.hosts[0].log().contains("there is no CPU 1000 for it").then_some(())
    });
}

#[test]
fn s4_restart_force_ends_what_a_program_left_outside_its_group() {
    // As a daemon does, it leaves its group; its `POMELO_*` variables go with it.
    let daemon = "setsid sleep 1000 > /dev/null 2>&1 & echo $! > daemon.$$; echo $$ > last; exec sleep 1000";
    let servers = json!({"chat": [{"id": "chat-1", "restart-force": "true", "restart": "always", "script": daemon}]});
    let cluster = Cluster::start(servers, SETTINGS);
    let first = pid(&cluster.wait_for(&["chat-1"]), "chat-1");
    let left = || -> Option<u32> {
        std::fs::read_to_string(cluster.path(&format!("daemon.{first}"))).ok()?.trim().parse().ok()
    };
    let left = eventually("it has a daemon", left);
    eventually("it has left the group", || command_line(left).starts_with("sleep ").then_some(()));
    send(first, nix::sys::signal::Signal::SIGKILL);
    gone(left);
    let second = eventually("it is back", || {
        let pid = pid(&cluster.wait_for(&["chat-1"]), "chat-1");
        (pid != first).then_some(pid)
    });
    // Nothing else would end the second one's daemon, because it is outside of every group.
    let left = eventually("it has a daemon again", || {
        std::fs::read_to_string(cluster.path(&format!("daemon.{second}"))).ok()?.trim().parse().ok()
    });
    send(left, nix::sys::signal::Signal::SIGKILL);
    gone(left);
}
