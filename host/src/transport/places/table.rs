//! Who is there, and who has to go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Stage;

/// How long a connection is spared in each stage, as long as others have been in theirs for longer: an honest peer is through in a moment.
const SPARED: Duration = Duration::from_millis(500);
/// An address with more strangers than this has to give way before others, when there are too many in all.
const FEW: usize = 8;

/// The strangers of a stage, from the one that has been in it for the longest time.
type Queue = BTreeMap<u64, u64>;

/// All connections that have not been told to end.
#[derive(Default)]
pub(super) struct Table {
    /// Counts up: ids of connections, and the order in which stages are reached.
    last: u64,
    connections: HashMap<u64, Connection>,
    addresses: HashMap<IpAddr, Address>,
    stages: [Queue; Stage::ALL.len()],
    /// Addresses by the number of their strangers.
    busiest: BTreeSet<(usize, IpAddr)>,
    strangers: usize,
    /// Those whose peers have registered and are preferred.
    preferred: usize,
    polling: usize,
}

struct Connection {
    address: IpAddr,
    cut: CancellationToken,
    held: Arc<AtomicUsize>,
    /// Absent once its peer has registered.
    stage: Option<Reached>,
    preferred: bool,
}

#[derive(Clone, Copy)]
struct Reached {
    stage: Stage,
    since: Instant,
    order: u64,
}

#[derive(Default)]
struct Address {
    connections: usize,
    strangers: usize,
    polling: usize,
    stages: [Queue; Stage::ALL.len()],
}

/// A connection that was let in.
pub(super) struct Entered {
    pub id: u64,
    pub cut: CancellationToken,
    pub held: Arc<AtomicUsize>,
}

impl Table {
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    pub fn strangers(&self) -> usize {
        self.strangers
    }

    /// Connections whose peers have registered, without those that are preferred.
    pub fn registered(&self) -> usize {
        self.connections.len() - self.strangers - self.preferred
    }

    /// The connections of an address, and how many of them are strangers.
    pub fn at(&self, address: IpAddr) -> (usize, usize) {
        self.addresses.get(&address).map_or((0, 0), |at| (at.connections, at.strangers))
    }

    /// Lets a connection in. It has sent nothing yet.
    pub fn enter(&mut self, address: IpAddr, now: Instant) -> Entered {
        let (id, cut, held) = (self.next(), CancellationToken::new(), Arc::default());
        let entered = Entered { id, cut: cut.clone(), held: Arc::clone(&held) };
        self.connections.insert(id, Connection { address, cut, held, stage: None, preferred: false });
        self.addresses.entry(address).or_default().connections += 1;
        self.stand(id, Some(Reached { stage: Stage::Silent, since: now, order: id }));
        entered
    }

    /// A stranger has come so far.
    pub fn reach(&mut self, id: u64, stage: Stage, now: Instant) {
        if self.connections.get(&id).is_some_and(|connection| connection.stage.is_some()) {
            let order = self.next();
            self.stand(id, Some(Reached { stage, since: now, order }));
        }
    }

    /// A connection's peer has registered.
    pub fn register(&mut self, id: u64, preferred: bool) {
        self.stand(id, None);
        if let Some(connection) = self.connections.get_mut(&id)
            && preferred
        {
            connection.preferred = true;
            self.preferred += 1;
        }
    }

    /// A connection is over, or is to be.
    pub fn leave(&mut self, id: u64) -> Option<CancellationToken> {
        self.stand(id, None);
        let gone = self.connections.remove(&id)?;
        self.preferred -= usize::from(gone.preferred);
        if let Some(at) = self.addresses.get_mut(&gone.address) {
            at.connections -= 1;
        }
        self.forget(gone.address);
        Some(gone.cut)
    }

