//! A module that does what it should not is ended, and harms nobody else.

use std::time::{Duration, Instant};

use pomelo_host::console::ModuleSettings;
use pomelo_host::plugin::Limits;
use serde_json::{Value, json};

use crate::support::{Ask, Cluster, GENEROUS, Plan, code_of, eventually, fixture, grants, lines_logged};

/// Tight, so that no misdeed takes long.
fn tight() -> Limits {
    Limits {
        cpu: Duration::from_millis(300),
        wall: Duration::from_secs(3),
        memory: 4 << 20,
        store: 64 << 10,
        ..Limits::default()
    }
}

fn misbehave() -> ModuleSettings {
    ModuleSettings { limits: Some(tight()), ..grants(&["cluster"]) }
}

async fn cluster() -> Cluster {
    Plan::with([("misbehave", fixture("misbehave")), ("echo", fixture("echo-v1"))])
        .say("misbehave", misbehave())
        .start()
        .await
}

/// Asks for a misdeed, checks how it fails, and that the module answers again at once.
async fn fails(client: &impl Ask, what: &str, msg: Value, expected: &str) {
    let began = Instant::now();
    let failure = client.ask("misbehave", json!({"do": what, "msg": msg})).await.unwrap_err();
    assert_eq!(failure.code, expected, "{what}: {failure}");
    assert!(began.elapsed() < GENEROUS, "{what} took {:?}", began.elapsed());
    // The module itself receives these failures and passes them on.
    let passed_on = ["timeout", "store-full"].contains(&expected);
    let named = failure.message.contains("misbehave") && failure.message.contains("client-handler");
    assert!(passed_on || named, "{what}: the message names module and handler: {failure}");
    // It recovers at once, and its count of traps starts over.
    assert_eq!(client.ask("misbehave", json!({"do": "echo", "msg": what})).await.unwrap(), what);
}

