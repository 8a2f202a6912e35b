//! The places of a listener: which connections there are, from where, and how far they have come.
//!
//! A connection is a *stranger* until its peer has registered. Strangers are bounded, by address and in all, so that they leave room for others. A new
//! connection is not refused when there are too many: the stranger that is furthest behind is closed in its place. So whoever holds connections
//! without using them keeps nobody out, not even from the same address. Those who have registered are not closed for others. Some places are kept for
//! peers that are preferred, so that the others cannot fill all.
//!
//! This part knows no protocol. It is told how far a connection has come, and cancels the token of one that has to end.
//!
//! | file | what is there |
//! |---|---|
//! | `table` | who is there, and who has to go |
//! | `place` | the place of one connection |
//! | `polling` | permits of Engine.IO sessions that begin with polling |

mod place;
mod polling;
mod table;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) use self::place::{Place, Standing};
pub(super) use self::polling::PollingPermit;
use self::table::Table;
use super::options::Options;
use crate::util::network;

/// Connections that have been closed for others and whose sockets are not closed yet. They have a place besides the bound, because they are about to go.
const LEAVING: usize = 64;

/// One place of so many is kept for peers that are preferred, and for strangers who may become such.
const KEPT: usize = 16;

/// How far a connection has come. The order is the one in which strangers are closed for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It has sent nothing.
    Silent,
    /// A secure connection is being agreed on.
    Handshake,
    /// A request, or the introduction on pomelo-admin's wire, has begun or is answered, or the next one has not begun.
    Request,
    /// It carries an Engine.IO session that has not joined the namespace.
    Session,
    /// It carries a peer that has not registered.
    Joined,
    /// It carries a peer whose registration is being checked.
    Checking,
}

impl Stage {
    const ALL: [Stage; 6] =
        [Stage::Silent, Stage::Handshake, Stage::Request, Stage::Session, Stage::Joined, Stage::Checking];

    /// The word for it in metrics.
    fn word(self) -> &'static str {
        match self {
            Stage::Silent => "silent",
            Stage::Handshake => "handshake",
            Stage::Request => "request",
            Stage::Session => "session",
            Stage::Joined => "joined",
            Stage::Checking => "checking",
        }
    }
}

/// The bounds.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    connections: usize,
    /// Those whose peers have registered and are not preferred.
    registered: usize,
    per_address: usize,
    strangers: usize,
    strangers_per_address: usize,
    /// Bytes of unfinished requests and messages of all strangers.
    held: usize,
    polling: usize,
    polling_per_address: usize,
}

/// Why a connection gets no place: there is no stranger who could be closed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// All places are taken.
    All,
    /// All places of its address are taken.
    Address,
}

/// The places of a listener.
pub(super) struct Places {
    bounds: Bounds,
    table: Mutex<Table>,
    /// What strangers hold, bytes.
    held: AtomicIsize,
    /// Bounds the sockets that are open, also those that are about to close.
    sockets: Arc<Semaphore>,
}

impl Places {
    pub fn new(options: &Options) -> Arc<Places> {
        let connections = options.max_connections.max(1);
        // Strangers never have all places, so that registered peers keep some.
        let strangers = options.strangers.min(connections.div_ceil(2)).max(1);
        let bounds = Bounds {
            connections,
            registered: (connections - connections.div_ceil(KEPT)).max(1),
            per_address: options.connections_per_address.max(1),
            strangers,
            strangers_per_address: options.strangers_per_address.clamp(1, strangers),
            held: options.strangers_held,
            polling: options.polling_sessions,
            polling_per_address: options.polling_per_address,
        };
        Arc::new(Places {
            bounds,
            table: Mutex::default(),
            held: AtomicIsize::new(0),
            sockets: Arc::new(Semaphore::new(connections.saturating_add(LEAVING).min(Semaphore::MAX_PERMITS))),
        })
    }

    /// A connection has come. Where there are too many, a stranger is closed in its place.
    pub fn enter(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Arc<Place>, NoPlace> {
        let address = network(address);
        let mut table = self.table.lock();
        let bounds = &self.bounds;
        let (connections, strangers) = table.at(address);
        if connections >= bounds.per_address || strangers >= bounds.strangers_per_address {
            let closed = table.displace(Some(address), now);
            if !closed && connections >= bounds.per_address {
                return Err(NoPlace::Address);
            }
        } else if table.connections() >= bounds.connections || table.strangers() >= bounds.strangers {
            let closed = table.displace(None, now);
            if !closed && table.connections() >= bounds.connections {
                return Err(NoPlace::All);
            }
        }
        let permit: OwnedSemaphorePermit = self.sockets.clone().try_acquire_owned().map_err(|_| NoPlace::All)?;
        let entered = table.enter(address, now);
        Ok(Arc::new(Place::new(self.clone(), entered, permit)))
    }

    /// Closes strangers that have been in a stage for longer than it may take. Each request begins the stage anew.
    pub fn end_late(&self, stage: Stage, at_most: Duration, now: Instant) {
        self.table.lock().end_late(stage, at_most, now);
    }

    /// What a stranger holds has become more or less. Where all hold too much, the one that holds most is closed.
    fn holds(&self, before: usize, now: usize) {
        let more = signed(now) - signed(before);
        let mut held = self.held.fetch_add(more, Ordering::Relaxed) + more;
        while more > 0 && held > signed(self.bounds.held) {
            // What it held counts no longer, because it is about to be given back. Otherwise the next bytes of others would close one more.
            let freed = signed(self.table.lock().displace_largest());
            if freed == 0 {
                break;
            }
            held = self.held.fetch_sub(freed, Ordering::Relaxed) - freed;
        }
    }
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}
