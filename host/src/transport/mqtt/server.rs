//! The master's side of pomelo-admin's transport.
//!
//! A connection has two tasks: one reads and tells the session, the other writes. A peer that is silent for longer than pomelo's pings allow counts as
//! gone.

use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::codec::{self, Bad, Packet};
use super::input::Input;
use super::output::Output;
use super::reader::{Reader, Side};
use crate::tls::Certificate;
use crate::transport::options::Options;
use crate::transport::places::Place;
use crate::transport::socket::Socket;
use crate::transport::{Accept, Closed, Peer, Transport};
use crate::util::line_budget;

/// Bytes that a CONNECT may have.
const HELLO: usize = 1 << 10;

/// Serves connections, and knows their peers.
pub(in crate::transport) struct Server {
    options: Options,
    accept: Arc<dyn Accept>,
    peers: Mutex<HashMap<u64, Peer>>,
}

impl Server {
    /// Hands peers to `accept`.
    pub(in crate::transport) fn new(options: &Options, accept: Arc<dyn Accept>) -> Self {
        Server { options: options.clone(), accept, peers: Mutex::default() }
    }

    /// The peers that are connected now.
    pub(in crate::transport) fn peers(&self) -> Vec<Peer> {
        self.peers.lock().values().cloned().collect()
    }

    /// Serves one connection to its end. `shutdown` ends one that has not introduced itself yet.
    pub(in crate::transport) async fn serve(
        &self,
        socket: Socket,
        remote: SocketAddr,
        place: Arc<Place>,
        shutdown: CancellationToken,
    ) {
        let let_in = socket.is_tls() || self.options.clear.is_let_in(remote.ip());
        let certificate = socket.certificate();
        let (read, write) = tokio::io::split(socket);
        let mut input = Input::new(read);
        metrics::gauge!("pomelo_connections").increment(1);
        let greeted = tokio::select! {
            () = shutdown.cancelled() => Err("the server is shutting down".into()),
            () = place.cut().cancelled() => Err("others have taken its place".into()),
            greeted = timeout(self.options.handshake_time, greet(&mut input, write, let_in)) => {
                greeted.unwrap_or_else(|_| Err("it did not introduce itself in time".into()))
            }
        };
        match greeted {
            Ok((write, keep_alive)) => self.serve_peer(input, write, (remote, certificate), keep_alive, &place).await,
            Err(why) => {
                metrics::counter!("pomelo_connections_refused_total", "reason" => "mqtt").increment(1);
                line_budget::caused(&line_budget::address(remote.ip()), || {
                    tracing::info!(%remote, "a connection was closed: {why}");
                });
            }
        }
        metrics::gauge!("pomelo_connections").decrement(1);
        // Both halves of the socket are dropped.
        place.leave();
    }

    async fn serve_peer(
        &self,
        input: Input<ReadHalf<Socket>>,
        write: WriteHalf<Socket>,
        (remote, certificate): (SocketAddr, Option<Arc<Certificate>>),
        keep_alive: u16,
        place: &Arc<Place>,
    ) {
        let options = &self.options;
        let (peer, outbox) =
            Peer::charged(&options.budget, Transport::Mqtt, remote, options.outbox, options.first_frame_limit);
        peer.shows(certificate);
        self.peers.lock().insert(peer.id(), peer.clone());
        peer.carried_by(place);
        let session = self.accept.accept(peer.clone());
        let (ping, gone) = (Arc::new(Notify::new()), CancellationToken::new());
        let cut = outbox.cut.clone();
        let output = Output {
            stream: write,
            peer: peer.clone(),
            ping: ping.clone(),
            ping_packet: codec::PINGRESP,
            send_time: options.send_time,
            flush_time: options.flush_time,
            gone: gone.clone(),
            sent: frames("out"),
        };
        let writing = tokio::spawn(output.run(outbox));
        let idle = match keep_alive {
            0 => options.mqtt_idle,
            // As MQTT has it: one and a half times what the client promised, within our own limit.
            seconds => (Duration::from_secs(seconds.into()) * 3 / 2).min(options.mqtt_idle),
        };
        let (peer_of_reader, side) = (peer.clone(), Side::Master(ping));
        let reader = Reader {
            input,
            peer: peer_of_reader,
            session: &*session,
            side,
            idle,
            frame_time: options.frame_time,
            received: frames("in"),
        };
        let displaced = async {
            place.cut().cancelled().await;
            peer.cut("others have taken its place");
            pending::<Closed>().await
        };
        let how = tokio::select! {
            how = reader.run(cut) => how,
            how = displaced => how,
        };
        gone.cancel();
        peer.ended();
        self.peers.lock().remove(&peer.id());
        tracing::debug!(?peer, ?how, "a peer is gone");
        session.closed(how);
        // The socket is closed when both halves are dropped.
        let _ = writing.await;
    }
}

fn frames(direction: &'static str) -> Counter {
    metrics::counter!("pomelo_frames_total", "transport" => "mqtt", "direction" => direction)
}

/// Reads CONNECT and answers it at once, because a pomelo server whose first connection is not answered gives up for good. A peer that is not let in is
/// told so.
async fn greet(
    input: &mut Input<ReadHalf<Socket>>,
    mut write: WriteHalf<Socket>,
    let_in: bool,
) -> Result<(WriteHalf<Socket>, u16), String> {
    let (packet, length) = input.packet(|| HELLO).await.map_err(|error| error.to_string())?;
    let answer = match codec::decode(&packet, length) {
        Ok(Packet::Connect { .. }) if !let_in => {
            // An error means that the peer has gone already.
            let _ = write.write_all(&codec::NOT_AUTHORIZED).await;
            let _ = write.shutdown().await;
            Err("it speaks clear text, and [tls] requires TLS (`clear_networks` lets clear text in)".into())
        }
        Ok(Packet::Connect { keep_alive }) => Ok(keep_alive),
        Ok(_) => Err(Bad::Header(packet[0]).to_string()),
        Err(Bad::Protocol) => {
            // An error means that the peer has gone already.
            let _ = write.write_all(&codec::WRONG_PROTOCOL).await;
            Err(Bad::Protocol.to_string())
        }
        Err(bad) => Err(bad.to_string()),
    };
    let keep_alive = answer?;
    write.write_all(&codec::ACCEPTED).await.map_err(|error| error.to_string())?;
    write.flush().await.map_err(|error| error.to_string())?;
    Ok((write, keep_alive))
}
