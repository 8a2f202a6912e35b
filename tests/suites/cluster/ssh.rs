//! Servers that are started through `ssh`: a real `sshd` on loopback, with keys and a configuration of the test's own, stands for the other machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::*;

/// The daemon; it must be called by its full path.
const SSHD: &str = "/usr/sbin/sshd";

fn keygen(file: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file).status();
    assert!(made.unwrap().success(), "ssh-keygen makes a key");
}

/// Starts a daemon whose files are in `dir`; the port that it listens on.
fn sshd(dir: &Path) -> (Host, u16) {
    assert!(Path::new(SSHD).exists(), "the test needs Debian's openssh-server, or {SSHD} from elsewhere");
    // Where it is started by root it wants this directory, whatever its configuration says.
    let _ = fs::create_dir_all("/run/sshd");
    let [port] = free_ports();
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    keygen(&dir.join("host_key"));
    keygen(&dir.join("user_key"));
    fs::copy(dir.join("user_key.pub"), dir.join("authorized_keys")).unwrap();
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n",
        file("host_key"),
        file("authorized_keys")
    );
    fs::write(dir.join("sshd_config"), config).unwrap();
    let mut command = Command::new(SSHD);
    command.args(["-D", "-e", "-f", &file("sshd_config")]);
    let host = Host::start(command, dir.join("sshd.log"));
    eventually("sshd listens", || host.log().contains("Server listening").then_some(()));
    (host, port)
}

/// The pids of the ancestors of a process, the nearest first.
fn ancestors(pid: u32) -> Vec<u32> {
    std::iter::successors(Some(parent(pid)), |pid| (*pid > 1).then(|| parent(*pid))).collect()
}

#[test]
fn s4_servers_on_other_machines_are_run_through_ssh() {
    let there = tempfile::tempdir().unwrap();
    let (daemon, port) = sshd(there.path());
    // Words that a remote shell would split, or worse, were they not quoted.
    let program = there.path().join("it's my $(pomelo)");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-modules");
    let script = format!("#!/bin/sh\nPOMELO_CACHE='{}' exec '{POMELO}' \"$@\"\n", cache.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let key = there.path().join("user_key");
    let options = json!([
        "-F",
        "none",
        "-p",
        port.to_string(),
        "-i",
        key,
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "LogLevel=ERROR",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null"
    ]);
    let settings = format!("{SETTINGS}[ssh]\noptions = {options}\nprogram = {}\n", json!(program));
    let [chat, gate, new] = free_ports();
    // The host is this one, and `ssh` is asked for all the same.
    let graceful = GRACEFUL.replace("$POMELO_SERVER_ID.term", "\"$POMELO_SERVER_ID.term\"");
    let servers = json!({
        "chat": [{"id": "chat 1; touch evil", "port": chat, "ssh": true, "script": graceful}],
        "gate": [{"id": "gate-1", "port": gate, "script": GRACEFUL}],
    });
    let mut cluster = Cluster::configured(servers, &settings);
    let token = |server_type: &str| json!({"type": server_type, "token": "t0ken"});
    cluster.write("adminServer.json", &json!([token("master"), token("chat"), token("gate")]).to_string());
    cluster.host("start", &[]);

    let far = "chat 1; touch evil";
    let listed = cluster.wait_for(&[far, "gate-1"]);
    let master = cluster.hosts[0].pid();
    let program = pid(&listed, far);
    let above = ancestors(program);
    assert!(above.contains(&daemon.pid()) && !above.contains(&master), "it is run by the daemon: {above:?}");
    assert!(ancestors(pid(&listed, "gate-1")).contains(&master));
    let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
    let lines = children.split_whitespace().map(|pid| command_line(pid.parse().unwrap()));
    let lines: Vec<_> = lines.chain(above.iter().map(|pid| command_line(*pid))).collect();
    assert!(lines.iter().all(|line| !line.contains("t0ken")), "secrets are on no command line: {lines:?}");

    // What is added to the type goes the same way.
    let added = cluster.done(&["add", "host=127.0.0.1", &format!("port={new}"), "serverType=chat", "id=chat-9"]);
    assert_eq!(added, "added: chat-9\n");
    assert!(ancestors(cluster.pid("chat-9")).contains(&daemon.pid()));

    let dir = cluster.dir.path().to_owned();
    let asked = |id: &str| dir.join(format!("{id}.term"));
    assert_eq!(cluster.done(&["stop", "chat-9"]), "stopped: chat-9\n");
    assert!(asked("chat-9").exists(), "it was asked to end");
    assert_eq!(cluster.done(&["restart", "chat-9"]), "restarted\n");
    fs::remove_file(asked("chat-9")).unwrap();

    // The connection breaks: what ran there ends, and is brought back.
    let ssh = |id: &str| {
        let look = |pid: u32| {
            let line = command_line(pid);
            (line.starts_with("ssh ") && line.contains(&format!("--id {id}"))).then_some(pid)
        };
        fs::read_dir("/proc").unwrap().find_map(|entry| look(entry.ok()?.file_name().to_str()?.parse().ok()?)).unwrap()
    };
    let before = cluster.pid("chat-9");
    send(ssh("chat-9"), Signal::SIGKILL);
    gone(before);
    let listed = cluster.wait_for(&[far, "gate-1", "chat-9"]);
    assert_ne!(pid(&listed, "chat-9"), before);

    // A master that ends asks them to end; one that is killed leaves nothing behind there either.
    let programs = [far, "gate-1", "chat-9"].map(|id| pid(&listed, id));
    fs::remove_file(asked("chat-9")).unwrap();
    cluster.hosts[0].signal(Signal::SIGTERM);
    cluster.hosts[0].ended();
    programs.into_iter().for_each(gone);
    assert!(asked(far).exists() && asked("chat-9").exists());
    cluster.hosts.clear();
    cluster.host("start", &[]);
    let listed = cluster.wait_for(&[far, "gate-1", "chat-9"]);
    let programs = [far, "gate-1", "chat-9"].map(|id| pid(&listed, id));
    let monitors = programs.map(parent);
    cluster.hosts[0].signal(Signal::SIGKILL);
    cluster.hosts[0].ended();
    monitors.into_iter().chain(programs).for_each(gone);
    assert!(!cluster.path("evil").exists());
}
