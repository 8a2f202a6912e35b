//! The journal of events, as `pomelo events` shows it, and the output of programs, as `pomelo logs` does.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::modules::built;
use crate::support::*;

/// A server that ends with code 7 and a word of its own when there is a file `bad`.
const FRAGILE: &str = "trap 'exit 0' TERM; while :; do \
                       test -e bad && { rm bad; echo no such table >&2; exit 7; }; sleep 0.02; done";

fn fragile() -> Value {
    json!({"chat": [{"id": "chat-1", "script": FRAGILE}]})
}

/// All events that the master keeps.
pub fn events(cluster: &Cluster) -> Vec<Value> {
    let done = cluster.ask(&["events", "--json"]);
    done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits for an event of that kind whose sentence has a part, and gives it.
pub fn event(cluster: &Cluster, kind: &str, part: &str) -> Value {
    eventually(&format!("an event {kind}: {part}"), || {
        let wanted = |event: &Value| event["kind"] == kind && event["message"].as_str().unwrap().contains(part);
        events(cluster).into_iter().find(wanted)
    })
}

#[test]
fn x4_events_tell_joins_exits_restarts_reloads_refusals_and_what_was_disabled() {
    let mut cluster = Cluster::start(fragile(), SETTINGS);
    cluster.wait_for(&["chat-1"]);
    let port = cluster.port.to_string();
    let following = Host::start(pomelo(&["events", "-f", "--port", &port]), cluster.path("followed"));
    eventually("its server has joined", || {
        events(&cluster).into_iter().find(|event| event["kind"] == "join" && event["server"] == "chat-1")
    });

    cluster.write("bad", "");
    let exit = event(&cluster, "exit", "the program ended with code 7 and is started again");
    assert_eq!(
        (&exit["server"], &exit["code"], &exit["lines"]),
        (&json!("chat-1"), &json!(7), &json!(["no such table"]))
    );
    event(&cluster, "restart", "the program runs again");
    cluster.wait_for(&["chat-1"]);
    send(cluster.pid("chat-1"), Signal::SIGKILL);
    assert_eq!(event(&cluster, "exit", "was ended by signal 9")["signal"], 9);

    std::fs::create_dir_all(cluster.path("modules")).unwrap();
    cluster.write("modules/broken.wasm", "this is no component");
    eventually("master and monitor refuse the file", || {
        let events = events(&cluster);
        let refused = events.iter().filter(|event| event["kind"] == "refusal" && event["module"] == "broken");
        let by: std::collections::BTreeSet<_> = refused.filter_map(|event| event["server"].as_str()).collect();
        (by.contains("master") && by.contains("chat-1")).then_some(())
    });
    std::fs::copy(built("fixtures/echo-v1.wasm"), cluster.path("modules/echo.wasm")).unwrap();
    assert_eq!(event(&cluster, "reload", "echo.wasm is in force as echo")["module"], "echo");

    let level_2 = cluster.ask(&["stop", "chat-1", "-u", "monitor", "-p", "monitor"]);
    assert_eq!(level_2.code, Some(1), "{level_2:?}");
    let refusal = event(&cluster, "refusal", "needs level 1");
    assert_eq!((&refusal["client"], &refusal["module"]), (&json!("monitor"), &json!("__console__")));
    let stranger = cluster.ask(&["list", "-p", "wrong"]);
    assert_eq!(stranger.code, Some(4));
    event(&cluster, "refusal", "from 127.0.0.1 was refused");
    let not_for_all = cluster.ask(&["events", "-u", "monitor", "-p", "monitor"]);
    assert_eq!((not_for_all.code, not_for_all.err.contains("needs level 1")), (Some(1), true), "{not_for_all:?}");

    cluster.done(&["modules", "disable", "__console__"]);
    assert_eq!(event(&cluster, "disable", "__console__ was disabled")["client"], "admin");
    cluster.done(&["modules", "enable", "__console__"]);
    event(&cluster, "enable", "__console__ was enabled");

    // Whoever follows has seen it all, in order, with a program's last words.
    eventually("the follower sees the last event", || following.log().contains("was enabled").then_some(()));
    let seen = following.log();
    let places = ["joined", "code 7", "| no such table", "runs again", "signal 9", "broken.wasm", "was enabled"]
        .map(|part| seen.find(part).unwrap_or_else(|| panic!("{part} is not in {seen}")));
    assert!(places.is_sorted(), "{seen}");
    let numbers: Vec<u64> = events(&cluster).iter().map(|event| event["n"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    let rest = cluster.done(&["events", "--json", "--since", &numbers[numbers.len() - 2].to_string()]);
    assert_eq!(rest.lines().count(), 1);

    // A follower outlives its master and goes on with the next one.
    cluster.hosts[0].signal(Signal::SIGTERM);
    cluster.hosts[0].ended();
    let before = following.log().len();
    cluster.host("start", &[]);
    eventually("the follower goes on", || following.log()[before..].contains("joined").then_some(()));
}

#[test]
fn x4_what_happens_while_the_master_is_away_is_told_when_it_is_back() {
    let mut cluster = Cluster::configured(fragile(), SETTINGS);
    cluster.host("master", &[]);
    cluster.host("monitor", &["--id", "chat-1"]);
    cluster.wait_for(&["chat-1"]);
    cluster.hosts[0].signal(Signal::SIGKILL);
    cluster.hosts[0].ended();
    cluster.write("bad", "");
    eventually("the program ends", || cluster.hosts[1].log().contains("code 7").then_some(()));
    cluster.host("master", &[]);
    let exit = event(&cluster, "exit", "code 7");
    let join = event(&cluster, "join", "joined");
    assert!(exit["time"].as_u64() < join["time"].as_u64(), "it is told with the time at which it happened: {exit}");
}

fn fleet() -> (Cluster, Vec<std::path::PathBuf>) {
    let ids = ["chat-1", "chat-2", "chat-3", "chat-4", "chat-5"];
    let servers: Vec<Value> = ids.iter().map(|id| json!({"id": id, "script": GRACEFUL})).collect();
    let settings = format!("{SETTINGS}[master]\nmass_loss_hold_ms = 3600000\n");
    let mut cluster = Cluster::configured(json!({ "chat": servers }), &settings);
    cluster.host("master", &[]);
    ids.iter().for_each(|id| cluster.host("monitor", &["--id", id]));
    let listed = cluster.wait_for(&ids);
    let views: Vec<_> = ids.iter().map(|id| view_file(pid(&listed, id)).unwrap()).collect();
    views.iter().for_each(|view| wait_for_members(view, &ids));
    (cluster, views)
}

/// Kills the monitors of the first `count` servers, and by their guards the programs.
fn vanish(cluster: &mut Cluster, count: usize) {
    cluster.hosts[1..=count].iter().for_each(|host| host.signal(Signal::SIGKILL));
    for host in &mut cluster.hosts[1..=count] {
        host.ended();
    }
}

#[test]
fn w5_when_most_of_the_fleet_vanishes_at_once_views_are_kept_until_the_operator_says_otherwise() {
    let (mut cluster, views) = fleet();
    vanish(&mut cluster, 3);
    event(&cluster, "alarm", "3 of 5 servers vanished at once");
    // Something else that everybody is told shows that the views had their chance to change.
    cluster.monitor(&["--id", "extra", "--type", "gate"]);
    let all = ["chat-1", "chat-2", "chat-3", "chat-4", "chat-5", "extra"];
    views[3..].iter().for_each(|view| wait_for_members(view, &all));
    assert_eq!(cluster.done(&["forget", "chat-1"]), "removed: chat-1\n");
    views[3..].iter().for_each(|view| wait_for_members(view, &all[1..]));
    // One comes back, and is one of them as before.
    cluster.host("monitor", &["--id", "chat-2"]);
    cluster.wait_for(&["chat-2", "chat-4", "chat-5", "extra"]);
    assert_eq!(cluster.done(&["forget"]), "removed: chat-3\n");
    let left = ["chat-2", "chat-4", "chat-5", "extra"];
    views[3..].iter().for_each(|view| wait_for_members(view, &left));
    event(&cluster, "alarm", "over: 1 servers that vanished were removed: admin said so");
}

#[test]
fn w5_servers_that_are_stopped_on_purpose_have_not_vanished() {
    let (cluster, views) = fleet();
    cluster.done(&["stop", "chat-1", "chat-2", "chat-3", "chat-4"]);
    wait_for_members(&views[4], &["chat-5"]);
    assert!(events(&cluster).iter().all(|event| event["kind"] != "alarm"));
}

#[test]
fn x4_what_a_program_writes_can_be_followed_over_its_restarts() {
    let script = format!("echo hello from $$; {FRAGILE}");
    let cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": script}]}), SETTINGS);
    let first = pid(&cluster.wait_for(&["chat-1"]), "chat-1");
    let port = cluster.port.to_string();
    let following = Host::start(pomelo(&["logs", "chat-1", "-f", "--port", &port]), cluster.path("followed"));
    let hello = |pid: u32| format!("hello from {pid}\n");
    eventually("the first line is there", || following.log().contains(&hello(first)).then_some(()));
    cluster.write("bad", "");
    event(&cluster, "restart", "runs again");
    let second = pid(&cluster.wait_for(&["chat-1"]), "chat-1");
    eventually("the next process is followed", || following.log().contains(&hello(second)).then_some(()));
    assert!(following.log().contains("no such table"), "{}", following.log());
    assert_eq!(cluster.done(&["logs", "chat-1", "-n", "1"]), hello(second));
    let lines = cluster.done(&["logs", "chat-1", "--json"]);
    let errors: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(errors.iter().filter(|line| line["error"] == true).count(), 1, "{lines}");
    let level_2 = cluster.ask(&["logs", "chat-1", "-u", "monitor", "-p", "monitor"]);
    assert_eq!((level_2.code, level_2.err.contains("needs level 1")), (Some(1), true), "{level_2:?}");
    let nobody = cluster.ask(&["logs", "nobody"]);
    assert_eq!((nobody.code, nobody.err.contains("no such server")), (Some(1), true), "{nobody:?}");
}
