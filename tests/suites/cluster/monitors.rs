//! Who may be a monitor, and several monitors under one id.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::clients::script;
use crate::support::*;

#[test]
fn a3_a_monitor_needs_the_token_of_its_type_and_the_master_is_no_exception() {
    let mut cluster = Cluster::configured(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), SETTINGS);
    let tokens = r#"[{"type": "chat", "token": "chat-secret"}, {"type": "master", "token": "master-secret"}]"#;
    cluster.write("adminServer.json", tokens);
    cluster.host("start", &[]);
    let listed = cluster.wait_for(&["chat-1"]);
    for server_type in ["chat", "master", "unheard-of"] {
        let monitor = ["--id", "stranger", "--type", server_type, "--token", "wrong"];
        let stranger = cluster.monitor(&monitor);
        eventually("the stranger is told why", || {
            let log = stranger.log();
            let said = format!(
                "the master refuses the registration: the token is not that of servers of type `{server_type}`"
            );
            log.contains(&said).then_some(())
        });
        // A stranger that stays goes on guessing, and every wrong guess makes the next one from this address wait longer.
        drop(cluster.hosts.pop());
    }
    assert_eq!(cluster.list().as_object().unwrap().len(), 2);
    let token = ["--id", "friend", "--type", "chat", "--token", "chat-secret"];
    cluster.monitor(&token);
    cluster.wait_for(&["chat-1", "friend"]);
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", pid(&listed, "chat-1"))).unwrap();
    assert!(!environment.contains("secret"), "a program has no use for the token");
}

#[test]
fn a3_a_forged_reconnect_is_refused_and_info_is_what_was_authenticated() {
    let mut cluster = Cluster::configured(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), SETTINGS);
    cluster.write("adminServer.json", r#"[{"type": "chat", "token": "chat-secret"}]"#);
    cluster.host("start", &[]);
    let file = view_file(pid(&cluster.wait_for(&["chat-1"]), "chat-1")).unwrap();
    let output = script("monitor.js", &[&cluster.port.to_string(), "chat-secret"]);
    assert!(output.contains("forged reconnects are refused"), "{output}");
    // The script registered `honest` with an `info` that says something else, and stayed until a view had it.
    assert!(output.contains("told of itself: honest chat kept"), "{output}");
    wait_for_members(&file, &["chat-1"]);
}

#[test]
fn a3_nobody_registers_as_the_master_or_as_another_type_under_a_servers_id() {
    let mut cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), SETTINGS);
    let before = cluster.wait_for(&["chat-1"]);
    cluster.monitor(&["--id", "extra", "--type", "gate"]);
    cluster.wait_for(&["chat-1", "extra"]);
    for (id, server_type, why) in [
        ("master", "master", "`master` is the master itself"),
        ("chat-1", "gate", "`chat-1` is configured as a server of type `chat`, not `gate`"),
        ("extra", "chat", "a server of this id and of type `gate` is registered already"),
    ] {
        let stranger = cluster.monitor(&["--id", id, "--type", server_type]);
        eventually(why, || stranger.log().contains(why).then_some(()));
    }
    let after = cluster.wait_for(&["chat-1", "extra"]);
    assert_eq!(
        (&after["chat-1"]["pid"], &after["master"]["pid"]),
        (&before["chat-1"]["pid"], &before["master"]["pid"])
    );
}

#[test]
fn r4_a_slave_takes_the_place_of_its_primary_and_a_restarted_monitor_that_of_its_old_connection() {
    let ports = free_ports::<2>();
    let server = |port: u16| json!({"chat": [{"id": "chat-1", "port": port, "script": "exec sleep 1000"}]});
    let mut cluster = Cluster::configured(server(ports[0]), SETTINGS);
    let mut second = Cluster::at(cluster.port, server(ports[1]), SETTINGS);
    let mut again = Cluster::at(cluster.port, server(ports[1]), SETTINGS);
    cluster.host("master", &[]);
    cluster.wait_for(&[]);
    cluster.host("monitor", &["--id", "chat-1"]);
    let primary = cluster.wait_for(&["chat-1"]);
    second.host("monitor", &["--id", "chat-1"]);
    eventually("the slave is registered", || {
        second.hosts[0].log().contains("registered with the master").then_some(())
    });
    assert_eq!(cluster.pid("chat-1"), pid(&primary, "chat-1"), "the first stays the primary");

    cluster.hosts[1].signal(Signal::SIGKILL);
    gone(pid(&primary, "chat-1"));
    let slave = eventually("the slave takes over", || {
        let listed = cluster.list();
        let other = listed["chat-1"]["state"] == "running" && listed["chat-1"]["pid"] != primary["chat-1"]["pid"];
        other.then_some(listed)
    });

    // Half open: the old monitor does not say that it is gone.
    let silent = Stopped::new(second.hosts[0].pid());
    again.host("monitor", &["--id", "chat-1"]);
    eventually("the new one is in its place", || {
        let listed = cluster.list();
        let other = listed["chat-1"]["state"] == "running" && listed["chat-1"]["pid"] != slave["chat-1"]["pid"];
        other.then_some(())
    });
    second.hosts[0].signal(Signal::SIGKILL);
    drop(silent);
    assert_eq!(cluster.wait_for(&["chat-1"]).as_object().unwrap().len(), 2);
}

#[test]
fn a_second_monitor_of_a_running_server_touches_neither_its_program_nor_its_view() {
    let script = format!("echo up >> starts; {GRACEFUL}");
    let cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": script}]}), SETTINGS);
    let file = view_file(pid(&cluster.wait_for(&["chat-1"]), "chat-1")).unwrap();
    wait_for_members(&file, &["chat-1"]);
    let second = run(pomelo(&["monitor", "--config", cluster.dir.path().to_str().unwrap(), "--id", "chat-1"]));
    assert_eq!((second.code, second.err.contains("chat-1 runs already")), (Some(8), true), "{second:?}");
    assert_eq!(members(&file), ids(&["chat-1", "master"]));
    assert_eq!(std::fs::read_to_string(cluster.path("starts")).unwrap(), "up\n");
}
