//! The account of one connection, and what is charged to it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use serde_json::value::RawValue;

use super::{Class, SharedBudget, SharedText, UsedUp};

/// What a call holds beside its message: its task, and its share of what modules keep for it.
const CALL: usize = 8 << 10;
/// How many times its message a call holds: the host's copy, the guest's, and what the guest makes of it.
const COPIES: usize = 3;

/// The account of a connection. Clones are the same account.
///
/// A free account belongs to no budget. It counts, and refuses nothing.
#[derive(Clone)]
pub struct Account(Arc<AccountState>);

pub(super) struct AccountState {
    id: u64,
    pub(super) address: IpAddr,
    group: Arc<Group>,
    /// Absent for a free account.
    budget: Option<Arc<SharedBudget>>,
    cut: Box<dyn Fn(String) + Send + Sync>,
    held: Mutex<Holds>,
    /// Messages under way, and the bytes of them.
    calls: AtomicUsize,
    messages: AtomicUsize,
    /// Calls that have the right to run or wait for others, and calls that wait for it.
    running: AtomicUsize,
    waiting: AtomicUsize,
    /// Whoever reads from the connection and waits until it may.
    reader: AtomicWaker,
}

/// What the connections of one address share.
#[derive(Debug, Default)]
pub(super) struct Group {
    running: AtomicUsize,
}

struct Holds {
    class: Class,
    bytes: usize,
    /// Whether it was turned away. What it still holds counts for nobody.
    turned_away: bool,
}

/// Why nothing more may be held for a peer, as a sentence with the limit and where it can be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    /// Too many calls of the connection are under way.
    #[error("{0} messages of this connection are under way already (`connection_calls` in [limits] of pomelo.toml)")]
    Calls(usize),
    /// Too much is held for the connection.
    #[error("{} MiB are held for this connection already (`connection_mib` in [limits] of pomelo.toml)", .0 >> 20)]
    Connection(usize),
    /// The messages of the connection that are under way are too large together.
    #[error("the messages of this connection that are under way hold {} MiB already (a quarter of `connection_mib` in [limits] of pomelo.toml)", .0 >> 20)]
    Messages(usize),
    /// Its class has used up its share, and this connection holds most.
    #[error("{} hold {} MiB of the master's memory, their share, and this connection holds most of it (`peers_mib` in [limits] of pomelo.toml)",
        .0.peers(), .1 >> 20)]
    Share(Class, usize),
    /// All peers together have used up the whole, and this connection holds most.
    #[error("all peers hold {} MiB of the master's memory, and this connection holds most of it (`peers_mib` in [limits] of pomelo.toml)", .0 >> 20)]
    Total(usize),
    /// The connection was turned away before.
    #[error("this connection was ended, because it held most of the master's memory")]
    TurnedAway,
}

/// Bytes that are held for a peer. They are given back when this is dropped.
#[derive(Debug)]
pub struct Charge {
    account: Account,
    bytes: usize,
}

/// A message whose call is under way. It is given back when this is dropped.
#[derive(Debug)]
pub struct Call {
    charge: Charge,
    message: usize,
}

impl AccountState {
    pub(super) fn new(
        id: u64,
        address: IpAddr,
        group: Arc<Group>,
        budget: Option<Arc<SharedBudget>>,
        cut: Box<dyn Fn(String) + Send + Sync>,
    ) -> Self {
        AccountState {
            id,
            address,
            group,
            budget,
            cut,
            held: Mutex::new(Holds { class: Class::Stranger, bytes: 0, turned_away: false }),
            calls: AtomicUsize::new(0),
            messages: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            reader: AtomicWaker::new(),
        }
    }

    /// Its class and what it holds; absent once it was turned away.
    pub(super) fn holds(&self) -> Option<(Class, usize)> {
        let held = self.held.lock();
        (!held.turned_away).then_some((held.class, held.bytes))
    }

