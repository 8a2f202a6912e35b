//! What else a machine may lack: somebody who reads the terminal, file descriptors, a clock that goes on evenly.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use rexpect::process::{PtyProcess, WaitStatus};
use serde_json::{Value, json};

use crate::journal::{event, events};
use crate::observing::get;
use crate::support::*;

/// A server that writes as fast as it can, counts its lines in a file, and ends when it is asked to.
const TALKS_MUCH: &str = "trap 'exit 0' TERM; n=0; while :; do n=$((n + 1)); echo line $n; \
                          test $((n % 1000)) = 0 && { echo $n > told.new; mv told.new told; sleep 0.02; }; done";

fn problems(port: u16) -> String {
    let (_, body) = get(&format!("127.0.0.1:{port}"), "/healthz", "").unwrap();
    serde_json::from_str::<Value>(&body).unwrap()["problems"].to_string()
}

#[test]
fn where_nobody_reads_the_terminal_programs_and_master_go_on_and_sigterm_ends_them() {
    let cluster = Cluster::configured(json!({"chat": [{"id": "chat-1", "script": TALKS_MUCH}]}), SETTINGS);
    let host = pomelo(&["start", "--config", cluster.dir.path().to_str().unwrap()]);
    let mut command = in_terminal(&host, cluster.dir.path());
    command.env("POMELO_LOG", "debug");
    // A real terminal, of which nothing is ever read.
    let mut terminal = PtyProcess::new(command).unwrap();
    cluster.wait_for(&["chat-1"]);
    let told = || fs::read_to_string(cluster.path("told")).ok()?.trim().parse::<u64>().ok();
    // Three megabytes are far more than a terminal and a host take. A program that waited for the reader would have stopped before.
    eventually("the program goes on", || (told()? > 150_000).then_some(()));
    cluster.done(&["restart", "chat-1"]);
    cluster.wait_for(&["chat-1"]);
    terminal.signal(rexpect::process::Signal::SIGTERM).unwrap();
    let ended = eventually("it ends", || match terminal.status()? {
        WaitStatus::StillAlive => None,
        ended => Some(ended),
    });
    assert!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?}");
    terminal.set_kill_timeout(Some(1000));
}

