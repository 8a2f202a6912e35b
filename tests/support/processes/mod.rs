//! What the suites of real processes share: the finished program, processes and clusters that end with their test, and waits with a generous
//! deadline.

// Each of the test programs that share these files uses a part of them.
#![allow(dead_code, unused_imports)]

mod cluster;
mod host;
mod view;

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use cluster::{Cluster, SETTINGS, demo_server, pid, two_chats};
pub use host::{Host, Stopped, command_line, gone, parent, runs, send, unread};
pub use view::{ids, members, view, view_file, wait_for_members};

/// The finished program.
pub const POMELO: &str = env!("CARGO_BIN_EXE_pomelo");
/// A server that says in the file `ID.term` that it was asked to end, and ends.
pub const GRACEFUL: &str = "trap 'echo asked > $POMELO_SERVER_ID.term; exit 0' TERM; while :; do sleep 0.05; done";
/// How long [`eventually`] waits. It only keeps a failing test from hanging.
const LONG: Duration = Duration::from_secs(60);

/// Looks again and again until `look` finds something.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    eventually_or(what, || look().ok_or_else(String::new))
}

/// The same, with what is still missing.
pub fn eventually_or<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(missing) => assert!(begun.elapsed() < LONG, "{what}: not within {LONG:?} {missing}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Copies a file to its place in one step, so that no half of it is ever there. Its directory is made where it is missing.
pub fn put(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let part = to.with_extension("part");
    fs::copy(from, &part).unwrap();
    fs::rename(part, to).unwrap();
}

/// Ports that nobody listens on.
pub fn free_ports<const N: usize>() -> [u16; N] {
    // All at once, so that none is given twice.
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// The program with arguments, in an environment that owes nothing to that of whoever runs the tests.
pub fn pomelo(arguments: &[&str]) -> Command {
    // Whoever runs the tests under `nohup` has SIGHUP ignored, and the program leaves it so, as it should.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", POMELO]);
    // Compiled once for all tests: a debug build compiles slowly.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-modules");
    command.args(arguments).env("POMELO_CACHE", cache).stdin(Stdio::null());
    for name in ["POMELO_LOG", "POMELO_PASSWORD", "POMELO_TOKEN", "POMELO_CA", "POMELO_CERT", "POMELO_KEY"] {
        command.env_remove(name);
    }
    command
}

/// How a command ended and what it wrote.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    /// What a command printed, as JSON; where it failed, what it said of that.
    pub fn answer(self) -> Result<Value, String> {
        if self.code == Some(0) { Ok(serde_json::from_str(&self.out).unwrap()) } else { Err(self.err) }
    }

    fn of(output: Output) -> Done {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Done {
    Done::of(command.output().unwrap())
}

/// Runs a command to its end with a text on its standard input.
pub fn run_with_input(mut command: Command, input: &str) -> Done {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    feed(&mut child, input);
    Done::of(child.wait_with_output().unwrap())
}

/// Writes a text to a process's standard input and closes it. The process need not read it: it may have ended already.
pub fn feed(child: &mut Child, input: &str) {
    match child.stdin.take().unwrap().write_all(input.as_bytes()) {
        Ok(()) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::BrokenPipe),
    }
}
