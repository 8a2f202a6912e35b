//! Rights that callers take turns for: to be under way, and to run.
//!
//! A semaphore serves those who wait in the order in which they came, so that whoever asks most has most. This one serves the class of callers first that
//! has least for its weight, of it the address with the fewest calls, and of it the connection with the fewest. A part is kept free for level 1 and for
//! the host itself.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Caller;
use crate::budget::{Account, Class};

const CLASSES: usize = Class::ALL.len();

/// A number of rights for callers who take turns.
pub(super) struct FairSemaphore {
    size: usize,
    state: Mutex<State>,
}

struct State {
    free: usize,
    /// How many rights each class has.
    taken: [usize; CLASSES],
    /// Those who wait, in the order in which they came. Their number is bounded by whoever lets them wait.
    waiting: BTreeMap<u64, Waiter>,
    last: u64,
}

struct Waiter {
    class: Class,
    account: Option<Account>,
    given: oneshot::Sender<FairPermit>,
}

/// A right. Dropped, it is given to whoever is next.
pub(super) struct FairPermit {
    of: Arc<FairSemaphore>,
    class: Class,
    account: Option<Account>,
}

impl FairSemaphore {
    /// `size` rights, at least one.
    pub fn new(size: usize) -> Arc<Self> {
        let size = size.max(1);
        let state = State { free: size, taken: [0; CLASSES], waiting: BTreeMap::new(), last: 0 };
        Arc::new(FairSemaphore { size, state: Mutex::new(state) })
    }

    /// Waits for a right.
    pub async fn acquire(self: &Arc<Self>, caller: &Caller) -> FairPermit {
        let (class, account) = (caller.class(), caller.account.clone());
        let waiting = {
            let mut state = self.state.lock();
            // Nobody who waits could be served before: if one could, it would not wait.
            if self.has_room(&state, class) {
                state.take(class);
                drop(state);
                return self.permit(class, account);
            }
            let (given, got) = oneshot::channel();
            state.last += 1;
            let number = state.last;
            state.waiting.insert(number, Waiter { class, account: account.clone(), given });
            Waiting { of: self, number, got }
        };
        waiting.await_permit().await.unwrap_or_else(|| {
            // A waiter's sender is dropped only after it has sent.
            self.state.lock().take(class);
            self.permit(class, account)
        })
    }

    /// Whether there is a right for a caller of that class.
    fn has_room(&self, state: &State, class: Class) -> bool {
        let reserve = if class.has_reserve() { 0 } else { self.size / 8 };
        let most = match class {
            Class::Stranger | Class::User => self.size.div_ceil(2),
            Class::Monitor => self.size - self.size / 4,
            Class::Operator | Class::Master | Class::Host => self.size,
        };
        state.free > reserve && state.taken[class.index()] < most
    }

    fn permit(self: &Arc<Self>, class: Class, account: Option<Account>) -> FairPermit {
        if let Some(account) = &account {
            account.runs();
        }
        FairPermit { of: self.clone(), class, account }
    }

    /// Takes a right back, and gives the free ones to those who wait.
    fn give_back(self: &Arc<Self>, class: Class) {
        let mut state = self.state.lock();
        state.free += 1;
        state.taken[class.index()] -= 1;
        let mut given = Vec::new();
        while let Some(number) = self.next(&state) {
            let Some(waiter) = state.waiting.remove(&number) else { break };
            state.take(waiter.class);
            given.push((self.permit(waiter.class, waiter.account), waiter.given));
        }
        drop(state);
        for (permit, waiter) in given {
            // Whoever has stopped to wait gives its right back, as the permit is dropped.
            let _ = waiter.send(permit);
        }
    }

    /// Who is next.
    fn next(&self, state: &State) -> Option<u64> {
        let may = state.waiting.iter().filter(|(_, waiter)| self.has_room(state, waiter.class));
        let turn = |(number, waiter): &(&u64, &Waiter)| {
            let class = state.taken[waiter.class.index()] * 8 / waiter.class.weight();
            let (address, connection) = waiter.account.as_ref().map_or((0, 0), Account::running);
            (class, Reverse(waiter.class.weight()), address, connection, **number)
        };
        may.min_by_key(turn).map(|(number, _)| *number)
    }
}

