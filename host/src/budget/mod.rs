//! What peers may use of a master at the same time: bytes that are held for them, and calls under way. What modules may hold is in `modules`.
//!
//! Each connection has an [`Account`]. Whatever is held for a peer is charged to it before it is held: what is being received of it, its messages while
//! their calls are under way, and what waits to be sent to it. Every [`Class`] of peers has a share of the whole, so that no class can take what others
//! need. Where a share or the whole is used up, the connection that holds most is turned away first: of the address whose connections hold most, the one
//! that holds most itself.
//!
//! It knows neither sockets nor modules. What turning away means is known to whoever opened the account.

mod account;
mod class;
mod modules;
#[cfg(test)]
mod tests;
mod texts;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::util::network;

pub use account::{Account, Call, Charge, Over};
pub use class::Class;
pub use modules::{Idle, InstanceCharge, ModuleAccount, ModuleCharge, ModuleOver, ModulesBudget, Serving};

pub use texts::{SHARED_FROM, SharedText};

use account::{AccountState, Group};
use texts::Texts;

/// How much peers may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that may be held for all peers together. Default 256 MiB. `peers_mib` in `[limits]`.
    pub total: usize,
    /// Bytes that may be held for one connection. Default 32 MiB. `connection_mib` in `[limits]`. A quarter of them may be its messages that are under way,
    /// and one message is always let in.
    pub connection: usize,
    /// Messages of one connection that may be under way. Default 256. `connection_calls` in `[limits]`. Further requests are refused, and after further
    /// notifies nothing more is read from the connection until some have ended.
    pub calls: usize,
}

impl Limits {
    /// Bytes that the messages of one connection that are under way may have.
    fn messages(&self) -> usize {
        self.connection / 4
    }

    /// Bytes that texts may have together that several peers are sent. They come on top of `total`, because they are charged to nobody.
    fn shared(&self) -> usize {
        self.total / 4
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits { total: 256 << 20, connection: 32 << 20, calls: 256 }
    }
}

/// What all peers of a master may use together. Clones are the same budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<SharedBudget>);

#[derive(Debug)]
struct SharedBudget {
    limits: Limits,
    held: AtomicUsize,
    by_class: [AtomicUsize; Class::ALL.len()],
    /// The accounts that are open. There are no more than connections.
    accounts: Mutex<HashMap<u64, Weak<AccountState>>>,
    groups: Mutex<HashMap<IpAddr, Weak<Group>>>,
    last: AtomicU64,
    texts: Texts,
}

/// What a budget is used for at a moment, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// For all peers.
    pub total: usize,
    /// For the peers of each class, in the order of [`Class::ALL`].
    pub by_class: [usize; Class::ALL.len()],
    /// In texts that several peers are sent, which are charged to none of them.
    pub shared: usize,
}

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(limits: Limits) -> Self {
        Budget(Arc::new(SharedBudget {
            texts: Texts::new(limits.shared()),
            limits,
            held: AtomicUsize::new(0),
            by_class: Default::default(),
            accounts: Mutex::default(),
            groups: Mutex::default(),
            last: AtomicU64::new(0),
        }))
    }

    /// Opens the account of a connection from that address. It is a stranger's until [`Account::belongs_to`] says more. `cut` is called, with the reason,
    /// where the connection is the one to be turned away.
    pub fn open(&self, address: IpAddr, cut: impl Fn(String) + Send + Sync + 'static) -> Account {
        let address = network(address);
        let group = {
            let mut groups = self.0.groups.lock();
            let known = groups.get(&address).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                // Addresses whose connections have all ended.
                groups.retain(|_, group| group.strong_count() > 0);
                let group = Arc::new(Group::default());
                groups.insert(address, Arc::downgrade(&group));
                group
            })
        };
        let id = self.0.last.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(AccountState::new(id, address, group, Some(self.0.clone()), Box::new(cut)));
        self.0.accounts.lock().insert(id, Arc::downgrade(&state));
        Account::of(state)
    }

    /// What it is used for now.
    pub fn held(&self) -> Held {
        Held {
            total: self.0.held.load(Ordering::Relaxed),
            by_class: Class::ALL.map(|class| self.0.by_class[class.index()].load(Ordering::Relaxed)),
            shared: self.0.texts.held(),
        }
    }
}

impl SharedBudget {
    fn add(&self, class: Class, bytes: usize) {
        self.by_class[class.index()].fetch_add(bytes, Ordering::AcqRel);
        self.held.fetch_add(bytes, Ordering::AcqRel);
    }

    fn subtract(&self, class: Class, bytes: usize) {
        self.by_class[class.index()].fetch_sub(bytes, Ordering::AcqRel);
        self.held.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// The share of a class, bytes.
    fn share(&self, class: Class) -> usize {
        class.share_of(self.limits.total)
    }

    /// What is used up for an account of that class, if anything is.
    fn used_up(&self, class: Class) -> Option<UsedUp> {
        if self.by_class[class.index()].load(Ordering::Acquire) > self.share(class) {
            return Some(UsedUp::Share(class));
        }
        (self.held.load(Ordering::Acquire) > self.limits.total).then_some(UsedUp::All)
    }

    /// The account that is to be turned away: of the address whose accounts hold most, the one that holds most.
    fn heaviest(&self, used_up: UsedUp) -> Option<Arc<AccountState>> {
        let accounts: Vec<Arc<AccountState>> = self.accounts.lock().values().filter_map(Weak::upgrade).collect();
        let mut by_address: HashMap<IpAddr, (usize, usize, Arc<AccountState>)> = HashMap::new();
        for account in accounts {
            let Some((class, held)) = account.holds().filter(|(_, held)| *held > 0) else { continue };
            if matches!(used_up, UsedUp::Share(wanted) if wanted != class) {
                continue;
            }
            let sum = by_address.entry(account.address).or_insert_with(|| (0, 0, account.clone()));
            sum.0 += held;
            if held > sum.1 {
                (sum.1, sum.2) = (held, account);
            }
        }
        by_address.into_values().max_by_key(|(sum, _, _)| *sum).map(|(_, _, account)| account)
    }
}

/// Which bound has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UsedUp {
    /// The share of a class.
    Share(Class),
    /// The whole.
    All,
}
