//! What a service manager is told over a `NOTIFY_SOCKET`, and the unit files.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::*;

/// A service manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(path: PathBuf) -> Manager {
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Manager { socket, path }
    }

    /// Starts a command that stays, and that tells this manager.
    fn host(&self, cluster: &mut Cluster, arguments: &[&str], watchdog: bool) {
        let mut command = pomelo(arguments);
        command.arg("--config").arg(cluster.dir.path()).current_dir(cluster.dir.path());
        command.env("NOTIFY_SOCKET", &self.path);
        if watchdog {
            command.env("WATCHDOG_USEC", "200000");
        }
        let log = cluster.path(&format!("told-{}.log", cluster.hosts.len()));
        cluster.hosts.push(Host::start(command, log));
    }

    /// Reads until a datagram has a line that begins so; all datagrams until then.
    fn until(&self, line: &str) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let size = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {line}: {error}: {told:?}"));
            let text = String::from_utf8(buffer[..size].to_vec()).unwrap();
            let found = text.lines().any(|said| said.starts_with(line));
            told.push(text);
            if found {
                return told;
            }
        }
    }
}

#[test]
fn a_master_tells_that_it_is_ready_alive_and_ending() {
    let servers = json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]});
    let mut cluster = Cluster::configured(servers, SETTINGS);
    let manager = Manager::new(cluster.path("notify"));
    manager.host(&mut cluster, &["start"], true);
    let told = manager.until("READY=1");
    assert!(told.last().unwrap().contains("STATUS=listening on 127.0.0.1:"), "{told:?}");
    // It listens, and its modules answer.
    assert!(cluster.list().is_object());
    manager.until("WATCHDOG=1");
    let listed = cluster.wait_for(&["chat-1"]);
    for process in [pid(&listed, "chat-1"), parent(pid(&listed, "chat-1"))] {
        let environment = std::fs::read_to_string(format!("/proc/{process}/environ")).unwrap();
        assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG_USEC"), "{environment}");
    }
    cluster.hosts[0].signal(Signal::SIGTERM);
    let told = manager.until("STOPPING=1");
    assert!(!told.iter().any(|told| told.contains("READY=1")), "once: {told:?}");
    assert_eq!(cluster.hosts[0].ended().code(), Some(0));
}

#[test]
fn a_monitor_is_ready_when_its_server_runs_and_is_registered() {
    let script = format!("test -e good || exit 7; {GRACEFUL}");
    let mut cluster = Cluster::configured(json!({"chat": [{"id": "chat-1", "script": script}]}), SETTINGS);
    let manager = Manager::new(cluster.path("notify"));
    cluster.host("master", &[]);
    cluster.wait_for(&[]);
    manager.host(&mut cluster, &["monitor", "--id", "chat-1"], false);
    let told = manager.until("STATUS=the server is backing-off: ended with code 7");
    assert!(!told.iter().any(|told| told.contains("READY=1")), "{told:?}");
    cluster.write("good", "");
    let told = manager.until("READY=1");
    assert!(told.last().unwrap().contains("the server is running, process "), "{told:?}");
    cluster.wait_for(&["chat-1"]);
    cluster.hosts[1].signal(Signal::SIGTERM);
    manager.until("STOPPING=1");
    assert_eq!(cluster.hosts[1].ended().code(), Some(0));
}

/// The settings of a unit file, by section and key. A key can be there several times.
fn unit(name: &str) -> BTreeMap<(String, String), Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name);
    let (mut section, mut settings) = (String::new(), BTreeMap::<_, Vec<String>>::new());
    for line in std::fs::read_to_string(path).unwrap().lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: {line}"));
        settings.entry((section.clone(), key.to_owned())).or_default().push(value.to_owned());
    }
    settings
}

#[test]
fn the_unit_files_run_commands_that_exist() {
    for name in ["pomelo-master.service", "pomelo-monitor@.service"] {
        let unit = unit(name);
        let one = |section: &str, key: &str| match unit.get(&(section.to_owned(), key.to_owned())) {
            Some(values) if values.len() == 1 => values[0].as_str(),
            other => panic!("{name}: {key} is {other:?}"),
        };
        assert_eq!((one("Service", "Type"), one("Service", "NotifyAccess")), ("notify", "main"));
        assert!(one("Service", "WatchdogSec").parse::<u32>().unwrap() > 0);
        assert!(!one("Unit", "Description").is_empty() && one("Install", "WantedBy") == "multi-user.target");
        let words: Vec<_> = one("Service", "ExecStart").split_whitespace().collect();
        assert!(words[0].ends_with("/pomelo"), "{words:?}");
        // `--help` behind the arguments: the parser has read them all.
        let arguments: Vec<_> = words[1..].iter().copied().chain(["--help"]).collect();
        let help = run(pomelo(&arguments));
        assert_eq!(help.code, Some(0), "{help:?}");
        for option in words[1..].iter().filter(|word| word.starts_with("--")) {
            assert!(help.out.contains(option), "{name}: {option}");
        }
    }
    // The exit codes that must not bring a monitor back are those that the program documents.
    let final_codes = &unit("pomelo-monitor@.service")[&("Service".into(), "RestartPreventExitStatus".into())];
    assert_eq!(final_codes, &["2 6 8"]);
    let limits = unit("limits.conf");
    assert!(limits[&("Service".into(), "LimitNOFILE".into())][0].parse::<u32>().unwrap() >= 65536);
}
