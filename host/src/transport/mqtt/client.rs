//! A monitor's side of pomelo-admin's transport: how a monitor of ours reaches an original master.
//!
//! It does not connect again by itself, because only the caller knows what has to be said after that.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::codec::{self, Packet};
use super::input::Input;
use super::output::Output;
use super::reader::{Reader, Side};
use crate::transport::{Outbox, Peer, Session, Transport, socket_io};

/// Bytes that a CONNACK may have.
const HELLO: usize = 16;

/// How long it may take, once it has begun.
const HELLO_TIME: Duration = Duration::from_secs(60);

/// Limits of one connection.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long connecting may take, until the master has answered CONNECT. 10 s.
    pub connect_time: Duration,
    /// Frames that may wait to be sent. A master that falls further behind is cut. 4096.
    pub outbox: usize,
    /// The largest frame that the master may send, in bytes. 16 MiB.
    pub max_frame: usize,
    /// How long a write may wait for a master that takes nothing. 10 s.
    pub send_time: Duration,
    /// How long the master may take to receive what was sent before a close. 1 s.
    pub flush_time: Duration,
    /// Time between two pings. 60 s, as pomelo has it.
    pub ping: Duration,
    /// How long the master may be silent. 130 s, because it answers pings.
    pub silence: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options::from(&socket_io::client::Options::default())
    }
}

/// The limits of a connection to a master of our own kind, as far as they are the same.
impl From<&socket_io::client::Options> for Options {
    fn from(options: &socket_io::client::Options) -> Self {
        let &socket_io::client::Options { connect_time, outbox, max_frame, send_time, flush_time, .. } = options;
        let (ping, silence) = (Duration::from_secs(60), Duration::from_secs(130));
        Options { connect_time, outbox, max_frame, send_time, flush_time, ping, silence }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there, or the name or network cannot be reached.
    #[error("{0}")]
    Unreachable(io::Error),
    /// There was no answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// What answered does not speak pomelo-admin's wire.
    #[error("what answers there does not speak pomelo-admin's wire: {0}")]
    NotPomelo(String),
    /// The master does not take the connection.
    #[error("the master refuses the connection with code {0}")]
    Refused(u8),
}

/// Connects to a master at `address`, `host:port`. The session is made when the master has accepted the connection, and is told of the end exactly once.
///
/// # Errors
/// [`ConnectError`] says why there is no connection; the session has not been made then.
pub async fn connect(
    address: &str,
    options: Options,
    make_session: impl FnOnce(Peer) -> Arc<dyn Session>,
) -> Result<Peer, ConnectError> {
    let (input, write) = timeout(options.connect_time, greet(address))
        .await
        .map_err(|_| ConnectError::TimedOut(options.connect_time))??;
    let remote = write.peer_addr().ok();
    let (peer, outbox) = Peer::new(Transport::Mqtt, remote, options.outbox, options.max_frame);
    tokio::spawn(carry(input, write, peer.clone(), outbox, make_session(peer.clone()), options));
    Ok(peer)
}

/// Introduces this side as pomelo's servers do, and waits to be accepted.
async fn greet(address: &str) -> Result<(Input<OwnedReadHalf>, OwnedWriteHalf), ConnectError> {
    let socket = TcpStream::connect(address).await.map_err(ConnectError::Unreachable)?;
    // Without it a small frame would wait for the acknowledgement of the one before. If it cannot be set, frames are only later.
    let _ = socket.set_nodelay(true);
    let (read, mut write) = socket.into_split();
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let mut hello = Vec::new();
    codec::put_connect(&mut hello, &format!("MQTT_ADMIN_{millis}"));
    write.write_all(&hello).await.map_err(ConnectError::Unreachable)?;
    let mut input = Input::new(read);
    let odd = |what: String| ConnectError::NotPomelo(what);
    let (packet, length) = input.packet(|| HELLO, HELLO_TIME).await.map_err(|error| odd(error.to_string()))?;
    match codec::decode(&packet, length) {
        Ok(Packet::Connack(0)) => Ok((input, write)),
        Ok(Packet::Connack(code)) => Err(ConnectError::Refused(code)),
        Ok(_) => Err(odd("it does not answer CONNECT".into())),
        Err(bad) => Err(odd(bad.to_string())),
    }
}

/// Serves a connection to its end.
async fn carry(
    input: Input<OwnedReadHalf>,
    write: OwnedWriteHalf,
    peer: Peer,
    outbox: Outbox,
    session: Arc<dyn Session>,
    options: Options,
) {
    let (ping, gone, cut) = (Arc::new(Notify::new()), CancellationToken::new(), outbox.cut.clone());
    let frames = |direction: &'static str| metrics::counter!("pomelo_frames_total", "transport" => "mqtt_client", "direction" => direction);
    let output = Output {
        stream: write,
        peer: peer.clone(),
        ping: ping.clone(),
        ping_packet: codec::PINGREQ,
        send_time: options.send_time,
        flush_time: options.flush_time,
        gone: gone.clone(),
        sent: frames("out"),
    };
    let writing = tokio::spawn(output.run(outbox));
    let over = gone.clone();
    tokio::spawn(async move {
        while timeout(options.ping, over.cancelled()).await.is_err() {
            ping.notify_one();
        }
    });
    let (received, side) = (frames("in"), Side::Monitor);
    let (peer_of_reader, idle) = (peer.clone(), options.silence);
    let reader = Reader { input, peer: peer_of_reader, session: &*session, side, idle, frame_time: idle, received };
    let how = reader.run(cut).await;
    gone.cancel();
    peer.ended();
    session.closed(how);
    // The socket is closed when both halves are dropped.
    let _ = writing.await;
}
