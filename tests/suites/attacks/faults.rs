//! Faults that one peer makes must be charged to it alone: monitors that come and go, answers that are too large, messages that a handler cannot take.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pomelo_host::client::{self, AdminClient};
use pomelo_host::failure::Failure;
use pomelo_host::transport::{Ack, Closed, Peer, Session, socket_io};
use pomelo_host::wire::{Message, Notify, Request, Response, Topic, raw};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{ids, pid, view_file, wait_for_members};
use crate::target::Target;

/// What an attacker waits for at most. It only keeps a failing test from hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// A monitor of an attacker's, on a connection of its own.
struct Raw {
    peer: Peer,
    /// How many frames have come, and whether the connection is over.
    seen: watch::Receiver<(usize, bool)>,
}

/// Answers each request as it was told to, and counts what comes.
struct Listening {
    peer: Peer,
    seen: watch::Sender<(usize, bool)>,
    answer: Mutex<Option<Box<RawValue>>>,
}

impl Session for Listening {
    fn frame(&self, topic: &str, payload: &RawValue, _: Option<Ack>) {
        if let (Some(Topic::Monitor), Ok(Message::Request { id, .. })) = (Topic::parse(topic), Message::parse(payload))
        {
            let answer: Result<_, Failure> = Ok(self.answer.lock().clone().unwrap_or_else(|| raw(&1)));
            // A master that has cut it wants no answer.
            let _ = self.peer.send(Topic::Monitor, raw(&Response::new(&id, &answer)));
        }
        self.seen.send_modify(|(frames, _)| *frames += 1);
    }

    fn closed(&self, _: Closed) {
        self.seen.send_modify(|(_, over)| *over = true);
    }
}

impl Raw {
    /// Connects, and registers as a monitor.
    async fn register(target: &Target, id: &str, info: &Value, answer: Option<Value>) -> Raw {
        let sender = watch::Sender::new((0, false));
        let seen = sender.subscribe();
        let session = move |peer: Peer| -> Arc<dyn Session> {
            Arc::new(Listening { peer, seen: sender, answer: Mutex::new(answer.map(|answer| raw(&answer))) })
        };
        let options = socket_io::client::Options::default();
        let peer = socket_io::client::connect(&target.address().to_string(), options, session).await.unwrap();
        let register = json!({"id": id, "type": "monitor", "serverType": "ghost", "info": info, "version": "1"});
        peer.send(Topic::Register, raw(&register)).unwrap();
        let mut registered = Raw { peer, seen };
        registered.until(|(frames, over)| frames > 0 || over).await;
        registered
    }

    async fn until(&mut self, is: impl Fn((usize, bool)) -> bool) {
        let seen = self.seen.wait_for(|seen| is(*seen));
        // The sender ends with the connection.
        let _ = tokio::time::timeout(PATIENCE, seen).await.expect("the master neither answers nor closes");
    }

    /// Asks the watchdog, and waits for its answer.
    async fn ask_watchdog(&mut self, action: &str) {
        let (frames, body) = (self.seen.borrow().0, raw(&json!({"action": action, "rev": true})));
        let request = Request { req_id: 1, module_id: "__masterwatcher__", body: Some(&body), depth: 0, trace: None };
        let _ = self.peer.send(Topic::Monitor, raw(&request));
        self.until(|(now, over)| now > frames || over).await;
    }

    fn notify_watchdog(&self, action: &str) {
        let body = raw(&json!({ "action": action }));
        let _ = self.peer.send(Topic::Monitor, raw(&Notify { module_id: "__masterwatcher__", body: &body }));
    }

