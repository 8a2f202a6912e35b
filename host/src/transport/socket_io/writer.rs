//! The sending side of a server's peer, and its end.
//!
//! One task for each peer carries frames from the outbox to socketioxide's buffer. The same task ends the connection, whichever side wants it to end, so
//! that the session is told once and the TCP connections are closed for certain.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::Counter;
use serde_json::value::RawValue;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::socket::{DisconnectReason, Socket};
use socketioxide::{SendError, SocketError, TransportType};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout};

use super::engine_session::{EngineSession, ServerContext};
use crate::budget::Charge;
use crate::transport::{Closed, Held, Outbox, Outgoing, Peer, Session};

/// How often it is looked whether a session that began with polling has changed to a WebSocket.
const UPGRADE_LOOK: Duration = Duration::from_secs(1);

/// Bytes of copies of shared texts that may be in the layers below for all peers together.
pub(super) const COPIES: usize = 16 << 20;

/// How long a peer may keep its turn, and for how long others wait while nobody takes anything.
const COPY_WAIT: Duration = Duration::from_secs(1);

/// What is held for a copy of a shared text until it has been sent.
struct Copy {
    /// Its part of [`COPIES`], and since when.
    turn: Option<(OwnedSemaphorePermit, Instant)>,
    _charge: Option<Charge>,
}

/// The sending side of a peer, and its end.
pub(super) struct Writer {
    pub(super) socket: Arc<Socket>,
    pub(super) peer: Peer,
    pub(super) session: Arc<dyn Session>,
    pub(super) engine: Arc<EngineSession>,
    pub(super) context: Arc<ServerContext>,
    pub(super) sent: Counter,
}

impl Writer {
    /// Runs until the connection has ended, and tells the session.
    pub(super) async fn run(self, mut outbox: Outbox) {
        let flush = self.write(&mut outbox).await;
        let how = match (self.peer.closed_because(), self.engine.left.get()) {
            (Some(why), _) => Closed::Ours(why),
            (None, Some(DisconnectReason::ClientNSDisconnect)) => Closed::Left,
            (None, reason) => Closed::Lost(reason.map_or_else(|| "the connection is gone".into(), |r| r.to_string())),
        };
        // From here on sending fails and no frame is handed up.
        drop(outbox);
        self.peer.ended();
        self.engine.silence();
        // Tells the client, and removes the socket from the namespace. It fails if the buffer is full, as it may be for a peer that is cut.
        let _ = self.socket.clone().disconnect();
        if flush {
            let _ = timeout(self.context.options.flush_time, self.taken()).await;
        }
        for connection in self.context.sessions.end(self.socket.id) {
            connection.cut.cancel();
        }
        tracing::debug!(peer = ?self.peer, ?how, "a peer is gone");
        self.session.closed(how);
    }

    /// Waits until the client has taken what was sent. A client with a WebSocket closes the connection when it has read the disconnect packet, and so all
    /// that came before. A polling client fetches it with requests that cannot be foreseen: for such a one this waits for ever.
    async fn taken(&self) {
        if self.socket.transport_type() == TransportType::Polling {
            return std::future::pending().await;
        }
        for connection in self.context.sessions.carrying(self.socket.id) {
            connection.gone.cancelled().await;
        }
    }

