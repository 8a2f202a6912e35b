//! Whose guest runs next, where more want to run than may.
//!
//! A guest computes for a *slice* and then gives way. One whose file has used little lately runs where its call is polled, on a thread of the executor,
//! and touches no lock here. One that goes on after its slice, or whose file has used much, waits for a *turn*: it is polled by a thread for guests, of
//! which there are fewer than processors. So the executor's threads are free to look at sockets, however many guests compute and for however long. The
//! next turn is that of the file that has used least for its weight.
//!
//! This part knows neither calls nor limits: `cpu` says when a slice is over, `share` what a file has used.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use async_task::Runnable;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::share::{CpuShare, WINDOW};

/// What a file may have used lately, seconds, and still run without a turn, whatever others do. As a rule that is two hundredths of a processor.
const LITTLE: f32 = 0.03;

/// The turns of an engine.
pub(super) struct Scheduler {
    /// Turns at the same time.
    most: usize,
    origin: Instant,
    /// Weights of the files that wait for turns or have them. Written under the lock, and read without it.
    crowd: AtomicU64,
    /// Guests that run without a turn although their files have used much.
    beside: AtomicUsize,
    state: Mutex<State>,
    shares: Mutex<Shares>,
}

#[derive(Default)]
struct State {
    /// What waits for a turn, by the number of its share. None is empty.
    waiting: BTreeMap<u64, Waiting>,
    /// Threads that give turns.
    threads: usize,
}

struct Waiting {
    share: Arc<CpuShare>,
    guests: VecDeque<(Runnable, Handle)>,
}

#[derive(Default)]
struct Shares {
    last: u64,
    by_file: HashMap<(String, u32), Weak<CpuShare>>,
}

/// A guest may run where it is. It is counted where that is an exception.
pub(super) struct Here<'a>(Option<&'a AtomicUsize>);

impl Drop for Here<'_> {
    fn drop(&mut self) {
        if let Some(beside) = self.0 {
            beside.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Scheduler {
    /// As many turns at a time as leave one of so many processors free, and at least one.
    pub fn new(processors: usize) -> Arc<Self> {
        Arc::new(Scheduler {
            most: processors.saturating_sub(1).max(1),
            origin: Instant::now(),
            crowd: AtomicU64::new(0),
            beside: AtomicUsize::new(0),
            state: Mutex::default(),
            shares: Mutex::default(),
        })
    }

    /// The share of a file under a weight.
    pub fn share(&self, file: &str, weight: u32) -> Arc<CpuShare> {
        let mut shares = self.shares.lock();
        let known = (file.to_owned(), weight);
        if let Some(share) = shares.by_file.get(&known).and_then(Weak::upgrade) {
            return share;
        }
        shares.by_file.retain(|_, share| share.strong_count() > 0);
        shares.last += 1;
        let share = Arc::new(CpuShare::new(shares.last, weight, self.origin));
        shares.by_file.insert(known, Arc::downgrade(&share));
        share
    }

    /// Whether a guest may run where it is polled, for a slice. Otherwise it is to wait for a turn.
    pub fn here(&self, share: &CpuShare) -> Option<Here<'_>> {
        // A file with a guest that waits has more to do than a slice. Its other guests come after that one.
        if share.in_turns.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let (recent, crowd) = (share.recent(), self.crowd.load(Ordering::Relaxed));
        if recent <= LITTLE {
            return Some(Here(None));
        }
        if crowd > 0 {
            // Beside others a file may use half of what is its due without waiting. More than that is given out in turns.
            let all = crowd as f32 + share.weight as f32;
            let due = WINDOW * self.most as f32 * super::Limits::WEIGHT as f32 / all;
            return (recent <= due / 2.0).then_some(Here(None));
        }
        let more = |beside: usize| (beside < self.most).then_some(beside + 1);
        self.beside.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Here(Some(&self.beside)))
    }

    /// Puts a guest behind those of its file that wait for a turn. `runtime` is what it is polled in, on a thread of its own for blocking work.
    pub fn put(self: &Arc<Self>, share: &Arc<CpuShare>, guest: Runnable, runtime: &Handle) {
        let begins = {
            let mut state = self.state.lock();
            self.comes(share);
            let none = || Waiting { share: share.clone(), guests: VecDeque::new() };
            let waiting = state.waiting.entry(share.number).or_insert_with(none);
            waiting.guests.push_back((guest, runtime.clone()));
            let begins = state.threads < self.most;
            state.threads += usize::from(begins);
            begins
        };
        if begins {
            let worker = Worker { scheduler: self.clone(), ended: false };
            runtime.spawn_blocking(move || worker.work());
        }
    }

    /// One more guest of a share waits or has a turn. To be called under the lock.
    fn comes(&self, share: &CpuShare) {
        if share.in_turns.fetch_add(1, Ordering::Relaxed) == 0 {
            self.crowd.fetch_add(share.weight.into(), Ordering::Relaxed);
        }
    }

    /// One less. To be called under the lock.
    fn goes(&self, share: &CpuShare) {
        if share.in_turns.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.crowd.fetch_sub(share.weight.into(), Ordering::Relaxed);
        }
    }

    /// Guests that wait for a turn.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.values().map(|waiting| waiting.guests.len()).sum()
    }
}

