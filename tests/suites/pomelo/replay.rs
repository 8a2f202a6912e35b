//! Recorded sessions of pomelo's own master, replayed against ours: the peers say what they said, and get the same answers, but for the
//! differences that are listed here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::app::App;
use crate::support::eventually;
use crate::wire::{Came, Wire};

const TRANSCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/suites/pomelo/transcripts");

/// What is compared of a payload: not figures and process ids, nor what the master says of itself.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) if map.get("id") == Some(&json!("master-server-1")) => json!("the master"),
        Value::Object(map) if map.contains_key("serverId") => {
            let kept = map.iter().filter(|(key, _)| ["serverId", "serverType", "body"].contains(&key.as_str()));
            Value::Object(kept.map(|(key, value)| (key.clone(), plain(value))).collect())
        }
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), plain(value))).collect()),
        other => other.clone(),
    }
}

/// Whether a frame of ours is the recorded one.
fn same(file: &str, topic: &str, recorded: &Value, ours: &Value) -> bool {
    match topic {
        // The sentences are our own, and clients are told the master's version.
        "register" | "reconnect_ok" => recorded["code"] == ours["code"],
        "client" if recorded["respId"] != ours["respId"] => false,
        // Level 2 may see which modules there are: it is readable.
        "client" if file.starts_with("15-") && recorded["respId"] == 3 => ours["body"]["modules"].is_array(),
        // Why something failed is told in our own words.
        "client" if !recorded["error"].is_null() => !ours["error"].is_null(),
        "client" => ours["error"].is_null() && contains(&plain(&ours["body"]), &plain(&recorded["body"])),
        // A stop is a request: its answer is the end of the connection.
        _ if recorded["body"]["signal"] == "stop" => ours["body"] == recorded["body"],
        _ if recorded["respId"].is_null() => {
            let body = (plain(&recorded["body"]), plain(&ours["body"]));
            // pomelo's master had lost sight of a server by its own weakness, and leaves out the process id of one that comes back.
            let more = ["replaceServer", "addServer"].iter().any(|action| recorded["body"]["action"] == *action)
                && ours["body"].as_object().is_some_and(|body| body.len() == 2)
                && contains(&body.1, &body.0);
            recorded["moduleId"] == ours["moduleId"]
                && recorded["reqId"].is_null() == ours["reqId"].is_null()
                && (body.0 == body.1 || more)
        }
        _ => recorded["respId"] == ours["respId"] && plain(&recorded["body"]) == plain(&ours["body"]),
    }
}

/// Whether there is all that is wanted, and perhaps more.
fn contains(all: &Value, wanted: &Value) -> bool {
    match (all, wanted) {
        (Value::Object(all), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| all.get(key).is_some_and(|all| contains(all, wanted)))
        }
        _ => all == wanted,
    }
}

/// What pomelo's master sent and ours does not.
fn left_out(file: &str, recorded: &Value) -> bool {
    // It sends requests that were under way a second time, to the connection that takes their peer's place. Their ids are strings then.
    recorded["reqId"].is_string()
        // A second monitor under an id is a slave: others are not told of it, nor that it leaves.
        || file.starts_with("20-") && ["addServer", "removeServer"].iter().any(|action| recorded["body"]["action"] == *action)
}

/// What ours sends and pomelo's master did not.
fn extra(file: &str, conn: u64, id: &Value, came: &Came) -> bool {
    match came {
        // A server that joins together with others may be told of itself with them.
        Came::Frame(_, ours) if ours["body"]["action"] == "addServer" && ours["body"]["server"]["id"] == *id => true,
        // Whoever registers in no form is told so, and closed.
        Came::Frame(topic, ours) if file.starts_with("10-") => topic == "register" && ours["code"] == -1,
        Came::Goodbye => file.starts_with("10-"),
        // pomelo's master had lost sight of this server in a session that is not replayed.
        Came::Frame(..) if file.starts_with("23-") && conn == 34 => true,
        // pomelo's master had taken this server off its listeners when the server's slave left.
        Came::Frame(_, ours) => file >= "21-" && conn == 2 && ours["moduleId"] == "__monitorwatcher__",
        _ => false,
    }
}

struct Player {
    port: u16,
    file: String,
    peers: BTreeMap<u64, Peer>,
    /// Answers to clients that have not been looked for.
    owed: Vec<(u64, String, Value)>,
}

struct Peer {
    wire: Wire,
    /// Who it says it is.
    id: Value,
    came: VecDeque<Came>,
    /// Ids of the master's requests as they are, by what was recorded.
    ids: HashMap<u64, Value>,
}