    /// Sends what is put into the outbox, until the connection ends. Returns whether the peer is still to receive what was sent.
    async fn write(&self, outbox: &mut Outbox) -> bool {
        let Outbox { frames, cut } = outbox;
        let mut cut = pin!(cut.cancelled());
        let mut over = pin!(self.over());
        let mut upgraded = pin!(self.upgraded());
        tokio::select! {
            biased;
            () = cut.as_mut() => return false,
            () = over.as_mut() => return self.left(),
            () = self.engine.ready.notified() => {}
        }
        let flow = self.peer.flow();
        // Of what was handed on last. It is kept until there is room again.
        let mut held: Option<(Held, Option<Copy>)> = None;
        let mut close_by = None;
        loop {
            while !flow.has_room() {
                let closing = self.peer.is_closing();
                if closing {
                    close_by.get_or_insert_with(|| Instant::now() + self.context.options.flush_time);
                }
                let turn_over = held.as_ref().and_then(|(_, copy)| Some(copy.as_ref()?.turn.as_ref()?.1 + COPY_WAIT));
                tokio::select! {
                    biased;
                    () = cut.as_mut() => return false,
                    () = over.as_mut() => return self.left(),
                    () = flow.changed() => {}
                    // Whoever takes its copy slowly keeps nobody else from theirs. It is still charged.
                    () = sleep_until(turn_over.unwrap_or_else(Instant::now)), if turn_over.is_some() => {
                        if let Some((_, Some(copy))) = &mut held {
                            copy.turn = None;
                        }
                    }
                    () = sleep_until(close_by.unwrap_or_else(Instant::now)), if closing => return false,
                }
            }
            if held.take().is_some_and(|(_, copy)| copy.is_some()) {
                self.context.copied.fetch_add(1, Ordering::Relaxed);
            }
            let waiting = tokio::select! {
                biased;
                () = cut.as_mut() => return false,
                () = over.as_mut() => return self.left(),
                // This task itself holds a handle to the outbox, so that there is always more to come.
                Some(waiting) = frames.recv() => waiting,
                () = upgraded.as_mut() => continue,
            };
            let sent = match waiting.outgoing {
                Outgoing::Frame(frame) => {
                    let bytes = frame.payload.bytes();
                    let copy = tokio::select! {
                        biased;
                        () = cut.as_mut() => return false,
                        () = over.as_mut() => return self.left(),
                        copy = self.copy(bytes - frame.payload.own_bytes(), &waiting.charge) => copy,
                    };
                    held = Some((waiting.charge, copy));
                    self.peer.flow().handed_on(bytes);
                    self.socket.emit(frame.topic.as_str(), &frame.payload)
                }
                Outgoing::Ack(id, payload) => {
                    held = Some((waiting.charge, None));
                    self.peer.flow().handed_on(payload.get().len());
                    self.acknowledge(id, &payload)
                }
                Outgoing::Close => return true,
            };
            match sent {
                Ok(()) => self.sent.increment(1),
                Err(SendError::Socket(SocketError::InternalChannelFull)) => {
                    self.peer.cut_counted("outbox", "it does not keep up with what it is sent");
                }
                // The disconnect handler knows the reason, and wakes the loop.
                Err(error) => tracing::trace!(peer = ?self.peer, %error, "a frame was not sent"),
            }
        }
    }

    /// What is held for the copy that the layers below make of a text that others are sent as well. Many peers that are sent such a text at once are handed it
    /// one after another, so that their copies do not add up. Where nobody takes anything for a while, they no longer wait for each other.
    async fn copy(&self, bytes: usize, of: &Held) -> Option<Copy> {
        if bytes == 0 {
            return None;
        }
        let wanted = u32::try_from(bytes.min(COPIES)).unwrap_or(u32::MAX);
        let mut wait = pin!(self.context.copies.clone().acquire_many_owned(wanted));
        let turn = loop {
            let copied = self.context.copied.load(Ordering::Relaxed);
            match timeout(COPY_WAIT, wait.as_mut()).await {
                Ok(permit) => break permit.ok(),
                Err(_) if self.context.copied.load(Ordering::Relaxed) == copied => break None,
                Err(_) => {}
            }
        };
        let turn = turn.map(|permit| (permit, Instant::now()));
        // What a module sends is charged to the module, and is no reason to end a peer.
        let charge = match of {
            Held::Module(_) => None,
            Held::Peer(_) => match self.peer.account().charge(bytes) {
                Ok(charge) => Some(charge),
                Err(over) => {
                    self.peer.turn_away(&over);
                    return None;
                }
            },
        };
        Some(Copy { turn, _charge: charge })
    }

    /// Notices that a session which began with polling has changed to a WebSocket. socketioxide does not tell of it, so it is looked at once a second. Never
    /// ends, because nothing is to be done then.
    async fn upgraded(&self) {
        while !self.engine.stays && self.socket.transport_type() == TransportType::Polling {
            tokio::time::sleep(UPGRADE_LOOK).await;
        }
        self.engine.has_upgraded();
        std::future::pending().await
    }

    fn acknowledge(&self, id: i64, payload: &RawValue) -> Result<(), SendError> {
        // Outside a handler only this extraction gives the sender. It looks only at the id.
        let mut nothing = Value::Str(Default::default(), None);
        match AckSender::from_message_parts(&self.socket, &mut nothing, &Some(id)) {
            Ok(ack) => ack.send(payload),
            Err(never) => match never {},
        }
    }

    /// Waits until the client has left the namespace. socketioxide does not tell of that if the connection ends in the middle of joining. Therefore the end
    /// of the connection is enough, if the session keeps one connection.
    async fn over(&self) {
        let over = self.engine.over.cancelled();
        if !self.engine.stays {
            return over.await;
        }
        let mut over = pin!(over);
        tokio::select! {
            biased;
            () = over.as_mut() => {}
            // The reason is usually known a moment later.
            () = self.engine.connection.gone.cancelled() => {
                let _ = timeout(self.context.options.flush_time, over).await;
            }
        }
    }

    /// Whether the client said that it leaves. It then closes the connection itself.
    fn left(&self) -> bool {
        self.engine.left.get() == Some(&DisconnectReason::ClientNSDisconnect)
    }
}
