//! Modules that monitors take from their master: offered by digest, fetched over the connection that there is, rolled out in waves.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::modules::built;
use crate::support::*;

const FROM_MASTER: &str = "[watch]\ndrain_ms = DRAIN\n[modules]\nfrom_master = true\nLOCAL\
    [module.roles]\ngrants = [\"cluster\", \"uplink\"]\n";
const ALL: [&str; 4] = ["chat-1", "chat-2", "gate-1", "gate-2"];

fn drop_in(module: &str, file: &Path) {
    put(&built(&format!("fixtures/{module}.wasm")), file);
}

fn begun(settings: &str) -> Cluster {
    begun_with(500, settings)
}

/// A version that traps within so many milliseconds is taken back.
fn begun_with(drain: u32, settings: &str) -> Cluster {
    let servers = |ids: [&str; 2]| ids.map(|id| json!({"id": id, "script": GRACEFUL}));
    let servers = json!({"chat": servers(["chat-1", "chat-2"]), "gate": servers(["gate-1", "gate-2"])});
    let mut cluster = Cluster::configured(
        servers,
        &format!(
            "{SETTINGS}{}",
            FROM_MASTER
                .replace("DRAIN", &drain.to_string())
                .replace("LOCAL", &format!("local = \"local\"\n{settings}"))
        ),
    );
    cluster.host("start", &[]);
    cluster.wait_for(&ALL);
    cluster
}

fn digest(module: &str) -> String {
    pomelo_host::versions::digest_of(&fs::read(built(&format!("fixtures/{module}.wasm"))).unwrap())
}

/// What `modules` says of the monitors and a file, when it is as wanted.
fn on_monitors(cluster: &Cluster, what: &str, file: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually_or(&format!("the monitors' {file}: {what}"), || {
        let shown: Value = serde_json::from_str(&cluster.done(&["modules", "--json"])).unwrap();
        let on = shown["monitors"][file].clone();
        if wanted(&on) { Ok(on) } else { Err(on.to_string()) }
    })
}

fn all_run(cluster: &Cluster, module: &str) {
    let digest = digest(module);
    on_monitors(cluster, &format!("all run {module}"), "echo", |echo| echo["running"] == json!({ digest.as_str(): 4 }));
}

fn events(cluster: &Cluster, text: &str) -> usize {
    cluster.done(&["events", "--json"]).lines().filter(|line| line.contains(text)).count()
}

#[test]
fn x1_monitors_run_what_their_master_has_in_force() {
    let mut cluster = begun("");
    let (file, local) = (cluster.path("modules/echo.wasm"), cluster.path("local/echo.wasm"));
    // One that monitors are asked for: they answer themselves.
    drop_in("roles", &cluster.path("modules/roles.wasm"));
    eventually("all monitors answer", || {
        let asked = cluster.request("roles", &json!({"do": "ask", "targets": ALL})).ok()?;
        ALL.iter().all(|id| asked.to_string().contains(id)).then_some(())
    });
    drop_in("echo-v1", &file);
    all_run(&cluster, "echo-v1");
    let shown = cluster.done(&["modules"]);
    assert!(shown.contains("echo: 4 of 4 monitors run what they are to run"), "{shown}");

    // One that is away takes what there is when it comes back.
    cluster.done(&["stop", "gate-2"]);
    drop_in("echo-v2", &file);
    let (v1, v2) = (digest("echo-v1"), digest("echo-v2"));
    on_monitors(&cluster, "three run it", "echo", |echo| echo["running"] == json!({ v2.as_str(): 3 }));
    cluster.done(&["restart", "gate-2"]);
    all_run(&cluster, "echo-v2");
    assert_eq!(fs::read_dir(cluster.path("data/.modules")).unwrap().count(), 4, "fetched once each, and a lock");

    // A file that the master refuses takes nothing from anybody.
    fs::write(&file, "no module").unwrap();
    eventually("it is refused", || cluster.done(&["modules"]).contains("its newest file was refused").then_some(()));
    all_run(&cluster, "echo-v2");

    // A local file wins, for as long as it is there.
    drop_in("echo-v1", &local);
    let won = on_monitors(&cluster, "local", "echo", |echo| echo["running"] == json!({ v1.as_str(): 4 }));
    assert_eq!(won["others"][0], json!({"server": "chat-1", "why": "a local file has its place"}));
    fs::remove_file(&local).unwrap();
    all_run(&cluster, "echo-v2");

    // All of them are there again after everything has been ended, the master's file too.
    drop_in("echo-v2", &file);
    let mut host = cluster.hosts.pop().unwrap();
    host.signal(Signal::SIGTERM);
    host.ended();
    cluster.host("start", &[]);
    cluster.wait_for(&ALL);
    all_run(&cluster, "echo-v2");

    fs::remove_file(&file).unwrap();
    on_monitors(&cluster, "it is gone", "echo", Value::is_null);
    eventually("no monitor has its file", || {
        let has = |id: &&str| cluster.path("data").join(id).join("modules/echo.wasm").exists();
        (!ALL.iter().any(has)).then_some(())
    });
    assert!(cluster.path("data/chat-1/modules/roles.wasm").exists());
}

