//! The socket as a program meets it: real sockets, lines written by hand, and the client.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::super::{Change, Functions, Served};
use super::*;
use crate::failure::code;
use crate::journal::Journal;
use crate::monitor::application::View;
use crate::plugin::capability::Application;
use crate::wire::raw;

const LONG: Duration = Duration::from_secs(30);

struct Host {
    control: Arc<Control>,
    application: Served,
    _dir: TempDir,
}

fn host() -> Host {
    let dir = tempfile::tempdir().unwrap();
    let view = View::in_memory("chat-1");
    let control = Arc::new(Control::listen("chat-1", "chat", view.clone(), dir.path(), Journal::default()).unwrap());
    let application = Served::new("chat-1", view, control.clone());
    Host { control, application, _dir: dir }
}

fn servers(ids: &[&str]) -> Vec<crate::wire::Info> {
    ids.iter().map(|id| json!({"id": id}).as_object().unwrap().clone()).collect()
}

/// A program that writes lines by hand.
struct Program(BufReader<UnixStream>);

impl Program {
    async fn connect(path: &Path) -> Program {
        Program(BufReader::new(UnixStream::connect(path).await.unwrap()))
    }

    /// Connects and says hello; the welcome has been read.
    async fn hello(path: &Path, offers: &[&str]) -> Program {
        let mut program = Self::connect(path).await;
        program.say(&json!({"hello": {"offers": offers}}).to_string()).await;
        assert_eq!(program.hear().await, json!({"welcome": {"serverId": "chat-1", "serverType": "chat"}}));
        program
    }

