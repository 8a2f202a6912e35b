use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::monitors::Outcomes;
use super::*;
use crate::config::Config;
use crate::failure::code;
use crate::journal::Journal;
use crate::state_db::StateDb;
use crate::supervise::kept_output::{Query, read};
use crate::supervise::{DownReason, Phase};
use crate::wire::Info;

const LONG: Duration = Duration::from_secs(30);

/// A starter whose monitors are shells that write their arguments to `DIR/ID`, run a program in a group of its own, and end it when asked.
fn starter(dir: &Path, script: &str) -> ServerStarter {
    let servers = r#"{"chat": [{"id": "chat-1", "port": 1}, {"id": "chat-2", "port": 2}],
                      "gate": [{"id": "gate-1", "port": 3}, {"id": "far", "host": "192.0.2.1"}]}"#;
    fs::write(dir.join("master.json"), "{}").unwrap();
    fs::write(dir.join("servers.json"), servers).unwrap();
    fs::write(dir.join("pomelo.toml"), "[supervise]\nbackoff_min_ms = 10\nbackoff_max_ms = 10\n").unwrap();
    let config = Config::load(dir, "development").unwrap();
    let script = format!("for id; do :; done; echo $$ $* > {}/$id; {script}", dir.display());
    let command = ["sh", "-c", &script, "pomelo"].map(str::to_owned).into();
    ServerStarter::with_program(&config, "127.0.0.1:9", BTreeMap::new(), command).unwrap()
}

fn config_modules(dir: &Path) -> String {
    Config::load(dir, "development").unwrap().settings.modules.dir.display().to_string()
}

/// The first word and the rest of what a monitor wrote, once it has, and once it is not `before`.
async fn wrote(dir: &Path, id: &str, before: &str) -> (String, String) {
    let written = async {
        loop {
            let text = fs::read_to_string(dir.join(id)).unwrap_or_default();
            if let Some((pid, rest)) = text.trim().split_once(' ')
                && text.ends_with('\n')
                && pid != before
            {
                return (pid.to_owned(), rest.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, written).await.expect("the monitor writes")
}

async fn gone(pid: &str) {
    let gone = async {
        while fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| !status.contains("State:\tZ")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, gone).await.unwrap_or_else(|_| panic!("{pid} still runs"));
}

const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 0.01; done";

#[tokio::test]
async fn s4_monitors_of_this_machine_are_run_and_end_with_the_starter() {
    let dir = tempfile::tempdir().unwrap();
    let starter = starter(dir.path(), WAIT);
    let outcome = starter.run(&Which::All).await.unwrap();
    let ids: Vec<_> = outcome.iter().map(|(id, outcome)| (id.as_str(), outcome.is_ok())).collect();
    assert_eq!(ids, [("chat-1", true), ("chat-2", true), ("gate-1", true), ("far", false)]);
    assert!(outcome[3].1.as_ref().unwrap_err().message.contains("pomelo monitor --id far"));
    let (pid, arguments) = wrote(dir.path(), "chat-1", "").await;
    let config = dir.path().display();
    let modules = config_modules(dir.path());
    let master = "--master 127.0.0.1:9";
    assert_eq!(
        arguments,
        format!(
            "monitor --quiet --poll --config {config} --env development {master} --modules {modules} --data {config}/data --id chat-1"
        )
    );
    assert_eq!(starter.start("chat-1").await.unwrap_err().code, code::BUSY);
    let unknown = starter.start("chat-9").await.unwrap_err();
    assert!(unknown.code == code::NOT_FOUND && unknown.message.contains("chat-1, chat-2"), "{unknown}");
    starter.stop_all(LONG).await;
    gone(&pid).await;
    assert_eq!(starter.start("chat-1").await.unwrap_err().code, code::NOT_AVAILABLE);
}

#[tokio::test]
async fn s4_one_type_or_one_server_can_be_meant() {
    let dir = tempfile::tempdir().unwrap();
    let starter = starter(dir.path(), WAIT);
    let names = |outcome: Outcomes| outcome.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(names(starter.run(&Which::Type("chat".into())).await.unwrap()), ["chat-1", "chat-2"]);
    assert_eq!(names(starter.run(&Which::Id("gate-1".into())).await.unwrap()), ["gate-1"]);
    let unknown = starter.run(&Which::Type("chta".into())).await.unwrap_err();
    assert!(unknown.message.contains("no server of type `chta` is configured (configured: chat, gate)"), "{unknown}");
    // An added server stands behind those of other types.
    let added = info(json!({"id": "chat-9", "serverType": "chat", "port": free_port()}));
    assert_eq!(starter.add(&[added], &[], |_, _| {}).await.unwrap(), ["chat-9"]);
    let unknown = starter.run(&Which::Type("chta".into())).await.unwrap_err();
    assert!(unknown.message.contains("(configured: chat, gate)"), "{unknown}");
}

#[tokio::test]
async fn s4_a_monitor_that_dies_comes_back_and_one_that_was_stopped_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let starter = starter(dir.path(), WAIT);
    starter.start("chat-1").await.unwrap();
    let (first, _) = wrote(dir.path(), "chat-1", "").await;
    let signal = |pid: &str, signal| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse().unwrap()), signal).unwrap();
    };
    signal(&first, nix::sys::signal::Signal::SIGKILL);
    let (second, _) = wrote(dir.path(), "chat-1", &first).await;
    let mut status = starter.monitor("chat-1");
    timeout(LONG, status.wait_for(|status| matches!(status.phase, Phase::Running(_)))).await.unwrap().unwrap();
    // A monitor whose module was told to stop ends like this, with code 0. The trap is set when the file is written, or soon after.
    let stopped = async {
        while status.borrow().phase != Phase::Exited(DownReason::GivenUp) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(second.parse().unwrap()),
                nix::sys::signal::Signal::SIGTERM,
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(LONG, stopped).await.is_err() {
        panic!("it was brought back: {:?}", status.borrow().clone());
    }
    starter.start("chat-1").await.unwrap();
    let (third, _) = wrote(dir.path(), "chat-1", &second).await;
    drop(starter);
    gone(&third).await;
}

