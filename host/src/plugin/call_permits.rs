//! How many calls may be under way at the same time, in a module and in all modules of a process.

use std::sync::Arc;

use super::fair::{FairPermit, FairSemaphore};
use super::{Caller, MAX_DEPTH};

/// Permits for calls, separate for each depth of nesting. A call with a permit waits only for calls that are nested deeper than itself, so that
/// no circle of waiting calls can arise, however few permits there are.
pub(super) struct CallPermits {
    by_depth: Vec<Arc<FairSemaphore>>,
    /// How many there are at depth 0, and at each greater depth.
    sizes: [usize; 2],
}

impl CallPermits {
    /// `outer` permits at depth 0, `inner` at each greater depth.
    pub fn new(outer: usize, inner: usize) -> Self {
        let by_depth =
            (0..=MAX_DEPTH).map(|depth| FairSemaphore::new(if depth == 0 { outer } else { inner })).collect();
        CallPermits { by_depth, sizes: [outer, inner] }
    }

    /// The permits of one module: the numbers that it wants, but at each depth at most half of what all modules have, so that a module whose
    /// calls all hang leaves room for the others.
    pub fn share(&self, instances: usize, reserve: usize) -> Self {
        let half = |depth: usize| self.sizes[depth].div_ceil(2);
        CallPermits::new(instances.min(half(0)), reserve.min(half(1)))
    }

    /// Waits for a permit. `depth` must be at most [`MAX_DEPTH`]; an unknown depth gives nothing.
    pub async fn take(&self, depth: u8, caller: &Caller) -> Option<FairPermit> {
        Some(self.by_depth.get(usize::from(depth))?.acquire(caller).await)
    }
}
