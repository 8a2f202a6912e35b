//! What may happen to the modules' directory of a running master beside files that come and go: it is replaced, links lead elsewhere, and things that
//! are no files stand in it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::modules::built;
use crate::support::*;

/// A cluster with one server, whose modules' directory was made by `make` before it began.
fn cluster(settings: &str, make: impl FnOnce(&Path)) -> Cluster {
    let mut cluster =
        Cluster::configured(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), &format!("{SETTINGS}{settings}"));
    let directory = cluster.path("modules");
    fs::create_dir(&directory).unwrap();
    make(&directory);
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1"]);
    cluster
}

fn copy(version: &str, to: &Path) {
    put(&built(&format!("fixtures/echo-{version}.wasm")), to);
}

/// Waits until `echo` answers as that version of it.
fn answers(cluster: &Cluster, version: u32) {
    eventually(&format!("version {version} answers"), || {
        cluster.request("echo", &Value::Null).ok().filter(|answer| answer["version"] == version)
    });
}

/// Why files were refused that are not in force, once `part` is said of one.
fn refused(cluster: &Cluster, name: &str, part: &str) -> String {
    eventually(&format!("{name} is refused: {part}"), || {
        let modules: Value = serde_json::from_str(&cluster.done(&["modules", "--json"])).unwrap();
        let why = modules["refused"].get(name)?.as_str()?.to_owned();
        why.contains(part).then_some(why)
    })
}

/// How many events say both of these.
fn events(cluster: &Cluster, one: &str, other: &str) -> usize {
    let events = cluster.done(&["events", "--json"]);
    events.lines().filter(|line| line.contains(one) && line.contains(other)).count()
}

