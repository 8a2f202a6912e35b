//! From nothing to a cluster: `init`, `check`, `user`; and users that change while the master runs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pomelo_host::client::{AdminClient, ClientError, Options};
use serde_json::{Value, json};

use crate::support::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a5_init_writes_a_configuration_that_starts_with_secrets_of_its_own() {
    let [port, ports @ ..] = free_ports::<5>();
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("new/cluster");
    let config = dir.to_str().unwrap();
    let made = run(pomelo(&["init", config, "--port", &port.to_string()]));
    assert_eq!(made.code, Some(0), "{made:?}");
    let password =
        made.out.lines().map(str::trim).find(|line| line.len() == 24 && !line.contains(' ')).unwrap().to_owned();
    for secret in ["adminUser.json", "adminServer.json"] {
        assert_eq!(mode(&dir.join(secret)), 0o600, "{secret}");
    }
    let users = std::fs::read_to_string(dir.join("adminUser.json")).unwrap();
    assert!(users.contains("$argon2id$") && !users.contains(&password), "{users}");

    let again = run(pomelo(&["init", config]));
    assert_eq!((again.code, again.err.contains("master.json, servers.json")), (Some(2), true), "{again:?}");
    let checked = run(pomelo(&["check", config]));
    assert_eq!((checked.code, checked.out.as_str()), (Some(0), "development: no faults, no warnings\n"), "{checked:?}");

    // Other tests run beside this one: the ports of the example are not to be fought for.
    let mut servers = std::fs::read_to_string(dir.join("servers.json")).unwrap();
    for (example, free) in ["3014", "4050", "6050", "6051"].iter().zip(ports) {
        servers = servers.replace(example, &free.to_string());
    }
    std::fs::write(dir.join("servers.json"), servers).unwrap();
    let mut host = Host::start(pomelo(&["start", "--config", config]), home.path().join("host.log"));
    let listed = eventually("all servers run", || {
        let mut list = pomelo(&["list", "--json", "--port", &port.to_string()]);
        list.env("POMELO_PASSWORD", &password);
        let listed: Value = serde_json::from_str(&run(list).out).ok()?;
        let running = listed["msg"].as_object()?.values().filter(|server| server["state"] == "running").count();
        (running == 5).then_some(listed)
    });
    assert!(listed["msg"]["chat-server-2"]["pid"].is_number(), "{listed}");
    // Neither the demo's passwords nor servers without a token come in.
    let guessed = run(pomelo(&["list", "--port", &port.to_string()]));
    assert_eq!(guessed.code, Some(4), "{guessed:?}");
    let master = format!("127.0.0.1:{port}");
    let stranger = pomelo(&["monitor", "--id", "chat-9", "--type", "chat", "--master", &master]);
    let stranger = Host::start(stranger, home.path().join("stranger.log"));
    eventually("it is refused", || stranger.log().contains("the token is not that of").then_some(()));
    host.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(host.ended().code(), Some(0));
    assert!(!host.log().contains(&password) && !host.log().contains("stored in clear"), "{}", host.log());
}

#[test]
fn a5_init_leaves_nothing_behind_where_it_fails() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("cluster");
    // The master's port is a server's as well.
    let refused = run(pomelo(&["init", dir.to_str().unwrap(), "--port", "3014"]));
    assert_eq!((refused.code, refused.err.contains("127.0.0.1:3014 is used twice")), (Some(2), true), "{refused:?}");
    assert!(!dir.exists());
    // What is there already stays, and what is not ours is no hindrance.
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("notes.txt"), "mine").unwrap();
    assert_eq!(run(pomelo(&["init", dir.to_str().unwrap()])).code, Some(0));
    assert_eq!(std::fs::read_to_string(dir.join("notes.txt")).unwrap(), "mine");
}

