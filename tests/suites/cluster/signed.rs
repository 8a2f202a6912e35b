//! Files that are signed, and those that should be: keys are made and files are signed as an author does.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::modules::built;
use crate::support::*;

/// Makes a pair of keys in a directory; the public one.
fn keygen(dir: &Path, name: &str) -> String {
    let mut command = pomelo(&["module", "keygen", name, "--no-password"]);
    let done = run({
        command.current_dir(dir);
        command
    });
    assert_eq!(done.code, Some(0), "{done:?}");
    let public = fs::read_to_string(dir.join(format!("{name}.pub"))).unwrap();
    let public = public.lines().nth(1).unwrap().to_owned();
    assert!(done.out.contains(&public) && done.out.contains("require_signature = true"), "{done:?}");
    public
}

/// A copy of a fixture, signed where a key is named.
fn copy(dir: &Path, module: &str, key: Option<&str>) -> std::path::PathBuf {
    let file = dir.join(format!("{module}-{}.wasm", key.unwrap_or("unsigned")));
    fs::copy(built(&format!("fixtures/{module}.wasm")), &file).unwrap();
    if let Some(key) = key {
        let mut command = pomelo(&["module", "sign", file.to_str().unwrap(), "--key", key]);
        command.current_dir(dir);
        let done = run(command);
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    file
}

fn version(cluster: &Cluster) -> Option<Value> {
    cluster.request("echo", &Value::Null).ok().map(|answer| answer["version"].clone())
}

#[test]
fn x1_a_file_without_the_key_never_runs_on_any_host() {
    let keys = tempfile::tempdir().unwrap();
    let [ann, _] = ["ann", "eve"].map(|name| keygen(keys.path(), name));
    let own = format!(
        "{SETTINGS}[watch]\ndrain_ms = 500\n[modules]\nkeys = {{ ann = {ann:?} }}\nrequire_signature = true\nfrom_master = true\n"
    );
    let mut cluster = Cluster::configured(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), &own);
    fs::create_dir(cluster.path("modules")).unwrap();
    let file = cluster.path("modules/echo.wasm");
    let sign = |module, key| copy(keys.path(), module, key);
    put(&sign("echo-v1", Some("ann")), &file);
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1"]);
    eventually("the first version answers", || version(&cluster).filter(|version| *version == 1));
    let shown = |wanted: &str| {
        eventually(&format!("`modules` says: {wanted}"), || cluster.done(&["modules"]).contains(wanted).then_some(()));
    };
    shown("echo: 1 of 1 monitors run what they are to run");
    let modules: Value = serde_json::from_str(&cluster.done(&["modules", "--json"])).unwrap();
    let echo = modules["modules"].as_array().unwrap().iter().find(|module| module["id"] == "echo").unwrap();
    assert_eq!(echo["signer"], "ann");
    let inspected = cluster.done(&["modules", "inspect", "echo"]);
    assert!(inspected.contains("signed with") && inspected.contains("`ann`"), "{inspected}");

    // Whoever can write into the directory has no key.
    let mut changed = fs::read(&file).unwrap();
    let at = changed.windows(5).position(|bytes| bytes == b"1.0.0").unwrap();
    changed[at] = b'9';
    let changed_file = keys.path().join("changed.wasm");
    fs::write(&changed_file, changed).unwrap();
    let cases = [
        (sign("echo-v2", None), "it is not signed, and `require_signature` is set"),
        (sign("echo-v2", Some("eve")), "which is not among `keys` under [modules]"),
        (changed_file, "it was changed after it was signed: its signature is by the key `ann`"),
    ];
    for (bad, why) in &cases {
        put(bad, &file);
        shown(why);
        assert_eq!(version(&cluster).unwrap(), 1, "{why}");
        shown("echo: 1 of 1 monitors run what they are to run");
        let check = cluster.ask(&[
            "modules",
            "inspect",
            bad.to_str().unwrap(),
            "--config",
            cluster.dir.path().to_str().unwrap(),
        ]);
        assert!(check.code == Some(1) && check.err.contains(why), "{check:?}");
    }
    // Nor does it run where it is the only one: neither there nor after a restart beside it, nor on a monitor into whose own directory it is put.
    put(&cases[0].0, &cluster.path("data/chat-1/modules/other.wasm"));
    eventually("the monitor has refused it", || {
        let events = cluster.done(&["events", "--json"]);
        let told = |line: &str| line.contains("chat-1") && line.contains("other.wasm was refused: it is not signed");
        events.lines().any(told).then_some(())
    });

    // Signatures are asked for while the module is in force that was installed before its key was known: it stays.
    let without = own.replace(&format!("keys = {{ ann = {ann:?} }}\nrequire_signature = true\n"), "");
    put(&sign("echo-v1", Some("ann")), &file);
    let no_key = own.replace("require_signature = true\n", "").replace(&format!("keys = {{ ann = {ann:?} }}\n"), "");
    assert_eq!(without, no_key);
    cluster.write("pomelo.toml", &without);
    cluster.done(&["apply", "--yes"]);
    cluster.write("pomelo.toml", &own);
    cluster.done(&["apply", "--yes"]);
    assert_eq!(version(&cluster).unwrap(), 1);
    eventually("the signer is known", || {
        let modules: Value = serde_json::from_str(&cluster.done(&["modules", "--json"])).unwrap();
        let echo = modules["modules"].as_array().unwrap().iter().find(|module| module["id"] == "echo")?.clone();
        (echo["signer"] == "ann" && echo["refused"].is_null()).then_some(())
    });

    // The next version of who has the key, and then the key is taken away.
    put(&sign("echo-v2", Some("ann")), &file);
    eventually("the second version answers", || version(&cluster).filter(|version| *version == 2));
    cluster.write("pomelo.toml", &own.replace(&format!("keys = {{ ann = {ann:?} }}\n"), ""));
    cluster.done(&["apply", "--yes"]);
    shown("which is not among `keys`");
    assert_eq!(version(&cluster), None, "it is taken out");
}

