//! Against the reference implementation, run by Node.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use pomelo_host::transport::Closed;
use pomelo_host::transport::listener::Options;
use pomelo_host::transport::socket_io::client::{self, ConnectError};
use pomelo_host::wire::{Topic, raw};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::{Probe, Server, closed, connect, frame, number, soon};

fn scripts() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/js");
    assert!(
        folder.join("node_modules/socket.io-client").exists(),
        "the packages of the reference implementation are missing: run `npm ci --ignore-scripts` in tests/fixtures/js"
    );
    folder
}

fn node(script: &str) -> Command {
    let mut node = Command::new("node");
    node.arg(script).current_dir(scripts()).kill_on_drop(true);
    node
}

async fn js_client_works(mode: &str) {
    let mut server = Server::start(Options::default()).await;
    let port = server.address.port().to_string();
    let client = node("client.js").args([&port, mode]).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let peers = tokio::spawn(async move {
        for _ in 0..2 {
            let (_, mut told) = server.peer().await;
            assert_eq!(closed(&mut told).await, Closed::Ours("asked to".into()));
        }
        let (_, mut told) = server.peer().await;
        assert_eq!(closed(&mut told).await, Closed::Left);
        for _ in 0..3 {
            let (_, mut told) = server.peer().await;
            // Binary data are refused by socketioxide, the rest by us.
            match closed(&mut told).await {
                Closed::Ours(why) => assert!(why.contains("malformed"), "{why}"),
                how => assert!(matches!(how, Closed::Lost(_)), "{how:?}"),
            }
        }
        server
    });
    let output = soon("the script's end", client).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.contains("by polling"), mode == "polling", "{said}");
    let server = soon("the end of all peers", peers).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_client_works_with_websocket() {
    js_client_works("websocket").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_client_works_with_polling_and_upgrade() {
    js_client_works("upgrade").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_client_works_with_polling_alone() {
    js_client_works("polling").await;
}

/// The reference server.
struct Reference {
    address: String,
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Reference {
    async fn start(settings: &[(&str, &str)]) -> Reference {
        let mut command = node("server.js");
        command.envs(settings.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut server = Reference { address: String::new(), process, input, output };
        server.address = format!("127.0.0.1:{}", server.line().await);
        server
    }

    async fn line(&mut self) -> String {
        soon("a line of the reference server", self.output.next_line()).await.unwrap().unwrap()
    }

    async fn until(&mut self, wanted: &str) {
        while self.line().await != wanted {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_works_with_the_reference_server() {
    let mut server = Reference::start(&[]).await;
    let (client, mut told) = connect(server.address.parse().unwrap(), client::Options::default()).await;
    for n in 0..2000 {
        client.send(Topic::Client, number(n)).unwrap();
    }
    for n in 0..2000 {
        assert_eq!(frame(&mut told).await, ("client".into(), number(n).get().into()));
    }
    // The server asks for an acknowledgement; the probe answers with the payload.
    client.send(Topic::Monitor, raw(&json!({"ask": "ü"}))).unwrap();
    server.until("asked").await;
    assert_eq!(frame(&mut told).await.0, "monitor");
    server.until(r#"answered {"ask":"ü"}"#).await;
    client.close("done");
    assert_eq!(closed(&mut told).await, Closed::Ours("done".into()));
    server.until("disconnected client namespace disconnect").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_hears_the_reference_server_disconnect() {
    let mut server = Reference::start(&[]).await;
    let (_client, mut told) = connect(server.address.parse().unwrap(), client::Options::default()).await;
    server.until("connected").await;
    server.input.write_all(b"disconnect\n").await.unwrap();
    assert_eq!(closed(&mut told).await, Closed::Left);

    let mut server = Reference::start(&[]).await;
    let (_client, mut told) = connect(server.address.parse().unwrap(), client::Options::default()).await;
    server.until("connected").await;
    server.input.write_all(b"binary\n").await.unwrap();
    assert!(matches!(closed(&mut told).await, Closed::Ours(_)), "binary data are not taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_answers_pings_and_notices_a_stopped_server() {
    let mut server = Reference::start(&[("PING_INTERVAL", "100"), ("PING_TIMEOUT", "2000")]).await;
    let (_client, mut told) = connect(server.address.parse().unwrap(), client::Options::default()).await;
    for _ in 0..3 {
        server.until("pong").await;
    }
    let process = nix::unistd::Pid::from_raw(server.process.id().unwrap().cast_signed());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let Closed::Lost(why) = closed(&mut told).await else { panic!("it is lost") };
    assert!(why.contains("silent"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_tells_why_a_middleware_refuses_it() {
    let server = Reference::start(&[("REFUSE", "not today")]).await;
    let refused = client::connect(&server.address, client::Options::default(), |peer| Probe::new(peer, false).0).await;
    assert!(matches!(refused, Err(ConnectError::Refused(why)) if why == "not today"));
}
