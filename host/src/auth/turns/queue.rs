//! Who waits for a turn, and who is next.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use tokio::sync::oneshot;

use super::Turn;

/// Of so many turns, one is for those who have not logged in before, as long as both wait.
const SHARE: u32 = 4;

/// Where somebody waits.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    /// Whether in the lane of those who have logged in before.
    pub known: bool,
    pub address: Option<IpAddr>,
    /// The user, or the class of users.
    pub class: u64,
    pub number: u64,
}

/// What tells somebody that it is their turn.
type Tell = oneshot::Sender<Turn>;

/// Those of one address, by user or class of users.
type Users = Round<u64, VecDeque<(u64, Tell)>>;

/// All that wait.
#[derive(Default)]
pub(super) struct Queue {
    lanes: [Round<Option<IpAddr>, Users>; 2],
    length: usize,
    last: u64,
    /// Counts turns, for the share of each lane.
    turns: u32,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.length
    }

    /// Those of the same address in the same lane.
    pub fn of_address(&self, ticket: &Ticket) -> usize {
        let at = self.lanes[usize::from(ticket.known)].members.get(&ticket.address);
        at.map_or(0, |at| at.members.values().map(VecDeque::len).sum())
    }

    /// Those of the same user, or class of users.
    pub fn of_class(&self, ticket: &Ticket) -> usize {
        let at = self.lanes[usize::from(ticket.known)].members.get(&ticket.address);
        at.and_then(|at| at.members.get(&ticket.class)).map_or(0, VecDeque::len)
    }

    /// Joins at the end. Returns the ticket with its number.
    pub fn join(&mut self, ticket: Ticket, tell: Tell) -> Ticket {
        self.last += 1;
        self.length += 1;
        let lane = &mut self.lanes[usize::from(ticket.known)];
        lane.of(ticket.address).of(ticket.class).push_back((self.last, tell));
        Ticket { number: self.last, ..ticket }
    }

    /// Leaves, if still there.
    pub fn leave(&mut self, ticket: &Ticket) {
        let lane = &mut self.lanes[usize::from(ticket.known)];
        let Some(address) = lane.members.get_mut(&ticket.address) else { return };
        let Some(class) = address.members.get_mut(&ticket.class) else { return };
        let Some(place) = class.iter().position(|(number, _)| *number == ticket.number) else { return };
        class.remove(place);
        self.length -= 1;
        if class.is_empty() {
            address.forget(&ticket.class);
        }
        if address.order.is_empty() {
            lane.forget(&ticket.address);
        }
    }

    /// Whose turn it is.
    pub fn next(&mut self) -> Option<Tell> {
        self.turns = self.turns.wrapping_add(1);
        let first = usize::from(!self.turns.is_multiple_of(SHARE));
        let lane = [first, 1 - first].into_iter().find(|lane| !self.lanes[*lane].order.is_empty())?;
        let (_, tell) = self.lanes[lane].next(|address| address.next(VecDeque::pop_front))?;
        self.length -= 1;
        Some(tell)
    }
}

/// Members that have turns one after another. None of them is empty.
struct Round<K, V> {
    order: VecDeque<K>,
    members: HashMap<K, V>,
}

impl<K, V> Default for Round<K, V> {
    fn default() -> Self {
        Round { order: VecDeque::new(), members: HashMap::new() }
    }
}

/// Whether nothing is left in it.
trait Empty {
    fn is_empty(&self) -> bool;
}

impl<T> Empty for VecDeque<T> {
    fn is_empty(&self) -> bool {
        VecDeque::is_empty(self)
    }
}

impl<K, V> Empty for Round<K, V> {
    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl<K: Copy + Eq + std::hash::Hash, V: Default + Empty> Round<K, V> {
    /// The member of that key, which is about to have something.
    fn of(&mut self, key: K) -> &mut V {
        let order = &mut self.order;
        self.members.entry(key).or_insert_with(|| {
            order.push_back(key);
            V::default()
        })
    }

    /// Takes something of the member whose turn it is, which then is the last.
    fn next<T>(&mut self, take: impl FnOnce(&mut V) -> Option<T>) -> Option<T> {
        let key = self.order.pop_front()?;
        let member = self.members.get_mut(&key)?;
        let taken = take(member);
        if member.is_empty() {
            self.members.remove(&key);
        } else {
            self.order.push_back(key);
        }
        taken
    }

    fn forget(&mut self, key: &K) {
        self.members.remove(key);
        self.order.retain(|other| other != key);
    }
}
