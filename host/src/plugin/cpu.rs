//! The CPU time of one call: the time in which its future is polled. Waiting is not counted, and host functions are.
//!
//! Epochs are not counted instead, because a call would then be charged for the time that it waits in a busy executor's queue after it has
//! yielded.
//!
//! What a poll has taken is also charged to the share of the call's file. One poll takes a *slice* at most, and as much as is left of the epoch.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::EngineLimits;
use super::share::CpuShare;
use super::ticks::Ticks;

/// How long a guest computes before it gives way. Shorter calls end undisturbed, whenever an epoch passes.
const SLICE: Duration = EngineLimits::TICK.checked_div(2).expect("two is not zero");

/// What one call has used and may use. Shared between the call's future and the callback that looks at the guest once a tick.
#[derive(Debug)]
pub(super) struct CpuClock {
    origin: Instant,
    limit: u64,
    /// Nanoseconds in polls that are over.
    spent: AtomicU64,
    /// When the poll under way began, nanoseconds since `origin`.
    began: AtomicU64,
    exceeded: AtomicBool,
    /// Whether the last poll ended because its slice was over.
    slice_was_over: AtomicBool,
    ticks: Arc<Ticks>,
    share: Arc<CpuShare>,
}

impl CpuClock {
    pub fn new(limit: Duration, ticks: Arc<Ticks>, share: Arc<CpuShare>) -> Arc<Self> {
        Arc::new(CpuClock {
            origin: Instant::now(),
            limit: limit.as_nanos().try_into().unwrap_or(u64::MAX),
            spent: AtomicU64::new(0),
            began: AtomicU64::new(0),
            exceeded: AtomicBool::new(false),
            slice_was_over: AtomicBool::new(false),
            ticks,
            share,
        })
    }

    /// Counts from zero again, for a new call.
    pub fn reset(&self) {
        self.spent.store(0, Ordering::Relaxed);
        self.exceeded.store(false, Ordering::Relaxed);
    }

    /// Gives back as much of what was used as the call has waited.
    pub fn give_back(&self, waited: Duration) {
        let waited = waited.as_nanos().try_into().unwrap_or(u64::MAX);
        let less = |spent: u64| Some(spent.saturating_sub(waited));
        // The closure always gives a value, so that this cannot fail.
        let _ = self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos().try_into().unwrap_or(u64::MAX)
    }

    fn current(&self) -> u64 {
        self.now().saturating_sub(self.began.load(Ordering::Relaxed))
    }

    /// What the file of the call uses.
    pub fn share(&self) -> &Arc<CpuShare> {
        &self.share
    }

    /// Called while the guest runs: whether it is to give way. If so, the poll ends.
    pub fn slice_is_over(&self) -> bool {
        let over = self.current() >= SLICE.as_nanos() as u64;
        if over {
            self.slice_was_over.store(true, Ordering::Relaxed);
        }
        over
    }

    /// Whether the last poll ended because its slice was over.
    pub fn slice_was_over(&self) -> bool {
        self.slice_was_over.load(Ordering::Relaxed)
    }

    /// Called while the guest runs: whether it may go on.
    pub fn may_go_on(&self) -> bool {
        if self.spent.load(Ordering::Relaxed).saturating_add(self.current()) > self.limit {
            self.exceeded.store(true, Ordering::Relaxed);
        }
        !self.exceeded()
    }

    /// Whether the call was ended for its use of CPU time.
    pub fn exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    /// The future, with the time of its polls counted.
    pub async fn measure<F: Future>(self: Arc<Self>, future: F) -> F::Output {
        let mut future = pin!(future);
        let poll = |context: &mut Context<'_>| -> Poll<F::Output> {
            let _running = self.ticks.run();
            self.began.store(self.now(), Ordering::Relaxed);
            self.slice_was_over.store(false, Ordering::Relaxed);
            let polled = future.as_mut().poll(context);
            let took = self.current();
            self.spent.fetch_add(took, Ordering::Relaxed);
            self.share.charge(Duration::from_nanos(took));
            polled
        };
        std::future::poll_fn(poll).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share() -> Arc<CpuShare> {
        Arc::new(CpuShare::new(1, 100, Instant::now()))
    }

    #[tokio::test]
    async fn waiting_is_free_and_work_is_not() {
        let clock = CpuClock::new(Duration::from_millis(20), Arc::default(), share());
        clock.clone().measure(tokio::time::sleep(2 * Duration::from_nanos(clock.limit))).await;
        assert!(clock.spent.load(Ordering::Relaxed) < clock.limit);
        let work = {
            let clock = clock.clone();
            async move { while clock.may_go_on() {} }
        };
        clock.clone().measure(work).await;
        assert!(clock.exceeded());
        assert_eq!(clock.share.total(), Duration::from_nanos(clock.spent.load(Ordering::Relaxed)));
        clock.reset();
        assert!(!clock.exceeded());
    }

    #[tokio::test]
    async fn a_slice_ends_the_poll_and_not_the_call() {
        let clock = CpuClock::new(Duration::from_secs(60), Arc::default(), share());
        let gives_way = {
            let clock = clock.clone();
            async move {
                while !clock.slice_is_over() {}
                tokio::task::yield_now().await;
            }
        };
        let mut measured = pin!(clock.clone().measure(gives_way));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(measured.as_mut().poll(&mut context).is_pending());
        assert!(clock.slice_was_over() && clock.share.total() >= SLICE);
        measured.await;
        assert!(!clock.slice_was_over());
    }

    #[test]
    fn what_was_waited_is_given_back_and_no_more_than_was_used() {
        let clock = CpuClock::new(Duration::from_secs(1), Arc::default(), share());
        clock.spent.store(7_000_000, Ordering::Relaxed);
        clock.give_back(Duration::from_millis(3));
        assert_eq!(clock.spent.load(Ordering::Relaxed), 4_000_000);
        clock.give_back(Duration::from_secs(3600));
        assert_eq!(clock.spent.load(Ordering::Relaxed), 0);
    }
}
