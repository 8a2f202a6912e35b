//! pomelo's servers join our master.

use crate::app::{App, SERVERS};

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
        for other in SERVERS.iter().chain(&["master-server-1"]) {
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