#[test]
fn a5_check_tells_every_fault_and_warning_of_every_environment_at_once() {
    let cluster = Cluster::configured(json!({}), "");
    let dir = cluster.dir.path().to_str().unwrap();
    cluster.write("master.json", r#"{"development": {"port": 3005}, "production": {"host": "0.0.0.0", "port": 3005}}"#);
    cluster.write("servers.json", "{\"development\": {\"chat\": [{\"id\": \"chat-1\"}]},\n\"production\": {\"chat\": [{\"id\": \"chat-1\", \"port\": 70000}]}}");
    cluster.write("adminServer.json", r#"[{"type": "gate", "token": "0123456789abcdef0123456789abcdef"}]"#);
    cluster.write(
        "pomelo.toml",
        "[production.network]\nmax_conections = 5\n[development.module.timeReprot]\nlevels = { a = 2 }\n[development.module.probe]\nfile = \"probe.wasm\"\n",
    );
    std::fs::create_dir(cluster.path("modules")).unwrap();
    cluster.write("modules/broken.wasm", "this is no module");
    let checked = run(pomelo(&["check", dir]));
    assert_eq!(checked.code, Some(2), "{checked:?}");
    let told = |parts: &[&str]| {
        let found = checked.out.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "{parts:?} is not in\n{}", checked.out);
    };
    assert!(!checked.err.contains("stored in clear"), "what is found is said once: {}", checked.err);
    told(&["[production] ", "pomelo.toml:2:1: unknown key `max_conections`"]);
    told(&["[production] ", "servers.json:2:50: `port` must be a port"]);
    told(&["hint: did you mean `max_connections`?"]);
    told(&["warning: [development, production] ", "adminUser.json:1:", "password of `admin` stands here in clear"]);
    told(&["warning: [development", "adminUser.json:1:", "anybody would guess the password of `monitor`"]);
    told(&["warning: [development] ", "servers.json:1:27: a server of type `chat` has no `command`"]);
    told(&["warning: [development", "adminServer.json: there is no token for servers of type `chat`"]);
    told(&["warning: [development] ", "pomelo.toml:3:21: there is no module `timeReprot`"]);
    told(&["warning: [development] ", "pomelo.toml:5:21: [module.probe] names the file probe.wasm"]);
    told(&["warning: [development", "modules/broken.wasm: it is not a WebAssembly file"]);
    told(&["development, production: 2 faults, "]);

    let only = run(pomelo(&["check", dir, "--env", "development"]));
    assert_eq!((only.code, only.out.contains("max_conections")), (Some(0), false), "{only:?}");
    let exposed = run(pomelo(&["check", dir, "--env", "staging", "--json"]));
    assert_eq!(exposed.code, Some(2), "{exposed:?}");
    let report: Value = serde_json::from_str(&exposed.out).unwrap();
    let faults = report["faults"].as_array().unwrap();
    let of = |file: &str| faults.iter().find(|fault| fault["file"].as_str().unwrap().ends_with(file)).unwrap();
    for file in ["master.json", "servers.json", "pomelo.toml"] {
        assert_eq!(of(file)["what"], "there is no environment `staging` in this file", "{report}");
    }
    assert_eq!((&of("master.json")["line"], &of("master.json")["environments"]), (&1.into(), &json!(["staging"])));

    // The whole of production, once its faults are mended: it would not be started as it is.
    cluster.write("pomelo.toml", "");
    cluster.write("servers.json", r#"{"production": {"chat": []}, "development": {}}"#);
    let exposed = run(pomelo(&["check", dir, "--env", "production"]));
    assert!(
        exposed.code == Some(0) && exposed.out.contains("the master would not start: refused to listen on 0.0.0.0"),
        "{exposed:?}"
    );
}

#[test]
fn a5_environments_are_found_as_pomelo_finds_them() {
    let mut cluster = Cluster::configured(json!({}), SETTINGS);
    let dir = cluster.dir.path().to_owned();
    // A file beside the others counts before the one of the environment, even one for all environments.
    for name in ["servers.json", "adminUser.json", "pomelo.toml"] {
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    std::fs::create_dir(dir.join("staging")).unwrap();
    cluster.write("staging/master.json", "this is never read");
    cluster.write(
        "staging/servers.json",
        &json!({"chat": [{"id": "chat-s", "command": ["sh", "-c", GRACEFUL]}]}).to_string(),
    );
    cluster.write("staging/adminUser.json", r#"[{"username": "admin", "password": "admin", "level": 1}]"#);
    cluster.write("staging/pomelo.toml", SETTINGS);
    let checked = run(pomelo(&["check", dir.to_str().unwrap()]));
    assert!(checked.code == Some(0) && checked.out.contains("staging: no faults"), "{checked:?}");
    cluster.host("start", &["--env", "staging"]);
    cluster.wait_for(&["chat-s"]);
    cluster.done(&["stop", "--all"]);
    cluster.hosts[0].ended();

    // The level inside a file, of pomelo.toml as well: what is said for one environment does not count in the other.
    let master = json!({"id": "master", "port": cluster.port});
    cluster.write("master.json", &json!({"staging": master, "production": {"port": 1}}).to_string());
    let settings = "[production.commands]\nlevels = { list = 1 }\n[staging.commands]\nlevels = { modules = 1 }\n";
    cluster.write("pomelo.toml", &format!("{settings}{}", SETTINGS.replace("[supervise]", "[staging.supervise]")));
    cluster.write("staging/adminUser.json", r#"[{"username": "admin", "password": "admin", "level": 1}, {"username": "monitor", "password": "monitor", "level": 2}]"#);
    cluster.host("start", &["--env", "staging"]);
    cluster.wait_for(&["chat-s"]);
    let modules = cluster.ask(&["modules", "--username=monitor", "--password=monitor"]);
    assert_eq!((modules.code, modules.err.contains("modules needs level 1")), (Some(1), true), "{modules:?}");
}

#[test]
fn a5_user_changes_who_may_log_in_and_a_running_master_takes_it_over() {
    let mut cluster = Cluster::configured(json!({}), SETTINGS);
    let dir = cluster.dir.path().to_str().unwrap().to_owned();
    let user = |arguments: &[&str], input: &str| {
        run_with_input(pomelo(&[&["user", "--config", &dir], arguments].concat()), input)
    };
    let path = cluster.path("adminUser.json");
    std::fs::remove_file(&path).unwrap();
    let added = user(&["add", "ann", "--level", "1"], "s3cret of ann\n");
    assert_eq!((added.code, mode(&path)), (Some(0), 0o600), "{added:?}");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("$argon2id$") && !text.contains("s3cret"), "{text}");
    assert_eq!(user(&["list"], "").out, "USER  LEVEL  PASSWORD\nann   1      argon2id\n");

    cluster.host("master", &[]);
    let ask = |cluster: &Cluster, name: &str, password: &str| {
        let mut list = pomelo(&["list", "--json", "--username", name, "--port", &cluster.port.to_string()]);
        list.env("POMELO_PASSWORD", password);
        run(list).code
    };
    eventually("the master lets her in", || (ask(&cluster, "ann", "s3cret of ann") == Some(0)).then_some(()));

    // While the master runs: one more, another password, and one less.
    assert_eq!(user(&["add", "bob"], "b0b's own").code, Some(0));
    eventually("bob is let in", || (ask(&cluster, "bob", "b0b's own") == Some(0)).then_some(()));
    assert_eq!(user(&["passwd", "bob"], "an0ther").code, Some(0));
    eventually("with the other password", || (ask(&cluster, "bob", "an0ther") == Some(0)).then_some(()));
    assert_eq!(ask(&cluster, "bob", "b0b's own"), Some(4));
    assert_eq!(user(&["remove", "bob"], "").code, Some(0));
    eventually("bob is let in no more", || (ask(&cluster, "bob", "an0ther") == Some(4)).then_some(()));

    // What is refused leaves the file as it was.
    let before = std::fs::read_to_string(&path).unwrap();
    let refused = |arguments: &[&str], input: &str, why: &str| {
        let done = user(arguments, input);
        assert_eq!((done.code, done.err.contains(why)), (Some(2), true), "{arguments:?}: {done:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    };
    refused(&["remove", "ann"], "", "last user of level 1");
    refused(&["remove", "bob"], "", "no user `bob`");
    refused(&["add", "ann"], "x8-long", "already");
    refused(&["add", "eve"], "\n", "password is empty");
    refused(&["passwd", "eve"], "x8-long", "no user `eve`");
    refused(&["add", "eve", "the-password"], "", "unexpected argument");

    // A broken file, or none, changes nothing for a running master.
    std::fs::write(&path, "[{").unwrap();
    eventually("it says so", || cluster.hosts[0].log().contains("this is not JSON").then_some(()));
    assert_eq!(ask(&cluster, "ann", "s3cret of ann"), Some(0));
    std::fs::remove_file(&path).unwrap();
    eventually("it says so", || cluster.hosts[0].log().contains("adminUser.json is gone").then_some(()));
    assert_eq!(ask(&cluster, "ann", "s3cret of ann"), Some(0));
    std::fs::write(&path, before).unwrap();
    let log = cluster.hosts[0].log();
    assert!(!log.contains("s3cret of ann") && !log.contains("$argon2id$"), "{log}");
}

#[test]
fn a1_a_client_whose_user_is_changed_or_removed_is_disconnected_and_others_stay() {
    let mut cluster = Cluster::configured(json!({}), SETTINGS);
    cluster.host("master", &[]);
    cluster.wait_for(&[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let connect = |name: &str| {
        let (username, password) = (name.to_owned(), name.to_owned());
        let options = Options { port: cluster.port, username, password: password.into(), ..Options::default() };
        runtime.block_on(AdminClient::connect(options)).unwrap()
    };
    let list = |client: &AdminClient| runtime.block_on(client.request("__console__", json!({"signal": "list"})));
    let (admin, monitor) = (connect("admin"), connect("monitor"));
    assert!(list(&admin).is_ok() && list(&monitor).is_ok());
    let users = json!([{"username": "admin", "password": "admin", "level": 1},
        {"username": "monitor", "password": "monitor", "level": 3}]);
    cluster.write("adminUser.json", &users.to_string());
    eventually("who had level 2 is disconnected", || match list(&monitor) {
        Err(ClientError::Disconnected { .. }) => Some(()),
        _ => None,
    });
    assert!(list(&admin).is_ok(), "the other has not been changed");
    // With the level that it has now.
    let failure = list(&connect("monitor")).unwrap_err().to_string();
    assert!(failure.contains("user monitor has level 3"), "{failure}");
    runtime.block_on(async { admin.close().await });
}
