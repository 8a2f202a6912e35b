//! Our client and our server with each other.

use pomelo_host::transport::listener::Options;
use pomelo_host::transport::socket_io::client::{self, ConnectError};
use pomelo_host::transport::{Closed, SendError};
use pomelo_host::wire::Topic;

use crate::support::{Probe, Server, closed, connect, frame, number, soon, text};

const MANY: usize = 10_000;

fn roomy() -> (Options, client::Options) {
    let outbox = 2 * MANY;
    (Options { outbox, ..Options::default() }, client::Options { outbox, inbox: outbox, ..client::Options::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_keep_their_order_in_both_directions() {
    let (server_options, client_options) = roomy();
    let mut server = Server::start(server_options).await;
    let (client, mut at_client) = connect(server.address, client_options).await;
    let (peer, mut at_server) = server.peer().await;
    client.send(Topic::Register, number(0)).unwrap();
    assert_eq!(frame(&mut at_server).await.0, "register");
    for n in 0..MANY {
        client.send(Topic::Client, number(n)).unwrap();
        peer.send(Topic::Monitor, number(n)).unwrap();
    }
    let (mut echoed, mut told) = (0, 0);
    for _ in 0..2 * MANY {
        let (topic, payload) = frame(&mut at_client).await;
        let next = if topic == "client" { &mut echoed } else { &mut told };
        assert_eq!(payload, number(*next).get());
        *next += 1;
    }
    for n in 0..MANY {
        assert_eq!(frame(&mut at_server).await, ("client".into(), number(n).get().into()));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_delivers_what_was_sent_before_it() {
    let (server_options, client_options) = roomy();
    let mut server = Server::start(server_options).await;
    let (client, mut at_client) = connect(server.address, client_options.clone()).await;
    let (_, mut at_server) = server.peer().await;
    client.send(Topic::Register, number(0)).unwrap();
    assert_eq!(frame(&mut at_server).await.0, "register");
    for n in 0..MANY {
        client.send(Topic::Monitor, number(n)).unwrap();
    }
    client.close("done");
    assert_eq!(client.send(Topic::Monitor, number(0)), Err(SendError::Closed));
    for n in 0..MANY {
        assert_eq!(frame(&mut at_server).await.1, number(n).get());
    }
    assert_eq!(closed(&mut at_server).await, Closed::Left);
    assert_eq!(closed(&mut at_client).await, Closed::Ours("done".into()));

    let (_client, mut at_client) = connect(server.address, client_options).await;
    let (peer, mut at_server) = server.peer().await;
    for n in 0..MANY {
        peer.send(Topic::Monitor, number(n)).unwrap();
    }
    peer.close("enough");
    for n in 0..MANY {
        assert_eq!(frame(&mut at_client).await.1, number(n).get());
    }
    assert_eq!(closed(&mut at_client).await, Closed::Left);
    assert_eq!(closed(&mut at_server).await, Closed::Ours("enough".into()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_the_server_tells_every_session() {
    let mut server = Server::start(Options::default()).await;
    let (_client, mut at_client) = connect(server.address, client::Options::default()).await;
    let (peer, mut at_server) = server.peer().await;
    peer.send(Topic::Monitor, number(1)).unwrap();
    let address = server.address;
    server.stop().await;
    // Told before `serve` has returned: no wait is needed.
    assert!(matches!(at_server.try_recv(), Ok(crate::support::Told::Closed(Closed::Ours(_)))));
    assert_eq!(frame(&mut at_client).await.1, number(1).get());
    assert_eq!(closed(&mut at_client).await, Closed::Left);
    let address = address.to_string();
    let refused = client::connect(&address, client::Options::default(), |peer| Probe::new(peer, false).0).await;
    assert!(matches!(refused, Err(ConnectError::Unreachable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_small_before_registration_and_larger_after() {
    let options = Options { first_frame_limit: 8 << 10, max_frame: 1 << 20, ..Options::default() };
    let mut server = Server::start(options).await;
    let (client, mut at_client) = connect(server.address, client::Options::default()).await;
    let (_, mut at_server) = server.peer().await;
    client.send(Topic::Client, text(10_000)).unwrap();
    let Closed::Ours(why) = closed(&mut at_server).await else { panic!("the server cuts it") };
    assert!(why.contains("above the limit of 8192"), "{why}");
    closed(&mut at_client).await;

    let (client, mut at_client) = connect(server.address, client::Options::default()).await;
    let (_, mut at_server) = server.peer().await;
    client.send(Topic::Register, number(0)).unwrap();
    assert_eq!(frame(&mut at_server).await.0, "register");
    // Many times what a connection may carry before registration.
    for _ in 0..5 {
        client.send(Topic::Client, text(200_000)).unwrap();
        assert_eq!(frame(&mut at_client).await.1.len(), 200_000);
    }
    // Above the limit for all, the WebSocket itself gives up.
    client.send(Topic::Client, text(2 << 20)).unwrap();
    assert!(matches!(closed(&mut at_server).await, Closed::Lost(_)));
    closed(&mut at_client).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_fill_memory_with_one_large_message() {
    let mut server = Server::start(Options { first_frame_limit: 8 << 10, ..Options::default() }).await;
    let (client, mut at_client) = connect(server.address, client::Options::default()).await;
    let (_, mut at_server) = server.peer().await;
    // Below the limit for all, which the WebSocket would collect; the connection is ended long before that.
    client.send(Topic::Client, text(8 << 20)).unwrap();
    assert_eq!(closed(&mut at_server).await, Closed::Ours("it sent more than it may before registration".into()));
    closed(&mut at_client).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_cuts_a_server_whose_frames_are_too_large() {
    let mut server = Server::start(Options::default()).await;
    let (client, mut at_client) = connect(server.address, client::Options::default()).await;
    client.set_frame_limit(1000);
    let (peer, _at_server) = server.peer().await;
    peer.send(Topic::Monitor, text(2000)).unwrap();
    let Closed::Ours(why) = closed(&mut at_client).await else { panic!("the client cuts it") };
    assert!(why.contains("above the limit of 1000"), "{why}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_overflows_cuts_the_peer_and_says_so() {
    let mut server = Server::start(Options { outbox: 16, ..Options::default() }).await;
    // Connected, but never read from again.
    let (_socket, _) = crate::hostile::joined(server.address).await;
    let (peer, mut at_server) = server.peer().await;
    let payload = text(100_000);
    soon("an overflow", async {
        loop {
            match peer.send(Topic::Monitor, payload.clone()) {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => break assert!(matches!(error, SendError::Full | SendError::Closed)),
            }
        }
    })
    .await;
    assert_eq!(closed(&mut at_server).await, Closed::Ours("it does not keep up with what it is sent".into()));
    server.stop().await;
}
