//! The admin client against a small master.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use pomelo_host::auth::Secret;
use pomelo_host::client::{AdminClient, ClientError, Options};
use pomelo_host::failure::Failure;
use pomelo_host::transport::{Accept, Ack, Closed, Listener, Peer, Session, listener};
use pomelo_host::wire::{Message, Notify, Register, Registered, Response, Topic, raw};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::soon;

/// A master that answers by the name of the module. It knows admin/admin only.
struct Master {
    notified: mpsc::UnboundedSender<String>,
}

struct Client {
    peer: Peer,
    notified: mpsc::UnboundedSender<String>,
}

impl Accept for Master {
    fn accept(&self, peer: Peer) -> Arc<dyn Session> {
        Arc::new(Client { peer, notified: self.notified.clone() })
    }
}

impl Client {
    fn send(&self, topic: Topic, payload: Box<RawValue>) {
        self.peer.send(topic, payload).unwrap();
    }

    fn register(&self, payload: &RawValue) {
        let register: Register = serde_json::from_str(payload.get()).unwrap();
        // The MD5 of "admin".
        let known =
            register.md5 && register.password.as_ref().map(Secret::expose) == Some("21232f297a57a5a743894a0e4a801fc3");
        if known {
            self.send(Topic::Register, raw(&Registered::ok(Vec::new())));
        } else {
            self.send(Topic::Register, raw(&Registered::refused("wrong user name or password")));
            self.peer.close("refused");
        }
    }
}

impl Session for Client {
    fn frame(&self, topic: &str, payload: &RawValue, _: Option<Ack>) {
        if topic == "register" {
            return self.register(payload);
        }
        let answer = |id, outcome| self.send(Topic::Client, raw(&Response::new(id, &outcome)));
        match Message::parse(payload).unwrap() {
            Message::Request { id, module, body, .. } => match module.as_ref() {
                "silent" => {}
                "leaving" => self.peer.close("no reason"),
                "failing" => answer(&id, Err(Failure::new("odd", "it is odd"))),
                "pushing" => {
                    let progress = raw(&json!({"percent": 50}));
                    self.send(Topic::Client, raw(&Notify { module_id: "pushing", body: &progress }));
                    self.send(Topic::Client, raw(&json!({"respId": 12345, "body": "nobody asked"})));
                    answer(&id, Ok(raw(&"done")));
                }
                _ => answer(&id, Ok(body.unwrap().to_owned())),
            },
            Message::Command { id, command, module, .. } => {
                answer(&id.unwrap(), Ok(raw(&format!("{command} {module:?}"))));
            }
            Message::Notify { module, .. } => _ = self.notified.send(module.into_owned()),
            Message::Response { .. } => {}
        }
    }

    fn closed(&self, how: Closed) {
        let _ = self.notified.send(format!("{how:?}"));
    }
}

async fn master() -> (Options, mpsc::UnboundedReceiver<String>) {
    let (notified, receiver) = mpsc::unbounded_channel();
    let accept = Arc::new(Master { notified });
    let listener = Listener::bind("127.0.0.1:0", listener::Options::default(), accept, Router::new()).await.unwrap();
    let options = Options { port: listener.local_addr().port(), ..Options::default() };
    tokio::spawn(listener.serve(CancellationToken::new()));
    (options, receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_commands_and_notifies_reach_the_master() {
    let (options, mut notified) = master().await;
    let client = AdminClient::connect(options).await.unwrap();
    assert_eq!(client.request("echo", json!({"a": 1})).await.unwrap().get(), r#"{"a":1}"#);
    assert_eq!(client.command("list", None, ()).await.unwrap().get(), r#""list None""#);
    assert_eq!(client.command("enable", Some("m"), ()).await.unwrap().get(), r#""enable Some(\"m\")""#);
    let many = (0..100).map(|n| client.request("echo", n));
    for (n, answer) in futures_util::future::join_all(many).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap().get(), n.to_string());
    }
    client.notify("told", ()).unwrap();
    client.close().await;
    assert_eq!(soon("the notify", notified.recv()).await.unwrap(), "told");
    assert_eq!(soon("the end", notified.recv()).await.unwrap(), "Left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_told_apart() {
    let (options, _notified) = master().await;
    let wrong = Options { password: "wrong".into(), ..options.clone() };
    let Err(ClientError::Refused { why, .. }) = AdminClient::connect(wrong).await else { panic!("it is refused") };
    assert_eq!(why, "wrong user name or password");

    let short = Options { request_time: Duration::from_millis(50), ..options.clone() };
    let client = AdminClient::connect(short).await.unwrap();
    let error = client.request("silent", ()).await.unwrap_err();
    let expected = format!("the answer of `silent` did not come from {} within 50ms", client.address());
    assert_eq!(error.to_string(), expected);
    let failed = client.request("failing", ()).await;
    assert!(matches!(failed, Err(ClientError::Failed(failure)) if failure.code == "odd"));

    let client = AdminClient::connect(options).await.unwrap();
    let (silent, leaving) = tokio::join!(client.request("silent", ()), client.request("leaving", ()));
    for error in [silent.unwrap_err(), leaving.unwrap_err(), client.request("echo", ()).await.unwrap_err()] {
        assert!(matches!(&error, ClientError::Disconnected { why, .. } if why == "the master closed it"), "{error}");
    }

    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let Err(error) = AdminClient::connect(Options { port: free, ..Options::default() }).await else { panic!() };
    assert_eq!(
        error.to_string(),
        format!("no master listens at 127.0.0.1:{free}: is it running, and is this its port?")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_master_sends_unasked_can_be_received() {
    let (options, _notified) = master().await;
    let (pushes, mut pushed) = mpsc::channel(8);
    let client = AdminClient::connect(Options { pushes: Some(pushes), ..options }).await.unwrap();
    assert_eq!(client.request("pushing", ()).await.unwrap().get(), r#""done""#);
    let push = soon("the push", pushed.recv()).await.unwrap();
    assert_eq!((push.module.as_str(), push.body.get()), ("pushing", r#"{"percent":50}"#));
    client.close().await;
}