/// Asks echo again and again until the misdeed is over; how many calls it answered meanwhile. Every call has to be answered rightly.
async fn echoes_during(client: &impl Ask, misdeed: impl Future<Output = ()>) -> u32 {
    let mut misdeed = std::pin::pin!(misdeed);
    let mut answered = 0;
    loop {
        let mut echo = std::pin::pin!(client.ask("echo", answered));
        let (answer, is_over) = tokio::select! {
            () = &mut misdeed => (echo.await, true),
            answer = &mut echo => (answer, false),
        };
        assert_eq!(answer.unwrap(), json!({"version": 1, "echo": answered}));
        if is_over {
            return answered;
        }
        answered += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_every_misdeed_ends_with_its_own_failure_while_another_module_answers_every_call() {
    let cluster = cluster().await;
    let hand = cluster.hand("silent").await;
    let client = cluster.admin().await;
    let other = cluster.admin().await;
    // Whether the misdeed takes so long that echo has to answer meanwhile. The others may be over before it is asked.
    let misdeeds = [
        ("spin", Value::Null, "cpu-limit", true),
        ("allocate", Value::Null, "memory-limit", false),
        ("trap", Value::Null, "trap", false),
        ("recurse", Value::Null, "trap", false),
        ("not-json", Value::Null, "bad-answer", false),
        ("wait", json!("silent"), "timeout", true),
        ("store-fill", Value::Null, "store-full", false),
    ];
    for (what, msg, expected, lasts) in misdeeds {
        let answered = echoes_during(&other, fails(&client, what, msg, expected)).await;
        assert!(answered > 0 || !lasts, "echo answered no call during {what}");
    }
    assert_eq!(cluster.status("echo").unwrap().failures, 0);
    assert!(cluster.status("misbehave").unwrap().store <= tight().store);
    drop(hand);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_the_failure_of_a_trap_names_the_functions_where_it_was() {
    let cluster = cluster().await;
    let client = cluster.admin().await;
    let message = async |what: &str| client.ask("misbehave", json!({"do": what})).await.unwrap_err().message;
    let recursion = message("recurse").await;
    assert!(recursion.contains(" in fixture_misbehave::recurse"), "{recursion}");
    assert_eq!(recursion.matches("fixture_misbehave::recurse").count(), 1, "{recursion}");
    let panic = message("trap").await;
    // The functions between the two may be inlined.
    assert!(panic.contains("client-handler@0.1.0#handle") && !panic.contains("panicking"), "{panic}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_many_misdeeds_at_once_leave_another_module_its_calls() {
    let cluster = cluster().await;
    let client = cluster.admin().await;
    let other = cluster.admin().await;
    let spins = (0..8).map(|_| client.ask("misbehave", json!({"do": "spin"})));
    let spins = futures_util::future::join_all(spins);
    let echoes = async {
        for number in 0..200 {
            assert_eq!(other.ask("echo", number).await.unwrap()["echo"], number);
        }
    };
    let (spins, ()) = tokio::join!(spins, echoes);
    for spin in spins {
        assert!(["cpu-limit", "timeout", "put-aside"].contains(&code_of(&spin)), "{spin:?}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_what_a_module_logs_is_bounded() {
    let began = Instant::now();
    let before = lines_logged();
    let cluster = cluster().await;
    let client = cluster.admin().await;
    // The flood ends by itself or by the limit of CPU time: which of the two depends on the machine.
    let flood = client.ask("misbehave", json!({"do": "log-flood"})).await;
    assert!(["no failure", "cpu-limit"].contains(&code_of(&flood)), "{flood:?}");
    let logged = lines_logged() - before;
    let windows = 2 + began.elapsed().as_secs() as usize;
    assert!((1..=100 * windows).contains(&logged), "{logged} lines");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_a_handler_that_keeps_trapping_is_put_aside_and_comes_back() {
    let cluster = cluster().await;
    let client = cluster.admin().await;
    for _ in 0..5 {
        assert_eq!(code_of(&client.ask("misbehave", json!({"do": "trap"})).await), "trap");
    }
    let aside = client.ask("misbehave", json!({"do": "echo", "msg": 1})).await.unwrap_err();
    assert_eq!(aside.code, "put-aside");
    assert!(aside.message.contains("trapped 5 times in a row"), "{aside}");
    assert_eq!(cluster.status("misbehave").unwrap().state, "put-aside");
    let echo = json!({"do": "echo", "msg": 1});
    eventually("its return", async || client.ask("misbehave", &echo).await.ok()).await;
    assert_eq!(cluster.status("misbehave").unwrap().state, "enabled");
    assert_eq!(code_of(&client.ask("misbehave", json!({"do": "trap"})).await), "trap", "it has its five traps again");
    assert_eq!(client.ask("misbehave", &echo).await.unwrap(), 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_an_instance_that_trapped_is_never_used_again() {
    let limits = Limits { instances: 1, ..Limits::default() };
    let probe = ModuleSettings { limits: Some(limits), ..grants(&["cluster", "uplink"]) };
    let cluster = Plan::with([("probe", fixture("probe"))]).say("probe", probe).start().await;
    let client = cluster.admin().await;
    let calls = json!({"do": "calls"});
    assert_eq!(client.ask("probe", &calls).await.unwrap(), 1);
    assert_eq!(client.ask("probe", &calls).await.unwrap(), 2, "a warm instance serves the next call");
    assert_eq!(code_of(&client.ask("probe", json!({"do": "trap"})).await), "trap");
    assert_eq!(client.ask("probe", &calls).await.unwrap(), 1, "a new instance");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_more_calls_than_may_wait_fail_with_busy_at_once() {
    let limits = Limits { instances: 1, queue: 1, ..Limits::default() };
    let probe = ModuleSettings { limits: Some(limits), ..grants(&["cluster", "uplink"]) };
    let cluster = Plan::with([("probe", fixture("probe"))]).say("probe", probe).start().await;
    let client = cluster.admin().await;
    let mut hand = cluster.hand("hand-1").await;
    let ask = json!({"do": "ask", "server": "hand-1"});
    let first = client.ask("probe", &ask);
    let others = async {
        let question = hand.asked().await;
        // The only place is taken, and one call may wait for it: of two, the other fails while that one waits.
        let (mut one, mut two) = (Box::pin(client.ask("probe", &ask)), Box::pin(client.ask("probe", &ask)));
        let (busy, waiting) = tokio::select! {
            outcome = &mut one => (outcome, two),
            outcome = &mut two => (outcome, one),
        };
        let busy = busy.unwrap_err();
        assert_eq!(busy.code, "busy");
        assert!(busy.message.contains("probe"), "{busy}");
        hand.answer(&question, &json!("first"));
        let answer = async {
            let question = hand.asked().await;
            hand.answer(&question, &json!("second"));
        };
        tokio::join!(waiting, answer).0.unwrap()
    };
    let (first, second) = tokio::join!(first, others);
    assert_eq!((first.unwrap(), second), (json!("first"), json!("second")));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_a_monitors_handler_is_limited_as_the_masters_are() {
    let cluster = cluster().await;
    let server = cluster.server("chat-1", "chat").await;
    let client = cluster.admin().await;
    // On a monitor, misbehave's handler spins.
    let failure = client.ask("misbehave", json!({"do": "wait", "msg": "chat-1"})).await.unwrap_err();
    assert_eq!(failure.code, "cpu-limit");
    assert!(failure.message.contains("misbehave: monitor-handler"), "{failure}");
    server.stop().await;
    cluster.stop().await;
}
