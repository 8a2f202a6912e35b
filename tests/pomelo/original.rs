//! Monitors of ours join an original master of pomelo's.

use serde_json::json;

use crate::app::App;
use crate::support::eventually;

#[test]
fn r5_a_monitor_of_ours_joins_an_original_master() {
    let mut app = App::new().with_tokens();
    app.original_master();
    app.server("gate-server-1");
    app.wait_for("gate-server-1", "started", |_| true);
    let address = format!("127.0.0.1:{}", app.port);
    app.ours("chat-server-1", &["monitor", "--pomelo-master", &address, "--id", "chat-server-1"]);
    // The others are told of it, as of one of their own.
    app.wait_for("gate-server-1", "add", |ids| ids == &json!(["chat-server-1"]));
    let pid = app.running["chat-server-1"].pid().to_string();
    eventually("it is listed with its figures", || {
        let listed = app.tool(&["list"]);
        listed.out.lines().any(|line| line.contains("chat-server-1") && line.contains(&pid)).then_some(())
    });
    let stopped = app.tool(&["stop", "chat-server-1"]);
    assert_eq!(stopped.err, "", "{stopped:?}");
    app.running.get_mut("chat-server-1").unwrap().ended();
    app.wait_for("gate-server-1", "remove", |ids| ids == &json!(["chat-server-1"]));
}
