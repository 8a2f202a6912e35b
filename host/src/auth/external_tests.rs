use std::path::Path;
use std::time::Instant;

use axum::Json;
use axum::routing::post;
use serde_json::{Value, json};

use super::*;

/// A command that is a shell script.
fn script(text: &str, timeout: Duration) -> External {
    let words = ["sh", "-c", text].map(str::to_owned).to_vec();
    External::new(Way::Command(words, std::env::temp_dir()), Bounds { timeout, ..Bounds::default() }, None).unwrap()
}

fn client<'a>(username: &'a str, password: &'a str) -> Question<'a> {
    let address = Some([10, 0, 0, 1].into());
    Question::Client { id: "cli-1", username, password, md5: false, address }
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a1_a_command_reads_the_question_and_answers_with_the_level() {
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let check = script(
        &format!(
            "cat > {}; echo '{{\"ok\":true,\"level\":2}}'; tr '\\0' ' ' < /proc/$$/cmdline > {0}.args",
            seen.display()
        ),
        LONG,
    );
    assert_eq!(check.level(&client("ann", "s3cret'$(x)")).await, Ok(Level(2)));
    let asked: Value = serde_json::from_slice(&std::fs::read(&seen).unwrap()).unwrap();
    let expected = json!({"type": "client", "id": "cli-1", "username": "ann", "password": "s3cret'$(x)", "md5": false,
        "address": "10.0.0.1"});
    assert_eq!(asked, expected);
    let arguments = std::fs::read_to_string(seen.with_extension("args")).unwrap();
    assert!(!arguments.contains("s3cret"), "{arguments}");

    let monitor = Question::Monitor { id: "chat-1", server_type: "chat", token: Some("t"), address: None };
    assert_eq!(check.permits(&monitor).await, Ok(()));
    let asked: Value = serde_json::from_slice(&std::fs::read(&seen).unwrap()).unwrap();
    assert_eq!(asked, json!({"type": "monitor", "id": "chat-1", "serverType": "chat", "token": "t"}));
}

#[tokio::test]
async fn a1_whatever_a_command_does_wrong_lets_nobody_in() {
    let check = async |text: &str, expected: AccessRefused| {
        let outcome = script(text, LONG).level(&client("ann", "s3cret")).await;
        assert_eq!(outcome, Err(expected), "{text}");
    };
    check(r#"echo '{"ok":false,"reason":"on holiday"}'"#, AccessRefused::Wrong).await;
    check("exit 1", AccessRefused::Wrong).await;
    check(r#"echo '{"ok":true,"level":1}'; exit 2"#, AccessRefused::Unavailable).await;
    check(r#"echo '{"ok":true,"level":1}'; exit 1"#, AccessRefused::Wrong).await;
    check(r#"echo '{"ok":true}'"#, AccessRefused::Unavailable).await;
    check(r#"echo '{"ok":true,"level":0}'"#, AccessRefused::Unavailable).await;
    check(r#"echo '{"ok":"yes","level":1}'"#, AccessRefused::Unavailable).await;
    check(r#"echo '{"level":1}'"#, AccessRefused::Unavailable).await;
    check("true", AccessRefused::Unavailable).await;
    check("echo ok", AccessRefused::Unavailable).await;
    check("kill -9 $$", AccessRefused::Unavailable).await;
    check("head -c 100000 /dev/zero", AccessRefused::Unavailable).await;
    let missing = Way::Command(vec!["./is-not-there".into()], std::env::temp_dir());
    let missing = External::new(missing, Bounds::default(), None).unwrap();
    assert_eq!(missing.level(&client("ann", "x")).await, Err(AccessRefused::Unavailable));
}

#[tokio::test]
async fn a1_a_command_that_hangs_is_ended_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let text = format!("sleep 1000 & echo $$ $! > {0}.new; mv {0}.new {0}; wait", pids.display());
    let begun = Instant::now();
    let outcome = script(&text, Duration::from_secs(1)).level(&client("ann", "x")).await;
    assert_eq!(outcome, Err(AccessRefused::Unavailable));
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    let pids = std::fs::read_to_string(&pids).unwrap();
    let runs = |pid: &&str| {
        std::fs::read_to_string(Path::new("/proc").join(pid).join("status"))
            .is_ok_and(|status| !status.contains("State:\tZ"))
    };
    while pids.split_whitespace().any(|pid| runs(&pid)) {
        assert!(begun.elapsed() < LONG, "{pids} still run");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a1_only_so_many_checks_run_and_wait() {
    let dir = tempfile::tempdir().unwrap();
    // Each command leaves a mark while it runs, and says how many marks it saw.
    let text = format!(
        "cd {}; touch $$.mark; set -- *.mark; echo $# >> counts; sleep 0.05; rm $$.mark; echo '{{\"ok\":true,\"level\":3}}'",
        dir.path().display()
    );
    let check = script(&text, LONG);
    let question = client("ann", "x");
    let outcomes = futures_util::future::join_all((0..WAITING + 6).map(|_| check.level(&question))).await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err(AccessRefused::Busy)).count(), 6);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Ok(Level(3))).count(), WAITING);
    let counts = std::fs::read_to_string(dir.path().join("counts")).unwrap();
    let most = counts.split_whitespace().map(|count| count.parse::<usize>().unwrap()).max();
    assert!(most <= Some(Bounds::default().concurrent), "{counts}");
}

/// A real endpoint, whose answer depends on the user's name.
async fn endpoint() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |Json(asked): Json<Value>| async move {
        match asked["username"].as_str().unwrap_or("monitor") {
            "ann" if asked["password"] == "right" => (StatusCode::OK, json!({"ok": true, "level": 2}).to_string()),
            "ann" => (StatusCode::OK, json!({"ok": false}).to_string()),
            "forbidden" => (StatusCode::FORBIDDEN, String::new()),
            "broken" => (StatusCode::INTERNAL_SERVER_ERROR, json!({"ok": true, "level": 1}).to_string()),
            "moved" => (StatusCode::TEMPORARY_REDIRECT, json!({"ok": true, "level": 1}).to_string()),
            "long" => (StatusCode::OK, " ".repeat(MAX_ANSWER + 1)),
            "slow" => std::future::pending().await,
            _ => (StatusCode::OK, json!({"ok": asked["token"] == "right"}).to_string()),
        }
    };
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/login", post(answer))).await });
    format!("http://{address}/login")
}

#[tokio::test]
async fn a1_a3_an_endpoint_is_asked_and_anything_but_a_clear_yes_is_no() {
    let bounds = Bounds { timeout: Duration::from_secs(2), ..Bounds::default() };
    let check = External::new(Way::Url(endpoint().await.parse().unwrap()), bounds, None).unwrap();
    let level = async |name: &str, password: &str| check.level(&client(name, password)).await;
    assert_eq!(level("ann", "right").await, Ok(Level(2)));
    assert_eq!(level("ann", "wrong").await, Err(AccessRefused::Wrong));
    assert_eq!(level("forbidden", "x").await, Err(AccessRefused::Wrong));
    for name in ["broken", "moved", "long", "slow"] {
        assert_eq!(level(name, "x").await, Err(AccessRefused::Unavailable), "{name}");
    }
    let monitor = |token| Question::Monitor { id: "chat-1", server_type: "chat", token: Some(token), address: None };
    assert_eq!(check.permits(&monitor("right")).await, Ok(()));
    assert_eq!(check.permits(&monitor("wrong")).await, Err(AccessRefused::Wrong));

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = External::new(Way::Url(format!("http://{nobody}/").parse().unwrap()), bounds, None).unwrap();
    assert_eq!(nobody.level(&client("ann", "right")).await, Err(AccessRefused::Unavailable));
}
