//! How many calls may be under way at the same time, in a module and in all modules of a process.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::MAX_DEPTH;

/// CallPermits for calls, those of each depth apart: a call waits only for calls that are deeper than itself, so that no circle of waiting calls
/// can arise, however few places there are.
pub(super) struct CallPermits {
    places: Vec<Arc<Semaphore>>,
    /// How many there are at depth 0, and at each deeper one.
    sizes: [usize; 2],
}

impl CallPermits {
    /// `outer` places at depth 0, `inner` at each deeper one.
    pub fn new(outer: usize, inner: usize) -> Self {
        let places = |count: usize| Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)));
        let places = (0..=MAX_DEPTH).map(|depth| places(if depth == 0 { outer } else { inner })).collect();
        CallPermits { places, sizes: [outer, inner] }
    }

    /// CallPermits for one module: what it wants, but at most half of what all modules have at each depth, so that one whose calls all hang leaves
    /// room for the others.
    pub fn share(&self, instances: usize, reserve: usize) -> Self {
        let half = |depth: usize| self.sizes[depth].div_ceil(2);
        CallPermits::new(instances.min(half(0)), reserve.min(half(1)))
    }

    /// Waits for a place. `depth` must be at most [`MAX_DEPTH`].
    pub async fn take(&self, depth: u8) -> Option<OwnedSemaphorePermit> {
        let places = self.places.get(usize::from(depth))?;
        // The semaphores are never closed, so that only an unknown depth gives nothing.
        places.clone().acquire_owned().await.ok()
    }
}