    /// Closes the stranger that is furthest behind: of one address, or of all. Of all, one of the address that has most, unless each has few. False if
    /// there is none.
    pub fn displace(&mut self, address: Option<IpAddr>, now: Instant) -> bool {
        let busiest = || self.busiest.last().filter(|(count, _)| *count > FEW).map(|(_, address)| *address);
        let stages = match address.or_else(busiest).and_then(|address| self.addresses.get(&address)) {
            Some(at) => &at.stages,
            None => &self.stages,
        };
        let mut firsts = stages.iter().filter_map(|queue| queue.first_key_value()).map(|(_, id)| *id);
        let spared = |id: &u64| {
            let reached = self.connections.get(id).and_then(|connection| connection.stage);
            reached.is_some_and(|reached| now.saturating_duration_since(reached.since) < SPARED)
        };
        // Who is being checked has shown what the others have not, and is waited for. It goes only if all are such.
        let checking = stages[Stage::Checking as usize].first_key_value().map(|(_, id)| *id);
        let behind = firsts.clone().filter(|id| Some(*id) != checking);
        let victim = behind.clone().find(|id| !spared(id)).or_else(|| firsts.next());
        victim.is_some_and(|id| self.close(id, "displaced"))
    }

    /// Closes the stranger that holds most. Returns how many bytes that were; 0 if none holds anything.
    pub fn displace_largest(&mut self) -> usize {
        let strangers = self.connections.iter().filter(|(_, connection)| connection.stage.is_some());
        let held = strangers.map(|(id, connection)| (connection.held.load(Ordering::Relaxed), *id, &connection.held));
        let Some((_, id, held)) = held.max_by_key(|(held, ..)| *held).filter(|(held, ..)| *held > 0) else { return 0 };
        let held = held.clone();
        self.close(id, "held");
        held.swap(0, Ordering::Relaxed)
    }

    /// Closes strangers that have been in a stage for longer than it may take.
    pub fn end_late(&mut self, stage: Stage, at_most: Duration, now: Instant) {
        while let Some((_, id)) = self.stages[stage as usize].first_key_value() {
            let id = *id;
            let since = self.connections.get(&id).and_then(|connection| connection.stage).map(|reached| reached.since);
            if since.is_some_and(|since| now.saturating_duration_since(since) <= at_most) {
                return;
            }
            self.close(id, "late");
        }
    }

    /// The polling sessions of an address, and all of them.
    pub fn polling(&self, address: IpAddr) -> (usize, usize) {
        (self.addresses.get(&address).map_or(0, |at| at.polling), self.polling)
    }

    pub fn begin_polling(&mut self, address: IpAddr) {
        self.polling += 1;
        self.addresses.entry(address).or_default().polling += 1;
    }

    pub fn end_polling(&mut self, address: IpAddr) {
        self.polling -= 1;
        if let Some(at) = self.addresses.get_mut(&address) {
            at.polling -= 1;
        }
        self.forget(address);
    }

    fn close(&mut self, id: u64, why: &'static str) -> bool {
        let stage = self.connections.get(&id).and_then(|connection| connection.stage).map(|reached| reached.stage);
        let Some(cut) = self.leave(id) else { return false };
        let stage = stage.map_or("registered", Stage::word);
        metrics::counter!("pomelo_strangers_closed_total", "reason" => why, "stage" => stage).increment(1);
        cut.cancel();
        true
    }

    /// Moves a connection to a stage, or out of the strangers.
    fn stand(&mut self, id: u64, reached: Option<Reached>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let before = std::mem::replace(&mut connection.stage, reached);
        let address = connection.address;
        let at = self.addresses.entry(address).or_default();
        if let Some(Reached { stage, order, .. }) = before {
            self.stages[stage as usize].remove(&order);
            at.stages[stage as usize].remove(&order);
        }
        if let Some(Reached { stage, order, .. }) = reached {
            self.stages[stage as usize].insert(order, id);
            at.stages[stage as usize].insert(order, id);
        }
        if before.is_some() != reached.is_some() {
            self.busiest.remove(&(at.strangers, address));
            match reached {
                Some(_) => (at.strangers, self.strangers) = (at.strangers + 1, self.strangers + 1),
                None => (at.strangers, self.strangers) = (at.strangers - 1, self.strangers - 1),
            }
            if at.strangers > 0 {
                self.busiest.insert((at.strangers, address));
            }
        }
    }

    /// Forgets an address of which nothing is left.
    fn forget(&mut self, address: IpAddr) {
        if self.addresses.get(&address).is_some_and(|at| at.connections == 0 && at.polling == 0) {
            self.addresses.remove(&address);
        }
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Nothing is left of anybody.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
            && self.addresses.is_empty()
            && self.busiest.is_empty()
            && self.stages.iter().all(BTreeMap::is_empty)
            && (self.strangers, self.preferred, self.polling) == (0, 0, 0)
    }
}
