//! A monitor, or somebody with the token of any type of server.

use pomelo_host::wire::Topic;
use serde_json::json;

use crate::peers::Registered;
use crate::target::Target;

#[tokio::test(flavor = "multi_thread")]
async fn notifies_without_pause_do_not_take_the_memory() {
    let target = Target::start("");
    let monitor = Registered::monitor(target.address(), "chat-9").await;
    let body = json!({"action": "record", "id": "chat-9", "padding": "x".repeat(64 << 10)});
    for _ in 0..2000 {
        assert!(monitor.notify(Topic::Monitor, "__masterwatcher__", &body));
    }
    let stopped = target.stop("chat-1");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    target.held();
}