/// A command for a terminal, with the environment that the support gives it.
fn in_terminal(host: &Command, directory: &Path) -> Command {
    let mut command = Command::new("env");
    command.args(host.get_args()).current_dir(directory);
    for (name, value) in host.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

#[test]
fn a_terminal_that_nobody_reads_is_named_by_healthz_until_somebody_does() {
    let cluster = Cluster::start(json!({"chat": []}), SETTINGS);
    let master = format!("127.0.0.1:{}", cluster.port);
    let arguments = ["monitor", "--id", "loud", "--type", "chat", "--master", &master, "--http", "127.0.0.1:0"];
    let host = pomelo(&[&arguments[..], &["--", "sh", "-c", TALKS_MUCH]].concat());
    let mut terminal = PtyProcess::new(in_terminal(&host, cluster.dir.path())).unwrap();
    terminal.set_kill_timeout(Some(1000));
    // The terminal takes some kilobytes before nobody is needed to read them.
    let mut read = terminal.get_file_handle().unwrap();
    let (mut said, mut some) = (String::new(), [0; 256]);
    let address = loop {
        let length = read.read(&mut some).unwrap();
        said.push_str(&String::from_utf8_lossy(&some[..length]));
        let rest = said.split("serving metrics and health address=").nth(1);
        if let Some((address, _)) = rest.and_then(|rest| rest.split_once(char::is_whitespace)) {
            break address.to_owned();
        }
    };
    let unread = || get(&address, "/healthz", "").filter(|(_, body)| body.contains("nobody reads standard output"));
    eventually("it is named", unread);
    std::thread::spawn(move || std::io::copy(&mut read, &mut std::io::sink()));
    eventually("it is over", || get(&address, "/healthz", "").filter(|(status, _)| *status == 200));
    terminal.signal(rexpect::process::Signal::SIGTERM).unwrap();
}

/// Sets how many files a process may have open.
fn may_open(pid: u32, files: &str) {
    let status = Command::new("prlimit").args([format!("--pid={pid}"), format!("--nofile={files}")]).status().unwrap();
    assert!(status.success());
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn limit(pid: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(4).unwrap().to_owned()
}

#[test]
fn without_file_descriptors_the_port_is_told_and_open_again_when_there_are_some() {
    let mut cluster = Cluster::start(two_chats(), SETTINGS);
    cluster.wait_for(&["chat-1", "chat-2"]);
    let (pid, most) = (cluster.hosts[0].pid(), limit(cluster.hosts[0].pid()));
    // Hard limits can only be raised again by root, so that the soft one alone is lowered.
    may_open(pid, &format!("{}:", open_files(pid).min(20)));
    let mut asked = Host::start(pomelo(&["list", &format!("--port={}", cluster.port)]), cluster.path("asked"));
    eventually("no connection is accepted", || {
        cluster.hosts[0].log().contains("no connections can be accepted").then_some(())
    });
    may_open(pid, &format!("{most}:"));
    // Whoever waited meanwhile is answered.
    assert_eq!(asked.ended().code(), Some(0), "{}", asked.log());
    event(&cluster, "alarm", "Too many open files");
    event(&cluster, "alarm", "over: connections are accepted again");
    let told = cluster.hosts[0].log().matches("no connections can be accepted").count();
    assert!(told <= 3, "it is said once, and not at each attempt: {told}");
    assert!(!problems(cluster.port).contains("accepted"));
    cluster.hosts[0].signal(Signal::SIGTERM);
    assert_eq!(cluster.hosts[0].ended().code(), Some(0));
}

#[test]
fn a_program_that_cannot_be_started_for_want_of_descriptors_is_an_event_and_started_when_there_are_some() {
    let mut cluster = Cluster::start(two_chats(), SETTINGS);
    let before = cluster.wait_for(&["chat-1", "chat-2"]);
    let program = pid(&before, "chat-1");
    let monitor = parent(program);
    let most = limit(monitor);
    may_open(monitor, "3:");
    send(program, Signal::SIGKILL);
    let told = event(&cluster, "exit", "was not started");
    assert!(told["message"].as_str().unwrap().contains("Too many open files"), "{told}");
    may_open(monitor, &format!("{most}:"));
    let listed = cluster.wait_for(&["chat-1", "chat-2"]);
    assert_ne!(pid(&listed, "chat-1"), program);
    cluster.hosts[0].signal(Signal::SIGTERM);
    assert_eq!(cluster.hosts[0].ended().code(), Some(0));
}

/// Milliseconds.
const HOUR: u64 = 3_600_000;

/// The library that gives a process another clock; absent where it is not installed, which is said.
fn faketime() -> Option<String> {
    let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
    let places = [format!("/usr/lib/{multiarch}/faketime"), "/usr/lib64/faketime".into(), "/usr/lib/faketime".into()];
    let found = places.iter().map(|place| format!("{place}/libfaketimeMT.so.1")).find(|path| Path::new(path).exists());
    if found.is_none() {
        eprintln!("NO libfaketime: what hosts do when the clock is set is not tested here");
    }
    found
}

#[test]
fn a_clock_that_is_set_by_hours_delays_nothing_and_hurries_nothing() {
    let Some(library) = faketime() else { return };
    let mut cluster = Cluster::configured(two_chats(), SETTINGS);
    let offset = cluster.path("offset");
    let set = |hours: &str| {
        let new = offset.with_extension("new");
        fs::write(&new, format!("{hours}h\n")).unwrap();
        fs::rename(new, &offset).unwrap();
    };
    set("+0");
    let mut command = pomelo(&["start", "--config", cluster.dir.path().to_str().unwrap()]);
    command.current_dir(cluster.dir.path());
    // Only the clock of the day is another one: nobody can set the monotonic one.
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &offset);
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    cluster.hosts.push(Host::start(command, cluster.path("host-0.log")));
    let mut before = cluster.wait_for(&["chat-1", "chat-2"]);
    let newest = |cluster: &Cluster| events(cluster).last().unwrap()["time"].as_u64().unwrap();
    let began = newest(&cluster);
    for (hours, least, most) in
        [("+5", 4 * HOUR, 6 * HOUR), ("-5", 0, 0), ("+48", 47 * HOUR, 49 * HOUR), ("+0", 0, HOUR)]
    {
        set(hours);
        // Orders, jobs, starts, deadlines and back-off go on.
        cluster.done(&["restart", "chat-1"]);
        let listed = cluster.wait_for(&["chat-1", "chat-2"]);
        assert_ne!(pid(&listed, "chat-1"), pid(&before, "chat-1"), "{hours}");
        assert_eq!(pid(&listed, "chat-2"), pid(&before, "chat-2"), "nobody else was touched: {hours}");
        send(pid(&listed, "chat-1"), Signal::SIGKILL);
        before = eventually("it is started again after its program has died", || {
            let now = cluster.list();
            let is_new = now["chat-1"]["pid"] != listed["chat-1"]["pid"] && now["chat-1"]["state"] == "running";
            is_new.then_some(now)
        });
        // Logins are not held up, and wrong ones are refused as ever.
        let wrong = cluster.ask(&["list", "--username=admin", "--password=wrong"]);
        assert_eq!(wrong.code, Some(4), "{hours}: {wrong:?}");
        cluster.done(&["list"]);
        // Events carry the new time, and their numbers their order.
        let numbers: Vec<u64> = events(&cluster).iter().map(|event| event["n"].as_u64().unwrap()).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        if most > 0 {
            let since = newest(&cluster).saturating_sub(began);
            assert!((least..=most).contains(&since), "{hours}: {since} ms");
        }
    }
    let health = problems(cluster.port);
    assert_eq!(health, "[]");
    cluster.hosts[0].signal(Signal::SIGTERM);
    assert_eq!(cluster.hosts[0].ended().code(), Some(0));
}
