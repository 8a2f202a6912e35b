//! A monitor's side of pomelo-admin's transport: how a monitor of ours reaches an original master, and one of ours where `wire` says so.
//!
//! It does not connect again by itself, because only the caller knows what has to be said after that.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::codec::{self, Packet};
use super::input::{Input, ReadError};
use super::output::Output;
use super::reader::{Reader, Side};
use crate::tls::{BadFile, ClientTls, TlsFault};
use crate::transport::dial::{Address, DialError, dial};
use crate::transport::socket::Socket;
use crate::transport::{Outbox, Peer, Session, Transport, socket_io};

/// Bytes that a CONNACK may have.
const HELLO: usize = 16;

/// The longest time in which one of our masters is promised a ping, seconds. With the half that MQTT adds it is below the silence that such a master allows by
/// default.
const LONGEST_PROMISE: u16 = 90;

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
    /// Within how many seconds the master is promised a ping. 0: it is promised nothing, as pomelo has it.
    pub keep_alive: u16,
    /// How long a frame may take that has begun, and a second more for each 64 KiB of it. 130 s.
    pub frame_time: Duration,
    /// Speaks TLS. None: clear text, unless the address says otherwise.
    pub tls: Option<ClientTls>,
}

impl Default for Options {
    fn default() -> Self {
        Options::from(&socket_io::client::Options::default())
    }
}

/// The limits of a connection to a master of our own kind, as far as they are the same.
impl From<&socket_io::client::Options> for Options {
    fn from(options: &socket_io::client::Options) -> Self {
        let &socket_io::client::Options { connect_time, outbox, max_frame, send_time, flush_time, ref tls, .. } =
            options;
        let tls = tls.clone();
        let (ping, silence) = (Duration::from_secs(60), Duration::from_secs(130));
        let (keep_alive, frame_time) = (0, silence);
        Options { connect_time, outbox, max_frame, send_time, flush_time, ping, silence, keep_alive, frame_time, tls }
    }
}

impl Options {
    /// As one of our masters is to be dialled: whichever side hears nothing for `silence`, a second or more, takes the other for lost. A ping follows the last
    /// one after `ping`, or sooner where that would be too late.
    #[must_use]
    pub fn with_pings(self, ping: Duration, silence: Duration) -> Self {
        // MQTT adds half of what is promised.
        let seconds = (silence * 2 / 3).as_secs().clamp(1, LONGEST_PROMISE.into());
        let keep_alive = u16::try_from(seconds).unwrap_or(LONGEST_PROMISE);
        let ping = ping.min(Duration::from_secs(keep_alive.into()));
        Options { ping, silence, keep_alive, ..self }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not `host:port` or a URL with a port.
    #[error("`{0}` is no address: give HOST:PORT")]
    Address(String),
    /// The address says clear text, and TLS was asked for.
    #[error("`{0}` is an address of clear text, and TLS was asked for: give https://HOST:PORT")]
    Clear(String),
    /// There is no TLS connection.
    #[error("{0}")]
    Tls(TlsFault),
    /// TLS is asked for, and no authority can be trusted.
    #[error(transparent)]
    Authorities(BadFile),
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
    #[error("the master refuses the connection with code {0}{hint}", hint = hint(*.0))]
    Refused(u8),
}

fn hint(code: u8) -> &'static str {
    match code {
        5 => ": a master of ours may take TLS only; `clear_networks` in [tls] of its pomelo.toml lets clear text in",
        _ => "",
    }
}

impl ConnectError {
    fn of(error: DialError, address: &str) -> Self {
        match error {
            DialError::Address => ConnectError::Address(address.to_owned()),
            DialError::Clear => ConnectError::Clear(address.to_owned()),
            DialError::Unreachable(error) => ConnectError::Unreachable(error),
            DialError::Tls(fault) => ConnectError::Tls(fault),
            DialError::Authorities(bad) => ConnectError::Authorities(bad),
        }
    }
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
    let (input, write, remote) =
        timeout(options.connect_time, greet(address, options.tls.as_ref(), options.keep_alive))
            .await
            .map_err(|_| ConnectError::TimedOut(options.connect_time))??;
    let (peer, outbox) = Peer::new(Transport::Mqtt, remote, options.outbox, options.max_frame);
    tokio::spawn(carry(input, write, peer.clone(), outbox, make_session(peer.clone()), options));
    Ok(peer)
}

/// Introduces this side as pomelo's servers do, and waits to be accepted.
async fn greet(
    address: &str,
    tls: Option<&ClientTls>,
    keep_alive: u16,
) -> Result<(Input<ReadHalf<Socket>>, WriteHalf<Socket>, Option<SocketAddr>), ConnectError> {
    let failed = |error| ConnectError::of(error, address);
    let read = Address::parse(address).ok_or_else(|| failed(DialError::Address))?;
    let (socket, remote) = dial(&read, tls).await.map_err(failed)?;
    let (read, mut write) = tokio::io::split(socket);
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let mut hello = Vec::new();
    codec::put_connect(&mut hello, &format!("MQTT_ADMIN_{millis}"), keep_alive);
    write.write_all(&hello).await.map_err(ConnectError::Unreachable)?;
    write.flush().await.map_err(ConnectError::Unreachable)?;
    let mut input = Input::new(read);
    let odd = |what: String| ConnectError::NotPomelo(what);
    let (packet, length) = input.packet(|| HELLO).await.map_err(|error| match &error {
        ReadError::Broken(broken) => {
            TlsFault::of_later(broken).map_or_else(|| odd(error.to_string()), ConnectError::Tls)
        }
        _ => odd(error.to_string()),
    })?;
    match codec::decode(&packet, length) {
        Ok(Packet::Connack(0)) => Ok((input, write, remote)),
        Ok(Packet::Connack(code)) => Err(ConnectError::Refused(code)),
        Ok(_) => Err(odd("it does not answer CONNECT".into())),
        Err(bad) => Err(odd(bad.to_string())),
    }
}

/// Serves a connection to its end.
async fn carry(
    input: Input<ReadHalf<Socket>>,
    write: WriteHalf<Socket>,
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
    let Options { silence: idle, frame_time, .. } = options;
    let reader = Reader { input, peer: peer.clone(), session: &*session, side, idle, frame_time, received };
    let how = reader.run(cut).await;
    gone.cancel();
    peer.ended();
    session.closed(how);
    // The socket is closed when both halves are dropped.
    let _ = writing.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_come_in_time_for_the_silence_that_is_allowed() {
        let pings = |ping: u64, silence: u64| {
            let millis = Duration::from_millis;
            let options = Options::default().with_pings(millis(ping), millis(silence));
            (options.ping.as_millis(), options.silence.as_millis(), options.keep_alive)
        };
        assert_eq!(pings(5000, 10_000), (5000, 10_000, 6));
        assert_eq!(pings(30_000, 35_000), (23_000, 35_000, 23));
        assert_eq!(pings(200, 700), (200, 700, 1), "a second is the least that can be promised");
        assert_eq!(pings(300_000, 305_000), (90_000, 305_000, 90));
        assert_eq!(Options::default().keep_alive, 0, "an original master is promised nothing");
    }
}