impl State {
    fn take(&mut self, class: Class) {
        self.free = self.free.saturating_sub(1);
        self.taken[class.index()] += 1;
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.ran();
        }
        self.of.give_back(self.class);
    }
}

/// A place among those who wait. It is given up when this is dropped.
struct Waiting<'a> {
    of: &'a Arc<FairSemaphore>,
    number: u64,
    got: oneshot::Receiver<FairPermit>,
}

impl Waiting<'_> {
    async fn await_permit(mut self) -> Option<FairPermit> {
        (&mut self.got).await.ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // If it was served meanwhile, the right goes back with the channel.
        let waiter = self.of.state.lock().waiting.remove(&self.number);
        drop(waiter);
    }
}

/// The places of a queue, shared by callers so that none can fill it for the others.
pub(crate) struct QueueShares {
    limit: usize,
    by_class: [AtomicUsize; CLASSES],
}

/// A place in a queue. It is given up when this is dropped.
pub(crate) struct QueueShare {
    of: Arc<QueueShares>,
    class: Class,
    account: Option<Account>,
}

impl QueueShares {
    /// A queue in which so many calls of each class may wait: half as many of users whose level is above 1, and of each connection but those of level 1 a
    /// quarter.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(QueueShares { limit: limit.max(1), by_class: Default::default() })
    }

    /// How many may wait in all.
    pub fn capacity(&self) -> usize {
        Class::ALL.iter().map(|class| self.limit_of(*class)).sum()
    }

    fn limit_of(&self, class: Class) -> usize {
        match class {
            Class::Stranger | Class::User => self.limit.div_ceil(2),
            Class::Monitor | Class::Operator | Class::Master | Class::Host => self.limit,
        }
    }

    /// A place for one more call of the caller, or how many of whom wait already.
    pub fn enter(self: &Arc<Self>, caller: &Caller) -> Result<QueueShare, String> {
        let class = caller.class();
        let limit = self.limit_of(class);
        let of_class = &self.by_class[class.index()];
        let more = |waiting: usize| (waiting < limit).then_some(waiting + 1);
        if of_class.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_err() {
            return Err(format!("{limit} calls of {}", class.peers()));
        }
        let mut share = QueueShare { of: self.clone(), class, account: None };
        let Some(account) = &caller.account else { return Ok(share) };
        let own = if class.has_reserve() { self.limit } else { self.limit.div_ceil(4) };
        if !account.waits(own) {
            return Err(format!("{own} calls of this connection"));
        }
        share.account = Some(account.clone());
        Ok(share)
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.by_class.iter().map(|waiting| waiting.load(Ordering::Relaxed)).sum()
    }
}

