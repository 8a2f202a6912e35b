//! The place of one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::table::Entered;
use super::{Places, Stage};

/// How far a peer has come, beyond the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::transport) enum Standing {
    /// It has not registered.
    Joined,
    /// Its registration is being checked.
    Checking,
    /// It has registered, and is no stranger any more.
    Registered,
    /// The same, and it may have one of the places that are kept for its kind.
    Preferred,
}

/// The place of one connection. It is given back by [`Place::leave`], at the latest when it is dropped.
pub(in crate::transport) struct Place {
    places: Arc<Places>,
    id: u64,
    cut: CancellationToken,
    /// Bytes of what the connection has begun to send and not completed, as long as it is a stranger.
    held: Arc<AtomicUsize>,
    registered: AtomicBool,
    socket: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Place {
    pub(super) fn new(places: Arc<Places>, entered: Entered, socket: OwnedSemaphorePermit) -> Self {
        let Entered { id, cut, held } = entered;
        Place { places, id, cut, held, registered: AtomicBool::new(false), socket: Mutex::new(Some(socket)) }
    }

    /// Cancelled when the connection has to end.
    pub fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// The connection has come so far. The stage begins anew if it was reached before.
    pub fn reach(&self, stage: Stage) {
        if !self.registered.load(Ordering::Relaxed) {
            self.places.table.lock().reach(self.id, stage, Instant::now());
        }
    }

    /// The connection carries a peer that stands so. False where that is one who has registered, and there is no place for one more of its kind: it stays
    /// a stranger then.
    pub fn stands(&self, standing: Standing) -> bool {
        match standing {
            Standing::Joined => self.reach(Stage::Joined),
            Standing::Checking => self.reach(Stage::Checking),
            Standing::Registered | Standing::Preferred => {
                let mut table = self.places.table.lock();
                if self.registered.load(Ordering::Relaxed) {
                    return true;
                }
                if standing == Standing::Registered && table.registered() >= self.places.bounds.registered {
                    return false;
                }
                self.registered.store(true, Ordering::Relaxed);
                table.register(self.id, standing == Standing::Preferred);
                drop(table);
                self.forget_held();
            }
        }
        true
    }

    /// The connection has sent so many bytes of something that is not complete.
    pub fn holds(&self, bytes: usize) {
        // What one holds that is being closed counts no longer.
        if !self.registered.load(Ordering::Relaxed) && !self.cut.is_cancelled() {
            let before = self.held.swap(bytes, Ordering::Relaxed);
            self.places.holds(before, bytes);
        }
    }

    /// The socket has been closed.
    pub fn leave(&self) {
        self.places.table.lock().leave(self.id);
        self.forget_held();
        drop(self.socket.lock().take());
    }

    fn forget_held(&self) {
        let before = self.held.swap(0, Ordering::Relaxed);
        self.places.holds(before, 0);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}
