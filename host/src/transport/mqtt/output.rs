//! The sending half of a connection: from the outbox to the socket.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use super::codec;
use crate::transport::{Outbox, Outgoing, Peer, Waiting};

/// Bytes up to which frames that wait together are written together.
const BATCH: usize = 64 << 10;

/// Bytes of its buffers that a connection keeps for which nothing waits.
const KEPT: usize = 2 << 10;

/// Writes what is put into the outbox, and pings and their answers.
pub(super) struct Output<W> {
    pub stream: W,
    pub peer: Peer,
    /// Notified when a PINGRESP (at the master) or a PINGREQ (at a monitor) is to be sent. Several notifications send one.
    pub ping: Arc<Notify>,
    pub ping_packet: [u8; 2],
    /// How long the other side may take nothing.
    pub send_time: Duration,
    /// How long the other side may take to receive what was sent before a close.
    pub flush_time: Duration,
    /// Cancelled when the reading half has seen the end.
    pub gone: CancellationToken,
    pub sent: Counter,
}

impl<W: AsyncWrite + Unpin> Output<W> {
    /// Runs until the connection is to end.
    pub async fn run(mut self, outbox: Outbox) {
        let Outbox { mut frames, cut } = outbox;
        let mut cancelled = pin!(cut.cancelled());
        let mut out = Batch::default();
        // Of the frames that are being written. They are given back when these have been written.
        let mut charges = Vec::new();
        loop {
            let mut item = tokio::select! {
                biased;
                () = cancelled.as_mut() => return,
                () = self.ping.notified() => None,
                // This task itself holds a handle to the outbox, so that there is always more to come.
                Some(item) = frames.recv() => Some(item),
            };
            if item.is_none() {
                out.put(&self.ping_packet);
            }
            let mut closing = false;
            while let Some(Waiting { outgoing, charge }) = item.take() {
                charges.push(charge);
                match outgoing {
                    Outgoing::Frame(frame) => match out.put_frame(&frame) {
                        Ok(()) => self.sent.increment(1),
                        Err(bad) => return self.peer.cut_counted("frame-size", bad.to_string()),
                    },
                    // Cannot come: this wire has no acknowledgements.
                    Outgoing::Ack(..) => {}
                    Outgoing::Close => {
                        out.put(&codec::DISCONNECT);
                        closing = true;
                        break;
                    }
                }
                if out.len() < BATCH {
                    item = frames.try_recv().ok();
                }
            }
            let written = tokio::select! {
                biased;
                () = cancelled.as_mut() => return,
                written = self.write(&out) => written,
            };
            match written {
                Written::All => {}
                // The reading half sees the same error, or has seen its cause, and reports it.
                Written::Broken => return self.gone.cancelled().await,
                Written::Stalled => return self.peer.cut_counted("stalled", "it takes nothing that it is sent"),
            }
            if closing {
                let _ = timeout(self.flush_time, self.close()).await;
                return cut.cancel();
            }
            charges.clear();
            // A fleet is mostly quiet, and each of its connections would keep what it needed once.
            out.clear(if frames.is_empty() { KEPT } else { BATCH });
        }
    }

    async fn write(&mut self, batch: &Batch) -> Written {
        for mut bytes in batch.slices() {
            while !bytes.is_empty() {
                match timeout(self.send_time, self.stream.write(bytes)).await {
                    Err(_) => return Written::Stalled,
                    Ok(Err(_) | Ok(0)) => return Written::Broken,
                    Ok(Ok(count)) => bytes = &bytes[count..],
                }
            }
        }
        // TLS may keep a part of what was written until it is flushed.
        match timeout(self.send_time, self.stream.flush()).await {
            Err(_) => Written::Stalled,
            Ok(Err(_)) => Written::Broken,
            Ok(Ok(())) => Written::All,
        }
    }

    /// Lets the other side take what was sent before, because closing a socket with unread data loses what was sent.
    async fn close(&mut self) {
        match self.stream.shutdown().await {
            Ok(()) => self.gone.cancelled().await,
            Err(_) => pending().await,
        }
    }
}

enum Written {
    All,
    Broken,
    Stalled,
}