    /// Waits until the master has closed the connection.
    async fn until_closed(mut self) {
        self.until(|(_, over)| over).await;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Registers, leaves something in the watchdog's store, and goes. Half of them have servers that never run, so that no event tells of their leaving.
async fn come_and_go(target: &Target, number: usize) {
    // As long as an id may be.
    let id = format!("ghost-{number:0>120}");
    let mut ghost = Raw::register(target, &id, &json!({"port": number}), None).await;
    if number.is_multiple_of(2) {
        ghost.peer.send(Topic::Deregister, raw(&json!({}))).unwrap();
    }
    ghost.ask_watchdog("subscribe").await;
    ghost.notify_watchdog("record");
    // Behind the notify in the watchdog's lane, so that it has been handled when this is answered.
    ghost.ask_watchdog("query").await;
    ghost.peer.close("it has done what it came for");
}

/// Thousands of ids that come and go, and then what a monitor says of its server being changed to 60 kB.
#[test]
fn monitors_that_come_and_go_leave_room_in_every_view() {
    const GHOSTS: usize = 3_600;
    let mut target = Target::start("");
    let file = view_file(pid(&target.cluster.list(), "chat-1")).unwrap();
    runtime().block_on(async {
        for first in (0..GHOSTS).step_by(50) {
            let ghosts = (first..first + 50).map(|number| come_and_go(&target, number));
            futures_util::future::join_all(ghosts).await;
        }
        // What is larger than an `info` may be is refused, and the connection with it.
        for number in 0..30 {
            let small = json!({"port": number});
            let swelling = Raw::register(&target, &format!("swelling-{number}"), &small, None).await;
            let large = json!({"id": format!("swelling-{number}"), "type": "monitor", "serverType": "ghost",
                "info": {"port": number, "fat": "x".repeat(60_000)}});
            swelling.peer.send(Topic::Reconnect, raw(&large)).unwrap();
            swelling.until_closed().await;
        }
    });
    target.cluster.monitor(&["--id", "friend", "--type", "chat"]);
    target.cluster.wait_for(&["chat-1", "chat-2", "friend"]);
    wait_for_members(&file, &["chat-1", "chat-2", "friend"]);
    let stopped = target.stop("chat-2");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    wait_for_members(&file, &["chat-1", "friend"]);
    let modules = target.cluster.done(&["modules", "--json"]);
    assert!(!modules.contains("store-full"), "{modules}");
    target.held();
}

/// A user of level 2 sends the console what it cannot take, as often as a handler may trap and more.
#[test]
fn a_users_messages_that_no_handler_can_take_do_not_keep_level_1_out() {
    let target = Target::start("");
    let said = runtime().block_on(async {
        let options = client::Options {
            port: target.cluster.port,
            username: "monitor".into(),
            password: "monitor".into(),
            ..client::Options::default()
        };
        let user = AdminClient::connect(options).await.unwrap();
        let empty = |count: usize| json!({"signal": "list", "ids": vec![""; count]});
        let mut said = Vec::new();
        // 3.9 MB, of which each word becomes a string of its own; and what is just under the limit of a message.
        for count in [1_300_000, 1_300_000, 1_300_000, 1_300_000, 1_300_000, 1_300_000, 340_000, 340_000] {
            said.push(user.request("__console__", empty(count)).await.map(drop));
        }
        said
    });
    for outcome in &said[..6] {
        let failure = outcome.as_ref().unwrap_err().to_string();
        assert!(failure.contains("bad-message") && failure.contains("message_kib"), "{failure}");
    }
    let listed = target.cluster.ask(&["list", "--json"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let modules: Value = serde_json::from_str(&target.cluster.done(&["modules", "--json"])).unwrap();
    let console = modules["modules"].as_array().unwrap().iter().find(|module| module["id"] == "__console__").unwrap();
    assert_eq!((&console["state"], &console["failures"]), (&json!("enabled"), &json!(0)), "{console}");
    let stopped = target.stop("chat-1");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    target.held();
}

/// Monitors answer `list` with what is too large, or of another form than a row.
#[test]
fn an_answer_that_is_too_large_or_of_another_form_costs_its_own_row() {
    let target = Target::start("");
    let runtime = runtime();
    let answers = [
        ("loud", json!({"serverId": "loud", "body": {"fat": "x".repeat(1_100_000)}})),
        ("number", json!(5)),
        ("row-number", json!({"serverId": "row-number", "body": 5})),
        ("deep", (0..120).fold(json!(1), |inner, _| json!([inner]))),
    ];
    let registered = answers.map(|(id, answer)| {
        let answer = match id {
            "deep" => json!({"serverId": id, "body": {"a": answer}}),
            _ => answer,
        };
        runtime.block_on(Raw::register(&target, id, &json!({"port": 1}), Some(answer)))
    });
    // The command fails because it has no figures of some, and has printed those of the others.
    let listed: Value = serde_json::from_str(&target.cluster.ask(&["list", "--json"]).out).unwrap();
    let rows = listed["msg"].as_object().unwrap();
    assert_eq!(rows.keys().cloned().collect::<std::collections::BTreeSet<_>>(), ids(&["chat-1", "chat-2", "master"]));
    let why = |id: &str| listed["missing"][id].as_str().unwrap_or_default().to_owned();
    assert!(why("loud").contains("it answered with 1100") && why("loud").contains("at most 1048576"), "{listed}");
    for id in ["number", "row-number", "deep"] {
        assert!(!why(id).is_empty(), "{id}: {listed}");
    }
    let stopped = target.stop("chat-1");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    drop(registered);
    target.held();
}