impl State {
    /// Takes out the guest that is next: the first of the file that has used least.
    fn next(&mut self) -> Option<(Arc<CpuShare>, (Runnable, Handle))> {
        let used = self.waiting.values().map(|waiting| (waiting.share.recent(), waiting.share.number));
        let (_, number) = used.min_by(|(a, _), (b, _)| a.total_cmp(b))?;
        let waiting = self.waiting.get_mut(&number)?;
        let (share, guest) = (waiting.share.clone(), waiting.guests.pop_front());
        if waiting.guests.is_empty() {
            self.waiting.remove(&number);
        }
        Some((share, guest?))
    }
}

/// A thread that gives turns as long as somebody waits for one.
struct Worker {
    scheduler: Arc<Scheduler>,
    ended: bool,
}

impl Worker {
    fn work(mut self) {
        let scheduler = self.scheduler.clone();
        let mut before: Option<Arc<CpuShare>> = None;
        loop {
            let next = {
                let mut state = scheduler.state.lock();
                if let Some(share) = before.take() {
                    scheduler.goes(&share);
                }
                let next = state.next();
                if next.is_none() {
                    state.threads -= 1;
                    self.ended = true;
                }
                next
            };
            let Some((share, (guest, runtime))) = next else { return };
            let _within = runtime.enter();
            // Whoever waits for the guest is told of the panic.
            let _ = catch_unwind(AssertUnwindSafe(|| guest.run()));
            before = Some(share);
        }
    }
}

