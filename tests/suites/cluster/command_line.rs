//! What the command line says, and the codes that it ends with.

use std::net::TcpListener;

use serde_json::json;

use crate::support::*;

#[test]
fn a5_wrong_arguments_and_configurations_end_with_2_and_say_where() {
    for arguments in [&["strat"][..], &["list", "--port", "many"], &["restart", "--type", "chat", "chat-1"]] {
        let wrong = run(pomelo(arguments));
        assert_eq!(
            (wrong.code, wrong.out.is_empty() && wrong.err.contains("--help")),
            (Some(2), true),
            "{arguments:?}: {wrong:?}"
        );
    }
    let cluster = Cluster::configured(json!({}), "[supervise]\nreadydelay_ms = 20\n");
    cluster.write("servers.json", "{\"chat\": [\n  {\"id\": \"chat-1\", \"port\": 70000},\n  {\"port\": 1}\n]}");
    for command in ["start", "master"] {
        let wrong = run(pomelo(&[command, "--config", cluster.dir.path().to_str().unwrap()]));
        assert_eq!(wrong.code, Some(2), "{wrong:?}");
        for place in ["pomelo.toml:2:", "servers.json:2:", "servers.json:3:"] {
            assert!(wrong.err.contains(place), "{place} is not in {}", wrong.err);
        }
        assert!(wrong.err.contains("ready_delay_ms"), "it says what was meant: {}", wrong.err);
    }
    let nowhere = run(pomelo(&["start", "--config", cluster.path("nowhere").to_str().unwrap()]));
    assert_eq!((nowhere.code, nowhere.err.contains("master.json")), (Some(2), true), "{nowhere:?}");
    let untyped = run(pomelo(&["monitor", "--id", "x"]));
    assert_eq!((untyped.code, untyped.err.contains("--type")), (Some(2), true), "{untyped:?}");
    let help = run(pomelo(&["--help"]));
    assert_eq!(help.code, Some(0));
    assert!(
        help.out.contains("Exit codes") && help.out.lines().all(|line| line.chars().count() <= 100),
        "{}",
        help.out
    );
}

#[test]
fn a5_no_master_is_3_and_a_taken_port_is_said() {
    let cluster = Cluster::configured(json!({}), SETTINGS);
    for command in [
        &["list"][..],
        &["stop", "x"],
        &["kill", "--all"],
        &["restart", "--all"],
        &["modules"],
        &["request", "echo"],
        &["add", "id=x"],
    ] {
        let nobody = cluster.ask(command);
        assert_eq!(nobody.code, Some(3), "{command:?}: {nobody:?}");
        assert!(nobody.err.contains(&format!("127.0.0.1:{}", cluster.port)), "{}", nobody.err);
        assert_eq!(nobody.err.matches("no master listens").count(), 1, "{}", nobody.err);
    }
    // JSON is looked at before a master is.
    assert_eq!(cluster.ask(&["request", "echo", "{x"]).code, Some(2));

    let _taken = TcpListener::bind(("127.0.0.1", cluster.port)).unwrap();
    let taken = run(pomelo(&["master", "--config", cluster.dir.path().to_str().unwrap()]));
    assert_eq!(taken.code, Some(1), "{taken:?}");
    assert!(taken.err.contains("cannot listen on") && taken.err.contains("--port"), "{}", taken.err);
}

#[test]
fn a1_a2_wrong_users_are_4_and_what_a_level_may_not_is_1() {
    let cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), SETTINGS);
    cluster.wait_for(&["chat-1"]);
    let wrong = cluster.ask(&["list", "--password", "wrong"]);
    assert_eq!(wrong.code, Some(4), "{wrong:?}");
    assert_eq!(wrong.err.lines().count(), 1, "one line says it: {}", wrong.err);
    let mut command = pomelo(&["list", &format!("--port={}", cluster.port), "--username=monitor"]);
    command.env("POMELO_PASSWORD", "monitor");
    assert_eq!(run(command).code, Some(0));
    let guest = ["--username=monitor", "--password=monitor"];
    for arguments in [&["stop", "chat-1"][..], &["kill", "--all"], &["restart", "--all"], &["add", "id=x"]] {
        let forbidden = cluster.ask(&[arguments, &guest].concat());
        assert_eq!(forbidden.code, Some(1), "{arguments:?}: {forbidden:?}");
        assert!(forbidden.err.contains("needs level 1"), "{}", forbidden.err);
    }
    let invalid = cluster.ask(&["request", "__console__", "{signal: list}"]);
    assert_eq!((invalid.code, invalid.err.contains("not JSON")), (Some(2), true), "{invalid:?}");
    let unknown = cluster.ask(&["request", "__console__", r#"{"signal": "dance"}"#]);
    assert_eq!((unknown.code, unknown.err.contains("dance")), (Some(1), true), "{unknown:?}");

    // An answer that takes longer than one wants to wait.
    let silent = Stopped::new(parent(cluster.pid("chat-1")));
    let late = cluster.ask(&["list", "--timeout", "1"]);
    assert_eq!((late.code, late.err.contains("1s")), (Some(5), true), "{late:?}");
    drop(silent);
    cluster.wait_for(&["chat-1"]);
}

#[test]
fn a_master_with_default_passwords_is_not_opened_to_strangers() {
    let cluster = Cluster::configured(json!({}), SETTINGS);
    cluster.write("master.json", &json!({"id": "master", "host": "0.0.0.0", "port": cluster.port}).to_string());
    let refused = run(pomelo(&["start", "--config", cluster.dir.path().to_str().unwrap()]));
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("0.0.0.0") && refused.err.contains("--allow-exposed"), "{}", refused.err);
    let mut cluster = cluster;
    cluster.host("start", &["--allow-exposed"]);
    cluster.wait_for(&[]);
}

