//! Turns of logins: checking a password takes a core for a moment, so that only a few are checked at a time, and who waits is served fairly.
//!
//! - Addresses have turns one after another, and of one address its users. So a flood of logins costs others at most one turn in each round.
//! - Whoever has logged in from an address before has a *lane* of its own there, which nobody enters who has not. Three of four turns are this lane's,
//!   as long as somebody waits in it. So a flood of wrong logins does not delay the people who work here, not even from the same address.
//! - Names that have not logged in are told apart by a hash of a few bits, under a key that no peer knows, so that trying many names gains little. Whether
//!   there is such a user makes no difference, because the wait would tell.
//! - How many wait is bounded, by address and in all, and so is how long.
//!
//! This part knows neither passwords nor connections.

mod queue;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::queue::{Queue, Ticket};
use super::AccessRefused;
use crate::util::network;

/// Into how many classes the names that one address tries are hashed.
const CLASSES: u64 = 16;
/// Addresses with users that are remembered because they have logged in; the one that has not for the longest time is forgotten.
const KNOWN: usize = 1024;

/// The bounds on logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginBounds {
    /// The most that wait in all. 512.
    pub all: usize,
    /// The most that wait of one address, and apart from these of one user who has logged in from that address before. 64.
    pub per_address: usize,
    /// How long one waits. 5 s.
    pub time: Duration,
    /// Clients of one user that may be connected at a time. Level 1 is not bounded. 256.
    pub clients_per_user: usize,
}

impl Default for LoginBounds {
    fn default() -> Self {
        LoginBounds { all: 512, per_address: 64, time: Duration::from_secs(5), clients_per_user: 256 }
    }
}

/// Turns at something of which only a few may happen at a time. Clones share them.
#[derive(Clone)]
pub(super) struct Turns(Arc<Shared>);

struct Shared {
    slots: usize,
    bounds: LoginBounds,
    state: Mutex<State>,
    hasher: RandomState,
}

struct State {
    running: usize,
    queue: Queue,
    known: VecDeque<(IpAddr, u64)>,
}

/// A turn. The next one begins when it is dropped.
pub(super) struct Turn(Turns);

/// Somebody who waits, until the turn comes.
struct Waiting<'a> {
    turns: &'a Turns,
    ticket: Ticket,
}

impl Turns {
    /// `slots` turns at a time.
    pub fn new(slots: usize, bounds: LoginBounds) -> Self {
        let state = State { running: 0, queue: Queue::default(), known: VecDeque::new() };
        let hasher = RandomState::new();
        Turns(Arc::new(Shared { slots: slots.max(1), bounds, state: Mutex::new(state), hasher }))
    }

    /// Waits for a turn of that name at that address. A peer inside this process has no address. Dropping the future gives the place up.
    pub async fn turn(&self, address: Option<IpAddr>, name: &str) -> Result<Turn, AccessRefused> {
        let received = {
            let mut state = self.0.state.lock();
            let (ticket, per_class) = self.ticket(&state, address, name);
            let waiting = &state.queue;
            if waiting.len() >= self.0.bounds.all {
                return Err(AccessRefused::Busy);
            }
            if state.running < self.0.slots && waiting.len() == 0 {
                state.running += 1;
                return Ok(Turn(self.clone()));
            }
            let ahead = if per_class { waiting.of_class(&ticket) } else { waiting.of_address(&ticket) };
            if ahead >= self.0.bounds.per_address {
                return Err(AccessRefused::BusyAddress);
            }
            let (tell, told) = oneshot::channel();
            let ticket = state.queue.join(ticket, tell);
            (Waiting { turns: self, ticket }, told)
        };
        let (waiting, told) = received;
        let told = tokio::time::timeout(self.0.bounds.time, told).await;
        drop(waiting);
        match told {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(AccessRefused::Late),
        }
    }

    /// That name has logged in from that address, and has a lane of its own there from now on.
    pub fn remember(&self, address: Option<IpAddr>, name: &str) {
        let Some(address) = address else { return };
        let key = self.key(address, name);
        let known = &mut self.0.state.lock().known;
        known.retain(|other| *other != key);
        if known.len() >= KNOWN {
            known.pop_front();
        }
        known.push_back(key);
    }

    /// Whether that name has logged in from that address.
    pub fn knows(&self, address: IpAddr, name: &str) -> bool {
        let key = self.key(address, name);
        self.0.state.lock().known.contains(&key)
    }

    /// How many wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.0.state.lock().queue.len()
    }

    fn key(&self, address: IpAddr, name: &str) -> (IpAddr, u64) {
        (network(address), self.0.hasher.hash_one(name))
    }

    /// Where that name waits, and whether its place is counted by itself.
    fn ticket(&self, state: &State, address: Option<IpAddr>, name: &str) -> (Ticket, bool) {
        let key = address.map(|address| self.key(address, name));
        let hash = key.map_or_else(|| self.0.hasher.hash_one(name), |(_, hash)| hash);
        // Nobody in this process floods it.
        let known = key.is_none_or(|key| state.known.contains(&key));
        let class = if known { hash } else { hash % CLASSES };
        (Ticket { known, address: key.map(|(address, _)| address), class, number: 0 }, known)
    }

    /// Gives free turns to those who wait.
    fn next(&self) {
        let mut lost = Vec::new();
        let mut state = self.0.state.lock();
        while state.running < self.0.slots {
            let Some(tell) = state.queue.next() else { break };
            state.running += 1;
            // Whoever has gone meanwhile gives the turn back, outside of the lock, because dropping a turn locks.
            if let Err(turn) = tell.send(Turn(self.clone())) {
                lost.push(turn);
                break;
            }
        }
        drop(state);
        drop(lost);
    }
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Turns({} at a time)", self.0.slots)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.state.lock().running -= 1;
        self.0.next();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turns.0.state.lock().queue.leave(&self.ticket);
    }
}
