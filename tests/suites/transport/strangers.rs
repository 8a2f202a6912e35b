//! Connections whose peers have not registered: how many there may be, and how long they may take.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use pomelo_host::transport::Closed;
use pomelo_host::transport::listener::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::hostile::joined;
use crate::support::{Server, closed, frame, read_to_close, soon};

const MOMENT: Duration = Duration::from_millis(100);

/// A connection over which requests are sent one after another.
struct Http(TcpStream);

impl Http {
    async fn connect(address: SocketAddr) -> Http {
        Http(TcpStream::connect(address).await.unwrap())
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// The answer to a request, its status line and body; none if the server has closed the connection.
    async fn ask(&mut self, method: &str, path: &str, body: &str) -> Option<(String, String)> {
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
        self.0.write_all(request.as_bytes()).await.ok()?;
        self.answer().await
    }

    async fn answer(&mut self) -> Option<(String, String)> {
        let mut said = Vec::new();
        loop {
            if let Some(end) = said.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&said[..end]).to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
                let whole = end + 4 + length.parse::<usize>().unwrap();
                if said.len() >= whole {
                    let body = String::from_utf8_lossy(&said[end + 4..whole]).into_owned();
                    return Some((head.lines().next().unwrap_or_default().to_owned(), body));
                }
            }
            if soon("an answer", self.0.read_buf(&mut said)).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Begins an Engine.IO session that polls.
    async fn poll(&mut self) -> Result<String, String> {
        let (status, body) = self.ask("GET", "/socket.io/?EIO=4&transport=polling", "").await.ok_or("closed")?;
        if !status.contains("200") {
            return Err(format!("{status} {body}"));
        }
        let open: serde_json::Value = serde_json::from_str(&body[1..]).unwrap();
        Ok(open["sid"].as_str().unwrap().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_takes_the_place_of_one_that_sends_nothing() {
    let server = Server::start(Options { strangers_per_address: 4, ..Options::default() }).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut http = Http::connect(server.address).await;
    let (status, _) = http.ask("GET", "/hello", "").await.unwrap();
    assert!(status.contains("200"), "{status}");
    assert!(read_to_close(&mut silent[0]).await.is_empty(), "the oldest is closed");
    // Those that have come further stay: the ones that say nothing go first.
    for _ in 0..8 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    read_to_close(&mut silent[7]).await;
    assert!(http.ask("GET", "/hello", "").await.is_some());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_ends_the_connection() {
    let server = Server::start(Options { body_time: MOMENT, ..Options::default() }).await;
    let mut http = Http::connect(server.address).await;
    let sid = http.poll().await.unwrap();
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    http.send(&format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n40")).await;
    read_to_close(&mut http.0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_polls_lives_for_longer_than_a_request_may_take() {
    let options = Options { body_time: MOMENT, ping_interval: 10 * MOMENT, ..Options::default() };
    let mut server = Server::start(options).await;
    let mut http = Http::connect(server.address).await;
    let sid = http.poll().await.unwrap();
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    assert!(http.ask("POST", &path, "40").await.unwrap().0.contains("200"));
    let (peer, mut at_server) = server.peer().await;
    peer.registered(false).unwrap();
    // Waits for the ping, for longer than a body may take.
    let mut said = String::new();
    while !said.split('\u{1e}').any(|packet| packet == "2") {
        said = http.ask("GET", &path, "").await.unwrap().1;
    }
    assert!(http.ask("POST", &path, "3\u{1e}42[\"unknown\",1]").await.unwrap().0.contains("200"));
    assert_eq!(frame(&mut at_server).await, ("unknown".into(), "1".into()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_poll_are_bounded_until_they_end_or_upgrade() {
    let options = Options { polling_per_address: 1, handshake_time: 5 * MOMENT, ..Options::default() };
    let mut server = Server::start(options).await;
    let mut http = Http::connect(server.address).await;
    http.poll().await.unwrap();
    let refused = http.poll().await.unwrap_err();
    assert!(refused.contains("503") && refused.contains("polling_per_address"), "{refused}");
    // One that never joins ends by itself.
    let again = async |server: &Server| {
        soon("a free place", async {
            loop {
                if let Ok(sid) = Http::connect(server.address).await.poll().await {
                    return sid;
                }
                tokio::time::sleep(MOMENT / 10).await;
            }
        })
        .await
    };
    // One that joins, and says that it leaves.
    let sid = again(&server).await;
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let mut http = Http::connect(server.address).await;
    assert!(http.ask("POST", &path, "40").await.unwrap().0.contains("200"));
    let (_, mut at_server) = server.peer().await;
    http.ask("POST", &path, "41").await;
    assert_eq!(closed(&mut at_server).await, Closed::Left);
    // One that joins and changes to a WebSocket, and stays.
    let sid = again(&server).await;
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let mut http = Http::connect(server.address).await;
    assert!(http.ask("POST", &path, "40").await.unwrap().0.contains("200"));
    let (_peer, _at_server) = server.peer().await;
    http.ask("GET", &path, "").await.unwrap();
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket&sid={sid}", server.address);
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut socket, _) = client_async(url, stream).await.unwrap();
    socket.send(Message::text("2probe")).await.unwrap();
    assert_eq!(soon("the probe", socket.next()).await.unwrap().unwrap().to_text().unwrap(), "3probe");
    socket.send(Message::text("5")).await.unwrap();
    again(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_poll_says_so() {
    let server = Server::start(Options { polling: false, ..Options::default() }).await;
    let refused = Http::connect(server.address).await.poll().await.unwrap_err();
    assert!(refused.contains("403") && refused.contains("websocket"), "{refused}");
    joined(server.address).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_never_completed_ends_the_connection_of_a_registered_peer() {
    let mut server = Server::start(Options { frame_time: MOMENT, ..Options::default() }).await;
    let (mut socket, _) = joined(server.address).await;
    let (peer, mut at_server) = server.peer().await;
    peer.set_frame_limit(usize::MAX);
    peer.registered(false).unwrap();
    // Answers to pings may stand between the parts of a message, so that pings notice nothing.
    let part = Frame::message(vec![b'x'; 100 << 10], OpCode::Data(Data::Text), false);
    socket.send(Message::Frame(part)).await.unwrap();
    assert!(matches!(closed(&mut at_server).await, Closed::Ours(why) if why.contains("not completed in time")));
    server.stop().await;
}

/// The bytes of a frame on Socket.IO.
fn event(payload: &str) -> String {
    format!("42[\"monitor\",\"{payload}\"]")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_has_sent_a_large_message_may_be_quiet_afterwards() {
    let mut server = Server::start(Options { frame_time: MOMENT, ..Options::default() }).await;
    let large = event(&"x".repeat(70 << 10));
    let (mut socket, _) = joined(server.address).await;
    let mut whole = server.peer().await;
    let mut http = Http::connect(server.address).await;
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", http.poll().await.unwrap());
    assert!(http.ask("POST", &path, "40").await.unwrap().0.contains("200"));
    let mut polling = server.peer().await;
    let (mut slow, _) = joined(server.address).await;
    let mut half = server.peer().await;
    for (peer, _) in [&whole, &polling, &half] {
        peer.set_frame_limit(usize::MAX);
        peer.registered(false).unwrap();
    }
    socket.send(Message::text(large.clone())).await.unwrap();
    assert!(http.ask("POST", &path, &large).await.unwrap().0.contains("200"));
    frame(&mut whole.1).await;
    frame(&mut polling.1).await;
    // More than the others have sent, and later, so that it is given more time.
    let part = Frame::message(vec![b'x'; 100 << 10], OpCode::Data(Data::Text), false);
    slow.send(Message::Frame(part)).await.unwrap();
    assert!(matches!(closed(&mut half.1).await, Closed::Ours(why) if why.contains("not completed in time")));

    socket.send(Message::text(event("again"))).await.unwrap();
    assert_eq!(frame(&mut whole.1).await.1, "\"again\"");
    assert!(http.ask("POST", &path, &event("again")).await.unwrap().0.contains("200"));
    assert_eq!(frame(&mut polling.1).await.1, "\"again\"");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_is_never_completed_ends_a_connection_of_pomelos_wire() {
    let mut server = Server::start(Options { frame_time: MOMENT, ..Options::default() }).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let hello = b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a";
    stream.write_all(hello).await.unwrap();
    let (_, mut at_server) = server.peer().await;
    // PUBLISH, of which a byte is missing.
    stream.write_all(b"\x30\x0b\x00\x06clien").await.unwrap();
    assert!(matches!(closed(&mut at_server).await, Closed::Ours(why) if why.contains("not completed in time")));
    read_to_close(&mut stream).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_hold_together_is_bounded() {
    let options = Options { strangers_held: 100 << 10, ..Options::default() };
    let server = Server::start(options).await;
    let mut halves = Vec::new();
    for _ in 0..4 {
        let (mut socket, _) = joined(server.address).await;
        let part = Frame::message(vec![b'x'; 40 << 10], OpCode::Data(Data::Text), false);
        socket.send(Message::Frame(part)).await.unwrap();
        halves.push(socket);
    }
    // The four hold more than they may. Which one goes is not said, because all hold the same.
    let ends = halves.iter_mut().map(|socket| Box::pin(async move { while let Some(Ok(_)) = socket.next().await {} }));
    soon("the end of one", futures_util::future::select_all(ends)).await;
    server.stop().await;
}
