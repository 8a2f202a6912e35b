//! Commands and hosts whose output nobody reads.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::shell::shell;
use crate::support::*;

#[test]
fn a5_a_command_whose_output_is_not_read_ends_without_a_word() {
    let cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), SETTINGS);
    cluster.wait_for(&["chat-1"]);
    let port = format!("--port={}", cluster.port);
    let commands: [&[&str]; 6] = [
        &["list"],
        &["modules"],
        &["events"],
        &["events", "-f"],
        &["list", "--json"],
        &["request", "__console__", LIST],
    ];
    let mut all: Vec<_> = commands.iter().map(|words| pomelo(&[words, &[port.as_str()][..]].concat())).collect();
    all.push(shell(&cluster, &[]));
    for mut command in all {
        let started = command.stdin(Stdio::piped()).stdout(unread()).stderr(Stdio::piped()).spawn();
        let mut child = started.unwrap();
        // What the shell is to do; the others do not read it.
        feed(&mut child, "help\nlist\n");
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.signal(), said.as_str()), (Some(Signal::SIGPIPE as i32), ""), "{command:?}: {status}");
    }
}

const LIST: &str = r#"{"signal": "list"}"#;

#[test]
fn r1_hosts_go_on_where_nobody_reads_their_output() {
    let script = format!("echo begins; {GRACEFUL}");
    let mut cluster = Cluster::configured(json!({"chat": [{"id": "chat-1", "script": script}]}), SETTINGS);
    let mut command = pomelo(&["start", "--config", cluster.dir.path().to_str().unwrap()]);
    command.current_dir(cluster.dir.path()).env("POMELO_LOG", "debug");
    cluster.hosts.push(Host::start_unread(command));
    let before = pid(&cluster.wait_for(&["chat-1"]), "chat-1");
    // Master and monitor have much to say of that.
    send(before, Signal::SIGKILL);
    eventually("the program runs again", || {
        let listed = cluster.list();
        (listed["chat-1"]["state"] == "running" && listed["chat-1"]["restarts"] == 1).then_some(())
    });
    cluster.hosts[0].signal(Signal::SIGTERM);
    assert_eq!(cluster.hosts[0].ended().code(), Some(0));
}
