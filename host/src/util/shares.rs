//! Places that several use by name: so many in all, and so many for each name. Whoever finds none waits for its turn.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// The places. A name that has used up its own waits without keeping others from theirs.
#[derive(Debug)]
pub struct Shares {
    all: Arc<Semaphore>,
    each: usize,
    /// By name. Names of which nothing is used are dropped when a new one comes.
    by_name: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Places that are used. They are given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Shares {
    /// `all` places, of which one name may use `each`: at least one.
    pub fn new(all: usize, each: usize) -> Self {
        let all = all.clamp(1, u32::MAX as usize / 2).min(Semaphore::MAX_PERMITS);
        Shares { all: Arc::new(Semaphore::new(all)), each: each.clamp(1, all), by_name: Mutex::default() }
    }

    /// Takes so many places, at most as many as a name may have. Those who wait are served in the order in which they came.
    pub async fn take(&self, name: &str, places: usize) -> Share {
        let places = u32::try_from(places.clamp(1, self.each)).unwrap_or(u32::MAX);
        match self.try_take(name, places).await {
            Ok(share) => share,
            // The semaphores are never closed.
            Err(_) => std::future::pending().await,
        }
    }

    async fn try_take(&self, name: &str, places: u32) -> Result<Share, AcquireError> {
        let own = self.of(name).acquire_many_owned(places).await?;
        let all = self.all.clone().acquire_many_owned(places).await?;
        Ok(Share { _own: own, _all: all })
    }

    fn of(&self, name: &str) -> Arc<Semaphore> {
        let mut by_name = self.by_name.lock();
        if let Some(own) = by_name.get(name) {
            return own.clone();
        }
        // A permit keeps its semaphore, and so does whoever waits.
        by_name.retain(|_, own| Arc::strong_count(own) > 1);
        let own = Arc::new(Semaphore::new(self.each));
        by_name.insert(name.to_owned(), own.clone());
        own
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_name_that_uses_up_its_own_leaves_the_others_theirs() {
        let shares = Shares::new(10, 4);
        let first = shares.take("a", 4).await;
        assert!(shares.take("a", 1).now_or_never().is_none());
        let _others = (shares.take("b", 4).await, shares.take("c", 2).await);
        // None is left in all.
        assert!(shares.take("d", 1).now_or_never().is_none());
        drop(first);
        let _again = (shares.take("d", 1).await, shares.take("a", 3).await);
        assert_eq!(shares.by_name.lock().len(), 4);
    }

    #[tokio::test]
    async fn more_than_a_name_may_have_is_all_that_it_may_have() {
        let shares = Shares::new(0, 100);
        let share = shares.take("a", 7).await;
        assert!(shares.take("b", 1).now_or_never().is_none());
        drop(share);
        let _c = shares.take("c", 1).await;
        assert_eq!(shares.by_name.lock().len(), 1, "names of which nothing is used are forgotten");
    }
}
