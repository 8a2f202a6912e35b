//! Twenty servers on one machine, and an operator at the shell.

use serde_json::{Map, Value, json};

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
            let mut server = json!({"id": format!("{server_type}-server-{number}"), "host": "127.0.0.1", "port": port,
                "command": format!("{POMELO} demo-server --port ${{port}}")});
            if ["gate", "connector"].contains(&server_type) {
                server["frontend"] = true.into();
            }
            server
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
    let ports = free_ports::<SERVERS>();
    let mut cluster = Cluster::configured(servers(&ports), SETTINGS);
    cluster.host("start", &[]);
    let before = running(&cluster, SERVERS + 1);

    let mut operator = Operator::at(shell(&cluster, &[]));
    operator.prompt("all");
    let listed = operator.enter("list");
    assert_eq!(listed.matches("running").count(), SERVERS + 1, "{listed}");
    assert!(listed.lines().all(|line| line.trim_end().chars().count() <= 80), "{listed}");

    operator.prompt("all").enter("use chat-server-3");
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
}