    /// Turns it away. What it holds is no longer counted, because it is about to be given back.
    fn turn_away(&self, budget: &SharedBudget, why: String) {
        let (class, bytes) = {
            let mut held = self.held.lock();
            if held.turned_away {
                return;
            }
            held.turned_away = true;
            (held.class, std::mem::take(&mut held.bytes))
        };
        budget.subtract(class, bytes);
        metrics::counter!("pomelo_peers_turned_away_total", "class" => class.as_str()).increment(1);
        (self.cut)(why);
    }
}

impl Drop for AccountState {
    fn drop(&mut self) {
        let Some(budget) = &self.budget else { return };
        budget.accounts.lock().remove(&self.id);
        let held = self.held.get_mut();
        // Nothing is left, because every charge keeps its account.
        budget.subtract(held.class, held.bytes);
    }
}

impl Account {
    pub(super) fn of(state: Arc<AccountState>) -> Self {
        Account(state)
    }

    /// An account that belongs to no budget.
    pub fn free() -> Self {
        let address = IpAddr::from([0, 0, 0, 0]);
        Account(Arc::new(AccountState::new(0, address, Arc::default(), None, Box::new(drop))))
    }

    /// What the peer is.
    pub fn class(&self) -> Class {
        self.0.held.lock().class
    }

    /// What the peer is from now on. What it holds moves to that class.
    pub fn belongs_to(&self, class: Class) {
        let mut held = self.0.held.lock();
        let before = std::mem::replace(&mut held.class, class);
        if let Some(budget) = &self.0.budget {
            budget.add(class, held.bytes);
            budget.subtract(before, held.bytes);
        }
    }

    /// Whether two handles are of the same account.
    pub fn is(&self, other: &Account) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Bytes that are held for the peer.
    pub fn held(&self) -> usize {
        self.0.held.lock().bytes
    }

    /// Charges bytes. Where there is no room, whoever holds most is turned away.
    ///
    /// # Errors
    /// [`Over`] where that is this account itself. Nothing is charged then, and it is left to the caller what becomes of the peer.
    pub fn charge(&self, bytes: usize) -> Result<Charge, Over> {
        self.add(bytes)?;
        Ok(Charge { account: self.clone(), bytes })
    }

    fn add(&self, bytes: usize) -> Result<(), Over> {
        let class = {
            let mut held = self.0.held.lock();
            if held.turned_away {
                return Err(Over::TurnedAway);
            }
            if let Some(budget) = &self.0.budget {
                if held.bytes.saturating_add(bytes) > budget.limits.connection {
                    return Err(Over::Connection(budget.limits.connection));
                }
                // Under the lock, because the account could become another class's between the two.
                budget.add(held.class, bytes);
            }
            held.bytes += bytes;
            held.class
        };
        let Some(budget) = &self.0.budget else { return Ok(()) };
        while let Some(used_up) = budget.used_up(class) {
            let over = match used_up {
                UsedUp::Share(class) => Over::Share(class, budget.share(class)),
                UsedUp::All => Over::Total(budget.limits.total),
            };
            match budget.heaviest(used_up) {
                // Where nobody holds anything, others have given it back meanwhile.
                None => break,
                Some(account) if account.id == self.0.id => {
                    self.subtract(bytes);
                    return Err(over);
                }
                Some(account) => account.turn_away(budget, over.to_string()),
            }
        }
        Ok(())
    }

    /// A text that others of the same budget may be sent as well, held once for all of them. Absent where it is small, where such texts have no more room,
    /// and for a free account: then it is the peer's own. `make` is called where the text is not there yet.
    pub fn share(&self, text: &RawValue, make: impl FnOnce() -> Arc<RawValue>) -> Option<Arc<SharedText>> {
        self.0.budget.as_ref()?.texts.share(text, make)
    }

    /// [`Account::share`] for an answer to this peer. Only a monitor's may be the first of its kind: a fleet asks for the same, and a client that is given
    /// what nobody else is must be charged for it.
    pub fn share_answer(&self, text: &RawValue, make: impl FnOnce() -> Arc<RawValue>) -> Option<Arc<SharedText>> {
        let texts = &self.0.budget.as_ref()?.texts;
        if self.class() == Class::Monitor { texts.share(text, make) } else { texts.known(text) }
    }

    /// Whether it belongs to no budget.
    pub fn is_free(&self) -> bool {
        self.0.budget.is_none()
    }

