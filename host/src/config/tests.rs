use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::auth::Level;
use crate::plugin::Limits;
use crate::supervise::Restart;

mod added;
mod deep;
mod health;
mod tls;

const MASTER: &str = r#"{"id": "master-server-1", "host": "127.0.0.1", "port": 3005}"#;

fn dir(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn load(files: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let dir = dir(files);
    Config::load(dir.path(), "development")
}

/// Loads a master and one more file, and expects exactly these faults: place, a part of the text, a part of the hint.
fn check(name: &str, text: &str, expected: &[(&str, &str, &str)]) {
    let mut files = vec![(name, text)];
    if name != "master.json" {
        files.push(("master.json", MASTER));
    }
    let faults = load(&files).expect_err(text).0;
    let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), expected.len(), "{text}\n{shown:#?}");
    for (fault, (place, what, hint)) in faults.iter().zip(expected) {
        let here = format!("{}:{}", fault.line, fault.column);
        assert_eq!(here, *place, "{text}\n{fault}");
        assert!(fault.what.contains(what) && fault.hint.contains(hint), "{text}\n{fault}\nexpected: {what} / {hint}");
        assert!(fault.to_string().contains(&format!("{name}:{place}: ")), "{fault}");
    }
}

#[test]
fn what_is_no_file_is_a_fault_and_not_waited_for() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    for name in ["master.json", "servers.json", "adminUser.json", "pomelo.toml"] {
        let dir = if name == "master.json" { dir(&[]) } else { dir(&[("master.json", MASTER)]) };
        mknodat(CWD, dir.path().join(name), FileType::Fifo, Mode::RWXU, 0).unwrap();
        // On a thread of its own, because whoever opened the pipe would wait for a writer without end.
        let (told, loaded) = std::sync::mpsc::channel();
        let path = dir.path().to_owned();
        std::thread::spawn(move || told.send(Config::load(&path, "development").map(drop)));
        let outcome = loaded.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{name} is waited for"));
        let faults = outcome.expect_err(name).0;
        assert!(faults.iter().any(|fault| fault.what.contains("it is a named pipe, not a file")), "{name}: {faults:?}");
    }
}

#[test]
fn pomelos_template_loads() {
    let config = load(&[
        ("master.json", r#"{"development": {"id": "m", "host": "127.0.0.1", "port": 3005, "x": 1}, "production": {}}"#),
        (
            "servers.json",
            r#"{"development": {"connector": [{"id": "c-1", "host": "127.0.0.1", "port": "3150",
                "clientHost": "127.0.0.1", "clientPort": 3010, "frontend": true, "args": "--debug=5858"}]},
                "production": {"connector": []}}"#,
        ),
        ("development/adminUser.json", r#"[{"id": "user-1", "username": "admin", "password": "admin", "level": 1}]"#),
        ("adminServer.json", r#"[{"type": "connector", "token": "t"}]"#),
    ])
    .unwrap();
    assert_eq!((config.master.id.as_str(), config.master.port, &config.master.info["x"]), ("m", 3005, &1.into()));
    let server = config.server("c-1").unwrap();
    let expected = serde_json::json!({"id": "c-1", "host": "127.0.0.1", "port": 3150, "clientHost": "127.0.0.1",
        "clientPort": 3010, "frontend": "true", "args": "--debug=5858", "serverType": "connector"});
    assert_eq!(Value::Object(server.info.clone()), expected);
    assert_eq!((config.users[0].level, config.users[0].password.is_plain()), (Level(1), true));
    assert_eq!(config.tokens.unwrap()[0].server_type, "connector");
}

