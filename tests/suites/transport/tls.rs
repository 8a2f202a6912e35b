//! TLS on the listener's port, with our clients of both wires, and peers that do not end a handshake.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pomelo_host::tls::{Authority, ClientFiles, ClientTls, Holder, Issued, Lifetime, ServerFiles, ServerTls};
use pomelo_host::transport::socket_io::client::{self, ConnectError};
use pomelo_host::transport::{Closed, Peer, Session, Transport, listener, mqtt};
use pomelo_host::wire::{Topic, raw};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::{Probe, Server, Told, closed, frame, number, read_to_close, soon};

/// An authority with a master's certificate and a server's, in files.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        let (authority, own) = Authority::make("a cluster").unwrap();
        let lifetime = Lifetime::days(1);
        let holder = Holder::Server { server_type: "chat".into(), id: "chat-1".into() };
        files.write("ca", &own);
        files.write("master", &authority.host(&["127.0.0.1".to_owned()], lifetime).unwrap());
        files.write("chat-1", &authority.holder(&holder, lifetime).unwrap());
        files
    }

    fn write(&self, name: &str, issued: &Issued) {
        fs::write(self.at(&format!("{name}.pem")), &issued.certificate).unwrap();
        fs::write(self.at(&format!("{name}.key")), &issued.key).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn options(&self) -> listener::Options {
        let (certificate, key) = (self.at("master.pem"), self.at("master.key"));
        let files = ServerFiles { certificate, key, client_ca: Some(self.at("ca.pem")) };
        listener::Options { tls: Some(ServerTls::load(files).unwrap()), ..listener::Options::default() }
    }

    fn client(&self, shows: bool) -> ClientTls {
        let shown = |ending: &str| shows.then(|| self.at(&format!("chat-1.{ending}")));
        let files = ClientFiles { ca: Some(self.at("ca.pem")), certificate: shown("pem"), key: shown("key") };
        ClientTls::load(files).unwrap()
    }
}

/// Connects by one of the wires.
async fn connect(server: &Server, transport: Transport, tls: ClientTls) -> (Peer, mpsc::UnboundedReceiver<Told>) {
    let (mut told, address) = (None, server.address.to_string());
    let make = |peer: Peer| -> Arc<dyn Session> {
        let (probe, receiver) = Probe::new(peer, false);
        told = Some(receiver);
        probe
    };
    let options = client::Options { tls: Some(tls), ..client::Options::default() };
    let peer = match transport {
        Transport::Mqtt => mqtt::client::connect(&address, (&options).into(), make).await.unwrap(),
        _ => client::connect(&address, options, make).await.unwrap(),
    };
    (peer, told.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_travel_over_tls_on_both_wires_and_the_listener_knows_the_certificate() {
    let files = Files::new();
    let mut server = Server::start(files.options()).await;
    for transport in [Transport::SocketIo, Transport::Mqtt] {
        for shows in [true, false] {
            let (peer, mut told) = connect(&server, transport, files.client(shows)).await;
            let (at_server, mut told_server) = server.peer().await;
            let certificate = at_server.certificate();
            assert_eq!(certificate.is_some(), shows, "{transport:?}");
            assert!(certificate.is_none_or(|certificate| certificate.server("chat", "chat-1").is_ok()));
            peer.send(Topic::Register, number(usize::MAX)).unwrap();
            for n in 0..200 {
                peer.send(Topic::Client, number(n)).unwrap();
            }
            assert_eq!(frame(&mut told_server).await.0, "register");
            at_server.set_frame_limit(4 << 20);
            for n in 0..200 {
                let expected = ("client".to_owned(), number(n).get().to_owned());
                assert_eq!((frame(&mut told_server).await, frame(&mut told).await), (expected.clone(), expected));
            }
            // Larger than any buffer on the way, so that a part of it that is not flushed would stay.
            let large = raw(&json!({ "x": "x".repeat(2 << 20) }));
            peer.send(Topic::Client, large.clone()).unwrap();
            let (there, back) = (frame(&mut told_server).await, frame(&mut told).await);
            assert!(there.1 == large.get() && back.1 == large.get(), "{transport:?}");
            peer.close("done");
            assert_eq!(closed(&mut told_server).await, Closed::Left, "{transport:?}");
            assert_eq!(closed(&mut told).await, Closed::Ours("done".into()), "{transport:?}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_not_ended_is_cut_and_counts_as_any_connection() {
    let files = Files::new();
    let short = Duration::from_millis(300);
    let options =
        listener::Options { max_connections: 1, header_time: short, first_byte_time: short, ..files.options() };
    let server = Server::start(options).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(&[0x16, 3, 1]).await.unwrap();
    let mut further = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_to_close(&mut further).await, b"", "there is no place for another connection");
    assert_eq!(read_to_close(&mut silent).await, b"", "the handshake has a deadline");
    // What is no handshake ends at once.
    let mut odd = TcpStream::connect(server.address).await.unwrap();
    odd.write_all(b"\x16\x03\x01\x00\x05hello").await.unwrap();
    read_to_close(&mut odd).await;
    drop(odd);
    // And one that ends without a word of text after it.
    let tls = files.client(false);
    // The place is free again as soon as the listener has seen the end of the one before.
    let connect = async || loop {
        let stream = TcpStream::connect(server.address).await.unwrap();
        if let Ok(stream) = tls.connect("127.0.0.1", stream).await {
            return stream;
        }
    };
    let mut stream = soon("a place", connect()).await;
    let mut said = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut said)).await;
    assert_eq!(said, b"");
    drop(stream);
    let mut last = soon("a place", connect()).await;
    last.write_all(b"GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon("an answer", last.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_says_whether_tls_is_spoken() {
    let files = Files::new();
    let server = Server::start(files.options()).await;
    let attempt = async |address: String, tls: Option<ClientTls>| {
        let options = client::Options { tls, ..client::Options::default() };
        client::connect(&address, options, |peer| Probe::new(peer, false).0).await
    };
    let address = server.address;
    for good in [format!("https://{address}"), format!("wss://{address}"), address.to_string()] {
        attempt(good, Some(files.client(false))).await.unwrap().close("done");
    }
    attempt(format!("http://{address}"), None).await.unwrap().close("done");
    let contradiction = attempt(format!("http://{address}"), Some(files.client(false))).await.err().unwrap();
    assert!(matches!(contradiction, ConnectError::Clear(_)), "{contradiction}");
    let system = attempt(format!("https://{address}"), None).await.err().unwrap();
    assert!(matches!(system, ConnectError::Tls(_) | ConnectError::Authorities(_)), "{system}");
    let clear = Server::start(listener::Options::default()).await;
    let said = attempt(clear.address.to_string(), Some(files.client(false))).await.err().unwrap().to_string();
    assert!(said.contains("it does not speak TLS"), "{said}");
    clear.stop().await;
    server.stop().await;
}