impl Drop for Worker {
    /// A runtime that is shutting down drops a thread's work before it has begun. Whoever waits for a turn then waits no longer.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let lost = {
            let mut state = self.scheduler.state.lock();
            state.threads -= 1;
            if state.threads > 0 { BTreeMap::new() } else { std::mem::take(&mut state.waiting) }
        };
        for Waiting { share, guests } in lost.into_values() {
            for guest in guests {
                // Dropped under no lock, because what the guest holds is dropped with it.
                drop(guest);
                let _state = self.scheduler.state.lock();
                self.scheduler.goes(&share);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A guest that notes when it is polled, and how it is put into the turns.
    fn guest(scheduler: &Arc<Scheduler>, share: &Arc<CpuShare>, name: &'static str, turns: &Turns) -> Runnable {
        let (turns, share, scheduler) = (turns.clone(), share.clone(), scheduler.clone());
        let runtime = Handle::current();
        let polled = async move { turns.lock().push(name) };
        let (runnable, task) = async_task::spawn(polled, move |guest| scheduler.put(&share, guest, &runtime));
        task.detach();
        runnable
    }

    type Turns = Arc<Mutex<Vec<&'static str>>>;

    #[tokio::test]
    async fn the_next_turn_is_that_of_the_file_that_has_used_least() {
        let (scheduler, turns) = (Scheduler::new(2), Turns::default());
        let [much, little, heavy] =
            [("much", 100), ("little", 100), ("heavy", 1000)].map(|(file, weight)| scheduler.share(file, weight));
        much.charge(Duration::from_millis(500));
        little.charge(Duration::from_millis(100));
        heavy.charge(Duration::from_millis(600));
        let mut state = State::default();
        for (share, name) in [(&much, "much"), (&much, "much again"), (&little, "little"), (&heavy, "heavy")] {
            let none = || Waiting { share: share.clone(), guests: VecDeque::new() };
            let guest = guest(&scheduler, share, name, &turns);
            state.waiting.entry(share.number).or_insert_with(none).guests.push_back((guest, Handle::current()));
        }
        while let Some((_, (guest, _))) = state.next() {
            guest.run();
        }
        assert_eq!(*turns.lock(), ["heavy", "little", "much", "much again"]);
    }

    #[tokio::test]
    async fn whoever_has_used_little_runs_where_it_is_and_others_wait_for_turns() {
        let scheduler = Scheduler::new(2);
        let [friend, hostile] = ["friend", "hostile"].map(|file| scheduler.share(file, 100));
        assert!(scheduler.here(&friend).is_some() && scheduler.here(&hostile).is_some());
        hostile.charge(Duration::from_secs(2));
        let alone = scheduler.here(&hostile).expect("nobody else wants to run");
        assert!(scheduler.here(&hostile).is_none(), "a second one would take the last processor");
        drop(alone);
        assert!(scheduler.here(&hostile).is_some());
        scheduler.comes(&hostile);
        assert!(scheduler.here(&hostile).is_none(), "its own guest waits");
        friend.charge(Duration::from_millis(100));
        assert!(scheduler.here(&friend).is_some(), "it has used less than half of its due");
        friend.charge(Duration::from_millis(900));
        assert!(scheduler.here(&friend).is_none(), "it has used more");
        scheduler.goes(&hostile);
        assert!(scheduler.here(&friend).is_some());
        assert_eq!(scheduler.crowd.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_guest_that_panics_ends_alone() {
        let (scheduler, turns) = (Scheduler::new(2), Turns::default());
        let share = scheduler.share("file", 100);
        let (of, runtime) = (scheduler.clone(), Handle::current());
        let of_share = share.clone();
        let put = move |guest| of.put(&of_share, guest, &runtime);
        let (bad, task) =
            async_task::Builder::new().propagate_panic(true).spawn(|()| async { panic!("a mistake") }, put);
        bad.schedule();
        assert!(tokio::spawn(task).await.unwrap_err().is_panic());
        let (of, runtime) = (scheduler.clone(), Handle::current());
        let (good, task) = async_task::spawn(async move { turns.lock().push("good") }, move |guest| {
            of.put(&share, guest, &runtime);
        });
        good.schedule();
        task.await;
        assert_eq!(scheduler.waiting(), 0);
    }

    #[test]
    fn a_runtime_that_ends_keeps_no_guest() {
        let scheduler = Scheduler::new(2);
        let share = scheduler.share("file", 100);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        drop(runtime);
        let of = scheduler.clone();
        let of_share = share.clone();
        let (guest, task) =
            async_task::spawn(async { panic!("it is not polled") }, move |guest| of.put(&of_share, guest, &handle));
        guest.schedule();
        assert_eq!(scheduler.waiting(), 0);
        assert_eq!(share.in_turns.load(Ordering::Relaxed), 0);
        let fallible: async_task::FallibleTask<()> = task.fallible();
        assert!(futures_util::FutureExt::now_or_never(fallible).is_some_and(|outcome| outcome.is_none()));
    }
}