#[test]
fn commands_are_split_and_filled_and_never_told() {
    let servers = r#"{"chat": [
        {"id": "chat 1", "host": "127.0.0.1", "port": 6050, "command": "./s --id ${id} --port=${port} 'a b' $${HOME}",
         "cwd": "srv", "env": {"WHERE": "${master}/${environment}", "N": 4}, "restart": "never"},
        {"id": "chat-2", "port": 6051, "command": ["sh", "-c", "exec ${serverType}"], "auto-restart": "false"},
        {"id": "chat-3", "port": 6052, "auto-restart": "true", "restart-force": "true"},
        {"clusterCount": 2, "port": "7000++", "host": "127.0.0.1"}
    ]}"#;
    let dir = dir(&[
        ("master.json", MASTER),
        ("servers.json", servers),
        ("pomelo.toml", "[supervise]\nrestart = 'on-failure'"),
    ]);
    let config = Config::load(dir.path(), "development").unwrap();
    let launch = config.servers[0].launch.clone().unwrap();
    assert_eq!(launch.command, ["./s", "--id", "chat 1", "--port=6050", "a b", "${HOME}"]);
    assert_eq!(launch.cwd, Some(dir.path().join("srv")));
    assert_eq!(launch.env["WHERE"], "127.0.0.1:3005/development");
    assert_eq!(launch.env["N"], "4");
    assert!(["command", "cwd", "env", "restart"].iter().all(|key| !config.servers[0].info.contains_key(*key)));
    assert_eq!(config.servers[1].launch.as_ref().unwrap().command, ["sh", "-c", "exec chat"]);
    let restarts: Vec<Restart> = config.servers.iter().map(|server| server.restart).collect();
    assert_eq!(restarts[..4], [Restart::Never, Restart::Never, Restart::Always, Restart::OnFailure]);
    let counted: Vec<_> = config.servers[3..].iter().map(|s| (s.id.as_str(), s.info["port"].clone())).collect();
    assert_eq!(counted, [("cluster-server-chat-0", 7000.into()), ("cluster-server-chat-1", 7001.into())]);
    assert!(!format!("{launch:?}").contains("6050"), "arguments and values may be secrets");
}

#[test]
fn an_empty_toml_means_the_defaults_and_modules_inherit_limits() {
    let config = load(&[("master.json", "{}")]).unwrap();
    let settings = &config.settings;
    assert_eq!((config.master.address().as_str(), config.master.id.as_str()), ("127.0.0.1:3005", "master-server-1"));
    assert_eq!(settings.limits, Limits::default());
    assert_eq!(settings.network, Network::default());
    assert_eq!((settings.limits.module, settings.engine.modules), (Some(64 << 20), 128 << 20));
    assert!(settings.modules.dir.is_absolute() && settings.modules.dir.ends_with("modules"));
    assert!(!settings.modules.system_monitor);
    assert!(config.tokens.is_none() && config.users.is_empty());
    assert!(config.data_dir("a/../b").unwrap().ends_with("a%2F..%2Fb"));

    let toml = "[limits]\nqueue = 7\nmodule_mib = 20\nmodules_mib = 300\n[modules]\nsystem_monitor = true\n[module.probe]\noptions = { every = 5, on = ['a'] }\ninterval = 0.5\n\
                grants = ['cluster', 'wasi:cli', 'store:watchdog']\nlevels = { list = 2 }\nfile = 'other.wasm'\n\
                [module.probe.limits]\nmemory_mib = 32\n[scripts]\ngrants = ['process', 'profiler']\n[scripts.limits]\ncpu_ms = 5\n";
    let config = load(&[("master.json", MASTER), ("pomelo.toml", toml)]).unwrap();
    assert!(config.settings.modules.system_monitor);
    let probe = config.module("probe");
    assert_eq!((probe.limits.queue, probe.limits.memory, probe.limits.instances), (7, 32 << 20, 256));
    assert_eq!((probe.limits.module, config.settings.engine.modules), (Some(20 << 20), 300 << 20));
    // An instance always has room.
    assert!(probe.limits.sum() > Some(32 << 20));
    assert_eq!(Value::Object(probe.options), serde_json::json!({"every": 5, "on": ["a"]}));
    assert_eq!((probe.interval, probe.levels["list"]), (Some(Duration::from_millis(500)), 2));
    let scripts = &config.settings.scripts;
    assert_eq!(scripts.grants, ["process", "profiler"]);
    assert_eq!((scripts.limits.queue, scripts.limits.cpu), (7, Duration::from_millis(5)));
    assert_eq!((config.module("unnamed").limits.queue, config.module("unnamed").enabled), (7, true));
}

#[test]
fn the_demo_cluster_is_a_configuration_without_faults() {
    let config = Config::demo().unwrap();
    let ids: Vec<&str> = config.servers.iter().map(|server| server.id.as_str()).collect();
    assert_eq!(ids, ["gate-server-1", "connector-server-1", "connector-server-2", "chat-server-1", "chat-server-2"]);
    let command = &config.servers[4].launch.as_ref().unwrap().command;
    assert_eq!(command[1..], ["demo-server", "--port", "6051"]);
    assert_eq!((config.users.len(), config.tokens.as_ref().unwrap().len()), (2, 4));
    assert_eq!(config.data_dir("x"), None);
}

