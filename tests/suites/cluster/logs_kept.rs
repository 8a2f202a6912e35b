//! What is kept of what programs write: also when they, their monitors or the master are down, and where nobody reads a host's output.

use std::fs;
use std::io::Read;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::*;

/// Says who it is and then some words, and stays.
fn talking(words: &str) -> Value {
    json!({"chat": [{"id": "chat-1", "script": format!("echo hello from $$; echo {words} >&2; {GRACEFUL}")}]})
}

fn lines(cluster: &Cluster, arguments: &[&str]) -> Vec<Value> {
    let all = [&["logs", "--json"], arguments].concat();
    cluster.done(&all).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn output_is_there_after_the_server_was_stopped_and_after_the_master_was_restarted() {
    let mut cluster = Cluster::start(talking("no such table"), SETTINGS);
    let first = cluster.wait_for(&["chat-1"]);
    let hello = format!("hello from {}", pid(&first, "chat-1"));
    eventually("it has said so", || cluster.done(&["logs", "chat-1"]).contains("no such table").then_some(()));
    cluster.done(&["stop", "chat-1"]);
    cluster.wait_for(&[]);
    let kept = cluster.done(&["logs", "chat-1"]);
    assert!(kept.contains(&hello) && kept.contains("no such table"), "{kept}");
    // Whoever asks in pomelo's manner finds it too.
    let asked = cluster.request("__console__", &json!({"signal": "logs", "id": "chat-1", "lines": 1})).unwrap();
    assert_eq!((asked["lines"].as_array().unwrap().len(), &asked["lines"][0]["n"]), (1, &asked["last"]), "{asked}");

    cluster.hosts[0].signal(Signal::SIGTERM);
    cluster.hosts[0].ended();
    cluster.host("start", &[]);
    cluster.wait_for(&[]);
    assert_eq!(cluster.done(&["logs", "chat-1"]), kept);
    cluster.done(&["restart", "chat-1"]);
    let second = format!("hello from {}", cluster.pid("chat-1"));
    eventually("the next process is heard", || cluster.done(&["logs", "chat-1"]).contains(&second).then_some(()));
    let numbers: Vec<u64> = lines(&cluster, &["chat-1"]).iter().map(|line| line["n"].as_u64().unwrap()).collect();
    let without_a_gap: Vec<u64> = (1..).take(numbers.len()).collect();
    assert_eq!(numbers, without_a_gap, "they are numbered over restarts of everything");
    for wrong in ["nobody", "", "../chat-1", "../../etc", "%2E%2E", ".."] {
        let done = cluster.ask(&["logs", wrong]);
        assert_eq!((done.code, done.err.contains("no such server")), (Some(1), true), "{wrong}: {done:?}");
    }
}

#[test]
fn lines_are_chosen_by_pattern_and_time_and_those_of_a_type_are_merged() {
    let script = |id: &str| format!("for n in 1 2 3; do echo {id} says $n; sleep 0.01; done; {GRACEFUL}");
    let servers =
        json!({"chat": [{"id": "chat-1", "script": script("one")}, {"id": "chat-2", "script": script("two")}]});
    let cluster = Cluster::start(servers, SETTINGS);
    cluster.wait_for(&["chat-1", "chat-2"]);
    eventually("both have spoken", || {
        let all = cluster.done(&["logs", "--type", "chat"]);
        (all.contains("[chat-1] one says 3\n") && all.contains("[chat-2] two says 3\n")).then_some(())
    });
    let all = lines(&cluster, &["--type", "chat"]);
    assert_eq!(all.len(), 6);
    assert!(all.is_sorted_by_key(|line| line["time"].as_u64().unwrap()), "{all:?}");
    assert_eq!(cluster.done(&["logs", "chat-1", "--grep", "says [23]$"]), "one says 2\none says 3\n");
    assert_eq!(cluster.done(&["logs", "chat-1", "chat-2", "--grep", "two says 1"]), "[chat-2] two says 1\n");
    assert_eq!(cluster.done(&["logs", "chat-1", "-n", "1"]), "one says 3\n");
    assert_eq!(cluster.done(&["logs", "chat-1", "--since", "1d"]).lines().count(), 3);
    assert_eq!(cluster.done(&["logs", "chat-1", "--since", "2199-01-01T00:00:00Z"]), "");
    let wrong = cluster.ask(&["logs", "chat-1", "--since", "yesterday"]);
    assert_eq!((wrong.code, wrong.err.contains("so long ago")), (Some(2), true), "{wrong:?}");
    cluster.done(&["stop", "chat-2"]);
    eventually("it has left", || cluster.list().get("chat-2").is_none().then_some(()));
    let all = cluster.done(&["logs", "--type", "chat"]);
    assert!(
        all.contains("[chat-1] one says 3\n") && all.contains("[chat-2] two says 3\n"),
        "also of one that is down: {all}"
    );
    assert_eq!(cluster.ask(&["logs", "--type", "nothing"]).code, Some(1));
}

#[test]
fn files_are_bounded_by_size_and_number() {
    let long = "x".repeat(1000);
    let script = format!("n=0; while [ $n -lt 5000 ]; do echo $n {long}; n=$((n+1)); done; echo over; {GRACEFUL}");
    let settings = format!("{SETTINGS}[logs]\nmax_mib = 1\nkeep = 2\n");
    let cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": script}]}), &settings);
    eventually("it has said everything", || {
        let done = cluster.ask(&["logs", "chat-1", "-n", "1"]);
        done.out.ends_with("over\n").then_some(())
    });
    let dir = cluster.path("data/chat-1");
    let size = |name: &str| fs::metadata(dir.join(name)).map(|metadata| metadata.len());
    for name in ["output.log", "output.log.1", "output.log.2"] {
        assert!(size(name).unwrap() <= 1 << 20, "{name}");
    }
    assert!(size("output.log.3").is_err());
}

#[test]
fn a_crash_loop_is_folded_and_pushes_nothing_out() {
    let mut cluster = Cluster::configured(
        json!({"chat": [{"id": "chat-1", "script": "exit 7"}, {"id": "chat-2", "script": GRACEFUL}]}),
        &format!("{SETTINGS}[master]\nevents = 16\n"),
    );
    cluster.host("start", &[]);
    let events = |cluster: &Cluster| -> Vec<Value> {
        let done = cluster.ask(&["events", "--json"]);
        done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let folded = eventually("it has ended many times", || {
        let wanted = |event: &Value| event["server"] == "chat-1" && event["kind"] == "exit";
        let all = events(&cluster);
        let mut exits = all.iter().filter(|event| wanted(event));
        let exit = exits.next()?.clone();
        assert_eq!(exits.next(), None, "{all:?}");
        (exit["count"].as_u64()? >= 3).then_some(exit)
    });
    assert!(folded["first"].as_u64() <= folded["time"].as_u64(), "{folded}");
    let joined = |event: &Value| event["kind"] == "join" && event["server"] == "chat-2";
    assert!(events(&cluster).iter().any(joined));
    let shown = cluster.done(&["events"]);
    assert!(shown.contains(" times since "), "{shown}");

    cluster.hosts[0].signal(Signal::SIGTERM);
    cluster.hosts[0].ended();
    let before = folded["n"].as_u64().unwrap();
    cluster.host("start", &[]);
    eventually("events go on after those that there were", || {
        let rest = cluster.ask(&["events", "--json", "--since", &before.to_string()]);
        let mut rest = rest.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rest.any(|event| event["kind"] == "exit" && event["count"].as_u64() > folded["count"].as_u64()).then_some(())
    });
}

#[test]
fn a_reader_that_stops_blocks_neither_the_master_nor_a_program() {
    let long = "x".repeat(1000);
    let script = format!(
        "trap 'exit 0' TERM; n=0; while [ $n -lt 5000 ]; do echo $n {long}; n=$((n+1)); done; echo over > over; \
         while :; do sleep 0.05; done"
    );
    let mut cluster = Cluster::configured(json!({"chat": [{"id": "chat-1", "script": script}]}), SETTINGS);
    let (mut unread, output) = std::io::pipe().unwrap();
    let mut command = pomelo(&["start", "--config", cluster.dir.path().to_str().unwrap()]);
    command.current_dir(cluster.dir.path()).env("POMELO_LOG", "debug");
    let log = cluster.path("errors");
    cluster.hosts.push(Host::start_with_output(command, output, log));
    // Far more than a pipe and the host together hold.
    eventually("the program has said everything", || cluster.path("over").exists().then_some(()));
    cluster.wait_for(&["chat-1"]);
    eventually("all of it is kept", || cluster.done(&["logs", "chat-1", "-n", "1"]).starts_with("4999 ").then_some(()));
    // The reader reads again, and is told what is missing.
    let reader = std::thread::spawn(move || {
        let mut seen = String::new();
        let mut bytes = vec![0; 64 << 10];
        while !seen.contains("lines are missing here, because nobody read them") {
            let read = unread.read(&mut bytes).unwrap();
            assert!(read > 0, "{} bytes, and no word of what is missing", seen.len());
            seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        unread
    });
    let unread = reader.join().unwrap();
    cluster.hosts[0].signal(Signal::SIGTERM);
    assert_eq!(cluster.hosts[0].ended().code(), Some(0), "its end does not wait for the reader either");
    drop(unread);
}
