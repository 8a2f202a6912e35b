//! Commands and hosts whose output nobody reads.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use rexpect::session::spawn_command;
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

#[test]
fn a5_output_that_cannot_be_written_is_an_error_and_not_a_panic() {
    let cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), SETTINGS);
    cluster.wait_for(&["chat-1"]);
    let (port, dir) = (format!("--port={}", cluster.port), cluster.dir.path().to_str().unwrap());
    let made = cluster.path("made");
    let asked: [&[&str]; 10] = [
        &["list"],
        &["list", "--json"],
        &["modules"],
        &["events"],
        &["restart", "chat-1"],
        &["jobs"],
        &["describe", "chat-1"],
        &["describe", "chat-1", "--json"],
        &["forget"],
        &["request", "__console__", LIST],
    ];
    let local: [&[&str]; 7] = [
        &["check", dir],
        &["check", dir, "--json"],
        &["user", "list", "--config", dir],
        &["init", made.to_str().unwrap()],
        &["--help"],
        &["list", "--help"],
        &["--version"],
    ];
    let asked = asked.iter().map(|words| pomelo(&[words, &[port.as_str()][..]].concat()));
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for mut command in asked.chain(local.iter().map(|words| pomelo(words))) {
        let done = run_into(command.stdout(full()));
        let said = "pomelo: standard output cannot be written to: No space left on device (os error 28)\n";
        assert!((done.code, done.err.ends_with(said)) == (Some(7), true), "{command:?}: {done:?}");
    }
    assert!(!made.exists(), "nobody knows the password of a configuration whose words were lost");
    let mut piped = shell(&cluster, &[]);
    let commands = cluster.path("commands");
    std::fs::write(&commands, "list\nuse chat-1\n").unwrap();
    let done = run_into(piped.stdin(File::open(commands).unwrap()).stdout(full()));
    assert_eq!((done.code, done.err.contains("line 1: standard output")), (Some(7), true), "{done:?}");
    // Where not even that can be said, the code says it.
    let status = pomelo(&["check", dir]).stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(7));
}

/// Runs a command to its end that has a standard output of its own.
fn run_into(command: &mut Command) -> Done {
    let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    Done { code: output.status.code(), out: String::new(), err: String::from_utf8(output.stderr).unwrap() }
}

#[test]
fn a5_a_reader_that_is_slow_gets_all_of_a_non_blocking_output() {
    let whole = run(pomelo(&["--help"])).out;
    let (mut output, mut reader) = UnixStream::pair().unwrap();
    output.set_nonblocking(true).unwrap();
    // Full before the command begins.
    let before = fill(&mut output);
    let mut command = pomelo(&["--help"]);
    let mut child = command.stdout(OwnedFd::from(output)).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    // It has one thread, which sleeps when it waits for the reader, and never before.
    let stat = format!("/proc/{}/stat", child.id());
    eventually("the command waits or has ended", || {
        let stat = std::fs::read_to_string(&stat).unwrap();
        let (name, rest) = stat.rsplit_once(") ").unwrap();
        (rest.starts_with('Z') || name.ends_with("(pomelo") && rest.starts_with('S')).then_some(())
    });
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
    assert!(read[before..] == whole, "{} of {} bytes", read.len() - before, whole.len());
}

/// Fills a non-blocking stream, and gives how many bytes that took.
fn fill(output: &mut UnixStream) -> usize {
    let mut filled = 0;
    let refused = loop {
        match output.write(&[b'-'; 4096]) {
            Ok(written) => filled += written,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    filled
}

#[test]
fn p_output_of_programs_is_whole_where_the_hosts_own_is_non_blocking_and_slow() {
    let script =
        format!("while [ ! -e go ]; do sleep 0.05; done; for n in $(seq 200); do echo line $n; done; {GRACEFUL}");
    let mut cluster = Cluster::configured(json!({"chat": [{"id": "chat-1", "script": script}]}), SETTINGS);
    let (mut output, reader) = UnixStream::pair().unwrap();
    let mut command = pomelo(&["start", "--config", cluster.dir.path().to_str().unwrap()]);
    command.current_dir(cluster.dir.path());
    cluster.hosts.push(Host::start_with_output(
        command,
        OwnedFd::from(output.try_clone().unwrap()),
        cluster.path("errors"),
    ));
    cluster.wait_for(&["chat-1"]);
    output.set_nonblocking(true).unwrap();
    fill(&mut output);
    std::fs::write(cluster.path("go"), "").unwrap();
    // Fewer than wait within the host, so that it has read them all. It had to print them by then.
    eventually("the last line is kept", || cluster.done(&["logs", "chat-1"]).contains("line 200\n").then_some(()));
    reader.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut seen = Vec::new();
    for line in BufReader::new(reader).lines().map_while(Result::ok).filter(|line| line.contains("[chat-1] line ")) {
        let is_last = line.ends_with(" 200");
        seen.push(line);
        if is_last {
            break;
        }
    }
    let lost: Vec<_> = (1..=200).filter(|n| !seen.iter().any(|line| line.ends_with(&format!(" {n}")))).collect();
    assert!(lost.is_empty(), "{lost:?}");
    cluster.hosts[0].signal(Signal::SIGTERM);
    assert_eq!(cluster.hosts[0].ended().code(), Some(0));
}

#[test]
fn r1_the_demos_server_goes_on_where_its_output_is_full() {
    let [port] = free_ports();
    let command = pomelo(&["demo-server", "--port", &port.to_string()]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let errors = tempfile::NamedTempFile::new().unwrap();
    let mut server = Host::start_with_output(command, full, errors.path().to_owned());
    let mut stream = eventually("it listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    stream.write_all(b"hello\n").unwrap();
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).unwrap();
    assert_eq!(answer, "hello\n");
    server.signal(Signal::SIGTERM);
    assert_eq!((server.ended().code(), server.log().as_str()), (Some(0), ""));
}

#[test]
fn a5_tables_in_a_narrow_terminal_break_no_word() {
    let mut cluster =
        Cluster::start(json!({"connector": [{"id": "connector-server-1", "script": GRACEFUL}]}), SETTINGS);
    cluster.wait_for(&["connector-server-1"]);
    let mut terminal = Command::new("sh");
    let list = format!("stty cols 60; exec {POMELO} list --port={}", cluster.port);
    terminal.args(["-c", &list]).stdin(Stdio::inherit());
    let shown = spawn_command(terminal, Some(60_000)).unwrap().exp_eof().unwrap();
    let server =
        shown.lines().find(|line| line.starts_with("connector-server-1 ")).unwrap_or_else(|| panic!("{shown}"));
    assert!(server.contains(" running"), "{shown}");
    assert!(shown.lines().filter(|line| !line.starts_with('(')).all(|line| line.trim_end().len() <= 60), "{shown}");
    assert!(shown.contains("(the terminal is too narrow for: "), "{shown}");
    cluster.done(&["stop", "--all"]);
    cluster.hosts[0].ended();
}