#[test]
fn the_log_is_quiet_and_says_who_speaks() {
    let mut cluster = Cluster::start(
        json!({"chat": [{"id": "chat-1", "script": "echo hello; exec sleep 1000"}, {"id": "chat-2", "script": GRACEFUL}]}),
        SETTINGS,
    );
    let listed = cluster.wait_for(&["chat-1", "chat-2"]);
    send(pid(&listed, "chat-1"), nix::sys::signal::Signal::SIGKILL);
    eventually("it is back", || (cluster.wait_for(&["chat-1", "chat-2"])["chat-1"]["restarts"] == 1).then_some(()));
    cluster.done(&["stop", "--all"]);
    cluster.hosts[0].ended();
    let log = cluster.hosts[0].log();
    assert_eq!(log.matches("[chat-1] hello\n").count(), 2, "{log}");
    let lines = |words: &[&str]| log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!(lines(&["[chat-1]", "was ended by signal 9"]), 1, "{log}");
    assert_eq!(lines(&[" joined ", "server=chat-1 "]), 2, "{log}");
    assert_eq!(lines(&[" left ", "server=chat-1"]), 2, "{log}");
    assert_eq!(lines(&["asked by a client"]), 0, "that is in the admin log: {log}");
    // Nothing else is worth a warning in the life of this cluster.
    assert_eq!(lines(&[" WARN "]), 2, "its passwords, and the one that was killed: {log}");
    assert_eq!(lines(&[" ERROR "]), 0, "{log}");
}

#[test]
fn a5_a_restart_of_a_server_that_belongs_on_another_machine_says_so() {
    let servers = json!({"chat": [
        {"id": "chat-1", "script": GRACEFUL},
        // An address that is kept for documentation.
        {"id": "chat-9", "host": "192.0.2.1", "port": 3450, "script": GRACEFUL}]});
    let cluster = Cluster::start(servers, SETTINGS);
    cluster.wait_for(&["chat-1"]);
    let elsewhere = cluster.ask(&["restart", "chat-9"]);
    assert_eq!(elsewhere.code, Some(1), "{elsewhere:?}");
    assert!(elsewhere.err.contains("chat-9 belongs on 192.0.2.1: run `pomelo monitor --id chat-9`"), "{elsewhere:?}");
    let nobody = cluster.ask(&["restart", "chat-8"]);
    assert_eq!((nobody.code, nobody.err.contains("There is no such server.")), (Some(1), true), "{nobody:?}");
}

#[test]
fn a5_list_has_numbers_beside_pomelos_texts() {
    let cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), SETTINGS);
    let listed = cluster.wait_for(&["chat-1"]);
    for server in ["chat-1", "master"].map(|id| &listed[id]) {
        for (text, number, unit) in [
            ("rss", "rssBytes", 1_048_576.0),
            ("heapUsed", "heapUsedBytes", 1_048_576.0),
            ("uptime", "uptimeMs", 60_000.0),
        ] {
            let shown: f64 = server[text].as_str().unwrap().parse().unwrap();
            let exact = server[number].as_u64().unwrap();
            assert!((shown - exact as f64 / unit).abs() <= 0.0051, "{text} and {number} are the same: {server}");
        }
        assert!(server["rssBytes"].as_u64() > Some(0) && server["heapTotalBytes"].is_u64(), "{server}");
    }
}

#[test]
fn a5_nothing_is_stopped_by_an_empty_word() {
    let cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), SETTINGS);
    let before = pid(&cluster.wait_for(&["chat-1"]), "chat-1");
    for (command, what) in [
        ("stop", "stop all servers and the master"),
        ("kill", "kill all servers and the master"),
        ("restart", "restart all servers"),
    ] {
        let refused = cluster.ask(&[command]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.err.contains(what) && refused.err.contains("`--all`"), "{refused:?}");
        let both = cluster.ask(&[command, "chat-1", "--all"]);
        assert_eq!(both.code, Some(2), "{both:?}");
    }
    assert_eq!(pid(&cluster.wait_for(&["chat-1"]), "chat-1"), before, "nothing has happened to it");
}

#[test]
fn a5_the_environment_says_where_the_master_is_and_who_asks() {
    let cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), SETTINGS);
    cluster.wait_for(&["chat-1"]);
    let list = |user: &str, arguments: &[&str]| {
        let mut command = pomelo(&["list"]);
        command.args(arguments).env("POMELO_HOST", "127.0.0.1").env("POMELO_PORT", cluster.port.to_string());
        run({
            command.env("POMELO_USERNAME", user).env("POMELO_PASSWORD", "monitor");
            command
        })
    };
    assert_eq!(list("monitor", &[]).code, Some(0));
    assert_eq!(list("nobody", &[]).code, Some(4));
    assert_eq!(list("nobody", &["--username=monitor"]).code, Some(0), "an argument counts more");
}
