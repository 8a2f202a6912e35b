//! Versions of modules' files that have been good: kept, put in force where the file is not, and gone back to.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::modules::built;
use crate::support::*;

/// A version counts as good when it has been in force for so long.
const SHORT: &str = "[watch]\ndrain_ms = 500\n";

fn drop_in(version: &str, file: &Path) {
    put(&built(&format!("fixtures/echo-{version}.wasm")), file);
}

/// A cluster that has begun with the first version, and the module's file.
fn begun() -> (Cluster, PathBuf) {
    let mut cluster =
        Cluster::configured(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), &format!("{SETTINGS}{SHORT}"));
    let file = cluster.path("modules").join("echo.wasm");
    fs::create_dir(cluster.path("modules")).unwrap();
    drop_in("v1", &file);
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1"]);
    (cluster, file)
}

fn answers(cluster: &Cluster, version: u32) {
    eventually(&format!("version {version} answers"), || {
        cluster.request("echo", &Value::Null).ok().filter(|answer| answer["version"] == version)
    });
}

/// The state of each version of `echo` that is kept, by `wanted`, the newest first.
fn history(cluster: &Cluster, wanted: &[&str]) -> Vec<String> {
    eventually(&format!("the history is {wanted:?}"), || {
        let history: Value = serde_json::from_str(&cluster.done(&["modules", "history", "echo", "--json"])).unwrap();
        let versions = history["versions"].as_array().unwrap();
        let state = |version: &Value| match version["digest"] == history["inForce"] {
            true => "in force".to_owned(),
            false => version["state"].as_str().unwrap().to_owned(),
        };
        let digest = |version: &Value| version["digest"].as_str().unwrap().to_owned();
        (versions.iter().map(state).collect::<Vec<_>>() == wanted).then(|| versions.iter().map(digest).collect())
    })
}

/// Ends the cluster's host and starts it again, after `meanwhile`.
fn restart(cluster: &mut Cluster, meanwhile: impl FnOnce()) {
    let mut host = cluster.hosts.pop().unwrap();
    host.signal(Signal::SIGTERM);
    host.ended();
    meanwhile();
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1"]);
}

fn shown(cluster: &Cluster, text: &str) {
    eventually(&format!("`modules` says: {text}"), || cluster.done(&["modules"]).contains(text).then_some(()));
}

#[test]
fn x1_a_host_that_starts_beside_a_broken_file_runs_the_version_that_was_good() {
    let (mut cluster, file) = begun();
    answers(&cluster, 1);
    history(&cluster, &["in force"]);

    // No module, and then nothing that can be read.
    for broken in ["text", "directory"] {
        restart(&mut cluster, || {
            fs::remove_file(&file).unwrap();
            match broken {
                "text" => fs::write(&file, "no module").unwrap(),
                _ => fs::create_dir(&file).unwrap(),
            }
        });
        answers(&cluster, 1);
        shown(&cluster, "echo runs a version that was kept from before");
        shown(&cluster, "echo its newest file was refused:");
        let events = cluster.done(&["events", "--json"]);
        let told = |server: &str| {
            let of = |line: &&str| {
                line.contains(&format!("\"server\":\"{server}\"")) && line.contains("which was good before")
            };
            events.lines().filter(of).count()
        };
        assert!(told("master") >= 1 && told("chat-1") >= 1, "{events}");
        // Another restart finds the same.
        if broken == "directory" {
            fs::remove_dir(&file).unwrap();
        }
        drop_in("v1", &file);
        eventually("the file is in force again", || {
            (!cluster.done(&["modules"]).contains("was kept from before")).then_some(())
        });
    }

    // A version that traps when it is asked, and there is none in force before it. It is new for ten seconds, however slow the machine is.
    let toml = cluster.path("pomelo.toml");
    let settings = fs::read_to_string(&toml).unwrap().replace(SHORT, "");
    restart(&mut cluster, || {
        fs::write(&toml, settings).unwrap();
        drop_in("trap", &file);
    });
    eventually("it traps, and the one before answers", || {
        cluster.request("echo", &Value::Null).ok().filter(|answer| answer["version"] == 1)
    });
    shown(&cluster, "echo its newest file was refused: it trapped right after this host had started");
    // It is known at the next start, and may show itself once more when it is dropped anew.
    restart(&mut cluster, || {});
    shown(&cluster, "echo its newest file was refused: it was taken back before");
    answers(&cluster, 1);
    history(&cluster, &["taken-back", "in force"]);
    drop_in("trap", &file);
    eventually("it traps once more", || {
        let refused = cluster.request("echo", &Value::Null).is_err();
        refused.then_some(())
    });
    answers(&cluster, 1);
}

#[test]
fn x1_an_operator_goes_back_to_a_version_and_forth_again() {
    let (cluster, file) = begun();
    history(&cluster, &["in force"]);
    let refused = |arguments: &[&str], why: &str| {
        let done = cluster.ask(arguments);
        assert!(done.code == Some(1) && done.err.contains(why), "{done:?}");
    };
    refused(&["modules", "rollback", "echo"], "no other good version of echo.wasm is kept");
    drop_in("v2", &file);
    answers(&cluster, 2);
    let digests = history(&cluster, &["in force", "good"]);

    let said = cluster.done(&["modules", "rollback", "echo"]);
    assert!(said.contains(&format!("{} again; it was {}", &digests[1][..8], &digests[0][..8])), "{said}");
    answers(&cluster, 1);
    let bytes = |version: &str| fs::read(built(&format!("fixtures/echo-{version}.wasm"))).unwrap();
    assert!(fs::read(&file).unwrap() == bytes("v1"), "the file itself has changed, so that it stays so");
    history(&cluster, &["rolled-back", "in force"]);
    assert!(cluster.done(&["modules", "history", "echo"]).contains("rolled back"));
    let events = cluster.done(&["events", "--json"]);
    assert!(events.lines().any(|line| line.contains("again; it was") && line.contains("\"admin\"")), "{events}");

    refused(&["modules", "rollback", "echo"], "no other good version of echo.wasm is kept");
    refused(&["modules", "rollback", "echo", "0123"], "whose digest begins with 0123");
    refused(&["modules", "rollback", "echo", &digests[1]], "is that version");
    refused(&["modules", "rollback", "nothing"], "unknown module nothing");
    refused(&["modules", "rollback", "__console__"], "is built in");
    let as_monitor = ["--username=monitor", "--password=monitor"];
    refused(&[&["modules", "rollback", "echo"][..], &as_monitor].concat(), "level");
    cluster.done(&[&["modules", "history", "echo"][..], &as_monitor].concat());

    cluster.done(&["modules", "rollback", "echo", &digests[0][..8]]);
    answers(&cluster, 2);
    assert!(fs::read(&file).unwrap() == bytes("v2"));
    let asked = cluster.asked();
    assert!(asked.iter().any(|line| line["operation"] == "rollback" && line["user"] == "admin"), "{asked:?}");
}
