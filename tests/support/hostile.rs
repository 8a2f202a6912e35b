//! Hostile modules, as files of a modules' directory, and how they are called. The suite `hostile` and the example of the same name use them.

// The suite uses some of them one by one.
#![allow(dead_code)]

use serde_json::{Value, json};

use crate::shapes;

/// A file: its name without the ending, and its bytes.
pub type File = (String, Vec<u8>);

/// Hostile files, and what is done with them.
#[derive(Default)]
pub struct Hostile {
    /// What it is called in the table.
    pub name: &'static str,
    pub files: Vec<File>,
    /// Of each of these module ids so many calls are under way at any time.
    pub called: (Vec<String>, usize),
    /// What the calls carry.
    pub message: Value,
    /// Text of pomelo.toml.
    pub settings: &'static str,
    /// Whether the files are there before the master.
    pub present: bool,
    /// Whether the monitor of chat-1 stands still.
    pub silent: bool,
    /// Whether the files are saved again and again, each time with something else in them.
    pub saved_again: bool,
}

const TEMPLATE: &str = include_str!("../fixtures/hostile/cpu/module.wat");

/// Half a second of computing, on a processor of three gigahertz.
pub const COMPUTES: &str = "(call $spin (i64.const 600000000))";
/// Computes until it is ended.
pub const FOREVER: &str = "(call $forever)";
/// Logs and asks its store, without a pause. Both are answered at once, so that it never waits.
pub const LOGS: &str = "(call $logs (i32.const 200000))";
pub const GETS: &str = "(call $gets (i32.const 200000))";
/// Takes all memory that it may have, and writes to it.
pub const GROWS: &str = "(call $grows (i32.const 100))";
/// Some milliseconds, less than a slice of the host's.
pub const SHORT: &str = "(call $spin (i64.const 1500000))";

/// A module with those ids of which a call, `start` and the instantiation do what they say.
pub fn module(ids: &Value, [work, start, begin]: [&str; 3]) -> Vec<u8> {
    let descriptor = json!({ "ids": ids }).to_string();
    let length = descriptor.len().to_string();
    let text = TEMPLATE
        .replace("(i32.const LENGTH)", &format!("(i32.const {length})"))
        .replace("\"DESCRIPTOR\"", &format!("\"{}\"", descriptor.replace('"', "\\22")))
        .replace("(func $begin BEGIN)", &format!("(func $begin {begin})"))
        .replace("      WORK\n", &format!("      {work}\n"))
        .replace("      START\n", &format!("      {start}\n"));
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// A module with one id of the same name as its file.
pub fn file(name: &str, work: [&str; 3]) -> File {
    (name.to_owned(), module(&json!([{ "id": name }]), work))
}

/// One file with 64 timers that all fire every second.
pub fn timers(work: &str) -> File {
    let ids = (0..64).map(|number| json!({"id": format!("t{number}"), "type": "pull", "interval": 1}));
    ("timers".to_owned(), module(&ids.collect(), [work, "", ""]))
}

/// So many files of the same kind.
pub fn files(count: usize, name: &str, work: [&str; 3]) -> Vec<File> {
    (0..count).map(|number| file(&format!("{name}{number}"), work)).collect()
}

fn called(name: &'static str, files: Vec<File>, calls: usize) -> Hostile {
    let ids = files.iter().map(|(name, _)| name.clone()).collect();
    Hostile { name, files, called: (ids, calls), ..Hostile::default() }
}

fn alone(name: &'static str, files: Vec<File>, present: bool) -> Hostile {
    Hostile { name, files, present, ..Hostile::default() }
}

/// What `fixtures/hostile/memory` does in so many calls at once, while a server answers nothing.
fn hoards(name: &'static str, what: &str) -> Hostile {
    let called = (vec!["hoarder".to_owned()], 250);
    let message = json!({"do": what, "server": "chat-1"});
    let files = vec![built("hostile-memory")];
    let settings = "[module.hoarder]\ngrants = [\"cluster\"]\n[module.hoarder.limits]\nwall_ms = 2000\n";
    Hostile { name, files, called, message, settings, silent: true, ..Hostile::default() }
}

/// What `fixtures/hostile/pressure` does in two calls at once.
fn floods(name: &'static str, what: &str, silent: bool) -> Hostile {
    let called = (vec!["flooder".to_owned()], 2);
    let message = json!({"do": what, "server": "chat-1", "times": 100_000});
    let files = vec![built("hostile-pressure")];
    let settings = "[module.flooder]\ngrants = [\"cluster\", \"uplink\"]\n";
    Hostile { name, files, called, message, settings, silent, ..Hostile::default() }
}

/// Files that are refused for what they cost a compiler, or are given up while they are compiled.
fn compiled(name: &'static str, core: Vec<u8>) -> Hostile {
    let files = vec![("costly".to_owned(), shapes::module(Some(&core), &json!({"ids": [{"id": "costly"}]})))];
    Hostile { name, files, saved_again: true, ..Hostile::default() }
}

/// A component that `modules/build.sh` makes.
fn built(name: &str) -> File {
    let file = format!("{}/../target/modules/fixtures/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}: run modules/build.sh"));
    (name.to_owned(), bytes)
}

/// All of them.
pub fn all() -> Vec<Hostile> {
    vec![
        called("two calls that compute", vec![file("computes", [COMPUTES, "", ""])], 2),
        called("sixteen calls that compute", vec![file("computes", [COMPUTES, "", ""])], 16),
        called("ten files, four calls of each compute", files(10, "computes", [COMPUTES, "", ""]), 4),
        called("calls that are shorter than a slice", vec![file("short", [SHORT, "", ""])], 16),
        called("two calls that log without a pause", vec![file("logs", [LOGS, "", ""])], 2),
        called("two calls that ask the store without a pause", vec![file("asks", [GETS, "", ""])], 2),
        called("four calls that fill all their memory", vec![file("grows", [GROWS, "", ""])], 4),
        alone("64 timers of one file that compute", vec![timers(COMPUTES)], false),
        alone("64 timers of one file, each shorter than a slice", vec![timers(SHORT)], false),
        alone("ten files whose `start` computes until it is ended", files(10, "starts", ["", FOREVER, ""]), true),
        alone("ten files that compute when they are instantiated", files(10, "begins", ["", "", FOREVER]), true),
        hoards("250 calls that wait with all memory that they may have", "hold"),
        hoards("250 calls with thousands of targets", "targets"),
        hoards("250 calls with large messages that nobody takes", "send"),
        hoards("250 calls with keys of two megabytes", "key"),
        floods("`notify` without pause", "notify", false),
        floods("`notify` without pause, and the monitor stands still", "notify", true),
        floods("`uplink.notify` without pause", "up", false),
        floods("`progress` without pause", "progress", false),
        floods("`tell` without pause, and the monitor stands still", "tell", true),
        compiled("a file that would be compiled for minutes, saved every 100 ms", shapes::loops(1_500, 1_900, 200)),
        compiled("a file with a costly shape, saved every 100 ms", shapes::loops(10_000, 3_000, 1)),
    ]
}
