//! A user of level 2, who may list servers and no more.

use std::fs;

use pomelo_host::wire::Topic;
use serde_json::json;

use crate::peers::Registered;
use crate::support::eventually;
use crate::target::Target;

const CONSOLE: &str = "__console__";

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_for_a_silent_monitor_keep_nobody_else_from_theirs() {
    let target = Target::start("");
    let silent = Registered::monitor(target.address(), "chat-silent").await;
    let user = Registered::user(target.address(), "user").await;
    let list = json!({"signal": "list"});
    for number in 0..2000 {
        assert!(user.request(Topic::Client, number, CONSOLE, &list));
    }
    // The first are under way as soon as the silent monitor is asked. All that do not fit are refused at once.
    silent.seen.at_least(2).await;
    user.seen.refused(1000).await;
    for _ in 0..3 {
        let stopped = target.stop("chat-1");
        assert_eq!(stopped.code, Some(0), "{stopped:?}");
    }
    assert!(!user.seen.is_closed());
    target.held();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_do_not_take_the_memory() {
    let target = Target::start("");
    // Its calls wait for a server that does not answer.
    let _silent = Registered::monitor(target.address(), "chat-silent").await;
    let body = json!({"signal": "list", "padding": "x".repeat(3900 << 10)});
    let mut users = Vec::new();
    for number in 0..16 {
        users.push(Registered::user(target.address(), &format!("user-{number}")).await);
    }
    for number in 0..8 {
        for user in &users {
            // A connection that held most may have been cut by then.
            user.request(Topic::Client, number, CONSOLE, &body);
        }
    }
    let stopped = target.stop("chat-1");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    for user in &users {
        user.seen.at_least(9).await;
    }
    target.held();
}

#[tokio::test(flavor = "multi_thread")]
async fn notifies_without_pause_wait_at_their_sender() {
    let target = Target::start("");
    let silent = Registered::monitor(target.address(), "chat-silent").await;
    let user = Registered::user(target.address(), "user").await;
    let body = json!({"signal": "list", "padding": "x".repeat(4 << 10)});
    for _ in 0..5000 {
        assert!(user.notify(Topic::Client, CONSOLE, &body));
    }
    silent.seen.at_least(2).await;
    let stopped = target.stop("chat-1");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    // None was taken in and then refused: what the master has not read costs it nothing.
    assert!(!target.cluster.hosts[0].log().contains("(busy)"));
    assert!(!user.seen.is_closed());
    target.held();
}

/// More requests at once than may be under way, each of which is answered at once: every one has an answer, and nobody is cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_requests_that_need_not_wait_is_answered_and_cuts_nobody() {
    const REQUESTS: usize = 5000;
    let target = Target::start("");
    let echo = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/modules/fixtures/echo-v1.wasm");
    fs::create_dir_all(target.cluster.path("modules")).unwrap();
    fs::copy(echo, target.cluster.path("modules/echo.wasm")).unwrap();
    eventually("the module answers", || target.cluster.request("echo", &json!(0)).ok());
    let user = Registered::user(target.address(), "burst").await;
    let before = user.seen.frames();
    for number in 0..REQUESTS {
        assert!(user.request(Topic::Client, number + 1, "echo", &json!(number)));
    }
    user.seen.at_least(before + REQUESTS).await;
    assert!(!user.seen.is_closed());
    let stopped = target.stop("chat-1");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    target.held();
}
