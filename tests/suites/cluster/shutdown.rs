//! Every host ends in order when it is asked to, and at once when it is asked again.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::journal::event;
use crate::observing::{get, metric};
use crate::support::*;

/// Processes that run in a directory: what a cluster has started and left behind.
fn left_in(directory: &Path) -> Vec<u32> {
    let directory = directory.canonicalize().unwrap();
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == directory) && runs(*pid))
        .collect()
}

fn nothing_is_left(cluster: &Cluster) {
    eventually("no process is left", || left_in(cluster.dir.path()).is_empty().then_some(()));
}

#[test]
fn shutdown_a_master_answers_the_calls_under_way_and_says_that_it_ends() {
    let mut cluster = Cluster::configured(two_chats(), SETTINGS);
    cluster.host("master", &[]);
    cluster.host("monitor", &["--id", "chat-1"]);
    cluster.host("monitor", &["--id", "chat-2"]);
    cluster.wait_for(&["chat-1", "chat-2"]);
    let master = format!("127.0.0.1:{}", cluster.port);
    let silent = Stopped::new(cluster.hosts[1].pid());
    let list = pomelo(&["list", "--json", "--port", &cluster.port.to_string()]);
    let listing = std::thread::spawn(move || run(list));
    eventually("the list is under way", || {
        let (_, text) = get(&master, "/metrics", "")?;
        (metric(&text, "pomelo_module_calls", &["console", "master"]) >= Some(1.0)).then_some(())
    });
    cluster.hosts[0].signal(Signal::SIGTERM);
    let health =
        eventually("it says that it ends", || get(&master, "/healthz", "").filter(|(status, _)| *status == 503));
    assert!(health.1.contains("shutting-down"), "{health:?}");
    let listed = listing.join().unwrap();
    assert!(listed.out.contains("chat-2") && listed.err.contains("no figures from chat-1"), "{listed:?}");
    drop(silent);
    assert_eq!(cluster.hosts[0].ended().code(), Some(0));
    // The others go on without it, and find the next.
    cluster.host("master", &[]);
    cluster.wait_for(&["chat-1", "chat-2"]);
}

#[test]
fn shutdown_a_monitor_asks_its_program_tells_its_master_and_leaves_nothing() {
    let mut cluster = Cluster::configured(two_chats(), SETTINGS);
    cluster.host("master", &[]);
    cluster.host("monitor", &["--id", "chat-1"]);
    let listed = cluster.wait_for(&["chat-1"]);
    cluster.hosts[1].signal(Signal::SIGTERM);
    assert_eq!(cluster.hosts[1].ended().code(), Some(0));
    gone(pid(&listed, "chat-1"));
    assert!(cluster.path("chat-1.term").exists(), "it was asked");
    let left = event(&cluster, "leave", "left");
    assert_eq!(
        (&left["server"], &left["message"]),
        (&json!("chat-1"), &json!("left: it said so")),
        "it has not vanished"
    );
}

#[test]
fn shutdown_the_end_of_a_terminal_ends_a_cluster_in_order() {
    let mut cluster = Cluster::configured(two_chats(), SETTINGS);
    // A terminal of its own, which is gone when `script` is killed. The program that runs in it says how the cluster has ended.
    let start = pomelo(&["start", "--config", cluster.dir.path().to_str().unwrap()]);
    let words = start.get_args().map(|word| word.to_str().unwrap());
    let line = std::iter::once("env").chain(words).collect::<Vec<_>>().join(" ");
    let script = "trap '' HUP; env --default-signal=HUP \"$@\"; echo $? > ended";
    let mut terminal = std::process::Command::new("script");
    terminal.args(["-qefc", &format!("sh -c '{}' sh {line}", script.replace('\'', "'\\''")), "/dev/null"]);
    for (name, value) in start.get_envs() {
        match value {
            Some(value) => terminal.env(name, value),
            None => terminal.env_remove(name),
        };
    }
    terminal.current_dir(cluster.dir.path()).stdin(std::process::Stdio::null());
    cluster.hosts.push(Host::start(terminal, cluster.path("host-0.log")));
    cluster.wait_for(&["chat-1", "chat-2"]);
    // With its terminal there, it only looks at its files.
    let master = cluster.pid("master");
    send(master, Signal::SIGHUP);
    cluster.hosts[0].signal(Signal::SIGKILL);
    gone(master);
    let code = eventually("the code is said", || {
        std::fs::read_to_string(cluster.path("ended")).ok().filter(|code| code.ends_with('\n'))
    });
    assert_eq!(code.trim(), "0");
    for id in ["chat-1", "chat-2"] {
        assert!(cluster.path(&format!("{id}.term")).exists(), "{id} was asked");
    }
    nothing_is_left(&cluster);
}

#[test]
fn shutdown_a_second_signal_ends_at_once_and_leaves_no_orphan() {
    let deaf = "trap '' TERM HUP INT; while :; do sleep 0.05; done";
    let servers = json!({"chat": [{"id": "chat-1", "script": deaf}, {"id": "chat-2", "script": deaf}]});
    let mut cluster = Cluster::start(servers, "[supervise]\nready_delay_ms = 20\nstop_deadline_ms = 3600000\n");
    cluster.wait_for(&["chat-1", "chat-2"]);
    cluster.hosts[0].signal(Signal::SIGTERM);
    eventually("it shuts down", || cluster.hosts[0].log().contains("shutting down").then_some(()));
    cluster.hosts[0].signal(Signal::SIGTERM);
    assert_eq!(cluster.hosts[0].ended().code(), Some(130));
    nothing_is_left(&cluster);
}

#[test]
fn shutdown_a_cluster_that_is_only_starting_ends_as_well() {
    for command in [&["start"][..], &["monitor", "--id", "chat-1"]] {
        let mut cluster = Cluster::configured(two_chats(), SETTINGS);
        cluster.host(command[0], &command[1..]);
        // The guard's shell or the first line of the log: whichever shows first that the process is at work.
        eventually("it begins", || {
            let log = cluster.hosts[0].log();
            (!log.is_empty() || left_in(cluster.dir.path()).len() > 1).then_some(())
        });
        cluster.hosts[0].signal(Signal::SIGTERM);
        assert_eq!(cluster.hosts[0].ended().code(), Some(0), "{}", cluster.hosts[0].log());
        nothing_is_left(&cluster);
    }
}