    async fn say(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The next line; null at the end.
    async fn hear(&mut self) -> Value {
        let mut line = String::new();
        tokio::time::timeout(LONG, self.0.read_line(&mut line)).await.expect("something is said").unwrap();
        if line.is_empty() { Value::Null } else { serde_json::from_str(&line).unwrap() }
    }
}

async fn call(host: &Host, name: &str, args: Value) -> Result<Value, crate::failure::Failure> {
    let answer = host.application.call(name.into(), raw(&args)).await?;
    Ok(serde_json::from_str(answer.get()).unwrap())
}

#[tokio::test]
async fn w3_w4_a_program_is_told_the_view_and_every_change_in_order() {
    let host = host();
    host.application.add_servers(servers(&["a"])).await.unwrap();
    let offers = ["addServers", "removeServers", "replaceServers", "startOver"];
    let mut program = Program::hello(host.control.path(), &offers).await;
    let first = program.hear().await;
    assert_eq!((&first["call"], &first["args"]), (&json!("replaceServers"), &json!({"a": {"id": "a"}})));
    program.say(&json!({"id": first["id"], "result": null}).to_string()).await;

    let changes = async {
        let add = host.application.add_servers(servers(&["b"]));
        let remove = host.application.remove_servers(vec!["a".into()]);
        let over = host.application.start_over();
        tokio::join!(add, remove, over)
    };
    let answers = async {
        for expected in ["addServers", "removeServers", "startOver"] {
            let told = program.hear().await;
            assert_eq!(told["call"], expected);
            let answer = match expected {
                "removeServers" => json!({"id": told["id"], "error": {"code": "failed", "message": "not now"}}),
                _ => json!({"id": told["id"], "result": 1}),
            };
            program.say(&answer.to_string()).await;
        }
    };
    let ((add, remove, over), ()) = tokio::join!(changes, answers);
    add.unwrap();
    over.unwrap();
    assert_eq!(remove.unwrap_err().message, "not now", "what the program cannot do is a failure");

    program.say(r#"{"id":"mine","call":"servers"}"#).await;
    assert_eq!(program.hear().await, json!({"id": "mine", "result": {"b": {"id": "b"}}}));
    // One that comes later is told that all have started.
    let mut late = Program::hello(host.control.path(), &["startOver"]).await;
    assert_eq!(late.hear().await["call"], "startOver");
}

#[tokio::test]
async fn c7_p_what_is_offered_is_called_and_what_is_not_is_said() {
    let host = host();
    let failure = call(&host, "connections", Value::Null).await.unwrap_err();
    assert_eq!(failure.code, code::NOT_AVAILABLE);
    assert!(failure.message.contains("not connected to its control socket"), "{failure}");
    let mut program = Program::hello(host.control.path(), &["get", "stop"]).await;
    assert_eq!(host.application.offers(), ["get"], "the end is the host's to call");
    for name in ["connections", "stop", "addServers"] {
        let failure = call(&host, name, Value::Null).await.unwrap_err();
        let said = format!("the application of chat-1 does not offer `{name}`; it offers: get");
        assert_eq!((failure.code.as_ref(), failure.message), (code::NOT_AVAILABLE, said));
    }
    let answers = async {
        let called = program.hear().await;
        assert_eq!((&called["call"], &called["args"]), (&json!("get"), &json!("color")));
        program.say(&json!({"id": called["id"], "result": "red"}).to_string()).await;
        program.say(r#"{"id":"o","call":"offers","args":["logins"]}"#).await;
        assert_eq!(program.hear().await, json!({"id": "o", "result": null}));
    };
    let (answer, ()) = tokio::join!(call(&host, "get", json!("color")), answers);
    assert_eq!(answer.unwrap(), json!("red"));
    assert_eq!(host.application.offers(), ["logins"]);
}

#[tokio::test]
async fn c7_malformed_and_oversized_lines_are_answered_and_the_connection_goes_on() {
    let host = host();
    let mut program = Program::connect(host.control.path()).await;
    let mut refused = async |line: &str, code: &str, part: &str| {
        program.say(line).await;
        let heard = program.hear().await;
        assert_eq!(heard["error"]["code"], code, "{heard}");
        assert!(heard["error"]["message"].as_str().unwrap().contains(part), "{heard}");
        heard["id"].clone()
    };
    refused("nonsense", code::BAD_MESSAGE, "it is no message").await;
    assert_eq!(refused(r#"{"id":7,"call":"servers"}"#, code::NOT_REGISTERED, "say `hello` first").await, 7);
    refused(&"x".repeat(MAX_LINE + 1), code::BAD_MESSAGE, "longer than 1048576 bytes").await;
    refused(r#"{"hello":{"offers":7}}"#, code::BAD_MESSAGE, "`hello` is malformed").await;
    refused(r#"{"hello":{"info":{"id":"chat-2"}}}"#, code::BAD_MESSAGE, "`id` of a server's `info`").await;
    program.say("").await;
    program.say(r#"{"hello":{}}"#).await;
    assert!(program.hear().await["welcome"].is_object());
    let mut refused = async |line: &str, code: &str, part: &str| {
        program.say(line).await;
        let heard = program.hear().await;
        assert_eq!(heard["error"]["code"], code, "{heard}");
        assert!(heard["error"]["message"].as_str().unwrap().contains(part), "{heard}");
    };
    refused(r#"{"hello":{}}"#, code::BAD_MESSAGE, "said once").await;
    refused(r#"{"id":1,"call":"fly"}"#, code::NOT_AVAILABLE, "it offers: ready, info, offers, servers").await;
    let many: Value = (0..65).map(|n| (n.to_string(), Value::Null)).collect::<serde_json::Map<_, _>>().into();
    refused(&json!({"id": 1, "call": "info", "args": many}).to_string(), code::BAD_MESSAGE, "at most 64").await;
    refused(r#"{"id":1,"call":"info","args":{"pid":1}}"#, code::BAD_MESSAGE, "`pid`").await;
}

#[tokio::test]
async fn a_new_connection_takes_the_place_of_the_old_one() {
    let host = host();
    let mut old = Program::hello(host.control.path(), &["get"]).await;
    let waiting = host.application.call("get".into(), raw(&1));
    assert_eq!(old.hear().await["call"], "get");
    // One that has not said hello takes nobody's place.
    let _mute = Program::connect(host.control.path()).await;
    let mut new = Program::hello(host.control.path(), &["get"]).await;
    assert_eq!(waiting.await.unwrap_err().code, code::DISCONNECTED);
    assert_eq!(old.hear().await["error"]["code"], code::DISCONNECTED);
    assert_eq!(old.hear().await, Value::Null);
    let answers = async {
        let called = new.hear().await;
        new.say(&json!({"id": called["id"], "result": 2}).to_string()).await;
    };
    assert_eq!(tokio::join!(call(&host, "get", json!(1)), answers).0.unwrap(), 2);
    drop(new);
    let mut info = host.control.info();
    let gone = async {
        while !host.application.offers().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, gone).await.expect("a program that has left offers nothing");
    host.control.restarted();
    assert!(!info.has_changed().unwrap() && info.borrow_and_update().is_empty());
}

#[tokio::test]
async fn what_an_earlier_process_says_late_is_not_taken_for_the_next_one() {
    let host = host();
    let mut old = Program::connect(host.control.path()).await;
    old.say(r#"{"id":1,"call":"ready"}"#).await;
    assert_eq!(old.hear().await["error"]["code"], code::NOT_REGISTERED);
    host.control.restarted();
    old.say(r#"{"hello":{"offers":["get"],"info":{"a":1}}}"#).await;
    assert!(old.hear().await["welcome"].is_object());
    assert_eq!(old.hear().await["error"]["message"], "the program has ended");
    assert_eq!(old.hear().await, Value::Null);
    assert!(host.application.offers().is_empty() && host.control.info().borrow().is_empty());
    assert!(futures_util::poll!(host.control.ready()).is_pending());
}

#[tokio::test]
async fn the_client_serves_functions_and_says_what_it_has_to() {
    let host = host();
    let (seen, mut changes) = tokio::sync::mpsc::unbounded_channel();
    let functions = Functions::new().on("double", async |n: u32| Ok(n * 2)).on_change(move |change| {
        let sent = seen.send(change);
        async move { sent.map_err(|_| crate::failure::Failure::new("gone", "nobody looks")) }
    });
    let client = Client::connect(host.control.path(), functions, false).await.unwrap();
    assert_eq!(changes.recv().await, Some(Change::Replaced(serde_json::Map::new())));
    assert_eq!(call(&host, "double", json!(21)).await.unwrap(), 42);
    assert_eq!(call(&host, "double", json!("x")).await.unwrap_err().code, code::BAD_MESSAGE);
    host.application.add_servers(servers(&["a"])).await.unwrap();
    assert_eq!(changes.recv().await, Some(Change::Added(servers(&["a"]))));
    assert_eq!(client.servers().await.unwrap().len(), 1);

    let ready = host.control.ready();
    assert!(futures_util::poll!(ready).is_pending());
    client.ready().await.unwrap();
    tokio::time::timeout(LONG, host.control.ready()).await.unwrap();
    let told = json!({"clientPort": 3010}).as_object().unwrap().clone();
    client.info(told.clone()).await.unwrap();
    assert_eq!(*host.control.info().borrow(), told);

    // Another process knows nothing of that.
    host.control.restarted();
    client.closed().await;
    assert!(host.control.info().borrow().is_empty());
    assert!(futures_util::poll!(host.control.ready()).is_pending());
}