#[test]
fn x1_a_modules_grants_are_for_files_of_its_key_alone() {
    let keys = tempfile::tempdir().unwrap();
    let [ann, bob] = ["ann", "bob"].map(|name| keygen(keys.path(), name));
    let own = format!("{SETTINGS}[modules]\nkeys = {{ ann = {ann:?}, bob = {bob:?} }}\n[module.echo]\nkey = \"ann\"\n");
    let mut cluster = Cluster::configured(json!({}), &own);
    fs::create_dir(cluster.path("modules")).unwrap();
    cluster.host("start", &[]);
    cluster.wait_for(&[]);
    let file = cluster.path("modules/echo.wasm");
    let sign = |module, key| copy(keys.path(), module, key);
    for (key, why) in [(None, "it is not signed, and its id `echo`"), (Some("bob"), "it is signed with the key `bob`")]
    {
        put(&sign("echo-v1", key), &file);
        eventually(why, || cluster.done(&["modules"]).contains(why).then_some(()));
        assert_eq!(version(&cluster), None);
    }
    // Others need none.
    put(&sign("serial", None), &cluster.path("modules/serial.wasm"));
    eventually("another one is there", || cluster.done(&["modules"]).contains("serial").then_some(()));
    put(&sign("echo-v1", Some("ann")), &file);
    eventually("it answers", || version(&cluster).filter(|version| *version == 1));

    // Keys are not written over, a key may have a password, and what is no key or no module is said so.
    let ask = |arguments: &[&str], password: Option<&str>| {
        let mut command = pomelo(arguments);
        command.current_dir(keys.path());
        command.envs(password.map(|password| ("POMELO_KEY_PASSWORD", password)));
        run(command)
    };
    let refused = |arguments: &[&str], password, why: &str| {
        let done = ask(arguments, password);
        assert!(done.code != Some(0) && done.err.contains(why), "{done:?}");
    };
    refused(&["module", "keygen", "ann"], Some("x"), "ann is there already, and is not written over");
    assert_eq!(ask(&["module", "keygen", "cleo"], Some("a password")).code, Some(0));
    let unsigned = sign("echo-v2", None);
    let with = |key| ["module", "sign", unsigned.to_str().unwrap(), "--key", key];
    refused(&with("cleo"), Some("another"), "cleo");
    refused(&with("cleo.pub"), Some("x"), "cleo.pub");
    refused(&["module", "sign", "ann", "--key", "ann"], None, "is not a WebAssembly file");
    assert_eq!(ask(&with("cleo"), Some("a password")).code, Some(0));
    let signed = fs::read(&unsigned).unwrap();
    // Signed once more it has one signature.
    assert_eq!(ask(&with("ann"), None).code, Some(0));
    assert!(fs::read(&unsigned).unwrap().len().abs_diff(signed.len()) < 8);
}
