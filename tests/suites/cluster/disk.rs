//! A disk that is full, files of the state that are damaged, and who may read what hosts write.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::journal::event;
use crate::observing::{get, metric};
use crate::support::*;

/// A server that writes a line every now and then, and ends when it is asked to.
const TALKS: &str = "trap 'exit 0' TERM; while :; do echo tick; sleep 0.1; done";

/// A cluster whose data directory is a small disk of its own, which only its processes see.
struct SmallDisk {
    cluster: Cluster,
    /// The disk, as this process reaches it.
    root: PathBuf,
}

/// `unshare` with a mount namespace. Who is not root has one of users beside it.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.arg("--");
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

impl SmallDisk {
    /// Absent where this machine gives no mount namespace, which is said.
    fn start(servers: Value) -> Option<SmallDisk> {
        let mount = "mount -t tmpfs -o size=12m,mode=700 tmpfs \"$1\" && shift";
        let tried = unshare().args(["sh", "-c", mount, "sh", "/mnt"]).stdin(Stdio::null()).output();
        let why = match tried {
            Ok(tried) if tried.status.success() => None,
            Ok(tried) => Some(String::from_utf8_lossy(&tried.stderr).into_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = why {
            eprintln!("NO MOUNT NAMESPACES: what hosts do on a full disk is not tested here: {why}");
            return None;
        }
        let mut cluster = Cluster::configured(servers, SETTINGS);
        let (dir, data) = (cluster.dir.path().to_owned(), cluster.path("data"));
        fs::create_dir(&data).unwrap();
        let host = pomelo(&["start", "--config", dir.to_str().unwrap()]);
        let mut command = unshare();
        command.args(["sh", "-c", &format!("{mount}; exec \"$@\""), "sh"]).arg(&data);
        command.arg(host.get_program()).args(host.get_args()).current_dir(&dir).stdin(Stdio::null());
        for (name, value) in host.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        cluster.hosts.push(Host::start(command, cluster.path("host-0.log")));
        // `unshare` and `sh` have become the host.
        let root =
            PathBuf::from(format!("/proc/{}/root", cluster.hosts[0].pid())).join(data.strip_prefix("/").unwrap());
        Some(SmallDisk { cluster, root })
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let mut ballast = File::create(self.root.join("ballast")).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            let bytes = vec![0; size];
            let error = loop {
                if let Err(error) = ballast.write_all(&bytes) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull);
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.root.join("ballast")).unwrap();
    }

    fn health(&self) -> Value {
        let (status, body) = get(&format!("127.0.0.1:{}", self.cluster.port), "/healthz", "").unwrap();
        assert_eq!(status, 200, "it works: {body}");
        serde_json::from_str(&body).unwrap()
    }

    fn fault(&self, at: &str) -> Option<f64> {
        let (_, page) = get(&format!("127.0.0.1:{}", self.cluster.port), "/metrics", "").unwrap();
        metric(&page, "pomelo_faults", &[&format!("at=\"{at}\"")])
    }
}

fn problem(health: &Value, part: &str) -> Option<String> {
    let mut problems = health["problems"].as_array().unwrap().iter().filter_map(Value::as_str);
    problems.find(|problem| problem.contains(part)).map(str::to_owned)
}

#[test]
fn on_a_full_disk_what_can_wait_is_refused_what_ends_servers_is_not_and_all_is_well_when_there_is_room() {
    let mut servers = two_chats();
    servers["chat"][0]["script"] = TALKS.into();
    servers["gate"] = json!([{"id": "gate-1", "script": GRACEFUL}]);
    let Some(small) = SmallDisk::start(servers) else { return };
    let cluster = &small.cluster;
    let all = ["chat-1", "chat-2", "gate-1"];
    cluster.wait_for(&all);
    assert_eq!((&small.health()["status"], small.fault("state")), (&json!("ok"), None));
    small.fill();

    // Orders of which much is to be kept, so that the database needs more of the disk.
    let unknown: Vec<String> = (0..400).map(|number| format!("no-such-server-{number}")).collect();
    let many: Vec<&str> = std::iter::once("stop").chain(unknown.iter().map(String::as_str)).collect();
    let said = eventually("the database needs more than there is", || {
        assert_ne!(cluster.ask(&many).code, Some(0));
        problem(&small.health(), "state.redb")
    });
    assert!(said.contains("cannot be written") && said.contains("No space left"), "{said}");
    assert_eq!((&small.health()["status"], small.fault("state")), (&json!("degraded"), Some(1.0)));
    event(cluster, "alarm", "state.redb cannot be written");
    let admin_log = eventually("the admin log needs more than there is", || {
        cluster.ask(&["stop", "nobody"]);
        problem(&small.health(), "admin.log")
    });
    assert!(admin_log.contains("No space left"), "{admin_log}");
    event(cluster, "alarm", "the output of chat-1 is not kept");

    // What can wait is refused, and says why and what is not refused.
    let refused = cluster.ask(&["restart", "chat-2"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    for part in ["state.redb", "No space left", "restart is refused", "`stop` and `kill` are carried out"] {
        assert!(refused.err.contains(part), "{part}: {refused:?}");
    }
    let refused = cluster.ask(&["add", "serverType=chat", "id=chat-3", "host=127.0.0.1", "port=4050"]);
    assert!(refused.code != Some(0) && refused.err.contains("No space left"), "{refused:?}");
    assert_eq!(cluster.list()["chat-3"], Value::Null);
    // What ends servers is carried out.
    for (order, id) in [("stop", "chat-1"), ("kill", "chat-2")] {
        let done = cluster.ask(&[order, id]);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.err.contains("not on the disk yet") && done.err.contains("No space left"), "{done:?}");
    }
    // What the others' programs are told of that finds no room.
    event(cluster, "alarm", "the view of the cluster cannot be written to");
    eventually("both are down", || {
        let listed = cluster.list();
        let down = ["chat-1", "chat-2"].iter().all(|id| listed[id]["state"] != "running");
        (listed["gate-1"]["state"] == "running" && down).then_some(())
    });
    small.make_room();
    // At once: whoever gives an order has the disk tried.
    assert_eq!(cluster.ask(&["restart", "chat-2"]).code, Some(0));
    assert_eq!(cluster.ask(&["restart", "chat-1"]).code, Some(0));
    cluster.wait_for(&all);
    eventually("the view is what it is to be", || {
        let view = fs::read_to_string(small.root.join("gate-1/cluster.json")).ok()?;
        let view: Value = serde_json::from_str(&view).unwrap();
        ["chat-1", "chat-2"].iter().all(|id| view["servers"][id].is_object()).then_some(())
    });
    event(cluster, "alarm", "over: the view of the cluster is written again to");
    eventually("all is well", || (small.health()["status"] == "ok").then_some(()));
    assert_eq!((small.fault("state"), small.fault("admin-log")), (Some(0.0), Some(0.0)));
    event(cluster, "alarm", "over: ");
    let output = || fs::metadata(small.root.join("chat-1/output.log")).map_or(0, |file| file.len());
    let before = output();
    eventually("the output is kept again", || (output() > before).then_some(()));
    let kept = fs::read_to_string(small.root.join("master/admin.log")).unwrap();
    let operations: Vec<Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = |operation: &str| operations.iter().any(|line| line["operation"] == operation);
    // What waited was written, or it is said how much is missing.
    assert!(told("kill") || operations.iter().any(|line| line["kind"] == "lost"), "{kept}");
    let mut cluster = small.cluster;
    cluster.hosts[0].signal(Signal::SIGTERM);
    assert_eq!(cluster.hosts[0].ended().code(), Some(0));
}

#[test]
fn a_damaged_state_keeps_a_master_from_starting_and_a_monitor_begins_without_it() {
    let mut cluster = Cluster::start(two_chats(), SETTINGS);
    cluster.wait_for(&["chat-1", "chat-2"]);
    cluster.hosts[0].signal(Signal::SIGTERM);
    assert_eq!(cluster.hosts[0].ended().code(), Some(0));
    let path = cluster.path("data/master/state.redb");
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2..].iter_mut().for_each(|byte| *byte ^= 0x55);
    for damaged in [&b""[..], &whole[..whole.len() / 3], &flipped, b"no database"] {
        fs::write(&path, damaged).unwrap();
        cluster.host("master", &[]);
        let mut host = cluster.hosts.pop().unwrap();
        assert_eq!(host.ended().code(), Some(1), "{} bytes: {}", damaged.len(), host.log());
        let log = host.log();
        assert!(log.contains("state.redb is damaged") && log.contains("put a backup in its place"), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        // The database library marks a file while it tries to repair it. It takes nothing away.
        assert_eq!(fs::metadata(&path).unwrap().len(), damaged.len() as u64, "it is kept");
    }
    fs::write(&path, &whole).unwrap();
    let of_monitor = cluster.path("data/chat-1/state.redb");
    fs::write(&of_monitor, "").unwrap();
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1", "chat-2"]);
    let said = event(&cluster, "alarm", "the state of chat-1 was damaged");
    let aside = said["message"].as_str().unwrap().rsplit(' ').next().unwrap().to_owned();
    assert!(aside.contains("state.redb.damaged-") && cluster.path(&aside).exists(), "{said}");
    assert!(fs::metadata(&of_monitor).unwrap().len() > 0);
    cluster.hosts.last().unwrap().signal(Signal::SIGTERM);
    assert_eq!(cluster.hosts.last_mut().unwrap().ended().code(), Some(0));
}

/// The modes of a directory and all that is in it.
fn modes(dir: &Path, found: &mut BTreeMap<PathBuf, u32>) {
    let Ok(metadata) = fs::metadata(dir) else { return };
    found.insert(dir.to_owned(), metadata.mode());
    // Some live for a moment.
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let Ok(metadata) = entry.as_ref().unwrap().path().symlink_metadata() else { continue };
        let path = entry.unwrap().path();
        if metadata.is_dir() {
            modes(&path, found);
        } else {
            found.insert(path, metadata.mode());
        }
    }
}

#[test]
fn nothing_that_hosts_write_is_for_others_whatever_the_umask() {
    let mut cluster = Cluster::configured(json!({"chat": [{"id": "chat-1", "script": TALKS}]}), SETTINGS);
    let host = pomelo(&["start", "--config", cluster.dir.path().to_str().unwrap()]);
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(host.get_program()).args(host.get_args());
    for (name, value) in host.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(cluster.dir.path()).stdin(Stdio::null());
    cluster.hosts.push(Host::start(command, cluster.path("host-0.log")));
    cluster.wait_for(&["chat-1"]);
    eventually("its output is kept", || cluster.done(&["logs", "chat-1"]).contains("tick").then_some(()));
    let data = cluster.path("data");
    let mut found = BTreeMap::new();
    modes(&data, &mut found);
    for name in ["master/state.redb", "master/admin.log", "master/admin-looks.log", "master/files.json"] {
        assert!(found.contains_key(&data.join(name)), "{name} is not there: {found:?}");
    }
    for name in ["chat-1/state.redb", "chat-1/output.log", "chat-1/cluster.json", "chat-1/control.sock", ".starts"] {
        assert!(found.contains_key(&data.join(name)), "{name} is not there: {found:?}");
    }
    let open: Vec<_> = found.iter().filter(|(_, mode)| **mode & 0o077 != 0).collect();
    assert!(open.is_empty(), "others may read these: {open:?}");
    cluster.hosts[0].signal(Signal::SIGTERM);
    assert_eq!(cluster.hosts[0].ended().code(), Some(0));
}
