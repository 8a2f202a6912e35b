//! A host as process 1 of a system of processes of its own, as in a container.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use rexpect::process::WaitStatus;
use rexpect::session::spawn_command;
use serde_json::json;

use crate::support::*;

/// The words before a command that make it process 1. None where this system lets nobody do that, neither root nor the root of a user namespace.
fn as_first() -> Option<Vec<&'static str>> {
    let plain = vec!["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mapped = [&plain[..], &["--user", "--map-root-user"]].concat();
    let works = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        let done = command.args(&words[1..]).arg("true").stdout(Stdio::null()).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    };
    [plain, mapped].into_iter().find(|words| works(words))
}

/// A cluster, and `pomelo` with these arguments as process 1 of it. None where there can be none, which is said: containers may forbid namespaces.
fn configured(arguments: &[&str], script: &str) -> Option<(Cluster, Command)> {
    let Some(words) = as_first() else {
        eprintln!("NO namespaces for processes: a host as process 1 is not tested");
        return None;
    };
    let servers = json!({"chat": [{"id": "chat-1", "script": script}]});
    let cluster = Cluster::configured(servers, SETTINGS);
    let inner = pomelo(arguments);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(inner.get_program()).args(inner.get_args());
    command.arg("--config").arg(cluster.dir.path()).current_dir(cluster.dir.path()).stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Some((cluster, command))
}

/// The same, started.
fn started(arguments: &[&str], script: &str) -> Option<Cluster> {
    let (mut cluster, command) = configured(arguments, script)?;
    let log = cluster.path("host-0.log");
    cluster.hosts.push(Host::start(command, log));
    Some(cluster)
}

/// The processes whose parent a process is, also those that have ended and were not waited for.
fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Process 1, as it is numbered out here: the only child of `unshare`.
fn first(cluster: &Cluster) -> u32 {
    eventually("there is a process 1", || match children(cluster.hosts[0].pid())[..] {
        [first] if command_line(first).contains("pomelo") && !children(first).is_empty() => Some(first),
        _ => None,
    })
}

fn wait_for_file(path: &Path) {
    eventually(&format!("{} is there", path.display()), || path.exists().then_some(()));
}

/// A program that leaves a process in a session of its own, whose parent has ended. That process ends when the file `end` is there.
const LEAVES_AN_ORPHAN: &str =
    "setsid sh -c '(echo here > orphan; until [ -e end ]; do sleep 0.05; done) & exit 0'; exec sleep 1000";

#[test]
fn process_1_reaps_what_programs_leave_behind_and_ends_in_order() {
    let Some(mut cluster) = started(&["start"], LEAVES_AN_ORPHAN) else { return };
    let listed = cluster.wait_for(&["chat-1"]);
    assert_ne!(pid(&listed, "chat-1"), 1);
    wait_for_file(&cluster.path("orphan"));
    let first = first(&cluster);
    let host = *children(first).iter().min().unwrap();
    eventually("the orphan has process 1 as its parent", || (children(first).len() > 1).then_some(()));
    cluster.write("end", "");
    eventually("nothing but the host is left of process 1", || (children(first) == [host]).then_some(()));
    assert!(cluster.list().is_object(), "the host goes on");
    send(first, Signal::SIGTERM);
    assert_eq!(cluster.hosts[0].ended().code(), Some(0));
    assert!(cluster.hosts[0].log().contains("shutting down"), "in order");
}

#[test]
fn process_1_ends_as_its_host_does() {
    let Some(mut cluster) = started(&["master"], GRACEFUL) else { return };
    eventually("it listens", || cluster.list().is_object().then_some(()));
    let first = first(&cluster);
    send(children(first)[0], Signal::SIGKILL);
    assert_eq!(cluster.hosts[0].ended().code(), Some(128 + 9));
    // And with the code of its host: there is no such server.
    let Some(mut cluster) = started(&["monitor", "--id", "nobody"], GRACEFUL) else { return };
    assert_eq!(cluster.hosts[0].ended().code(), Some(2));
}

#[test]
fn process_1_puts_its_host_in_front_of_the_terminal_which_asks_it_to_end_once() {
    let Some((cluster, command)) = configured(&["master"], GRACEFUL) else { return };
    let mut terminal = spawn_command(command, Some(60_000)).unwrap();
    terminal.exp_string("the master is listening").unwrap();
    // A host that is asked twice ends at once, with code 130.
    terminal.send_control('c').unwrap();
    let said = terminal.exp_eof().unwrap();
    assert!(said.contains("shutting down"), "{said}");
    let ended = terminal.process().wait().unwrap();
    assert!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?}");
    drop(cluster);
}
