//! Draining servers: others do not see them, their connections come to an end, and then they are ended, restarted or put back.

use std::collections::BTreeSet;
use std::process::Child;

use serde_json::{Value, json};

use crate::conversation::Conversation;
use crate::support::*;

/// A drain that is over when the connections are gone, because no test waits so long.
const PATIENT: u64 = 600_000;

/// A server that runs the demo's program.
fn draining_server(id: &str, port: u16, drain: u64) -> Value {
    let mut server = demo_server(id, port, false);
    server["drain_ms"] = drain.into();
    server
}

/// A request to the console that goes on beside the test.
struct Asking(Child);

impl Asking {
    fn of(cluster: &Cluster, body: &Value) -> Asking {
        let mut command = pomelo(&["request", "__console__", &body.to_string()]);
        command.args([&format!("--port={}", cluster.port), "--timeout=120"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        Asking(command.spawn().unwrap())
    }

    fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// The answer; what was said of a failure.
    fn answer(self) -> Result<Value, String> {
        let output = self.0.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() {
            Ok(serde_json::from_str(&text(output.stdout)).unwrap())
        } else {
            Err(text(output.stderr))
        }
    }
}

/// What the fleet says of a server.
pub fn server(cluster: &Cluster, id: &str) -> Value {
    let listed = cluster.request("__console__", &json!({"signal": "list"})).unwrap();
    let servers = listed["servers"].as_array().unwrap().iter();
    servers.clone().find(|server| server["id"] == id).cloned().unwrap_or(Value::Null)
}

/// Waits until a server drains and has so many connections left.
fn drains(cluster: &Cluster, id: &str, left: u64) {
    eventually(&format!("{id} drains, and {left} connections are left"), || {
        let server = server(cluster, id);
        (server["state"] == "draining" && server["connections"] == left).then_some(())
    });
}

pub fn is(cluster: &Cluster, id: &str, state: &str) {
    eventually(&format!("{id} is {state}"), || (server(cluster, id)["state"] == state).then_some(()));
}

/// A user who is connected to a server.
fn user(port: u16, name: &str) -> Conversation {
    let mut user = Conversation::with(port);
    user.say(&format!("login {name}"));
    user.hears(&format!("welcome, {name}"));
    user
}

#[test]
fn a_server_that_drains_leaves_the_views_and_ends_when_its_connections_are_gone() {
    let [port, other] = free_ports();
    let servers =
        json!({"chat": [draining_server("chat-1", port, PATIENT)], "gate": [demo_server("gate-1", other, false)]});
    let cluster = Cluster::start(servers, SETTINGS);
    let listed = cluster.wait_for(&["chat-1", "gate-1"]);
    let (drained, file) = (pid(&listed, "chat-1"), view_file(pid(&listed, "gate-1")).unwrap());
    wait_for_members(&file, &["chat-1", "gate-1"]);
    let (mut ann, bob) = (user(port, "ann"), user(port, "bob"));

    let mut asking = Asking::of(&cluster, &json!({"signal": "drain", "ids": ["chat-1"]}));
    drains(&cluster, "chat-1", 2);
    wait_for_members(&file, &["gate-1"]);
    assert_eq!(cluster.list()["chat-1"]["state"], "draining", "its monitor says the same");
    assert_eq!(Conversation::with(port).line(), None, "it takes no new connections");
    ann.say("still here");
    ann.hears("still here");
    drop(bob);
    drains(&cluster, "chat-1", 1);
    assert!(runs(drained) && !asking.is_over());
    drop(ann);
    let answer = asking.answer().unwrap();
    assert_eq!((&answer["status"], &answer["done"]), (&json!("ok"), &json!(["chat-1"])));
    gone(drained);
    is(&cluster, "chat-1", "stopped");
    assert_eq!(server(&cluster, "chat-1")["wanted"], "down");
    let told = format!("draining within {PATIENT} ms");
    assert!(cluster.hosts[0].log().contains(&told), "its program was told");
}

#[test]
fn a_drain_that_is_taken_back_puts_the_server_into_the_views_again() {
    let [port, other] = free_ports();
    let servers =
        json!({"chat": [draining_server("chat-1", port, PATIENT)], "gate": [demo_server("gate-1", other, false)]});
    let cluster = Cluster::start(servers, SETTINGS);
    let listed = cluster.wait_for(&["chat-1", "gate-1"]);
    let (drained, file) = (pid(&listed, "chat-1"), view_file(pid(&listed, "gate-1")).unwrap());
    let mut ann = user(port, "ann");
    for signal in ["drain", "restart"] {
        let mut body = json!({"signal": signal, "ids": ["chat-1"]});
        if signal == "restart" {
            body["options"] = json!({"drain": true});
        }
        let asking = Asking::of(&cluster, &body);
        drains(&cluster, "chat-1", 1);
        wait_for_members(&file, &["gate-1"]);
        let undrained = cluster.request("__console__", &json!({"signal": "undrain", "ids": ["chat-1"]})).unwrap();
        assert_eq!((&undrained["status"], &undrained["done"]), (&json!("ok"), &json!(["chat-1"])));
        wait_for_members(&file, &["chat-1", "gate-1"]);
        is(&cluster, "chat-1", "running");
        assert_eq!((server(&cluster, "chat-1")["wanted"].clone(), cluster.pid("chat-1")), (json!("up"), drained));
        ann.say("still here");
        ann.hears("still here");
        // It takes new connections again.
        drop(user(port, "bob"));
        match asking.answer() {
            Ok(answer) => assert_eq!(answer, json!(["chat-1"]), "{signal}: it was not restarted"),
            Err(refused) => assert!(refused.contains("chat-1"), "{signal}: {refused}"),
        }
    }
}

#[test]
fn a_drain_that_takes_too_long_is_ended_with_the_connections_that_are_left() {
    let [port, other] = free_ports();
    let mute = json!({"id": "mute-1", "script": GRACEFUL, "drain_ms": 300});
    let servers = json!({"chat": [draining_server("chat-1", port, 300)], "mute": [mute],
        "gate": [demo_server("gate-1", other, false)]});
    let cluster = Cluster::start(servers, SETTINGS);
    cluster.wait_for(&["chat-1", "mute-1", "gate-1"]);
    let mut ann = user(port, "ann");
    let answer = Asking::of(&cluster, &json!({"signal": "drain", "ids": ["chat-1", "mute-1"]})).answer().unwrap();
    assert_eq!(answer["done"], json!(["chat-1", "mute-1"]), "{answer}");
    ann.say("still here");
    assert_eq!(ann.line(), None);
    assert!(cluster.path("mute-1.term").exists(), "one that has no connections to count is asked to end all the same");
    is(&cluster, "mute-1", "stopped");
}

#[test]
fn a_rolling_restart_that_drains_never_takes_both_servers_away() {
    let [one, two, other] = free_ports();
    let chats = [draining_server("chat-1", one, PATIENT), draining_server("chat-2", two, PATIENT)];
    let cluster = Cluster::start(json!({"chat": chats, "gate": [demo_server("gate-1", other, false)]}), SETTINGS);
    let before = cluster.wait_for(&["chat-1", "chat-2", "gate-1"]);
    let file = view_file(pid(&before, "gate-1")).unwrap();
    wait_for_members(&file, &["chat-1", "chat-2", "gate-1"]);
    let mut users = [("chat-1", user(one, "ann")), ("chat-2", user(two, "bob"))].map(Some);
    let options = json!({"rolling": true, "drain": true});
    let mut asking = Asking::of(&cluster, &json!({"signal": "restart", "type": "chat", "options": options}));
    let chats: BTreeSet<String> = ids(&["chat-1", "chat-2"]);
    let mut left = 2;
    eventually("the job is over", || {
        let seen = members(&file);
        assert!(!seen.is_disjoint(&chats), "nobody serves: {seen:?}");
        for place in &mut users {
            let Some((id, _)) = place else { continue };
            let server = server(&cluster, id);
            // Its user leaves when it is seen to drain.
            if server["state"] == "draining" && server["connections"] == 1 {
                *place = None;
                left -= 1;
            }
        }
        asking.is_over().then_some(())
    });
    assert_eq!((asking.answer().unwrap(), left), (json!([]), 0));
    let after = cluster.wait_for(&["chat-1", "chat-2", "gate-1"]);
    for id in ["chat-1", "chat-2"] {
        assert_ne!(pid(&before, id), pid(&after, id), "{id}");
    }
    wait_for_members(&file, &["chat-1", "chat-2", "gate-1"]);
}
