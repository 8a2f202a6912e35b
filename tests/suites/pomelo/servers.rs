//! pomelo's servers join our master.

use serde_json::json;

use crate::app::{App, SERVERS};
use crate::support::eventually;

#[test]
fn r5_pomelos_servers_start_fully_and_their_chat_routes_work() {
    let mut app = App::new().with_tokens();
    app.start();
    for id in SERVERS {
        let events = app.events(id);
        let over = events.iter().position(|(event, _)| event == "afterStartAll").unwrap();
        // Whoever is told that all have started has been told of all.
        let known = events[..over].iter().filter(|(event, _)| event == "add").flat_map(|(_, ids)| ids.as_array());
        let known: Vec<_> = known.flatten().filter_map(|id| id.as_str()).collect();
        for other in &SERVERS {
            assert!(known.contains(other), "{id} knows {known:?} and not {other}");
        }
        assert!(!events.iter().any(|(event, _)| event == "uncaught"), "{events:?}");
    }
    for chat in ["chat-server-1", "chat-server-2"] {
        let said = app.play(chat);
        assert_eq!(said[0]["connector"], "connector-server-1", "{said:?}");
        assert_eq!(said[1]["connector"], "connector-server-2", "{said:?}");
        assert_eq!(said[2]["heard"]["said"]["text"], "hello", "{said:?}");
        assert_eq!(said[2]["heard"]["said"]["by"], chat, "{said:?}");
    }
}

/// Breaks a server's connection to the master, and waits until it is back.
fn cut(app: &App, id: &str) {
    let before = app.events(id).len();
    app.cut(id);
    app.wait_until(id, |events| events[before..].iter().any(|(event, _)| event == "replace"));
}

#[test]
fn r5_servers_come_back_after_their_connection_broke_and_to_a_restarted_master() {
    let mut app = App::new().with_tokens();
    app.start();
    cut(&app, "connector-server-2");
    app.wait_until("chat-server-1", |events| {
        events.iter().any(|(event, ids)| event == "remove" && ids == &json!(["connector-server-2"]))
    });
    app.wait_for_list(&SERVERS);
    assert_eq!(app.play("chat-server-1")[2]["sent"]["code"], 200);

    // Killed, and started again on the same data: it takes its fleet back.
    let before: Vec<usize> = SERVERS.iter().map(|id| app.events(id).len()).collect();
    app.running.remove("master");
    app.master();
    for (id, before) in SERVERS.iter().zip(before) {
        let all = |ids: &serde_json::Value| SERVERS.iter().all(|id| ids.as_array().unwrap().contains(&json!(id)));
        app.wait_until(id, |events| {
            // Whoever came later was told of by itself.
            let mut known: Vec<serde_json::Value> = Vec::new();
            for (event, ids) in &events[before..] {
                match event.as_str() {
                    "replace" => known = ids.as_array().unwrap().clone(),
                    "add" => known.extend(ids.as_array().unwrap().iter().cloned()),
                    "remove" => known.retain(|id| !ids.as_array().unwrap().contains(id)),
                    _ => {}
                }
            }
            all(&json!(known))
        });
    }
    app.wait_for_list(&SERVERS);
    assert_eq!(app.play("chat-server-2")[2]["sent"]["code"], 200);
}

#[test]
fn a3_a_fleet_that_this_master_does_not_know_waits_until_the_operator_admits_it() {
    let mut app = App::new().with_tokens();
    app.write("pomelo.toml", "[data]\ndir = \"first\"\n");
    app.start();
    app.running.remove("master");
    // Another master, as when a fleet moves over.
    app.write("pomelo.toml", "[data]\ndir = \"second\"\n");
    app.master();
    eventually("all wait", || {
        let shown = app.ask(&["admit"]);
        SERVERS.iter().all(|id| shown.out.contains(id)).then_some(())
    });
    assert_eq!(app.list().as_object().unwrap().len(), 1);
    assert_eq!(app.ask(&["admit", "gate-server-1"]).code, Some(0));
    app.wait_for_list(&["gate-server-1"]);
    assert_eq!(app.ask(&["admit", "--all", "--for", "600"]).code, Some(0));
    app.wait_for_list(&SERVERS);
    assert_eq!(app.play("chat-server-1")[2]["sent"]["code"], 200);
    assert!(!app.ask(&["admit"]).out.contains("gate-server-1"));
    let low = app.ask(&["admit", "--all", "-u", "monitor", "-p", "monitor"]);
    assert!(low.code == Some(1) && low.err.contains("level"), "{low:?}");
}
