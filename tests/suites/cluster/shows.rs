//! The shows of `shows/` with small numbers, so that they are kept working, and so that what they show is looked at with every change.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::*;

/// Runs a show, which has to pass. Beside the rest of the suite a machine is slow, so that each may take its time.
fn show(script: &str, arguments: &[&str]) {
    let mut command = Command::new("node");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../shows").join(script)).args(arguments);
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-modules");
    command.env("POMELO", POMELO).env("POMELO_CACHE", cache).stdin(Stdio::null());
    let done = run(command);
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
}

#[test]
fn no_client_is_cut_before_its_time_and_no_view_names_a_server_that_drains_in_a_rolling_restart() {
    // A program that learns late that it drains believes that its time is longer than its monitor knows.
    let slack = ["--drain-ms", "2000", "--slack-ms", "1500"];
    show("rolling-restart.js", &[&["--servers", "6", "--clients", "3", "--stubborn", "2"][..], &slack].concat());
}

#[test]
fn a_master_that_is_killed_in_rolling_restarts_forgets_nothing_and_runs_nothing_twice() {
    show("killed-master.js", &["--kills", "3", "--servers", "4", "--others", "2"]);
}
