//! Checks with real sockets and commands.

use serde::de::IgnoredAny;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;
use crate::failure::Failure;
use crate::monitor::application::{Functions, Runner};

/// Longer than anything in a healthy run.
const LONG: Duration = Duration::from_secs(30);

fn asked(check: HealthCheck) -> Asked {
    let functions = Functions::new()
        .on("well", async |_: IgnoredAny| Ok(json!({"users": 3})))
        .on("false", async |_: IgnoredAny| Ok(false))
        .on("ill", async |_: IgnoredAny| Err::<(), _>(Failure::new(code::FAILED, "no such\ntable")))
        .on("silent", async |_: IgnoredAny| std::future::pending::<Result<(), Failure>>().await);
    let reach = Arc::new(Runner::new("chat-1", functions));
    let env = [("NAME".to_owned(), "chat-1".to_owned())].into();
    Asked { check, reach, cwd: None, env, env_remove: vec!["HOME".into()] }
}

/// Why a check fails within a short time.
async fn fails(check: HealthCheck) -> String {
    asked(check).ask(Duration::from_millis(200)).await.unwrap_err()
}

#[tokio::test]
async fn a_port_is_well_while_somebody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    assert_eq!(asked(HealthCheck::Port(address.clone())).ask(LONG).await, Ok(()));
    drop(listener);
    let why = asked(HealthCheck::Port(address.clone())).ask(LONG).await.unwrap_err();
    assert!(why.starts_with(&format!("{address} cannot be connected to: ")), "{why}");
}

/// Gives each connection this answer and keeps it open.
async fn answers(answer: &'static str) -> HealthCheck {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /healthz?deep=1 HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
            kept.push(stream);
        }
    });
    HealthCheck::Http { address, path: "/healthz?deep=1".into() }
}

#[tokio::test]
async fn over_http_the_status_counts_alone() {
    for well in ["200 OK", "204 No Content", "302 Found\r\nLocation: /elsewhere"] {
        let answer: &'static str = format!("HTTP/1.1 {well}\r\nContent-Length: 5\r\n\r\n").leak();
        // The body never comes.
        assert_eq!(asked(answers(answer).await).ask(LONG).await, Ok(()), "{well}");
    }
    let ill = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 30\r\n\r\n\nthe database \u{1b}is away\nfor long";
    let why = asked(answers(ill).await).ask(LONG).await.unwrap_err();
    assert!(why.ends_with("/healthz was answered with status 503: the database is away"), "{why}");
    let endless = "HTTP/1.1 500 Oh\r\nContent-Length: 999999\r\n\r\nno";
    let why = asked(answers(endless).await).ask(LONG).await.unwrap_err();
    assert!(why.ends_with("was answered with status 500"), "{why}");
    let why = fails(answers("").await).await;
    assert!(why.starts_with("GET http://127.0.0.1:") && why.ends_with(" was not answered within 200 ms"), "{why}");
    let why = asked(answers("what?\r\n\r\n").await).ask(LONG).await.unwrap_err();
    assert!(why.contains("/healthz failed: "), "{why}");
}

#[tokio::test]
async fn a_function_of_the_program_answers_and_not_with_false() {
    let control = |name: &str| HealthCheck::Control(name.into());
    assert_eq!(asked(control("well")).ask(LONG).await, Ok(()));
    assert_eq!(fails(control("false")).await, "it answered `false` with false");
    assert_eq!(fails(control("ill")).await, "`ill` failed: no such");
    assert_eq!(fails(control("silent")).await, "it did not answer `silent` within 200 ms");
    assert_eq!(fails(control("other")).await, "it does not offer `other` over its control socket");
}

#[tokio::test]
async fn a_command_ends_with_code_0_and_leaves_nothing_behind() {
    let shell = |script: &str| HealthCheck::Command(["sh", "-c", script].map(str::to_owned).into());
    let well = r#"test "$NAME" = chat-1 && test -z "$HOME""#;
    assert_eq!(asked(shell(well)).ask(LONG).await, Ok(()), "it has the program's environment");
    assert_eq!(
        asked(shell("echo no such table >&2; exit 3")).ask(LONG).await.unwrap_err(),
        "`sh` ended with code 3: no such table"
    );
    assert_eq!(asked(shell("kill -9 $$")).ask(LONG).await.unwrap_err(), "`sh` was ended by a signal");
    assert_eq!(fails(shell("sleep 1000")).await, "`sh` did not end within 200 ms");
    // More than a pipe holds.
    assert_eq!(asked(shell("yes | head -c 1000000 >&2")).ask(LONG).await, Ok(()));
    let none = HealthCheck::Command(vec!["/nowhere/check".into()]);
    assert!(fails(none).await.starts_with("`/nowhere/check` cannot be run: "));
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join("left");
    let script = format!("sleep 1000 & echo $! > '{}'; exit 1", left.display());
    asked(shell(&script)).ask(LONG).await.unwrap_err();
    let pid = std::fs::read_to_string(&left).unwrap();
    let stat = std::path::Path::new("/proc").join(pid.trim()).join("status");
    let over = async {
        while std::fs::read_to_string(&stat).is_ok_and(|status| !status.contains("State:\tZ")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, over).await.expect("what the command has left behind ends");
}

#[test]
fn a_configured_profile_is_one_that_can_be_taken() {
    assert_eq!(crate::profile::MAX_DURATION, Duration::from_millis(crate::config::MAX_PROFILE_MS));
}
