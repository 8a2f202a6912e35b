//! Time that is added to a call's deadline while it waits for a job of the fleet.
//!
//! A job may take longer than any call should. So the time in which a call waits for one does not count towards its deadline. All other waiting counts as
//! ever. Of the CPU time that the call has used, as much is given back as it has waited, because it looks at the job at each of its changes, and a job of
//! many servers has many. A call that only computes ends as ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What was added to the deadline of the call that an instance serves. Shared between the call's future and the instance.
#[derive(Debug, Default)]
pub(super) struct Patience(AtomicU64);

impl Patience {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Begins anew, for a new call.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// What was added in all.
    pub fn added(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Acquire))
    }

    /// Adds time that a wait may take.
    pub fn add(&self, time: Duration) {
        self.0.fetch_add(nanos(time), Ordering::AcqRel);
    }

    /// Takes back what a wait did not use.
    pub fn take_back(&self, time: Duration) {
        let less = |added: u64| Some(added.saturating_sub(nanos(time)));
        // The closure always gives a value, so that this cannot fail.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
