//! What modules may hold of a process together: the memory of their instances, and all that the host holds for them.
//!
//! Each module has a [`ModuleAccount`], which the versions of it share. What is held for it is charged to that account: memories and tables of its
//! instances, the texts that it has handed to its host, what it has sent and no peer has taken yet, answers, its store. A module has a limit of its own. All
//! modules together have one as well, but for those that the host carries: they are counted, and never refused, so that no other module can keep them from
//! their work.
//!
//! Where there is no room, idle instances go first. If another module holds more than the one that asks, its largest call is ended then. Where a module has
//! used up its own sum, its largest call of those that give way ends for a call of level 1's, the master's or the host's. Otherwise the one that asks is
//! refused.
//!
//! It knows neither instances nor peers, only what is charged.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Class;
use crate::util::label;

/// What all modules of a process may hold. Clones are the same budget.
#[derive(Clone)]
pub struct ModulesBudget(Arc<SharedModules>);

struct SharedModules {
    /// Bytes that the modules which the host does not carry may hold together.
    total: usize,
    /// What those hold.
    held: AtomicUsize,
    /// By name, and whether the host carries it.
    accounts: Mutex<HashMap<(String, bool), Weak<ModuleState>>>,
    last: AtomicU64,
}

/// The account of a module. Clones are the same account.
#[derive(Clone)]
pub struct ModuleAccount(Arc<ModuleState>);

struct ModuleState {
    name: String,
    carried: bool,
    budget: Arc<SharedModules>,
    /// Bytes that may be held for it.
    limit: AtomicUsize,
    held: AtomicUsize,
    /// Instances whose calls may be ended, where others need what they hold.
    calls: Mutex<HashMap<u64, (Arc<InstanceState>, Class)>>,
    /// Where its idle instances are.
    idle: Mutex<Vec<Weak<dyn Idle>>>,
}

/// What keeps idle instances.
pub trait Idle: Send + Sync {
    /// Drops one of them. Returns whether there was one.
    fn give_up(&self) -> bool;
}

/// Why nothing more may be held for a module, as a sentence with the limit and where it can be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleOver {
    /// The module has used up its own sum.
    #[error("{mib} MiB are held for module {name} already, in all of its calls (`module_mib` in [limits] or [module.ID.limits] of pomelo.toml)", mib = .1 >> 20, name = .0)]
    Module(String, usize),
    /// All modules together have used up theirs, and none holds more than this one.
    #[error("all modules hold {mib} MiB of this host's memory, and {name} most of it (`modules_mib` in [limits] of pomelo.toml)", mib = .1 >> 20, name = .0)]
    All(String, usize),
    /// The call was ended, because others needed what it held.
    #[error(
        "the call was ended, because other modules needed memory and {0} held most of it (`modules_mib` in [limits] of pomelo.toml)"
    )]
    GivenUp(String),
    /// The call was ended for a call of level 1's, because the module has used up its own sum.
    #[error("the call was ended for another of level 1's or of the host's, because {mib} MiB are held for module {name} (`module_mib` in [limits] or [module.ID.limits] of pomelo.toml)", mib = .1 >> 20, name = .0)]
    GaveWay(String, usize),
}

/// Bytes that are held for a module. They are given back when this is dropped.
pub struct ModuleCharge {
    account: ModuleAccount,
    bytes: usize,
}

/// What an instance of a module holds. It is given back when this is dropped.
pub struct InstanceCharge(Arc<InstanceState>);

struct InstanceState {
    id: u64,
    account: ModuleAccount,
    /// Absent once it was given up. What it still holds counts for nobody, because it is about to be dropped.
    bytes: Mutex<Option<usize>>,
    /// Why it was.
    why: OnceLock<ModuleOver>,
    given_up: CancellationToken,
}

/// A call that an instance serves. While this lives, the call may be ended for others.
pub struct Serving(Arc<InstanceState>);

impl ModulesBudget {
    /// A budget of which nothing is used. Modules that the host does not carry may hold `total` bytes together.
    pub fn new(total: usize) -> Self {
        let (held, accounts, last) = (AtomicUsize::new(0), Mutex::default(), AtomicU64::new(0));
        ModulesBudget(Arc::new(SharedModules { total, held, accounts, last }))
    }

    /// The account of a module, for which at most `limit` bytes are held from now on. Without a limit it is one that the host carries.
    pub fn open(&self, name: &str, limit: Option<usize>) -> ModuleAccount {
        let key = (name.to_owned(), limit.is_none());
        let limit = limit.unwrap_or(usize::MAX);
        let mut accounts = self.0.accounts.lock();
        let known = accounts.get(&key).and_then(Weak::upgrade);
        let state = known.unwrap_or_else(|| {
            let state = Arc::new(ModuleState {
                name: key.0.clone(),
                carried: key.1,
                budget: self.0.clone(),
                limit: AtomicUsize::new(limit),
                held: AtomicUsize::new(0),
                calls: Mutex::default(),
                idle: Mutex::default(),
            });
            accounts.insert(key, Arc::downgrade(&state));
            state
        });
        state.limit.store(limit, Ordering::Relaxed);
        ModuleAccount(state)
    }

