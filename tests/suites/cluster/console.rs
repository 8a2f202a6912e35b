//! Crons, blacklists, and how a program last ended: what the console passes on to applications and tells of them. The servers are the demo's, whose
//! program offers functions to its monitor.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::conversation::Conversation;
use crate::support::*;

/// Two chat servers and a gate that offer functions, and a frontend that offers none.
fn cluster() -> (Cluster, [u16; 3]) {
    let ports = free_ports();
    let servers = json!({"chat": [demo_server("chat-1", ports[0], false), demo_server("chat-2", ports[1], false)],
        "gate": [demo_server("gate-1", ports[2], true)],
        "web": [{"id": "web-1", "frontend": "true", "script": GRACEFUL}]});
    let cluster = Cluster::start(servers, SETTINGS);
    cluster.wait_for(&["chat-1", "chat-2", "gate-1", "web-1"]);
    (cluster, ports)
}

fn ask(cluster: &Cluster, signal: &str, args: &[&str]) -> Result<Value, String> {
    cluster.request("__console__", &json!({"signal": signal, "args": args}))
}

fn refused(cluster: &Cluster, signal: &str, args: &[&str], said: &str) {
    let refused = ask(cluster, signal, args).expect_err(said);
    assert!(refused.contains(said), "{signal} {args:?}: {refused}");
}

/// What a server's program answers to a line; nothing where it turns the user away.
fn say(port: u16, line: &str) -> Option<String> {
    let mut user = Conversation::with(port);
    user.say(line);
    user.line()
}

#[test]
fn c6_a_cron_goes_to_a_server_or_a_type_and_is_removed_again() {
    let (cluster, _) = cluster();
    let every_second = ["id=8", "time=* * * * * *", "action=demo.report"];
    let with = |more: &'static str| [&every_second[..], &[more]].concat();
    let done = |ids: &[&str]| Ok(json!({"status": "ok", "done": ids, "failed": {}}));
    assert_eq!(ask(&cluster, "addCron", &with("serverId=chat-1")), done(&["chat-1"]));
    let reports = |id: &str| cluster.hosts[0].log().matches(&format!("[{id}] {{\"answered\"")).count();
    // Twice, so that it has had its turn in others as well.
    eventually("it fires in the server that it is for", || (reports("chat-1") >= 2).then_some(()));
    assert_eq!((reports("chat-2"), reports("gate-1")), (0, 0), "and nowhere else");
    assert_eq!(ask(&cluster, "addCron", &with("serverType=chat")), done(&["chat-1", "chat-2"]));
    eventually("it fires in all servers of the type", || (reports("chat-2") > 0).then_some(()));

    refused(&cluster, "addCron", &["id=9", "time=yesterday", "action=demo.report", "serverId=chat-1"], "chat-1: ");
    refused(&cluster, "addCron", &with("serverId=nobody"), "nobody: There is no such server.");
    refused(&cluster, "addCron", &with("serverType=nothing"), "no such server");
    refused(&cluster, "addCron", &["id=9", "action=demo.report", "serverId=chat-1"], "Missing: time.");
    refused(&cluster, "removeCron", &["id=9", "serverId=chat-1"], "There is no cron 9 here.");
    assert_eq!(ask(&cluster, "removeCron", &["id=8", "serverId=chat-1"]), done(&["chat-1"]));
    let part = ask(&cluster, "removeCron", &["id=8", "serverType=chat"]).unwrap();
    let left = json!({"status": "part", "done": ["chat-2"], "failed": {"chat-1": "There is no cron 8 here."}});
    assert_eq!(part, left);
}

#[test]
fn c7_a_blacklist_goes_to_frontend_servers_and_names_those_that_have_none() {
    let (cluster, [chat, _, gate]) = cluster();
    for bad in ["127.0.0.1.5", "(\\d+)\\.1", "*.*.*.*", "0.0.0.0/0", "localhost"] {
        refused(&cluster, "blacklist", &["10.0.0.1", bad], bad);
    }
    let hello = Some("hello".to_owned());
    assert_eq!(say(gate, "hello"), hello, "nobody is turned away yet");
    let answer = ask(&cluster, "blacklist", &["10.0.0.1", "2001:db8::/32", "127.0.*.*"]).unwrap();
    assert_eq!((&answer["status"], &answer["done"]), (&json!("part"), &json!(["gate-1"])), "{answer}");
    let lacks = answer["failed"]["web-1"].as_str().unwrap();
    assert!(lacks.contains("blacklist") && answer["failed"].as_object().unwrap().len() == 1, "{answer}");
    assert_eq!(say(gate, "hello"), None, "it is turned away");
    assert_eq!(say(chat, "hello"), hello, "others than frontends are not told");
}

#[test]
fn a2_crons_and_blacklists_are_for_level_1() {
    let (cluster, _) = cluster();
    for signal in ["addCron", "removeCron", "blacklist"] {
        let body = json!({"signal": signal, "args": ["10.0.0.1"]}).to_string();
        let refused = cluster.ask(&["request", "__console__", &body, "--username=monitor", "--password=monitor"]);
        assert_eq!((refused.code, refused.err.contains("needs level 1")), (Some(1), true), "{signal}: {refused:?}");
    }
}

#[test]
fn c1_list_shows_how_a_program_last_ended_and_fits_80_columns() {
    let script = "echo started; echo 'out of cheese' >&2; exec sleep 1000";
    let servers = json!({"connector": [{"id": "connector-server-1", "script": script}],
        "gate": [{"id": "gate-server-1", "script": GRACEFUL}]});
    let cluster = Cluster::start(servers, SETTINGS);
    let all = ["connector-server-1", "gate-server-1"];
    let listed = cluster.wait_for(&all);
    assert_eq!(listed["connector-server-1"]["lastExit"], Value::Null);
    send(pid(&listed, "connector-server-1"), Signal::SIGKILL);
    let exit = eventually("it is back", || {
        let exit = cluster.wait_for(&all)["connector-server-1"]["lastExit"].take();
        exit.is_object().then_some(exit)
    });
    assert_eq!((&exit["how"], &exit["lines"]), (&json!("was ended by signal 9"), &json!(["out of cheese"])), "{exit}");
    assert!(exit["time"].as_u64().is_some_and(|time| time > 1_700_000_000_000), "{exit}");
    let table = cluster.done(&["list"]);
    let row = |id: &str| table.lines().find(|line| line.starts_with(id)).unwrap().trim_end().to_owned();
    let says = |id: &str, why: &str| row(id).contains("  running  ") && row(id).ends_with(why);
    assert!(says("connector-server-1", "  signal 9"), "{table}");
    assert!(says("gate-server-1", "  -"), "{table}");
    assert!(table.lines().all(|line| line.trim_end().chars().count() <= 80), "{table}");
}