#[test]
fn keys_are_public_keys_and_a_module_names_one_of_them() {
    let toml = "[modules]\nkeys = { ann = \"RWQ\", bob = 7 }\n[module.m]\nkey = \"amn\"";
    let faults = [
        ("2:16", "`ann`: it is no public key of minisign", "pomelo module keygen"),
        ("2:29", "`bob` must be a public key of minisign, but is a number", "RWQ"),
        ("4:7", "there is no key `amn` among `keys` under [modules]", ""),
    ];
    check("pomelo.toml", toml, &faults);
}

#[test]
fn waves_are_numbers_percentages_and_types() {
    let toml = "[modules]\nwaves = [\"1\", \"150%\", \"some\"]";
    let hint = "a number of servers, a percentage or a type";
    check("pomelo.toml", toml, &[("2:15", "`150%` is no wave", hint), ("2:23", "`some` is no wave", hint)]);
    let many = format!("[modules]\nwaves = [{}]", "\"1\",".repeat(101));
    check("pomelo.toml", &many, &[("2:410", "more than 100 waves", "leave some out")]);
}

#[test]
fn faults_of_json_name_their_place_and_a_way_out() {
    check("servers.json", "{\n  \"chat\": [,]\n}", &[("2:12", "this is not JSON", "no comma")]);
    check(
        "servers.json",
        "{\"chat\": {\"id\": \"a\"}, \"x\": 1}",
        &[
            ("1:10", "`chat` must be an array of servers, but is an object", "for example"),
            ("1:28", "`x` must be an array of servers, but is a number", "for example"),
        ],
    );
    check("servers.json", "{\"production\": {\"chat\": []}}", &[("1:1", "no environment `development`", "production")]);
    check(
        "servers.json",
        "{\"chat\": [\n{\"port\": 70000},\n{\"id\": \"\"},\n{\"id\": \"*\"},\n{\"id\": \"type:a\"}, {\"id\": 7}]}",
        &[
            ("2:1", "has no `id`", "for example"),
            ("2:10", "port from 1 to 65535", "3050"),
            ("3:8", "`id` is empty", "for example"),
            ("4:8", "would be read as something else", "no `*`"),
            ("5:8", "would be read as something else", "type:"),
            ("5:26", "`id` must be a string, but is a number", "chat-server-1"),
        ],
    );
    let long = format!(r#"{{"chat": [{{"id": "{}"}}]}}"#, "x".repeat(129));
    check("servers.json", &long, &[("1:18", "at most 128 bytes, this one has 129", "example")]);
    check(
        "servers.json",
        "{\"a\": [{\"id\": \"x\", \"port\": 1}],\n \"b\": [{\"id\": \"x\", \"port\": \"1\"}]}",
        &[
            ("2:15", "the id `x` is used twice", "servers.json:1:15"),
            ("2:28", "127.0.0.1:1 is used twice", "servers.json:1:28"),
        ],
    );
    check(
        "servers.json",
        "{\"a\": [{\"id\": \"master-server-1\", \"port\": 3005}]}",
        &[("1:15", "used twice", "master.json:1:1"), ("1:42", "127.0.0.1:3005 is used twice", "master.json:1:56")],
    );
    check("servers.json", "{\"a\": [{\"id\": \"ö\", \"id\": \"x\"}]}", &[("1:20", "`id` is given twice", "keep one")]);
    check(
        "servers.json",
        "{\"a\": [{\"id\": \"x\", \"port\": 5, \"command\": [\"s\", \"${prot}\"]}]}",
        &[("1:48", "`${prot}` names no member", "did you mean `port`?")],
    );
    check(
        "servers.json",
        "{\"a\": [{\"id\": \"x\", \"command\": \"s 'a\"}, {\"id\": \"y\", \"command\": \"s ${a\"}]}",
        &[("1:31", "never closed", "array"), ("1:63", "placeholder is never closed", "$${")],
    );
    check(
        "servers.json",
        "{\"a\": [{\"id\": \"x\", \"command\": \"\"}, {\"id\": \"y\", \"command\": 5}, {\"id\": \"z\", \"cwd\": \"/\"}]}",
        &[
            ("1:31", "`command` is empty", "./server"),
            ("1:59", "`command` must be a string or an array of strings, but is a number", "./server"),
            ("1:82", "`cwd` without a `command`", "take `cwd` away"),
        ],
    );
    check(
        "servers.json",
        "{\"a\": [{\"id\": \"x\", \"restart\": \"allways\"}, {\"clusterCount\": 0, \"id\": \"y\"}]}",
        &[
            ("1:31", "`restart` cannot be `allways`", "did you mean `always`?"),
            ("1:60", "`clusterCount` must be", "clusterCount"),
        ],
    );
    check(
        "master.json",
        "{\"port\": \"x\", \"host\": 5}",
        &[("1:10", "port", "3050"), ("1:23", "`host` must be a string", "127")],
    );
    check(
        "adminServer.json",
        "[{\"type\": \"a\", \"tokne\": \"s3cret\"}]",
        &[("1:2", "has no `token`", "example"), ("1:16", "unknown key `tokne`", "did you mean `token`?")],
    );
    check("adminServer.json", "{}", &[("1:1", "must be an array of objects", "type")]);
    let users = "[{\"username\": \"a\", \"pasword\": \"s3cret\", \"level\": 0},\n{\"username\": \"a\", \"password\": \"$argon2id$x\", \"level\": 1}, 5]";
    check(
        "adminUser.json",
        users,
        &[
            ("1:2", "has no `password`", "example"),
            ("1:20", "unknown key `pasword`", "did you mean `password`?"),
            ("1:50", "from 1 to 1000", "default"),
            ("2:31", "no argon2id hash", "of the md5"),
            ("2:59", "a user", "for example"),
        ],
    );
}

#[test]
fn faults_of_toml_name_their_place_and_a_way_out() {
    check(
        "pomelo.toml",
        "[limits]\ncpu_ms = 0\nwal_ms = 5\nqueue = \"x\"\nreserve = 0\n",
        &[
            ("2:10", "`cpu_ms` must be a whole number from 1 to", "default is 1000"),
            ("3:1", "unknown key `wal_ms` in limits", "did you mean `wall_ms`?"),
            ("4:9", "`queue` must be a whole number, but is a string", "queue = 1024"),
            ("5:11", "`reserve` must be a whole number from 1 to 100000", ""),
        ],
    );
    check("pomelo.toml", "[limts]\n", &[("1:2", "unknown key `limts`", "did you mean `limits`?")]);
    check("pomelo.toml", "[scripts]\ngrants = ['proces']\n", &[("2:11", "nothing called `proces`", "`process`")]);
    check(
        "pomelo.toml",
        "[module.a]\ngrants = ['clster', 'store:']\ninterval = -1\nfile = '../x'\nenabled = 1\n",
        &[
            ("2:11", "nothing called `clster`", "did you mean `cluster`?"),
            ("2:21", "nothing called `store:`", "store:ID"),
            ("3:12", "from 0 to", "interval = 5"),
            ("4:8", "plain name", "modules directory"),
            ("5:11", "must be true or false, but is a number", "enabled = true"),
        ],
    );
    check(
        "pomelo.toml",
        "[module.a.levels]\nlist = 'x'\n[module.a.limits]\ntotal_instances = 5\n",
        &[
            ("2:8", "must be a level from 1 to 1000", "list = 2"),
            ("4:1", "unknown key `total_instances`", "known here: cpu_ms"),
        ],
    );
    check(
        "pomelo.toml",
        "[supervise]\nbackoff_min_ms = 500\nbackoff_max_ms = 400\n",
        &[("1:1", "is more than", "grows")],
    );
    check(
        "pomelo.toml",
        "[network]\nallowed_hosts = 'x'\nping_interval_ms = 1.5\n",
        &[("2:17", "an array of strings", "admin.example.org"), ("3:20", "whole number from 100", "5000")],
    );
}

#[test]
fn broken_toml_is_told_with_its_place() {
    let faults = load(&[("master.json", MASTER), ("pomelo.toml", "[limits]\ncpu_ms = \n[network\n")]).unwrap_err().0;
    assert!(faults.iter().any(|fault| fault.line == 2 && fault.what.contains("this is not TOML")), "{faults:#?}");
    assert!(faults.iter().any(|fault| fault.line == 3 && fault.what.contains("this is not TOML")), "{faults:#?}");
}

#[test]
fn faults_of_all_files_are_told_at_once_and_no_secret_is() {
    let error = load(&[
        ("master.json", r#"{"port": 0}"#),
        ("servers.json", r#"{"chat": 1}"#),
        ("adminUser.json", r#"[{"username": "a", "password": {"v": "s3cret"}, "level": 1}]"#),
        ("pomelo.toml", "x = 1"),
    ])
    .unwrap_err();
    let text = error.to_string();
    assert_eq!(error.0.len(), 4, "{text}");
    assert!(!text.contains("s3cret") && text.contains("the configuration has 4 faults:"), "{text}");
}

#[test]
fn a_directory_without_a_master_is_refused_with_a_guess() {
    let error = load(&[("config/master.json", MASTER)]).unwrap_err();
    assert!(error.0[0].hint.contains("seems to be in"), "{error}");
    assert!(load(&[]).unwrap_err().0[0].what.contains("not there"));
}

#[test]
fn c6_crons_are_those_of_a_type_or_of_one_server() {
    let servers =
        r#"{"chat": [{"id": "chat-1", "port": 6050}, {"id": "chat-2", "port": 6051}], "gate": [{"id": "gate-1"}]}"#;
    let crons = r#"{"development": {"chat": [
        {"id": 1, "time": "0 30 10 * * *", "action": "chatCron.send", "text": "good morning"},
        {"id": 2, "serverId": "chat-2", "time": "*/5 * * * * *", "action": "chatCron.sweep"}]}}"#;
    let config = load(&[("master.json", MASTER), ("servers.json", servers), ("crons.json", crons)]).unwrap();
    let of = |id: &str| {
        let crons = config.crons_of(config.server(id).unwrap());
        crons.into_iter().map(|cron| cron["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("chat-1"), [Value::from(1)]);
    assert_eq!(of("chat-2"), [Value::from(1), Value::from(2)]);
    assert_eq!(of("gate-1"), [] as [Value; 0]);
    assert_eq!(config.crons[0].members["text"], "good morning");
}

#[test]
fn c6_faults_of_crons_are_told_with_their_places() {
    let faults = |text: &str| {
        let servers = r#"{"chat": [{"id": "chat-1", "port": 6050}, {"id": "chat-2", "port": 6051}]}"#;
        let faults = load(&[("master.json", MASTER), ("servers.json", servers), ("crons.json", text)]).expect_err(text);
        faults.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let check = |cron: &str, place: &str, part: &str| {
        let said = faults(&format!(r#"{{"chat": [{cron}]}}"#));
        assert!(said.contains(&format!("crons.json:{place}: ")) && said.contains(part), "{cron}\n{said}");
    };
    check(r#"{"time": "* * * * * *", "action": "a"}"#, "1:11", "has no `id`");
    check(r#"{"id": true, "time": "* * * * * *", "action": "a"}"#, "1:18", "`id` must be a number or a text");
    check(r#"{"id": 1, "action": "a"}"#, "1:11", "has no `time`");
    check(r#"{"id": 1, "time": "* * * * *", "action": "a"}"#, "1:29", "is not six fields");
    check(r#"{"id": 1, "time": "* * * * * *"}"#, "1:11", "has no `action`");
    let twice = r#"{"id": 1, "time": "* * * * * *", "action": "a"}, {"id": "1", "time": "* * * * * *", "action": "a", "serverId": "chat-1"}"#;
    check(twice, "1:60", "the cron `1` is given twice");
}

#[test]
fn s2_readiness_and_log_directories_are_read_and_not_told() {
    let servers = r#"{"chat": [{"id": "chat-1", "port": 6050, "ready": "port", "logs": "var/log", "stop_deadline_ms": 20000, "drain_ms": 30000}, {"id": "chat-2", "clientPort": 6051}]}"#;
    let toml = "[supervise]\nready = 'control'\nready_timeout_ms = 5000\noutput_lines = 10\n";
    let config = load(&[("master.json", MASTER), ("servers.json", servers), ("pomelo.toml", toml)]).unwrap();
    let [first, second] = &config.servers[..] else { panic!("two servers") };
    assert_eq!((first.ready, first.logs.as_deref()), (Some(Ready::Port), Some(Path::new("var/log"))));
    assert_eq!((first.address(), second.address()), (Some("127.0.0.1:6050".into()), Some("127.0.0.1:6051".into())));
    assert!(!first.info.contains_key("ready") && !first.info.contains_key("logs") && second.ready.is_none());
    let seconds = Duration::from_secs;
    assert_eq!((first.stop_deadline, first.drain, first.ready_timeout), (seconds(20), seconds(30), seconds(5)));
    assert_eq!((second.ending_deadline(), config.longest_stop()), (seconds(10), seconds(20)));
    assert!(!first.info.contains_key("drain_ms"), "it is private");
    let old = load(&[("master.json", MASTER), ("pomelo.toml", "[supervise]\nready_deadline_ms = 5")]).unwrap_err();
    assert!(old.to_string().contains("it is `ready_timeout_ms` now"), "{old}");
    let supervise = &config.settings.supervise;
    assert_eq!((supervise.ready, supervise.output_lines), (Ready::Control, 10));
    check(
        "servers.json",
        r#"{"chat": [{"id": "c", "ready": "port"}]}"#,
        &[("1:32", "the server has none", "\"port\": 3050")],
    );
    check("servers.json", r#"{"chat": [{"id": "c", "ready": "soon"}]}"#, &[("1:32", "cannot be `soon`", "delay")]);
}

#[test]
fn an_ipv6_host_has_brackets_or_not_and_check_and_start_read_it_alike() {
    let servers =
        r#"{"chat": [{"id": "a", "host": "[::1]", "port": 6050}, {"id": "b", "host": "fe80::1%lo", "port": 1}]}"#;
    let config = load(&[("master.json", r#"{"host": "[::1]"}"#), ("servers.json", servers)]).unwrap();
    let master = &config.master;
    assert_eq!(
        (master.host.as_str(), master.address(), &master.info["host"]),
        ("::1", "[::1]:3005".into(), &"::1".into())
    );
    // The master resolves its address in the same way when it starts.
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(master.host.as_str(), master.port)).unwrap();
    assert_eq!(found.collect::<Vec<_>>(), ["[::1]:3005".parse().unwrap()]);
    assert_eq!(
        (config.servers[0].address(), &config.servers[0].info["host"]),
        (Some("[::1]:6050".into()), &"::1".into())
    );
    assert_eq!(config.servers[1].host, "fe80::1%lo");
    let twice = r#"{"chat": [{"id": "a", "host": "[::1]", "port": 6050}, {"id": "b", "host": "::1", "port": 6050}]}"#;
    check("servers.json", twice, &[("1:90", "::1:6050 is used twice", "")]);
    for wrong in ["127.0.0.1:3005", "[::1", "[127.0.0.1]", "[::1]:3005", "[game.example]"] {
        let text = format!(r#"{{"host": "{wrong}"}}"#);
        check("master.json", &text, &[("1:10", &format!("a name or an address, not `{wrong}`"), "\"host\": \"::1\"")]);
    }
}

#[test]
fn a_port_that_counts_up_needs_a_count() {
    let servers = r#"{"chat": [{"id": "a", "port": "3250++"}]}"#;
    check("servers.json", servers, &[("1:31", "`port` must be a port", r#""clusterCount": 4, "port": "3250++""#)]);
}

#[test]
fn a_masters_port_does_not_count_up_and_no_count_is_suggested() {
    let faults = load(&[("master.json", r#"{"port": "3250++"}"#)]).unwrap_err().0;
    assert_eq!((faults.len(), faults[0].hint.as_str()), (1, r#"for example: "port": 3050"#));
}

#[test]
fn json_keeps_its_bounds_its_numbers_and_its_places() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    check("servers.json", &deep, &[("1:513", "nesting depth", "")]);
    check("servers.json", "", &[("1:0", "this is not JSON", "")]);
    check("servers.json", "{\"a\": [] // here\n}", &[("1:10", "this is not JSON", "no comments")]);
    check("servers.json", "{\"a\": [{\"n\":\n 1e400}]}", &[("2:2", "number out of range", "")]);
    let lone = "{\"a\": [{\"n\":\n \"\\ud800\"}]}";
    let faults = load(&[("master.json", MASTER), ("servers.json", lone)]).expect_err(lone).0;
    assert!(faults.len() == 1 && faults[0].line == 2 && faults[0].what.contains("this is not JSON"), "{faults:?}");
    let numbers = r#"{"a": [{"id": "x", "most": 18446744073709551615, "least": -9223372036854775808, "more": 1e30, "x": "\u00e9\ud83d\ude00"}]}"#;
    let config = load(&[("master.json", MASTER), ("servers.json", numbers)]).unwrap();
    let info = &config.servers[0].info;
    assert_eq!((info["most"].as_u64(), info["least"].as_i64()), (Some(u64::MAX), Some(i64::MIN)));
    assert_eq!((info["more"].as_f64(), info["x"].as_str()), (Some(1e30), Some("é😀")));
}