    /// What the modules hold that the host does not carry, bytes.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Acquire)
    }

    /// Those modules, from the one that holds most on.
    fn heaviest_first(&self) -> Vec<ModuleAccount> {
        let accounts: Vec<_> = self.0.accounts.lock().values().filter_map(Weak::upgrade).collect();
        let mut accounts: Vec<_> = accounts.into_iter().filter(|state| !state.carried).map(ModuleAccount).collect();
        accounts.sort_by_cached_key(|account| std::cmp::Reverse(account.held()));
        accounts
    }
}

impl Drop for ModuleState {
    fn drop(&mut self) {
        let key = (std::mem::take(&mut self.name), self.carried);
        let mut accounts = self.budget.accounts.lock();
        // Another one may have been opened under the name meanwhile.
        if accounts.get(&key).is_some_and(|account| account.strong_count() == 0) {
            accounts.remove(&key);
        }
    }
}

impl ModuleAccount {
    /// The module's name: that of its file.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether the host carries the module. It is never refused anything then.
    pub fn is_carried(&self) -> bool {
        self.0.carried
    }

    /// Bytes that are held for the module.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Acquire)
    }

    /// Whether two handles are of the same account.
    pub fn is(&self, other: &ModuleAccount) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Says where idle instances of the module are, which are given up where there is no room.
    pub fn keeps_idle(&self, idle: Weak<dyn Idle>) {
        let mut all = self.0.idle.lock();
        all.retain(|idle| idle.strong_count() > 0);
        all.push(idle);
    }

    /// Charges bytes.
    ///
    /// # Errors
    /// [`ModuleOver`]. Nothing is charged then.
    pub fn charge(&self, bytes: usize) -> Result<ModuleCharge, ModuleOver> {
        self.add(bytes)?;
        Ok(ModuleCharge { account: self.clone(), bytes })
    }

    /// A charge of nothing.
    pub fn nothing(&self) -> ModuleCharge {
        ModuleCharge { account: self.clone(), bytes: 0 }
    }

    /// Charges a new instance, which begins with so many bytes.
    ///
    /// # Errors
    /// [`ModuleOver`].
    pub fn instance(&self, bytes: usize) -> Result<InstanceCharge, ModuleOver> {
        self.add(bytes)?;
        Ok(InstanceCharge(Arc::new(InstanceState {
            id: self.0.budget.last.fetch_add(1, Ordering::Relaxed),
            account: self.clone(),
            bytes: Mutex::new(Some(bytes)),
            why: OnceLock::new(),
            given_up: CancellationToken::new(),
        })))
    }

    /// Ends the largest call of the module, so that there is room. Returns whether there was one.
    pub fn end_largest_call(&self) -> bool {
        let why = ModuleOver::GivenUp(self.0.name.clone());
        self.calls(|_| true).iter().any(|(_, instance)| instance.give_up(&why))
    }

    /// Ends the largest call of those that give way, so that there is room for so many bytes of a call of this class. Returns whether there was one. None is
    /// ended where all of them together would not be enough.
    pub fn end_call_for(&self, class: Class, bytes: usize) -> bool {
        if class.gives_way() {
            return false;
        }
        let (calls, limit) = (self.calls(Class::gives_way), self.0.limit.load(Ordering::Relaxed));
        let held: usize = calls.iter().map(|(held, _)| held).sum();
        let why = ModuleOver::GaveWay(self.0.name.clone(), limit);
        self.held().saturating_sub(held).saturating_add(bytes) <= limit
            && calls.iter().any(|(_, instance)| instance.give_up(&why))
    }

    /// The instances that serve calls of those classes, with what each holds, the largest first.
    fn calls(&self, of: impl Fn(Class) -> bool) -> Vec<(usize, Arc<InstanceState>)> {
        let calls = self.0.calls.lock();
        let those = calls.values().filter(|(_, class)| of(*class));
        let mut those: Vec<_> =
            those.filter_map(|(instance, _)| Some(((*instance.bytes.lock())?, instance.clone()))).collect();
        drop(calls);
        those.sort_unstable_by_key(|(held, _)| std::cmp::Reverse(*held));
        those
    }

    fn add(&self, bytes: usize) -> Result<(), ModuleOver> {
        self.try_add(bytes).inspect_err(|_| self.refused())
    }

    fn refused(&self) {
        metrics::counter!("pomelo_module_memory_refused_total", "file" => label(&self.0.name)).increment(1);
    }

    fn try_add(&self, bytes: usize) -> Result<(), ModuleOver> {
        let state = &self.0;
        if bytes == 0 {
            return Ok(());
        }
        if state.carried {
            state.held.fetch_add(bytes, Ordering::AcqRel);
            return Ok(());
        }
        let limit = state.limit.load(Ordering::Relaxed);
        while !raise(&state.held, bytes, limit) {
            if !self.give_up_idle() {
                return Err(ModuleOver::Module(state.name.clone(), limit));
            }
        }
        let budget = &state.budget;
        while !raise(&budget.held, bytes, budget.total) {
            if !self.make_room() {
                state.held.fetch_sub(bytes, Ordering::AcqRel);
                return Err(ModuleOver::All(state.name.clone(), budget.total));
            }
        }
        Ok(())
    }

    /// Charges bytes that are held already, whether there is room or not.
    fn add_at_any_rate(&self, bytes: usize) {
        self.0.held.fetch_add(bytes, Ordering::AcqRel);
        if !self.0.carried {
            self.0.budget.held.fetch_add(bytes, Ordering::AcqRel);
        }
    }

    fn subtract(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.0.held.fetch_sub(bytes, Ordering::AcqRel);
        if !self.0.carried {
            self.0.budget.held.fetch_sub(bytes, Ordering::AcqRel);
        }
    }

    /// Drops an idle instance of the module. Returns whether there was one.
    fn give_up_idle(&self) -> bool {
        let idle: Vec<_> = self.0.idle.lock().iter().filter_map(Weak::upgrade).collect();
        idle.iter().any(|idle| idle.give_up())
    }

    /// Makes room for this module where all modules together have used up what they may hold. Returns whether something was given up.
    fn make_room(&self) -> bool {
        let accounts = ModulesBudget(self.0.budget.clone()).heaviest_first();
        accounts.iter().any(ModuleAccount::give_up_idle)
            || accounts.iter().take_while(|other| other.held() > self.held()).any(ModuleAccount::end_largest_call)
    }
}

