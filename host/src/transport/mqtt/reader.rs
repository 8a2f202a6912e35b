//! The reading loop of both sides.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use metrics::Counter;
use tokio::io::AsyncRead;
use tokio::sync::Notify;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::codec::{self, Bad, Length, Packet, Received};
use super::input::{Input, ReadError};
use crate::budget::{Charge, Over};
use crate::transport::options::allowed;
use crate::transport::{Closed, Peer, Session};

/// Which end of the connection this is.
pub(super) enum Side {
    /// The master's. The notification has a ping answered.
    Master(Arc<Notify>),
    /// A monitor's.
    Monitor,
}

/// Reads packets, and tells the session of frames.
pub(super) struct Reader<'a, R> {
    pub input: Input<R>,
    pub peer: Peer,
    pub session: &'a dyn Session,
    pub side: Side,
    /// How long the other side may be silent.
    pub idle: Duration,
    /// How long a packet may take that has begun, and a second more for each 64 KiB of it.
    pub frame_time: Duration,
    pub received: Counter,
}

impl<R: AsyncRead + Unpin> Reader<'_, R> {
    /// Reads until the connection ends, and says how.
    pub async fn run(mut self, cut: CancellationToken) -> Closed {
        let mut cut = pin!(cut.cancelled());
        let mut held = Held { begun: None, charge: Charge::nothing(self.peer.account()) };
        let how = loop {
            let limit = || self.peer.frame_limit();
            // Nothing more is read while enough of this peer's messages are under way, so that a flood waits at its sender.
            tokio::select! {
                biased;
                () = cut.as_mut() => break self.closed_by_us(),
                () = self.peer.account().ready() => {}
            }
            let packet = tokio::select! {
                biased;
                () = cut.as_mut() => break self.closed_by_us(),
                packet = held.packet(&mut self.input, limit, self.idle, self.frame_time) => packet,
            };
            let (packet, length) = match packet {
                Err(NoPacket::Read(ReadError::Bad(bad))) => break self.refuse(&bad),
                Err(NoPacket::Read(error)) => break Closed::Lost(error.to_string()),
                Err(silent @ NoPacket::Silent(_)) => break Closed::Lost(silent.to_string()),
                Err(NoPacket::Over(over)) => {
                    self.peer.turn_away(&over);
                    break self.closed_by_us();
                }
                Err(slow @ NoPacket::Slow) => {
                    self.peer.cut_counted("slow-frame", slow.to_string());
                    break self.closed_by_us();
                }
                Ok(packet) => packet,
            };
            match (codec::decode(&packet, length), &self.side) {
                (Ok(Packet::Publish { topic, payload }), _) => {
                    if let Err(bad) = self.frame(topic, payload) {
                        break self.refuse(&bad);
                    }
                    // Frames that have come already need no wait, so that others would have no turn.
                    consume_budget().await;
                }
                (Ok(Packet::Pingreq), Side::Master(ping)) => ping.notify_one(),
                (Ok(Packet::Pingresp), Side::Monitor) => {}
                (Ok(Packet::Disconnect), _) => break Closed::Left,
                (Ok(_), _) => break self.refuse(&Bad::Header(packet[0])),
                (Err(bad), _) => break self.refuse(&bad),
            }
        };
        // If this side asked for the end, that is the reason, whatever the other side did afterwards.
        if self.peer.is_closing() { self.closed_by_us() } else { how }
    }

    fn frame(&self, topic: &str, payload: &[u8]) -> Result<(), Bad> {
        // Frames that come after this side closed are read, so that the peer can take what was sent to it, and not handed up.
        if self.peer.is_closing() {
            return Ok(());
        }
        let (length, limit) = (payload.len(), self.peer.frame_limit());
        if length > limit {
            return Err(Bad::Size { length, limit });
        }
        let payload = Received::read(payload)?;
        self.received.increment(1);
        self.session.frame(topic, payload.text(), None);
        Ok(())
    }

    fn refuse(&self, bad: &Bad) -> Closed {
        let reason = if matches!(bad, Bad::Size { .. }) { "frame-size" } else { "malformed" };
        self.peer.cut_counted(reason, bad.to_string());
        self.closed_by_us()
    }

    fn closed_by_us(&self) -> Closed {
        Closed::Ours(self.peer.closed_because().unwrap_or_default())
    }
}

/// What is held of a packet that has begun: since when, and what is charged to the peer for it.
struct Held {
    begun: Option<Instant>,
    charge: Charge,
}

/// Why no packet comes.
#[derive(Debug, thiserror::Error)]
enum NoPacket {
    /// Nothing has come for so long.
    #[error("it has been silent for {0:?}")]
    Silent(Duration),
    /// A packet has begun and was not completed in time.
    #[error("a packet was begun and not completed in time")]
    Slow,
    /// No more may be held for the peer.
    #[error(transparent)]
    Over(#[from] Over),
    /// The stream has ended, or what came is no packet.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Held {
    /// The next packet, of at most `limit` bytes of payload. Something must come within `idle`. One that has begun may take `time`, and a second more for each
    /// 64 KiB that have come. Dropping the future while it waits loses nothing.
    async fn packet<R: AsyncRead + Unpin>(
        &mut self,
        input: &mut Input<R>,
        limit: impl Fn() -> usize,
        idle: Duration,
        time: Duration,
    ) -> Result<(BytesMut, Length), NoPacket> {
        loop {
            if let Some(packet) = input.take(limit()).map_err(ReadError::Bad)? {
                self.begun = None;
                self.charge.resize(input.held())?;
                return Ok(packet);
            }
            self.begun = (input.held() > 0).then(|| self.begun.unwrap_or_else(Instant::now));
            match self.begun {
                None => timeout(idle, input.more()).await.map_err(|_| NoPacket::Silent(idle))??,
                Some(begun) => {
                    let (by, silent) = (begun + allowed(time, input.held()), Instant::now() + idle);
                    let late = |_| if by <= silent { NoPacket::Slow } else { NoPacket::Silent(idle) };
                    timeout_at(by.min(silent), input.more()).await.map_err(late)??;
                }
            }
            self.charge.resize(input.held())?;
        }
    }
}
