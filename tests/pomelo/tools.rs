//! npm's `pomelo` and `pomelo-cli` drive the cluster.

use crate::app::{App, SERVERS};

#[test]
fn r5_pomelos_own_list_and_stop_show_and_end_pomelos_servers() {
    let mut app = App::new().with_tokens();
    app.start();
    let listed = app.tool(&["list"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    for id in SERVERS.iter().chain(&["master-server-1"]) {
        let line = listed.out.lines().find(|line| line.contains(id));
        let pid = app.running.get(*id).map_or(String::new(), |host| host.pid().to_string());
        assert!(line.is_some_and(|line| line.contains(&pid)), "{id} {pid}: {}", listed.out);
    }

    let stopped = app.tool(&["stop", "chat-server-2"]);
    assert_eq!((stopped.code, stopped.err.as_str()), (Some(0), ""), "{stopped:?}");
    assert_eq!(app.running.get_mut("chat-server-2").unwrap().ended().code(), Some(0));
    for id in SERVERS.iter().filter(|id| **id != "chat-server-2") {
        app.wait_for(id, "remove", |ids| ids == &serde_json::json!(["chat-server-2"]));
    }
    let unknown = app.tool(&["stop", "nobody"]);
    assert!(unknown.err.contains("nobody"), "{unknown:?}");
    app.wait_for_list(&["chat-server-1", "connector-server-1", "connector-server-2", "gate-server-1"]);

    let refused = app.tool(&["list", "-p", "wrong"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
}