/// Adds to a sum, unless it would become more than `limit`.
fn raise(sum: &AtomicUsize, bytes: usize, limit: usize) -> bool {
    let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= limit);
    sum.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
}

impl ModuleCharge {
    /// Charges more, or gives back, so that it is `bytes` in all.
    ///
    /// # Errors
    /// [`ModuleOver`]. It stays as it was then.
    pub fn resize(&mut self, bytes: usize) -> Result<(), ModuleOver> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.account.add(more)?,
            None => self.account.subtract(self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// The same for what is held already: there is no refusal.
    pub fn is_now(&mut self, bytes: usize) {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.account.add_at_any_rate(more),
            None => self.account.subtract(self.bytes - bytes),
        }
        self.bytes = bytes;
    }

    /// How much it is, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The account.
    pub fn account(&self) -> &ModuleAccount {
        &self.account
    }
}

impl Drop for ModuleCharge {
    fn drop(&mut self) {
        self.account.subtract(self.bytes);
    }
}

impl std::fmt::Debug for ModuleCharge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of module {}", self.bytes, self.account.name())
    }
}

impl InstanceCharge {
    /// The account that it is charged to.
    pub fn account(&self) -> &ModuleAccount {
        &self.0.account
    }

    /// Charges more memory of the instance.
    ///
    /// # Errors
    /// [`ModuleOver`]. Nothing is charged then.
    pub fn grow(&self, bytes: usize) -> Result<(), ModuleOver> {
        let account = &self.0.account;
        while let Err(over) = account.try_add(bytes) {
            let class = account.0.calls.lock().get(&self.0.id).map(|(_, class)| *class);
            if !class.is_some_and(|class| account.end_call_for(class, bytes)) {
                account.refused();
                return Err(over);
            }
        }
        let grown = self.0.bytes.lock().as_mut().map(|held| *held += bytes);
        grown.ok_or_else(|| {
            self.0.account.subtract(bytes);
            self.0.over()
        })
    }

    /// The instance serves a call of this class, which may be ended for others while what this returns lives.
    pub fn serves(&self, class: Class) -> Serving {
        // Nothing is taken from modules that the host carries, so that their calls need no lock for it.
        if !self.0.account.is_carried() {
            self.0.account.0.calls.lock().insert(self.0.id, (self.0.clone(), class));
        }
        Serving(self.0.clone())
    }
}

impl Drop for InstanceCharge {
    fn drop(&mut self) {
        if let Some(bytes) = self.0.bytes.lock().take() {
            self.0.account.subtract(bytes);
        }
    }
}

impl InstanceState {
    /// Ends the call, and counts what its instance holds as given back. Returns whether it had not been so before.
    fn give_up(&self, why: &ModuleOver) -> bool {
        let Some(bytes) = self.bytes.lock().take() else { return false };
        // Set once, because there were bytes.
        let _ = self.why.set(why.clone());
        self.account.0.calls.lock().remove(&self.id);
        self.account.subtract(bytes);
        metrics::counter!("pomelo_module_calls_given_up_total", "file" => label(self.account.name())).increment(1);
        self.given_up.cancel();
        true
    }

    /// Why it was given up.
    fn over(&self) -> ModuleOver {
        self.why.get().cloned().unwrap_or_else(|| ModuleOver::GivenUp(self.account.name().to_owned()))
    }
}

impl Serving {
    /// Waits until the call is ended for others. Returns why.
    pub async fn given_up(&self) -> ModuleOver {
        self.0.given_up.cancelled().await;
        self.0.over()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.0.account.is_carried() {
            self.0.account.0.calls.lock().remove(&self.0.id);
        }
    }
}

#[cfg(test)]
#[path = "modules_tests.rs"]
mod tests;