impl Player {
    fn play(&mut self, file: &str) {
        file.clone_into(&mut self.file);
        let text = fs::read_to_string(format!("{TRANSCRIPTS}/{file}")).unwrap();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let conn = line["conn"].as_u64().unwrap();
            match line["event"].as_str() {
                Some("open") => {
                    let peer = Peer {
                        wire: Wire::connect(self.port),
                        id: Value::Null,
                        came: VecDeque::new(),
                        ids: HashMap::new(),
                    };
                    self.peers.insert(conn, peer);
                }
                Some("goodbye") => self.expect(conn, |came| *came == Came::Goodbye, "a DISCONNECT"),
                Some(end) => self.end(conn, end),
                None if line["from"] == "peer" => self.say(conn, &line),
                None => self.hear(conn, &line),
            }
        }
        for (conn, topic, recorded) in std::mem::take(&mut self.owed) {
            self.frame(conn, &topic, &recorded);
        }
        for conn in self.peers.keys().copied().collect::<Vec<_>>() {
            self.peers.get_mut(&conn).unwrap().wire.raw(b"\xc0\x00");
            self.expect(conn, |came| *came == Came::Pong, "a PINGRESP");
            self.nothing_else(conn);
        }
    }

    fn say(&mut self, conn: u64, line: &Value) {
        let peer = self.peers.get_mut(&conn).unwrap();
        let (topic, mut payload) = (line["topic"].as_str().unwrap(), line["payload"].clone());
        if topic != "monitor" && topic != "client" {
            peer.id = payload["id"].clone();
        }
        if topic == "monitor" && !payload["respId"].is_null() {
            let Some(id) = payload["respId"].as_u64().and_then(|id| peer.ids.remove(&id)) else { return };
            payload["respId"] = id;
        }
        match line["quoted"] == true {
            true => peer.wire.quoted(topic, &payload),
            false => peer.wire.send(topic, &payload),
        }
    }

    fn hear(&mut self, conn: u64, line: &Value) {
        let (topic, recorded) = (line["topic"].as_str().unwrap().to_owned(), line["payload"].clone());
        if left_out(&self.file, &recorded) {
            return;
        }
        // An answer may wait for what others do next.
        if topic == "client" { self.owed.push((conn, topic, recorded)) } else { self.frame(conn, &topic, &recorded) }
    }

    fn frame(&mut self, conn: u64, topic: &str, recorded: &Value) {
        let file = self.file.clone();
        let is = |came: &Came| match came {
            Came::Frame(ours_topic, ours) => ours_topic == topic && same(&file, topic, recorded, ours),
            _ => false,
        };
        let found = self.find(conn, is, &recorded.to_string());
        if let (Came::Frame(_, ours), Some(id)) = (found, recorded["reqId"].as_u64()) {
            self.peers.get_mut(&conn).unwrap().ids.insert(id, ours["reqId"].clone());
        }
    }

    fn expect(&mut self, conn: u64, is: impl Fn(&Came) -> bool, what: &str) {
        self.find(conn, is, what);
    }

    fn find(&mut self, conn: u64, is: impl Fn(&Came) -> bool, what: &str) -> Came {
        let peer = self.peers.get_mut(&conn).unwrap();
        loop {
            if let Some(at) = peer.came.iter().position(&is) {
                return peer.came.remove(at).unwrap();
            }
            assert!(
                !peer.wire.silent(Duration::from_secs(20)),
                "{} conn {conn}: no {what} among {:?}",
                self.file,
                peer.came
            );
            let next = peer.wire.next();
            assert_ne!(next, Came::Closed, "{} conn {conn}: {what} did not come, but {:?}", self.file, peer.came);
            peer.came.push_back(next);
        }
    }

    fn end(&mut self, conn: u64, how: &str) {
        let (owed, rest) = std::mem::take(&mut self.owed).into_iter().partition(|(of, ..)| *of == conn);
        self.owed = rest;
        let owed: Vec<(u64, String, Value)> = owed;
        for (conn, topic, recorded) in owed {
            self.frame(conn, &topic, &recorded);
        }
        let Some(mut peer) = self.peers.remove(&conn) else { return };
        if how == "leave" {
            peer.wire.raw(b"\xe0\x00");
            peer.came.extend(peer.wire.ended());
        }
        self.check(conn, &peer);
    }

    fn nothing_else(&mut self, conn: u64) {
        self.check(conn, &self.peers[&conn]);
        self.peers.get_mut(&conn).unwrap().came.clear();
    }

    fn check(&self, conn: u64, peer: &Peer) {
        let more = peer.came.iter().find(|came| !extra(&self.file, conn, &peer.id, came));
        assert_eq!(more, None, "{} conn {conn}: it was sent more than was recorded", self.file);
    }
}

#[test]
fn r5_recorded_sessions_get_the_recorded_answers() {
    let mut app = App::new();
    let tokens = ["connector", "chat", "gate", "master"]
        .map(|server_type| json!({"type": server_type, "token": format!("tok-{server_type}")}));
    app.config("adminServer.json", &json!(tokens));
    app.master();
    eventually("the master listens", || (!app.list().is_null()).then_some(()));
    let mut player = Player { port: app.port, file: String::new(), peers: BTreeMap::new(), owed: Vec::new() };
    let files = fs::read_dir(TRANSCRIPTS).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.filter(|name| name.ends_with(".jsonl")).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        player.play(&file);
    }
}
