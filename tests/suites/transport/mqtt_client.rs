//! Our side of pomelo-admin's wire, with our listener, and with masters that are silent, slow, foreign or wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pomelo_host::transport::mqtt::client::{self, ConnectError, Options};
use pomelo_host::transport::{Closed, Peer, SendError, listener};
use pomelo_host::wire::Topic;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::{Accepted, Probe, Server, Told, closed, frame, number, read_to_close, soon, text};

async fn attempt(address: SocketAddr, options: Options) -> Result<Accepted, ConnectError> {
    let (mut told, address) = (None, address.to_string());
    let peer = client::connect(&address, options, |peer| {
        let (probe, receiver) = Probe::new(peer, false);
        told = Some(receiver);
        probe
    });
    let peer = soon("an answer, or none", peer).await?;
    Ok((peer, told.unwrap()))
}

/// A master by hand, and a connection to it that has been taken.
async fn by_hand(options: Options) -> (TcpStream, Peer, mpsc::UnboundedReceiver<Told>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connecting = tokio::spawn(attempt(address, options));
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut hello = [0; 38];
    soon("CONNECT", socket.read_exact(&mut hello)).await.unwrap();
    // As pomelo-admin's own client: level 4, a clean session, no promise, a name of its own.
    assert_eq!(hello[..14], *b"\x10\x24\x00\x04MQTT\x04\x02\x00\x00\x00\x18");
    assert!(hello[14..].starts_with(b"MQTT_ADMIN_"), "{hello:?}");
    socket.write_all(&[0x20, 2, 0, 0]).await.unwrap();
    let (peer, told) = connecting.await.unwrap().unwrap();
    (socket, peer, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_travel_both_ways_in_both_forms_and_a_close_delivers_what_was_sent() {
    let mut server = Server::start(listener::Options::default()).await;
    let (peer, mut told) = attempt(server.address, Options::default()).await.unwrap();
    let (_, mut at_master) = server.peer().await;
    for n in 0..100 {
        if n % 2 == 0 {
            peer.send(Topic::Client, number(n)).unwrap();
        } else {
            peer.send_quoted(Topic::Client, number(n)).unwrap();
        }
    }
    for n in 0..100 {
        let expected = ("client".to_owned(), number(n).get().to_owned());
        assert_eq!(frame(&mut at_master).await, expected);
        assert_eq!(frame(&mut told).await, expected, "its echo");
    }
    peer.send(Topic::Monitor, number(100)).unwrap();
    peer.close("done");
    assert_eq!(frame(&mut at_master).await.0, "monitor");
    assert_eq!(closed(&mut at_master).await, Closed::Left);
    assert_eq!(closed(&mut told).await, Closed::Ours("done".into()));
    assert_eq!(peer.send(Topic::Monitor, number(1)), Err(SendError::Closed));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_connect_as_a_master_is_no_connection() {
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let short = Options { connect_time: Duration::from_millis(100), ..Options::default() };
    let late = attempt(address, short).await.err().unwrap();
    assert!(matches!(late, ConnectError::TimedOut(_)), "{late}");
    drop(listener.accept().await.unwrap());
    let cases: [(&[u8], &str); 5] = [
        (&[0x20, 2, 0, 5], "code 5"),
        (&[0xd0, 0], "does not speak"),
        (b"HTTP/1.1 400 Bad Request\r\n", "does not speak"),
        (&[0x20, 0xff, 0xff, 0x7f], "above the limit"),
        (&[], "does not speak"),
    ];
    for (answer, expected) in cases {
        let master = listener.clone();
        let answering = tokio::spawn(async move {
            let (mut socket, _) = master.accept().await.unwrap();
            let mut hello = [0; 38];
            socket.read_exact(&mut hello).await.unwrap();
            socket.write_all(answer).await.unwrap();
            socket.shutdown().await.unwrap();
            read_to_close(&mut socket).await;
        });
        let error = attempt(address, Options::default()).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{answer:?}: {error}");
        soon("the client's close", answering).await.unwrap();
    }
    drop(listener);
    let nobody = attempt(address, Options::default()).await.err().unwrap();
    assert!(matches!(nobody, ConnectError::Unreachable(_)), "{nobody}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_sent_and_a_master_that_answers_none_is_gone() {
    let options =
        Options { ping: Duration::from_millis(50), silence: Duration::from_millis(500), ..Options::default() };
    let (mut socket, peer, mut told) = by_hand(options).await;
    let mut ping = [0; 2];
    // For as long as they are answered nothing ends, though this is longer than the silence that is borne.
    for _ in 0..15 {
        soon("a ping", socket.read_exact(&mut ping)).await.unwrap();
        assert_eq!(ping, [0xc0, 0]);
        socket.write_all(&[0xd0, 0]).await.unwrap();
    }
    assert!(peer.closed_because().is_none() && told.try_recv().is_err());
    let how = closed(&mut told).await;
    assert!(matches!(&how, Closed::Lost(why) if why.contains("silent for 500ms")), "{how:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_master_may_not_send_ends_the_connection() {
    let cases: [(Vec<u8>, &str); 5] = [
        ([&[0x30, 0x89, 0x01, 0, 1, b'm', b'"'][..], &[b'x'; 132], b"\""].concat(), "above the limit of 100"),
        (vec![0x30, 0xff, 0xff, 0x7f], "above the limit of 100"),
        (vec![0x32, 9], "0x32"),
        (vec![0x30, 4, 0, 1, b'm', b'{'], "no JSON"),
        (vec![0xc0, 0], "0xc0"),
    ];
    for (bytes, expected) in cases {
        let (mut socket, _, mut told) = by_hand(Options { max_frame: 100, ..Options::default() }).await;
        socket.write_all(&bytes).await.unwrap();
        let how = closed(&mut told).await;
        assert!(matches!(&how, Closed::Ours(why) if why.contains(expected)), "{bytes:?}: {how:?}");
        read_to_close(&mut socket).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_takes_nothing_is_cut_and_one_that_leaves_has_left() {
    let stalled = Options { send_time: Duration::from_millis(100), outbox: 64, ..Options::default() };
    let (socket, peer, mut told) = by_hand(stalled).await;
    // More than the system's buffers hold.
    let big = text(1 << 20);
    let mut error = None;
    for _ in 0..64 {
        error = peer.send(Topic::Monitor, big.clone()).err();
    }
    let how = closed(&mut told).await;
    let cut = |why: &str| why.contains("takes nothing") || why.contains("keep up");
    assert!(matches!(&how, Closed::Ours(why) if cut(why)), "{how:?} {error:?}");
    drop(socket);

    let (mut socket, _, mut told) = by_hand(Options::default()).await;
    socket.write_all(&[0xe0, 0]).await.unwrap();
    assert_eq!(closed(&mut told).await, Closed::Left);
    let (socket, _, mut told) = by_hand(Options::default()).await;
    drop(socket);
    assert!(matches!(closed(&mut told).await, Closed::Lost(_)));
}
