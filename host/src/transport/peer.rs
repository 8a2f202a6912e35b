//! The sending side of a connection: a bounded outbox, and the way to end it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::flow::Flow;
use super::places::{Place, Standing};
use super::room::{NoRoom, Room, Rooms};
use super::{Frame, Payload};
use crate::budget::{Account, Budget, Charge, ModuleAccount, Over};
use crate::tls::Certificate;
use crate::wire::Topic;

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Socket.IO, protocol 5.
    SocketIo,
    /// pomelo-admin 1.x's packets on plain TCP.
    Mqtt,
    /// Inside this process: the master's own monitor.
    Memory,
}

/// Why a frame could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer does not keep up. It has been cut, because no frame may be skipped.
    #[error("the peer does not keep up with what it is sent")]
    Full,
    /// The connection is over.
    #[error("the connection is closed")]
    Closed,
}

/// What the transport's writing task takes out of the outbox.
#[derive(Debug)]
pub enum Outgoing {
    /// A frame to send.
    Frame(Frame),
    /// An acknowledgement to send: its id on the transport, and the JSON text.
    Ack(i64, Box<RawValue>),
    /// The connection is to be closed when everything before this has been sent.
    Close,
}

impl Outgoing {
    /// Bytes that it holds while it waits, without what it shares with others.
    fn size(&self) -> usize {
        // Of the item itself and its place in the outbox.
        const ITEM: usize = 128;
        ITEM + match self {
            Outgoing::Frame(frame) => frame.payload.own_bytes(),
            Outgoing::Ack(_, payload) => payload.get().len(),
            Outgoing::Close => 0,
        }
    }
}

/// What waits in an outbox, and what is charged for it until it has been sent.
#[derive(Debug)]
pub struct Waiting {
    /// What is to be sent.
    pub outgoing: Outgoing,
    /// To be dropped when it has been sent.
    pub charge: Held,
}

/// To whom it is charged what waits in an outbox.
#[derive(Debug)]
pub enum Held {
    /// To the peer.
    Peer(Charge),
    /// To the module that has sent it.
    Module(Room),
}

/// A handle to a connected peer. Clones are handles to the same peer.
#[derive(Clone)]
pub struct Peer(Arc<PeerState>);

/// Connections of a peer that count as its own: one that asks, one that sends, one that it changes to, and one that is about to close.
const MAX_CARRIERS: usize = 4;

/// What the handles of a peer share.
struct PeerState {
    id: u64,
    transport: Transport,
    remote: Option<SocketAddr>,
    outbox: mpsc::Sender<Waiting>,
    /// Of the outbox, for modules.
    rooms: Rooms,
    /// What is held for the peer is charged to it.
    account: Account,
    flow: Flow,
    /// Ends the connection's input and output at once.
    cut: CancellationToken,
    closing: AtomicBool,
    why: Mutex<Option<String>>,
    /// Whether no more may be held for the peer.
    turned_away: AtomicBool,
    frame_limit: AtomicUsize,
    /// Whole frames that it has sent.
    heard: AtomicU64,
    /// How far it has come, and the places of the connections that carry it.
    carriers: Mutex<(Standing, Vec<Weak<Place>>)>,
    certificate: OnceLock<Arc<Certificate>>,
}

/// What a transport keeps of a new connection: the frames to send, and the token that tells it to stop.
pub struct Outbox {
    /// Frames to send, in order.
    pub frames: mpsc::Receiver<Waiting>,
    /// Cancelled when the connection must end at once.
    pub cut: CancellationToken,
}

/// The way to acknowledge a frame.
#[derive(Clone)]
pub struct Ack {
    peer: Peer,
    id: i64,
}

/// A peer that has registered finds no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "so many peers have registered as there may be, and the places that are left are kept for clients of level 1 (`[network] max_connections`)"
)]
pub struct NoPlaces;

impl Peer {
    /// A peer, and its outbox of at most `capacity` frames. `frame_limit` is the largest frame in bytes that the peer may send at first. Nothing limits the
    /// bytes in the outbox.
    pub fn new(
        transport: Transport,
        remote: Option<SocketAddr>,
        capacity: usize,
        frame_limit: usize,
    ) -> (Peer, Outbox) {
        Peer::make(transport, remote, capacity, frame_limit, |_| Account::free())
    }

    /// [`Peer::new`] for a peer whose outbox, and all else that is held for it, is charged to an account of a budget. The peer is cut where the budget turns
    /// it away.
    pub(super) fn charged(
        budget: &Budget,
        transport: Transport,
        remote: SocketAddr,
        capacity: usize,
        frame_limit: usize,
    ) -> (Peer, Outbox) {
        Peer::make(transport, Some(remote), capacity, frame_limit, |peer| {
            let peer = peer.clone();
            budget.open(IpAddr::to_canonical(&remote.ip()), move |why| {
                if let Some(peer) = peer.upgrade() {
                    Peer(peer).cut_for_memory(why);
                }
            })
        })
    }