impl Drop for QueueShare {
    fn drop(&mut self) {
        self.of.by_class[self.class.index()].fetch_sub(1, Ordering::AcqRel);
        if let Some(account) = &self.account {
            account.waited();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::budget::{Budget, Limits};
    use crate::plugin::CallerRole;

    fn caller(budget: &Budget, address: u8, role: CallerRole, level: Option<u32>) -> Caller {
        let account = budget.open([10, 0, 0, address].into(), |_| {});
        Caller { level, account: Some(account), ..Caller::of(role) }
    }

    type Acquiring<'a> = BoxFuture<'a, FairPermit>;

    fn asks<'a>(of: &'a Arc<FairSemaphore>, caller: &'a Caller) -> Acquiring<'a> {
        Box::pin(of.acquire(caller))
    }

    fn got(asking: &mut Acquiring<'_>) -> Option<FairPermit> {
        match asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    /// Asks without waiting.
    fn now(of: &Arc<FairSemaphore>, caller: &Caller) -> Option<FairPermit> {
        got(&mut asks(of, caller))
    }

    #[test]
    fn users_and_monitors_leave_room_for_level_1() {
        let (budget, semaphore) = (Budget::new(Limits::default()), FairSemaphore::new(16));
        let user = caller(&budget, 1, CallerRole::Client, Some(2));
        let monitor = caller(&budget, 2, CallerRole::Monitor, None);
        let operator = caller(&budget, 1, CallerRole::Client, Some(1));
        let take = |caller: &Caller| std::iter::from_fn(|| now(&semaphore, caller)).collect::<Vec<_>>();
        let users = take(&user);
        assert_eq!(users.len(), 8, "half of all");
        let monitors = take(&monitor);
        assert_eq!(monitors.len(), 6, "all but the reserve");
        assert_eq!(take(&operator).len(), 2);
        drop((users, monitors));
        assert_eq!(take(&operator).len(), 16);
        assert_eq!(semaphore.state.lock().free, 16);
    }

    #[test]
    fn whoever_has_least_is_next() {
        let (budget, semaphore) = (Budget::new(Limits::default()), FairSemaphore::new(3));
        let monitor = |address| caller(&budget, address, CallerRole::Monitor, None);
        let (greedy, other) = (monitor(1), monitor(2));
        let (user, operator) =
            (caller(&budget, 1, CallerRole::Client, Some(2)), caller(&budget, 1, CallerRole::Client, Some(1)));
        let first = now(&semaphore, &greedy).unwrap();
        let second = now(&semaphore, &greedy).unwrap();
        let third = now(&semaphore, &greedy).unwrap();
        let mut waiting = [asks(&semaphore, &greedy), asks(&semaphore, &greedy), asks(&semaphore, &user)];
        assert!(waiting.iter_mut().all(|asking| got(asking).is_none()));
        let (mut other, mut operator) = (asks(&semaphore, &other), asks(&semaphore, &operator));
        assert!(got(&mut other).is_none() && got(&mut operator).is_none());
        drop(first);
        let of_operator = got(&mut operator).expect("level 1 comes before all that wait");
        assert!(got(&mut other).is_none());
        drop(second);
        let of_user = got(&mut waiting[2]).expect("no user has a right, and a monitor has");
        drop(of_operator);
        let of_other = got(&mut other).expect("its address has none, and that of the greedy one has");
        drop((third, of_user, of_other));
        let [last, given_up, _] = &mut waiting;
        assert!(got(last).is_some());
        drop(got(given_up));
        assert_eq!(semaphore.state.lock().free, 3);
    }

    #[test]
    fn a_right_that_nobody_takes_any_more_goes_on() {
        let (budget, semaphore) = (Budget::new(Limits::default()), FairSemaphore::new(1));
        let monitor = caller(&budget, 1, CallerRole::Monitor, None);
        let held = now(&semaphore, &monitor).unwrap();
        let mut given_up = asks(&semaphore, &monitor);
        let mut patient = asks(&semaphore, &monitor);
        assert!(got(&mut given_up).is_none() && got(&mut patient).is_none());
        drop(held);
        drop(given_up);
        assert!(got(&mut patient).is_some());
        assert_eq!(monitor.account.as_ref().unwrap().running(), (0, 0));
    }

    #[test]
    fn nobody_fills_a_queue_for_the_others() {
        let (budget, queue) = (Budget::new(Limits::default()), QueueShares::new(8));
        let users: Vec<_> = (0..4).map(|_| caller(&budget, 1, CallerRole::Client, Some(2))).collect();
        let take = |caller: &Caller| std::iter::from_fn(|| queue.enter(caller).ok()).collect::<Vec<_>>();
        let places: Vec<_> = users.iter().map(take).collect();
        let counts: Vec<_> = places.iter().map(Vec::len).collect();
        assert_eq!(counts, [2, 2, 0, 0], "a quarter for each connection, half for all of them");
        assert_eq!(queue.enter(&users[0]).map(drop), Err("4 calls of clients of level 2 and above".to_owned()));
        let operator = caller(&budget, 1, CallerRole::Client, Some(1));
        assert_eq!(take(&operator).len(), 8);
        drop(places);
        assert_eq!(queue.waiting(), 0);
    }
}