#[test]
fn what_is_no_file_holds_up_nothing_and_is_told_with_the_reason() {
    let cluster = cluster("[modules]\nfile_mib = 1\n", |directory| {
        mknodat(CWD, directory.join("pipe.wasm"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        symlink("/dev/zero", directory.join("device.wasm")).unwrap();
        fs::create_dir(directory.join("folder.wasm")).unwrap();
        symlink(directory.join("loop.wasm"), directory.join("loop.wasm")).unwrap();
        symlink("nothing", directory.join("dangling.wasm")).unwrap();
        File::create(directory.join("large.wasm")).unwrap().set_len((1 << 20) + 1).unwrap();
        copy("v1", &directory.join("echo.wasm"));
    });
    answers(&cluster, 1);
    for (name, part) in [
        ("pipe", "a named pipe, not a file"),
        ("device", "a device, not a file"),
        ("folder", "a directory, not a file"),
        ("loop", "cannot be read: Too many levels of symbolic links"),
        ("dangling", "cannot be read: No such file"),
        ("large", "1048577 bytes; at most 1048576 are read: raise `file_mib`"),
    ] {
        let why = refused(&cluster, name, part);
        assert!(cluster.hosts[0].log().contains(&why), "the log says it: {why}");
        // The master and its own monitor say it, however often a file that cannot be read is tried again.
        assert!((1..=2).contains(&events(&cluster, &format!("{name}.wasm was refused"), part)), "{name}");
    }
    assert!(cluster.done(&["modules"]).contains("pipe.wasm was refused: it is a named pipe"));

    // Each is over when its fault is, and nothing else has to happen.
    fs::remove_file(cluster.path("modules/pipe.wasm")).unwrap();
    fs::remove_file(cluster.path("modules/large.wasm")).unwrap();
    fs::remove_file(cluster.path("modules/echo.wasm")).unwrap();
    copy("v2", &cluster.path("modules/nothing"));
    answers(&cluster, 2);
    eventually("only what is still there is refused", || {
        let modules: Value = serde_json::from_str(&cluster.done(&["modules", "--json"])).unwrap();
        let names: Vec<&String> = modules["refused"].as_object()?.keys().collect();
        (names == ["device", "folder", "loop"]).then_some(())
    });
}

#[test]
fn a_directory_that_is_replaced_is_noticed_and_followed() {
    let cluster = cluster("", |directory| copy("v1", &directory.join("echo.wasm")));
    answers(&cluster, 1);
    let (modules, old, new) = (cluster.path("modules"), cluster.path("old"), cluster.path("new"));
    fs::create_dir(&new).unwrap();
    copy("v2", &new.join("echo.wasm"));
    fs::rename(&modules, &old).unwrap();
    fs::rename(&new, &modules).unwrap();
    answers(&cluster, 2);
    // And what changes in the new one.
    copy("v1", &modules.join("echo.wasm"));
    answers(&cluster, 1);
    fs::remove_file(modules.join("echo.wasm")).unwrap();
    eventually("it is removed", || cluster.request("echo", &Value::Null).is_err().then_some(()));
}

#[test]
fn a_directory_that_is_not_there_takes_nothing_out_of_force_and_is_told() {
    let cluster = cluster("", |directory| copy("v1", &directory.join("echo.wasm")));
    answers(&cluster, 1);
    let (modules, away) = (cluster.path("modules"), cluster.path("away"));
    let name = format!("{}/", modules.display());
    fs::rename(&modules, &away).unwrap();
    refused(&cluster, &name, "cannot be read: No such file");
    assert!(cluster.done(&["modules"]).contains("what is in force stays"));
    assert!(events(&cluster, "modules' directory", "No such file") > 0);
    answers(&cluster, 1);
    fs::create_dir(&modules).unwrap();
    eventually("an empty directory has no module", || cluster.request("echo", &Value::Null).is_err().then_some(()));
    let shown = eventually("nothing is wrong with it", || {
        let shown = cluster.done(&["modules", "--json"]);
        (!shown.contains("cannot be read")).then_some(shown)
    });
    assert!(!shown.contains(&name), "{shown}");
}

#[test]
fn links_that_lead_elsewhere_are_noticed() {
    let cluster = cluster("", |directory| {
        // As Kubernetes mounts a volume: files are links through one link, which is replaced.
        fs::create_dir(directory.join("..1")).unwrap();
        copy("v1", &directory.join("..1/echo.wasm"));
        symlink("..1", directory.join("..data")).unwrap();
        symlink("..data/echo.wasm", directory.join("echo.wasm")).unwrap();
    });
    answers(&cluster, 1);
    let at = |name: &str| cluster.path("modules").join(name);
    fs::create_dir(at("..2")).unwrap();
    copy("v2", &at("..2/echo.wasm"));
    symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    fs::remove_dir_all(at("..1")).unwrap();
    answers(&cluster, 2);
    // What a link leads to is written in its place.
    fs::write(at("..2/echo.wasm"), fs::read(built("fixtures/echo-v1.wasm")).unwrap()).unwrap();
    answers(&cluster, 1);
}

#[test]
fn a_directory_with_a_link_on_the_way_is_followed_where_that_leads() {
    let mut cluster = Cluster::configured(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), SETTINGS);
    for (release, version) in [("1", "v1"), ("2", "v2")] {
        let directory = cluster.path("releases").join(release);
        fs::create_dir_all(&directory).unwrap();
        copy(version, &directory.join("echo.wasm"));
    }
    symlink("releases/1", cluster.path("modules")).unwrap();
    cluster.host("start", &[]);
    cluster.wait_for(&["chat-1"]);
    answers(&cluster, 1);
    symlink("releases/2", cluster.path("next")).unwrap();
    fs::rename(cluster.path("next"), cluster.path("modules")).unwrap();
    answers(&cluster, 2);
}

#[test]
fn more_files_than_there_is_room_for_put_none_out_that_is_in_force() {
    let cluster = cluster("", |directory| copy("v1", &directory.join("z.wasm")));
    answers(&cluster, 1);
    for number in 0..300 {
        fs::write(cluster.path("modules").join(format!("a{number:03}.wasm")), "no module").unwrap();
    }
    let name = format!("{}/", cluster.path("modules").display());
    refused(&cluster, &name, "45 .wasm files more than the 256 that are taken");
    answers(&cluster, 1);
    for number in 0..300 {
        fs::remove_file(cluster.path("modules").join(format!("a{number:03}.wasm"))).unwrap();
    }
    eventually("nothing is refused any more", || {
        let modules: Value = serde_json::from_str(&cluster.done(&["modules", "--json"])).unwrap();
        modules["refused"].as_object()?.is_empty().then_some(())
    });
    answers(&cluster, 1);
}