#[test]
fn x1_a_new_version_goes_from_wave_to_wave_and_back_from_all_where_one_server_fails() {
    let cluster = begun("waves = [\"1\", \"type:gate\"]\nwave_s = 0.5\n");
    let file = cluster.path("modules/echo.wasm");
    drop_in("echo-v1", &file);
    all_run(&cluster, "echo-v1");
    eventually("it is kept", || cluster.done(&["modules", "history", "echo"]).contains("in force").then_some(()));
    drop_in("echo-v2", &file);
    all_run(&cluster, "echo-v2");
    let short = |module: &str| digest(module)[..8].to_owned();
    for wave in ["wave 1: 1 server more is", "wave 2: 2 servers more are"] {
        assert_eq!(events(&cluster, &format!("version {}, {wave}", short("echo-v2"))), 1, "{wave}");
    }
    eventually("it is kept", || {
        let history: Value = serde_json::from_str(&cluster.done(&["modules", "history", "echo", "--json"])).unwrap();
        (history["versions"][0]["digest"] == digest("echo-v2")).then_some(())
    });

    // It starts on the master and on no monitor: only the first one has tried.
    drop_in("echo-bad-monitor", &file);
    let over = format!("the rollout of version {} is over, because chat-1 says", short("echo-bad-monitor"));
    eventually("the rollout is over", || (events(&cluster, &over) == 1).then_some(()));
    eventually("the file is the one before", || {
        (fs::read(&file).unwrap() == fs::read(built("fixtures/echo-v2.wasm")).unwrap()).then_some(())
    });
    all_run(&cluster, "echo-v2");
    eventually("the master runs it as well", || {
        cluster.request("echo", &Value::Null).ok().filter(|answer| answer["version"] == 2)
    });
    assert_eq!(
        events(&cluster, "does not start on monitors"),
        events(&cluster, "\"server\":\"chat-1\",\"module\":\"echo\",\"message\":\"echo.wasm was refused") + 1
    );
}

#[test]
fn x1_a_version_that_keeps_trapping_on_the_first_server_is_taken_from_all() {
    let settings = "waves = [\"1\"]\nwave_s = 60\n[module.misbehave]\ngrants = [\"cluster\"]\n\
                    [module.misbehave.limits]\ncpu_ms = 20\n";
    let cluster = begun_with(1, settings);
    let file = cluster.path("modules/misbehave.wasm");
    drop_in("misbehave", &file);
    let first = digest("misbehave");
    on_monitors(&cluster, "all run it", "misbehave", |on| on["running"] == json!({ first.as_str(): 4 }));
    eventually("it is kept", || cluster.done(&["modules", "history", "misbehave"]).contains("in force").then_some(()));
    // The same with a section that means nothing is another version.
    let bytes = fs::read(&file).unwrap();
    let part = file.with_extension("part");
    fs::write(&part, [&bytes[..], b"\0\x05\x04more"].concat()).unwrap();
    fs::rename(part, &file).unwrap();
    on_monitors(&cluster, "the first one runs it", "misbehave", |on| on["running"][first.as_str()] == 3);
    // It spins on whichever server it is asked of. No trap comes in time to have it taken back.
    eventually("the rollout is over", || {
        // The answer is a failure.
        let _ = cluster.request("misbehave", &json!({"do": "wait", "msg": "chat-1"}));
        (events(&cluster, "is over, because chat-1 says: its monitor-handler keeps trapping") == 1).then_some(())
    });
    on_monitors(&cluster, "all run it again", "misbehave", |on| on["running"] == json!({ first.as_str(): 4 }));
    eventually("the file is the one before", || (fs::read(&file).unwrap() == bytes).then_some(()));
}
