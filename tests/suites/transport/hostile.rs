//! Peers that are silent, slow, foreign or wrong.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use pomelo_host::transport::listener::Options;
use pomelo_host::transport::socket_io::client::{self, ConnectError};
use pomelo_host::transport::{Ack, Closed, Session};
use pomelo_host::wire::Topic;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::{Probe, Server, closed, connect, read_to_close, soon};

/// A bare WebSocket that has joined the namespace, and its session id.
pub async fn joined(address: SocketAddr) -> (WebSocketStream<TcpStream>, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    let (mut socket, _) = client_async(url, stream).await.unwrap();
    let open = soon("the open packet", socket.next()).await.unwrap().unwrap();
    let open: serde_json::Value = serde_json::from_str(&open.to_text().unwrap()[1..]).unwrap();
    socket.send(Message::text("40")).await.unwrap();
    soon("the answer", async {
        // The first ping may come before it.
        while !socket.next().await.unwrap().unwrap().to_text().unwrap().starts_with("40") {}
    })
    .await;
    (socket, open["sid"].as_str().unwrap().to_owned())
}

/// All that the server says until it closes.
async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    String::from_utf8_lossy(&read_to_close(&mut stream).await).into_owned()
}

fn impatient() -> Options {
    let moment = Duration::from_millis(100);
    Options { first_byte_time: moment, header_time: moment, handshake_time: moment, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_half_open_connections_are_closed() {
    let server = Server::start(impatient()).await;
    assert_eq!(talk(server.address, b"").await, "");
    let said = talk(server.address, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: ").await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    // An Engine.IO session that never joins the namespace.
    let stream = TcpStream::connect(server.address).await.unwrap();
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", server.address);
    let (mut socket, _) = client_async(url, stream).await.unwrap();
    soon("the end", async { while let Some(Ok(_)) = socket.next().await {} }).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_closed_without_an_answer() {
    let server = Server::start(Options::default()).await;
    assert_eq!(talk(server.address, b"\x16\x03\x01\x00\x05hello").await, "");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_served_to_us_and_refused_to_foreign_sites() {
    let server = Server::start(Options { allowed_hosts: vec!["admin.example".into()], ..Options::default() }).await;
    let check = async |path: &str, headers: &str, status: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        let said = talk(server.address, request.as_bytes()).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{path} {headers}: {said}");
    };
    check("/hello", "Host: localhost\r\n", "200").await;
    check("/none", "Host: localhost\r\n", "404").await;
    check("/hello", "Host: admin.example\r\nOrigin: https://admin.example\r\n", "200").await;
    check("/hello", "Host: localhost\r\nOrigin: http://evil.example\r\n", "403").await;
    check("/hello", "Host: evil.example\r\n", "403").await;
    let polling = "/socket.io/?EIO=4&transport=polling";
    check(polling, "Host: localhost\r\n", "200").await;
    check(polling, "Host: localhost\r\nOrigin: http://evil.example\r\n", "403").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_are_closed() {
    let mut server = Server::start(Options { max_connections: 1, ..Options::default() }).await;
    let (client, mut at_client) = connect(server.address, client::Options::default()).await;
    let (peer, mut at_server) = server.peer().await;
    peer.registered(false).unwrap();
    assert_eq!(talk(server.address, b"").await, "");
    client.close("done");
    closed(&mut at_client).await;
    closed(&mut at_server).await;
    let address = server.address.to_string();
    // The place is free again once the socket is closed.
    soon("a free place", async {
        loop {
            let connected = client::connect(&address, client::Options::default(), |p| Probe::new(p, false).0).await;
            if connected.is_ok() {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_events_cut_the_peer() {
    let mut server = Server::start(Options::default()).await;
    for wrong in [r#"42["client"]"#, r#"42["client",1,2]"#, r#"42["client",{]"#, r#"42{"a":1}"#, "4x", "9", "451-[]"] {
        let (mut socket, _) = joined(server.address).await;
        let (_, mut at_server) = server.peer().await;
        socket.send(Message::text(wrong)).await.unwrap();
        assert_ne!(closed(&mut at_server).await, Closed::Left, "{wrong}");
        soon("the socket's end", async { while let Some(Ok(_)) = socket.next().await {} }).await;
    }
    // A name that nobody knows is no mistake of form.
    let (mut socket, _) = joined(server.address).await;
    let (_peer, mut at_server) = server.peer().await;
    socket.send(Message::text(r#"42["unknown",1]"#)).await.unwrap();
    assert_eq!(crate::support::frame(&mut at_server).await, ("unknown".into(), "1".into()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_or_falls_silent_is_noticed() {
    let moment = Duration::from_millis(100);
    let mut server = Server::start(Options { ping_interval: moment, ping_timeout: moment, ..Options::default() }).await;
    let (socket, _) = joined(server.address).await;
    let (_, mut at_server) = server.peer().await;
    drop(socket);
    assert!(matches!(closed(&mut at_server).await, Closed::Lost(_)));
    // Connected, but answers no ping.
    let (_socket, _) = joined(server.address).await;
    let (_, mut at_server) = server.peer().await;
    assert!(matches!(closed(&mut at_server).await, Closed::Lost(_)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_cut_cannot_come_back() {
    let mut server = Server::start(Options::default()).await;
    let (_socket, sid) = joined(server.address).await;
    let (peer, mut at_server) = server.peer().await;
    peer.cut("enough");
    assert_eq!(closed(&mut at_server).await, Closed::Ours("enough".into()));
    let request = format!(
        "GET /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    assert!(talk(server.address, request.as_bytes()).await.starts_with("HTTP/1.1 400"));
    server.stop().await;
}

/// A server that admits one client and then does what it is told to.
async fn admit(listener: &TcpListener, ping: &str) -> WebSocketStream<TcpStream> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut socket = accept_async(stream).await.unwrap();
    let open = format!(r#"0{{"sid":"x","upgrades":[],{ping},"maxPayload":1000}}"#);
    socket.send(Message::text(open)).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), "40");
    socket.send(Message::text(r#"40{"sid":"x"}"#)).await.unwrap();
    socket
}

/// A session that stays in its first frame until it is let go.
struct Stuck(Mutex<mpsc::Receiver<()>>);

impl Session for Stuck {
    fn frame(&self, _: &str, _: &RawValue, _: Option<Ack>) {
        let _ = self.0.lock().unwrap().recv();
    }

    fn closed(&self, _: Closed) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stuck_session_costs_no_pong() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (release, stuck) = mpsc::channel();
    let connecting =
        client::connect(&address, client::Options::default(), |_| Arc::new(Stuck(Mutex::new(stuck))) as Arc<_>);
    let (mut server, client) =
        tokio::join!(admit(&listener, r#""pingInterval":25000,"pingTimeout":20000"#), connecting);
    for _ in 0..100 {
        server.send(Message::text(r#"42["client",{}]"#)).await.unwrap();
    }
    for _ in 0..3 {
        server.send(Message::text("2")).await.unwrap();
        assert_eq!(soon("a pong", server.next()).await.unwrap().unwrap().to_text().unwrap(), "3");
    }
    drop(release);
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_or_vanishes_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (admitted, (_client, mut at_client)) = tokio::join!(
        admit(&listener, r#""pingInterval":100,"pingTimeout":100"#),
        connect(address, client::Options::default())
    );
    let Closed::Lost(why) = closed(&mut at_client).await else { panic!("it is lost") };
    assert!(why.contains("silent"), "{why}");
    drop(admitted);
    let (admitted, (_client, mut at_client)) = tokio::join!(
        admit(&listener, r#""pingInterval":25000,"pingTimeout":20000"#),
        connect(address, client::Options::default())
    );
    drop(admitted);
    assert!(matches!(closed(&mut at_client).await, Closed::Lost(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_nothing_is_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = client::Options { send_time: Duration::from_millis(100), ..client::Options::default() };
    let (_admitted, (client, mut at_client)) =
        tokio::join!(admit(&listener, r#""pingInterval":25000,"pingTimeout":20000"#), connect(address, options));
    let payload = crate::support::text(1 << 20);
    // More than the buffers of any system hold.
    for _ in 0..64 {
        if client.send(Topic::Client, payload.clone()).is_err() {
            break;
        }
    }
    assert_eq!(closed(&mut at_client).await, Closed::Ours("the server takes nothing that it is sent".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_server_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let short = client::Options { connect_time: Duration::from_millis(200), ..client::Options::default() };
    let connect = |options| client::connect(&address, options, |peer| Probe::new(peer, false).0);
    assert!(matches!(connect(short).await, Err(ConnectError::TimedOut(_))));
    let answer = async |answer: &'static [u8]| loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        // The first connection is the one that was given up.
        if stream.read(&mut request).await.unwrap_or(0) > 0 && stream.write_all(answer).await.is_ok() {
            return stream;
        }
    };
    // The connection that timed out is still in the queue.
    drop(listener.accept().await.unwrap());
    let (_stream, said) = tokio::join!(
        answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        connect(client::Options::default())
    );
    assert!(matches!(said, Err(ConnectError::Status(404))));
    let (_stream, said) = tokio::join!(answer(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), connect(client::Options::default()));
    assert!(matches!(said, Err(ConnectError::NotSocketIo(_))));
}
