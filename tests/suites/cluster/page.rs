//! The web page, in a real browser.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::clients::script;
use crate::support::*;

/// Sees to it that what drives the browser is there: it came to `package.json` later than the Socket.IO client did.
pub fn driver() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/js");
    if folder.join("node_modules/playwright-core").exists() {
        return;
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"]).current_dir(folder);
    let done = run(npm);
    assert_eq!(done.code, Some(0), "npm's playwright-core is missing: {done:?}");
}

#[test]
fn a5_the_page_logs_in_shows_the_cluster_and_restarts_a_server() {
    driver();
    // A program's last words that would be a script if the page took them for HTML.
    let loud = "trap 'exit 0' TERM; test -e said || { touch said; echo '<img src=x onerror=alert(1)>' >&2; exit 1; }; \
                while :; do sleep 0.05; done";
    let cluster = Cluster::start(
        json!({"chat": [{"id": "chat-1", "script": loud}, {"id": "chat-2", "script": GRACEFUL}]}),
        "[supervise]\nready_delay_ms = 0\nbackoff_min_ms = 50\n",
    );
    cluster.wait_for(&["chat-1", "chat-2"]);
    eventually("it has said it", || cluster.path("said").exists().then_some(()));
    let said = script("page.js", &[&cluster.port.to_string()]);
    for check in [
        "a wrong password is refused",
        "servers and modules are shown",
        "a server is restarted and the event is shown",
        "jobs are shown with their progress",
        "a server that is down is a row and is started again",
        "markup is shown as text",
        "level 2 sees no buttons",
    ] {
        assert!(said.lines().any(|line| line == check), "{check} is not in {said}");
    }
}