    fn make(
        transport: Transport,
        remote: Option<SocketAddr>,
        capacity: usize,
        frame_limit: usize,
        account: impl FnOnce(&Weak<PeerState>) -> Account,
    ) -> (Peer, Outbox) {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let (outbox, frames) = mpsc::channel(capacity.max(1));
        let cut = CancellationToken::new();
        let peer = Peer(Arc::new_cyclic(|this| PeerState {
            id: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            transport,
            remote,
            outbox,
            rooms: Rooms::new(capacity),
            account: account(this),
            flow: Flow::default(),
            cut: cut.clone(),
            closing: AtomicBool::new(false),
            why: Mutex::new(None),
            turned_away: AtomicBool::new(false),
            frame_limit: AtomicUsize::new(frame_limit),
            heard: AtomicU64::new(0),
            carriers: Mutex::new((Standing::Joined, Vec::new())),
            certificate: OnceLock::new(),
        }));
        (peer, Outbox { frames, cut })
    }

    /// A number that no other connection of this process has.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// What carries the connection.
    pub fn transport(&self) -> Transport {
        self.0.transport
    }

    /// The peer's address; absent inside this process.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.0.remote
    }

    /// The account of its connection.
    pub fn account(&self) -> &Account {
        &self.0.account
    }

    /// What it has between its outbox and its socket.
    pub(super) fn flow(&self) -> &Flow {
        &self.0.flow
    }

    /// Remembers the certificate that the peer has shown. Only the first one counts.
    pub(super) fn shows(&self, certificate: Option<Arc<Certificate>>) {
        if let Some(certificate) = certificate {
            let _ = self.0.certificate.set(certificate);
        }
    }

    /// The certificate that the peer has shown, whose authority has been checked. Absent if it has shown none, or one that says of nobody whose it is.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.0.certificate.get().map(|certificate| &**certificate)
    }

    /// Frames that wait in the outbox.
    pub fn waiting(&self) -> usize {
        self.0.outbox.max_capacity() - self.0.outbox.capacity()
    }

    /// Puts a frame into the outbox.
    ///
    /// # Errors
    /// [`SendError::Full`] if the outbox is full; the peer has been cut then. [`SendError::Closed`] if the connection is over.
    pub fn send(&self, topic: Topic, payload: impl Into<Payload>) -> Result<(), SendError> {
        self.send_in(None, Frame { topic, payload: payload.into(), quoted: false })
    }

    /// Waits for room for a frame of a module, whose payload has so many bytes, until the deadline. The modules that the host carries need none.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub async fn room(&self, of: &ModuleAccount, bytes: usize, deadline: Instant) -> Result<Option<Room>, NoRoom> {
        if of.is_carried() {
            return Ok(None);
        }
        tokio::select! {
            biased;
            () = self.0.cut.cancelled() => Err(NoRoom::Closed),
            room = self.0.rooms.take(of, bytes, deadline) => room.map(Some),
        }
    }

    /// Puts a frame into the outbox, into the room that was taken for it. Without one it is charged to the peer.
    ///
    /// # Errors
    /// As [`Peer::send`].
    pub fn send_in(&self, room: Option<Room>, frame: Frame) -> Result<(), SendError> {
        self.put(Outgoing::Frame(frame), room)
    }

    /// [`Peer::send`] for a payload that pomelo-admin's wire carries as text inside a JSON string.
    ///
    /// # Errors
    /// As [`Peer::send`].
    pub fn send_quoted(&self, topic: Topic, payload: impl Into<Payload>) -> Result<(), SendError> {
        self.send_in(None, Frame { topic, payload: payload.into(), quoted: true })
    }

    fn put(&self, outgoing: Outgoing, room: Option<Room>) -> Result<(), SendError> {
        if self.0.closing.load(Ordering::Acquire) {
            return Err(SendError::Closed);
        }
        let charge = match room {
            Some(room) => Held::Module(room),
            None => Held::Peer(self.0.account.charge(outgoing.size()).map_err(|over| {
                self.turn_away(&over);
                SendError::Full
            })?),
        };
        self.0.outbox.try_send(Waiting { outgoing, charge }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                self.cut_counted("outbox", "it does not keep up with what it is sent");
                SendError::Full
            }
            mpsc::error::TrySendError::Closed(_) => SendError::Closed,
        })
    }

    /// Closes the connection when what is in the outbox has been sent. Later frames are not sent.
    pub fn close(&self, why: impl Into<String>) {
        if self.0.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.0.why.lock().get_or_insert(why.into());
        self.0.flow.look();
        // A peer whose outbox is full is cut, because it would not take the rest in time.
        let close = Waiting { outgoing: Outgoing::Close, charge: Held::Peer(Charge::nothing(&self.0.account)) };
        if self.0.outbox.try_send(close).is_err() {
            self.0.cut.cancel();
        }
    }

    /// Whether this side has asked for the end of the connection. Frames that come in then are no longer handed up.
    pub fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Acquire)
    }

    /// Ends the connection at once.
    pub fn cut(&self, why: impl Into<String>) {
        self.0.closing.store(true, Ordering::Release);
        self.0.why.lock().get_or_insert(why.into());
        self.0.cut.cancel();
    }

    /// Ends the connection at once, because no more may be held for it.
    pub(crate) fn turn_away(&self, over: &Over) {
        self.cut_for_memory(over.to_string());
    }

    fn cut_for_memory(&self, why: String) {
        self.0.turned_away.store(true, Ordering::Release);
        self.cut_counted("memory", why);
    }

    /// Whether the connection was ended because no more may be held for it.
    pub fn is_turned_away(&self) -> bool {
        self.0.turned_away.load(Ordering::Acquire)
    }

    /// The connection has ended. Sending fails from now on.
    pub(super) fn ended(&self) {
        self.0.closing.store(true, Ordering::Release);
        self.0.cut.cancel();
    }

    /// [`Peer::cut`], counted under a fixed word in `pomelo_peers_cut_total`.
    pub(super) fn cut_counted(&self, reason: &'static str, why: impl Into<String>) {
        if !self.0.cut.is_cancelled() {
            metrics::counter!("pomelo_peers_cut_total", "reason" => reason).increment(1);
        }
        self.cut(why);
        tracing::debug!(peer = ?self, reason, why = self.closed_because().unwrap_or_default(), "a peer was cut");
    }

    /// Why this side has closed the connection, if it has.
    pub fn closed_because(&self) -> Option<String> {
        self.0.why.lock().clone()
    }

    /// The largest frame in bytes that the peer may send now.
    pub fn frame_limit(&self) -> usize {
        self.0.frame_limit.load(Ordering::Relaxed)
    }

    /// Sets the largest frame in bytes: low before registration, higher after it.
    pub fn set_frame_limit(&self, bytes: usize) {
        self.0.frame_limit.store(bytes, Ordering::Relaxed);
    }

    /// Its registration is being checked from now on.
    pub fn checking(&self) {
        self.stands(Standing::Checking);
    }

    /// It has registered: its connections are no longer a stranger's. One that is `preferred` may have the places that are kept for such peers.
    ///
    /// # Errors
    /// All places that it may have are taken.
    pub fn registered(&self, preferred: bool) -> Result<(), NoPlaces> {
        let standing = if preferred { Standing::Preferred } else { Standing::Registered };
        if self.stands(standing) { Ok(()) } else { Err(NoPlaces) }
    }

    fn stands(&self, standing: Standing) -> bool {
        let mut carriers = self.0.carriers.lock();
        carriers.0 = carriers.0.max(standing);
        let mut all = true;
        for place in carriers.1.iter().filter_map(Weak::upgrade) {
            all &= place.stands(carriers.0);
        }
        all
    }

    /// A connection carries the peer from now on. Further connections than a peer needs stay strangers, so that nobody can hold many with one peer.
    pub(super) fn carried_by(&self, place: &Arc<Place>) {
        let mut carriers = self.0.carriers.lock();
        let (standing, places) = &mut *carriers;
        if !places.iter().any(|carrier| std::ptr::eq(carrier.as_ptr(), Arc::as_ptr(place))) {
            places.retain(|carrier| carrier.strong_count() > 0);
            if places.len() >= MAX_CARRIERS {
                return;
            }
            places.push(Arc::downgrade(place));
        }
        place.stands(*standing);
    }

    /// A whole frame has come.
    pub(super) fn hear(&self) {
        self.0.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// How many whole frames have come.
    pub(super) fn heard(&self) -> u64 {
        self.0.heard.load(Ordering::Relaxed)
    }

    /// The way to give the acknowledgement of that id.
    pub fn ack(&self, id: i64) -> Ack {
        Ack { peer: self.clone(), id }
    }
}

impl Ack {
    /// Acknowledges with a JSON text.
    ///
    /// # Errors
    /// As [`Peer::send`].
    pub fn send(self, payload: Box<RawValue>) -> Result<(), SendError> {
        self.peer.put(Outgoing::Ack(self.id, payload), None)
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "peer {} ({:?}", self.0.id, self.0.transport)?;
        match self.0.remote {
            Some(remote) => write!(f, " from {remote})"),
            None => write!(f, ")"),
        }
    }
}