#[tokio::test]
async fn a_monitor_that_does_not_listen_is_killed_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let starter = starter(dir.path(), "trap '' TERM; while :; do sleep 0.01; done");
    starter.start("gate-1").await.unwrap();
    let (pid, _) = wrote(dir.path(), "gate-1", "").await;
    starter.stop_all(Duration::from_millis(50)).await;
    gone(&pid).await;
}

fn info(members: serde_json::Value) -> Info {
    serde_json::from_value(members).unwrap()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn c5_all_servers_are_checked_before_any_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let starter = starter(dir.path(), WAIT);
    let (free, taken) = (free_port(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let taken = taken.local_addr().map(|address| (address.port(), taken)).unwrap();
    let good = info(json!({"id": "chat-8", "serverType": "chat", "host": "127.0.0.1", "port": free}));
    for (bad, said) in [
        (json!({"id": "chat-9", "serverType": "chat", "port": taken.0}), "is in use by another program"),
        (json!({"id": "chat-9", "serverType": "chat", "port": free}), "is used twice"),
        (json!({"id": "chat-9", "serverType": "chat", "port": 2}), "127.0.0.1:2 is used twice"),
        (json!({"id": "chat-1", "serverType": "chat", "port": 9}), "the id `chat-1` is used twice"),
        (json!({"id": "up-1", "serverType": "chat", "port": 9}), "the id `up-1` is used twice"),
        (json!({"id": "a@b", "serverType": "chat", "port": 9}), "would be read as something else"),
        (json!({"id": "chat-9", "serverType": "chat", "port": 70000}), "`port` must be a port"),
        (json!({"id": "chat-9", "serverType": "chta", "port": 9}), "did you mean `chat`?"),
        (json!({"id": "chat-9", "serverType": "master", "port": 9}), "no server of type `master`"),
        (json!({"id": "chat-9", "port": 9}), "`serverType` is missing"),
        (json!({"id": "chat-9", "serverType": "chat", "host": "192.0.2.1"}), "pomelo monitor --id chat-9"),
        (json!({"id": "chat-9", "serverType": "chat", "command": "evil"}), "`command` is for the configuration"),
        (json!({"id": "chat-9", "serverType": "chat", "env": {"LD_PRELOAD": "x"}}), "`env` is for the configuration"),
        (json!({"id": "chat-9", "serverType": "chat", "main": "x"}), "`main` is for the configuration"),
        (json!({"id": "chat-9", "serverType": "chat", "args": "--inspect"}), "`args` is for the configuration"),
        (json!({"id": "chat-9", "serverType": "chat", "ssh": true}), "`ssh` is for the configuration"),
        (json!({"id": "chat-9", "serverType": "chat", "port": 9, "room": "1; reboot"}), "`room` must be"),
        (json!({"id": "chat-9", "serverType": "chat", "port": 9, "room": "--eval=x"}), "`room` must be"),
        (json!({"id": "chat-9", "serverType": "chat", "port": 9, "room": ["1"]}), "`room` must be"),
        (json!({"serverType": "chat", "port": "9", "clusterCount": "100000"}), "`clusterCount` must be"),
        (json!({"serverType": "chat", "port": "65535++", "clusterCount": 2}), "`port` must be a port"),
        (json!({"serverType": "chat", "port": "18446744073709551615++", "clusterCount": 2}), "`port` must be a port"),
        (json!({"serverType": "chat", "clientPort": "x++", "clusterCount": 2}), "`clientPort` must be a port"),
    ] {
        let refused = starter.add(&[good.clone(), info(bad.clone())], &["up-1".into()], |_, _| {}).await.unwrap_err();
        assert!(refused.code == code::BAD_MESSAGE && refused.message.contains(said), "{bad}: {refused}");
        assert!(!dir.path().join("chat-8").exists() && !starter.knows("chat-8"), "nothing was started: {bad}");
    }
    let mut named = Vec::new();
    let added = starter.add(&[good], &[], |_, all| named = all.to_vec()).await.unwrap();
    assert_eq!(added, ["chat-8"]);
    assert!(named.iter().any(|server| server.id == "chat-8" && server.added.is_some()), "the fleet knows it");
    starter.start("chat-8").await.unwrap();
    let (_, arguments) = wrote(dir.path(), "chat-8", "").await;
    let server = format!(r#"{{"host":"127.0.0.1","id":"chat-8","port":{free},"serverType":"chat"}}"#);
    assert!(arguments.contains(&format!(" --server {server} --id chat-8")), "{arguments}");
}

#[tokio::test]
async fn c5_a_server_that_is_being_started_is_not_added_again() {
    let dir = tempfile::tempdir().unwrap();
    let starter = starter(dir.path(), WAIT);
    let new = [info(json!({"id": "chat-9", "serverType": "chat", "port": free_port()}))];
    assert_eq!(starter.add(&new, &[], |_, _| {}).await.unwrap(), ["chat-9"]);
    // Whoever asks names the servers that are being started.
    let refused = starter.add(&new, &["chat-9".into()], |_, _| {}).await.unwrap_err();
    starter.start("chat-9").await.unwrap();
    assert!(refused.code == code::BAD_MESSAGE && refused.message.contains("is used twice"), "{refused}");
    let (pid, _) = wrote(dir.path(), "chat-9", "").await;
    assert!(starter.knows("chat-9") && starter.monitor("chat-9").borrow().pid() == pid.parse().ok());
}

#[tokio::test]
async fn c5_a_cluster_count_makes_ids_and_counts_ports_up() {
    let dir = tempfile::tempdir().unwrap();
    let starter = starter(dir.path(), WAIT);
    // Two that follow each other.
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok();
    let port = std::iter::repeat_with(free_port).filter(|port| *port < u16::MAX).find(is_free).unwrap();
    let two =
        info(json!({"serverType": "chat", "host": "127.0.0.1", "port": format!("{port}++"), "clusterCount": "2"}));
    let first = starter.add(std::slice::from_ref(&two), &[], |_, _| {}).await.unwrap();
    assert_eq!(first, ["cluster-server-chat-0", "cluster-server-chat-1"]);
    starter.start("cluster-server-chat-1").await.unwrap();
    wrote(dir.path(), "cluster-server-chat-1", "").await;
    let again = starter.add(&[two], &[], |_, _| {}).await.unwrap_err();
    assert!(again.message.contains(&format!("127.0.0.1:{port} is used twice")), "{again}");
    let next = info(json!({"serverType": "chat", "port": format!("{}++", free_port()), "clusterCount": 1}));
    assert_eq!(starter.add(&[next], &[], |_, _| {}).await.unwrap(), ["cluster-server-chat-2"]);
}

#[tokio::test]
async fn s4_restart_force_ends_what_an_earlier_run_left_on_the_port() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let servers =
        json!({"chat": [{"id": "chat-1", "port": port, "restart-force": "true"}, {"id": "chat-2", "port": port + 1}]});
    fs::write(dir.path().join("master.json"), "{}").unwrap();
    fs::write(dir.path().join("servers.json"), servers.to_string()).unwrap();
    let config = Config::load(dir.path(), "development").unwrap();
    assert_eq!(config.servers[0].restart, crate::supervise::Restart::Always);
    let script = format!("for id; do :; done; echo $$ $* > {}/$id; {WAIT}", dir.path().display());
    let command = ["sh", "-c", &script, "pomelo"].map(str::to_owned).into();
    let starter = ServerStarter::with_program(&config, "127.0.0.1:9", BTreeMap::new(), command).unwrap();
    // A program that left its group, as daemons do: it holds the listening socket as its standard input.
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let leftover = |id: &str| {
        let mut command = std::process::Command::new("sleep");
        command.arg("1000").env("POMELO_SERVER_ID", id).env("POMELO_MASTER", "127.0.0.1:9");
        command.stdin(std::os::fd::OwnedFd::from(listener.try_clone().unwrap())).spawn().unwrap()
    };
    let mut another = leftover("chat-2");
    let mut old = leftover("chat-1");
    drop(listener);
    // Its monitor is alive while somebody holds the state, so that what it runs is not left behind.
    let monitor = StateDb::open(&config.data_dir("chat-1").unwrap(), crate::state_db::Damaged::Refuse).unwrap();
    let busy = starter.start("chat-1").await.unwrap_err();
    assert!(busy.code == code::BUSY && busy.message.contains("its monitor may be alive"), "{busy}");
    assert!(old.try_wait().unwrap().is_none());
    drop(monitor);
    let busy = starter.start("chat-1").await.unwrap_err();
    assert!(
        busy.code == code::BUSY && busy.message.contains(&format!("127.0.0.1:{port}")),
        "another's is left alone: {busy}"
    );
    assert!(old.try_wait().unwrap().is_some() && another.try_wait().unwrap().is_none());
    another.kill().unwrap();
    another.wait().unwrap();
    starter.start("chat-1").await.unwrap();
    wrote(dir.path(), "chat-1", "").await;
}

#[tokio::test]
async fn s4_servers_elsewhere_are_started_by_ssh_with_every_word_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let servers = json!({"chat": [{"id": "a b; $(reboot)", "host": "192.0.2.1"}, {"id": "x", "host": "-oProxyCommand=reboot", "ssh": true}]});
    fs::write(dir.path().join("master.json"), "{}").unwrap();
    fs::write(dir.path().join("servers.json"), servers.to_string()).unwrap();
    let settings = "[ssh]\noptions = [\"-p\", \"2222\"]\nuser = \"game\"\nprogram = \"/opt/my games/pomelo\"\nconfig = \"/srv/it's\"\n";
    fs::write(dir.path().join("pomelo.toml"), settings).unwrap();
    let config = Config::load(dir.path(), "development").unwrap();
    let policy = config.settings.supervise.policy(crate::supervise::Restart::OnFailure);
    let commands = command::Commands::new(&config, "192.0.2.9:3005", vec!["pomelo".into()], policy).unwrap();
    let spec = commands.spec(&config.servers[0], false, true, &Journal::default()).unwrap();
    assert_eq!(spec.command[..3], ["ssh", "-p", "2222"]);
    let [.., dashes, destination, line] = &spec.command[..] else { panic!() };
    assert_eq!((dashes.as_str(), destination.as_str()), ("--", "game@192.0.2.1"));
    let words = shell_words::split(line).unwrap();
    let wanted = [
        "exec",
        "/opt/my games/pomelo",
        "monitor",
        "--quiet",
        "--poll",
        "--config",
        "/srv/it's",
        "--env",
        "development",
        "--master",
        "192.0.2.9:3005",
        "--attached",
        "--id",
        "a b; $(reboot)",
    ];
    assert_eq!(words, wanted);
    let refused = commands.spec(&config.servers[1], false, true, &Journal::default()).unwrap_err();
    assert!(refused.message.contains("`-oProxyCommand=reboot` is no host"), "{refused}");
}

#[tokio::test]
async fn what_a_server_of_pomelo_writes_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("master.json", r#"{"id": "master", "port": 1}"#);
    write("servers.json", r#"{"chat": [{"id": "chat-1", "port": 2}]}"#);
    // The application's program is one for another interpreter than Node's.
    write("pomelo.toml", "[pomelo]\napp = 'app.js'\nnode = 'sh'\n");
    write("app.js", "echo hello; echo trouble >&2; exec sleep 1000");
    let config = Config::load(dir.path(), "development").unwrap();
    let starter = ServerStarter::with_program(&config, "127.0.0.1:1", BTreeMap::new(), vec!["none".into()]).unwrap();
    starter.start("chat-1").await.unwrap();
    let kept = || read(&dir.path().join("data/chat-1"), &Query::default()).map_or(Vec::new(), |read| read.lines);
    let all = async {
        while kept().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, all).await.unwrap();
    let mut lines: Vec<_> = kept().into_iter().map(|line| (line.error, line.text)).collect();
    lines.sort_unstable();
    assert_eq!(lines, [(false, "hello".to_owned()), (true, "trouble".to_owned())]);
    starter.stop_all(LONG).await;
}
