//! Metrics, health and traces of real processes.

use std::io::{Read, Write};
use std::net::TcpStream;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::clients::script;
use crate::journal::event;
use crate::support::*;

/// The status and the body of a page.
pub fn get(address: &str, path: &str, headers: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The value of a metric with these labels, in any order; absent where there is no such line.
pub fn metric(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let line = text.lines().find(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

fn one() -> Value {
    json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]})
}

#[test]
fn x4_metrics_and_health_of_master_and_monitor() {
    let settings =
        format!("{SETTINGS}[monitor]\nhttp = \"127.0.0.1:0\"\n[metrics]\ntoken = \"a token of the tests\"\n");
    let mut cluster = Cluster::start(one(), &settings);
    cluster.wait_for(&["chat-1"]);
    let master = format!("127.0.0.1:{}", cluster.port);
    assert_eq!(cluster.ask(&["request", "__console__", r#"{"signal":"sing"}"#]).code, Some(1));

    let (status, text) = get(&master, "/metrics", "").unwrap();
    assert_eq!(status, 200, "{text}");
    let console = [r#"module="__console__""#, r#"handler="client-handler""#];
    assert!(metric(&text, "pomelo_handler_calls_total", &console) >= Some(2.0), "{text}");
    let failed = [&console[..], &[r#"code="other""#]].concat();
    assert_eq!(metric(&text, "pomelo_handler_failures_total", &failed), Some(1.0), "{text}");
    let bucket = [&console[..], &[r#"le="+Inf""#]].concat();
    let counted = metric(&text, "pomelo_handler_duration_seconds_count", &console);
    assert!(counted.is_some() && counted == metric(&text, "pomelo_handler_duration_seconds_bucket", &bucket), "{text}");
    assert!(metric(&text, "pomelo_module_instances_idle", &[r#"file="built-in/console""#]) >= Some(1.0), "{text}");
    assert_eq!(metric(&text, "pomelo_servers", &[]), Some(2.0), "{text}");
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} is not explained");
    }

    // This machine may look; who comes through a proxy has to show the token.
    let proxy = "X-Forwarded-For: 192.0.2.1\r\n";
    assert_eq!(get(&master, "/metrics", proxy).unwrap().0, 401);
    let with_token = format!("{proxy}Authorization: Bearer a token of the tests\r\n");
    assert_eq!(get(&master, "/metrics", &with_token).unwrap().0, 200);
    assert_eq!(get(&master, "/metrics", "Origin: http://evil.example\r\n").unwrap().0, 403);

    let health = get(&master, "/healthz", "").unwrap();
    assert_eq!((health.0, serde_json::from_str::<Value>(&health.1).unwrap()["status"].take()), (200, json!("ok")));
    let said = event(&cluster, "http", "http://")["message"].as_str().unwrap().to_owned();
    let monitor = said.split("http://").nth(1).unwrap().trim_end_matches('/').to_owned();
    let (_, text) = get(&monitor, "/metrics", "").unwrap();
    assert_eq!(metric(&text, "pomelo_registered", &[]), Some(1.0), "{text}");
    let handler = [r#"module="__console__""#, r#"handler="monitor-handler""#];
    assert!(metric(&text, "pomelo_handler_calls_total", &handler) >= Some(1.0), "{text}");
    assert_eq!(get(&monitor, "/healthz", "").unwrap().0, 200);

    // A monitor without its master says what is wrong.
    let mut alone = Cluster::configured(one(), SETTINGS);
    alone.host("monitor", &["--id", "chat-1", "--http", "127.0.0.1:0"]);
    let address = eventually("it serves", || {
        let log = alone.hosts[0].log();
        log.split("serving metrics and health address=").nth(1)?.split_whitespace().next().map(str::to_owned)
    });
    let problem = eventually("it has tried to reach the master", || {
        let (status, body) = get(&address, "/healthz", "")?;
        (status == 503 && body.contains("no connection to the master")).then_some(body)
    });
    assert!(problem.contains("failing"), "{problem}");
    cluster.hosts[0].signal(Signal::SIGTERM);
    cluster.hosts[0].ended();
}

/// The ids of the requests to which calls of a handler belong, as a log in JSON says.
fn traces(log: &str, module: &str, handler: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let spans = lines.flat_map(|line| line["spans"].as_array().cloned().unwrap_or_default());
    let wanted = spans.filter(|span| span["module"] == module && span["handler"] == handler);
    wanted.filter_map(|span| span["trace"].as_str().map(str::to_owned)).collect()
}

#[test]
fn x4_a_request_can_be_followed_from_client_through_master_to_monitor() {
    let mut cluster = Cluster::configured(one(), SETTINGS);
    let config = cluster.dir.path().to_str().unwrap().to_owned();
    for arguments in [&["master"][..], &["monitor", "--id", "chat-1"]] {
        let mut command = pomelo(arguments);
        command.args(["--config", &config]).current_dir(cluster.dir.path());
        command.env("POMELO_LOG", "info,pomelo::call=debug").env("POMELO_LOG_FORMAT", "json");
        cluster.hosts.push(Host::start(command, cluster.path(&format!("log-{}", arguments[0]))));
    }
    cluster.wait_for(&["chat-1"]);
    let own = "4bf92f3577b34da6a3ce929d0e0e4736";
    script("trace.js", &[&cluster.port.to_string(), &format!("00-{own}-00f067aa0ba902b7-01")]);
    let seen = |host: usize, handler: &str| traces(&cluster.hosts[host].log(), "__console__", handler);
    eventually("the client's own trace is in both logs", || {
        let own = own.to_owned();
        (seen(0, "client-handler").contains(&own) && seen(1, "monitor-handler").contains(&own)).then_some(())
    });
    // One that the client did not bring is made, and is the same on both hosts.
    cluster.done(&["list"]);
    eventually("the master's trace reaches the monitor", || {
        let last = seen(0, "client-handler").pop()?;
        (last != own && seen(1, "monitor-handler").contains(&last)).then_some(())
    });
    let log = cluster.hosts[1].log();
    let line: Value = serde_json::from_str(log.lines().find(|line| line.contains("pomelo::call")).unwrap()).unwrap();
    assert_eq!((&line["host"], &line["message"]), (&json!("chat-1"), &json!("ok")), "{line}");
    assert!(line["micros"].is_number(), "{line}");
}
