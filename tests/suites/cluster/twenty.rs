//! Twenty servers on one machine, and an operator at the shell.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::shell::{Operator, shell};
use crate::support::*;

/// Types of servers, and how many there are of each.
const TYPES: [(&str, usize); 4] = [("gate", 2), ("connector", 6), ("chat", 8), ("area", 4)];
const SERVERS: usize = 20;

/// `servers.json` for twenty servers on these ports, each the demo's program.
fn servers(ports: &[u16]) -> Value {
    let mut ports = ports.iter();
    let mut of_type = |(server_type, count): (&str, usize)| {
        let server = |number| {
            let port = ports.next().expect("a port for each");
            let frontend = ["gate", "connector"].contains(&server_type);
            demo_server(&format!("{server_type}-server-{number}"), *port, frontend)
        };
        (server_type.to_owned(), (1..=count).map(server).collect::<Value>())
    };
    Value::Object(TYPES.into_iter().map(&mut of_type).collect::<Map<_, _>>())
}

/// Waits until so many servers run, the master among them.
fn running(cluster: &Cluster, count: usize) -> Value {
    eventually(&format!("{count} servers run"), || {
        let listed = cluster.list();
        let running = listed.as_object()?.values().filter(|server| server["state"] == "running").count();
        (running == count).then_some(listed)
    })
}