    fn subtract(&self, bytes: usize) {
        let mut held = self.0.held.lock();
        if held.turned_away {
            return;
        }
        held.bytes -= bytes;
        if let Some(budget) = &self.0.budget {
            budget.subtract(held.class, bytes);
        }
    }

    /// Takes a message in whose call is to be made.
    ///
    /// # Errors
    /// [`Over`].
    pub fn begin_call(&self, message: usize) -> Result<Call, Over> {
        if let Some(budget) = &self.0.budget {
            let limits = &budget.limits;
            let (calls, messages) = (self.0.calls.load(Ordering::Acquire), self.0.messages.load(Ordering::Acquire));
            if calls >= limits.calls {
                return Err(Over::Calls(limits.calls));
            }
            if messages > 0 && messages.saturating_add(message) > limits.messages() {
                return Err(Over::Messages(limits.messages()));
            }
        }
        self.begin_notify(message)
    }

    /// [`Account::begin_call`] for a message that cannot be refused, because it is not answered. The connection is not to be read from while
    /// [`Account::poll_ready`] waits, so that only what was received already comes on top of the limits of a connection.
    ///
    /// # Errors
    /// [`Over`].
    pub fn begin_notify(&self, message: usize) -> Result<Call, Over> {
        let charge = self.charge(message.saturating_mul(COPIES).saturating_add(CALL))?;
        self.0.calls.fetch_add(1, Ordering::AcqRel);
        self.0.messages.fetch_add(message, Ordering::AcqRel);
        Ok(Call { charge, message })
    }

    /// Messages that are under way.
    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Acquire)
    }

    fn is_full(&self) -> bool {
        let Some(budget) = &self.0.budget else { return false };
        self.calls() >= budget.limits.calls || self.0.messages.load(Ordering::Acquire) >= budget.limits.messages()
    }

    /// Waits until more may be read from the connection. One task at a time may wait.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_full() {
            return Poll::Ready(());
        }
        self.0.reader.register(context.waker());
        // It may have become free before the waker was there.
        if self.is_full() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// [`Account::poll_ready`].
    pub async fn ready(&self) {
        std::future::poll_fn(|context| self.poll_ready(context)).await;
    }

    /// A call of this peer begins to run, or to wait for others while it could run.
    pub fn runs(&self) {
        self.0.running.fetch_add(1, Ordering::AcqRel);
        self.0.group.running.fetch_add(1, Ordering::AcqRel);
    }

    /// What [`Account::runs`] told of has ended.
    pub fn ran(&self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.group.running.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many calls run of all connections of the address, and of this one. Whoever has fewer is served first.
    pub fn running(&self) -> (usize, usize) {
        (self.0.group.running.load(Ordering::Acquire), self.0.running.load(Ordering::Acquire))
    }

    /// Counts one more call that waits until it may run, unless as many as `limit` wait.
    pub fn waits(&self, limit: usize) -> bool {
        let more = |waiting: usize| (waiting < limit).then_some(waiting + 1);
        self.0.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// A call that [`Account::waits`] counted waits no longer.
    pub fn waited(&self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Charge {
    /// A charge of nothing.
    pub fn nothing(account: &Account) -> Self {
        Charge { account: account.clone(), bytes: 0 }
    }

    /// Charges more, or gives back, so that it is `bytes` in all.
    ///
    /// # Errors
    /// [`Over`]. It stays as it was then.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Over> {
        if bytes > self.bytes {
            self.account.add(bytes - self.bytes)?;
        } else {
            self.account.subtract(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// How much it is, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.subtract(self.bytes);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let account = &self.charge.account;
        let was_full = account.is_full();
        account.0.calls.fetch_sub(1, Ordering::AcqRel);
        account.0.messages.fetch_sub(self.message, Ordering::AcqRel);
        if was_full && !account.is_full() {
            account.0.reader.wake();
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (class, bytes) = (self.class(), self.held());
        write!(f, "account {} ({} of a {}, {} calls)", self.0.id, bytes, class.as_str(), self.calls())
    }
}

impl fmt::Debug for AccountState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account {}", self.id)
    }
}
