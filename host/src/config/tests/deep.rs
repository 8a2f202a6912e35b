//! Files that are nested deeply. Each reader runs with the stack of a thread of a running host: one that went down with the text would end the host.

use super::*;
use crate::config::{Credentials, Texts, UserFile};

/// The stack of the threads on which a host reads files, bytes.
const STACK: usize = 2 << 20;
/// Far more than any stack holds.
const DEEP: usize = 100_000;

/// Texts of JSON, whole and cut off.
fn json() -> Vec<String> {
    let (lists, tables) = ("[".repeat(DEEP), r#"{"a":"#.repeat(DEEP));
    let mut texts = vec![lists.clone(), tables.clone()];
    // Also some that a parser with a bound of its own still takes.
    for depth in [100, 128, 200, 511, 512, 513, DEEP] {
        texts.push(format!("{}1{}", "[".repeat(depth), "]".repeat(depth)));
        texts.push(format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth)));
        texts.push(format!(r#"{{"chat": [{{"id": "a", "x": {}{}}}]}}"#, "[".repeat(depth), "]".repeat(depth)));
        texts.push(format!(r#"[{{"username": "ann", "password": {}{}}}]"#, "[".repeat(depth), "]".repeat(depth)));
    }
    texts
}

fn toml() -> Vec<String> {
    let mut texts = Vec::new();
    for depth in [79, 80, 81, 128, 512, DEEP] {
        texts.push(format!("a = {}", "[".repeat(depth)));
        texts.push(format!("a = {}{}", "[".repeat(depth), "]".repeat(depth)));
        texts.push(format!("a = {}1{}", "{a = ".repeat(depth), "}".repeat(depth)));
        texts.push(format!("{}a = 1", "a.".repeat(depth)));
        texts.push(format!("[{}a]\nb = 1", "a.".repeat(depth)));
        texts.push(format!("[[{}a]]\nb = 1", "a.".repeat(depth)));
        texts.push(format!("[module.x]\noptions = {}{}", "[".repeat(depth), "]".repeat(depth)));
        texts.push(format!("[module.x.options]\n{}a = 1", "a.".repeat(depth)));
    }
    texts
}

fn small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK).spawn(work).unwrap().join().unwrap();
}

#[test]
fn files_that_are_nested_deeply_are_faults_and_overflow_no_stack() {
    small_stack(|| {
        let files = ["master.json", "servers.json", "adminUser.json", "adminServer.json", "crons.json"];
        for name in files {
            for text in json() {
                let mut all = vec![(name, text.as_str())];
                if name != "master.json" {
                    all.push(("master.json", MASTER));
                }
                let dir = dir(&all);
                // What is not deep enough to be a fault is another one, or none in a file that nobody reads.
                let loaded = Config::load(dir.path(), "development");
                let deep = text.matches(['[', '{']).count() > 600;
                assert!(!deep || loaded.is_err() || name == "crons.json", "{name}: {} bytes", text.len());
                let _ = Credentials::load(dir.path(), "development");
                let _ = UserFile::open(dir.path(), "development");
                let _ = Texts::read(&dir.path().join(name));
            }
        }
        for text in toml() {
            let dir = dir(&[("pomelo.toml", &text), ("master.json", MASTER)]);
            let loaded = Config::load(dir.path(), "development");
            // A module's options may be nested a little.
            assert!(text.len() < 400 || loaded.is_err(), "{} bytes: {}", text.len(), &text[..40]);
        }
    });
}

#[test]
fn what_peers_and_modules_send_is_read_with_a_bound() {
    small_stack(|| {
        for text in json() {
            let _ = serde_json::from_str::<Value>(&text);
            if let Ok(payload) = serde_json::from_str::<&serde_json::value::RawValue>(&text) {
                let _ = crate::wire::Message::parse(payload);
            }
            let _ = serde_json::from_str::<crate::wire::Register>(&text);
            let _ = serde_json::from_str::<crate::journal::Report>(&text);
        }
    });
}