#[test]
fn a5_an_operator_runs_twenty_servers_from_one_shell() {
    let ports = free_ports::<{ SERVERS + 1 }>();
    let (another, ports) = ports.split_first().unwrap();
    let mut cluster = Cluster::configured(servers(ports), &format!("{SETTINGS}[modules]\nsystem_monitor = true\n"));
    cluster.host("start", &[]);
    let before = running(&cluster, SERVERS + 1);

    let mut command = shell(&cluster, &[]);
    command.current_dir(cluster.dir.path());
    let mut operator = Operator::at(command);
    operator.prompt("all");
    let listed = operator.enter("list");
    assert_eq!(listed.matches("running").count(), SERVERS + 1, "{listed}");
    assert!(listed.lines().all(|line| line.trim_end().chars().count() <= 80), "{listed}");

    let shown = operator.prompt("all").enter("show servers");
    assert_eq!(shown.matches("127.0.0.1").count(), SERVERS + 1, "{shown}");
    assert!(ports.iter().all(|port| shown.contains(&port.to_string())), "{shown}");

    operator.prompt("all").enter("use chat-server-3");
    assert!(operator.prompt("chat-server-3").enter("show modules").contains("watchServer"));

    // Settings are one server's.
    assert!(operator.prompt("chat-server-3").enter("set motd 'back at nine'").contains("motd"));
    assert!(operator.prompt("chat-server-3").enter("get motd").contains("back at nine"));
    assert!(operator.prompt("chat-server-3").enter("enable app fullLog").contains("fullLog"));
    let settings = operator.prompt("chat-server-3").enter("show settings");
    assert!(settings.contains("true") && settings.contains("back at nine"), "{settings}");
    operator.prompt("chat-server-3").enter("use chat-server-4");
    assert!(operator.prompt("chat-server-4").enter("get motd").contains("no setting `motd`"));

    // A cron runs in its server, and in no other.
    operator.prompt("chat-server-4").enter("use chat-server-3");
    operator.prompt("chat-server-3");
    let wrong = "addCron id=8 serverId=chat-server-3 time=never action=demo.report";
    assert!(operator.enter_and_confirm(wrong).contains("never"));
    operator.prompt("chat-server-3");
    let every_second = "addCron id=8 serverId=chat-server-3 'time=* * * * * *' action=demo.report";
    assert!(operator.enter_and_confirm(every_second).contains("cron added: chat-server-3"));
    let reports = |id: &str| cluster.hosts[0].log().matches(&format!("[{id}] {{\"answered\"")).count();
    // Twice, so that it has had its turn in the other as well.
    eventually("the cron runs", || (reports("chat-server-3") >= 2).then_some(()));
    assert_eq!(reports("chat-server-4"), 0);
    operator.prompt("chat-server-3");
    let removed = operator.enter_and_confirm("removeCron id=8 serverId=chat-server-3");
    assert!(removed.contains("cron removed: chat-server-3"), "{removed}");

    // A script, typed and from a file; and an answer in words is no dump.
    let script = r#"(module (func (export "run") (result i32) (i32.const 42)))"#;
    assert_eq!(operator.prompt("chat-server-3").enter(&format!("run {script}")).trim(), "42");
    cluster.write("answer.wat", script);
    assert_eq!(operator.prompt("chat-server-3").enter("exec answer.wat").trim(), "42");
    let said = operator.prompt("chat-server-3").enter("dump memory chat.json");
    assert!(said.contains("answers in words") && !cluster.path("chat.json").exists(), "{said}");

    // The blacklist is the frontend servers'.
    operator.prompt("chat-server-3");
    let blacklisted = operator.enter_and_confirm("blacklist 192.168.10.120 10.1.0.0/16");
    assert!(blacklisted.contains("gate-server-2") && !blacklisted.contains("chat-server"), "{blacklisted}");
    operator.prompt("chat-server-3").enter("use gate-server-1");
    let status = operator.prompt("gate-server-1").enter("show status");
    assert!(
        status.contains(&pid(&before, "gate-server-1").to_string()) && status.contains("\"blacklisted\": 2"),
        "{status}"
    );
    assert!(operator.prompt("gate-server-1").enter("show connections").contains("gate-server-1"));
    operator.prompt("gate-server-1").enter("use chat-server-3");
    operator.prompt("chat-server-3");

    // A server that the configuration does not name, of a type that it does; with a port that is taken there is none.
    let taken = format!("add host=127.0.0.1 port={} serverType=chat id=chat-server-10", ports[0]);
    assert!(operator.enter_and_confirm(&taken).contains(&ports[0].to_string()));
    operator.prompt("chat-server-3");
    let added = format!("add host=127.0.0.1 port={another} serverType=chat id=chat-server-9");
    assert!(operator.enter_and_confirm(&added).contains("added: chat-server-9"));
    running(&cluster, SERVERS + 2);
    operator.prompt("chat-server-3");
    assert!(operator.enter_and_confirm("stop chat-server-9").contains("stopped: chat-server-9"));
    running(&cluster, SERVERS + 1);
    operator.prompt("chat-server-3");

    // A module that is disabled says so, on all hosts, until it is enabled.
    assert!(operator.enter("disable module watchServer").contains("disabled: watchServer"));
    assert!(operator.prompt("chat-server-3").enter("show modules").contains("disabled"));
    assert!(operator.prompt("chat-server-3").enter("enable module watchServer").contains("enabled: watchServer"));
    assert!(operator.prompt("chat-server-3").enter("show modules").contains("watchServer"));
    operator.prompt("chat-server-3");

    // What is stopped stays down, is not to be used, and comes back when it is wanted.
    assert!(
        operator
            .enter_and_confirm("stop chat-server-8 area-server-4")
            .contains("stopped: area-server-4, chat-server-8")
    );
    running(&cluster, SERVERS - 1);
    operator.prompt("chat-server-3");
    assert!(operator.enter("use area-server-9").contains("no server area-server-9"));
    operator.prompt("chat-server-3");
    assert!(operator.enter_and_confirm("restart chat-server-8 area-server-4").contains("restarted"));
    operator.prompt("chat-server-3");
    assert!(operator.enter_and_confirm("restart type connector").contains("restarted"));
    operator.prompt("chat-server-3");
    let after = running(&cluster, SERVERS + 1);
    for number in 1..=6 {
        let id = format!("connector-server-{number}");
        assert_ne!(pid(&before, &id), pid(&after, &id), "{id} is another process");
    }
    assert_eq!(pid(&before, "chat-server-1"), pid(&after, "chat-server-1"), "the others are left alone");

    operator.enter("use all");
    operator.prompt("all").leave();
    // What docs/shell.md shows.
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("twenty.txt"), &operator.transcript).unwrap();
}
