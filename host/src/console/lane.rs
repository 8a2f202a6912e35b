//! Calls that run one at a time, in the order in which they came.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::life::Life;
use crate::plugin::{Caller, QueueShare, QueueShares};
use crate::util::lasting;

type Job = BoxFuture<'static, ()>;

/// A queue of calls, and the task that makes them one after another. The task ends when the lane is empty and dropped or shut down.
pub(super) struct Lane {
    jobs: mpsc::Sender<Job>,
    shares: Arc<QueueShares>,
}

/// A slot in a lane. Its call comes after the calls of all slots that were taken before.
pub(super) struct LaneSlot {
    job: mpsc::OwnedPermit<Job>,
    share: QueueShare,
}

impl Lane {
    /// A lane in which `capacity` calls of a class of callers may wait, as [`QueueShares`] has it. It has no new slots from the host's shutdown on.
    pub fn new(capacity: usize, life: &Life) -> Self {
        let shares = QueueShares::new(capacity);
        let (sender, mut jobs) = mpsc::channel::<Job>(shares.capacity());
        let (shutdown, tasks) = (life.shutdown.clone(), life.tasks.clone());
        life.tasks.spawn(async move {
            while let Some(Some(job)) = shutdown.run_until_cancelled(jobs.recv()).await {
                finish(&tasks, job).await;
            }
            // Lanes stay as long as their modules stay in the table: until the host's end, which waits for this task.
            jobs.close();
            while let Some(job) = jobs.recv().await {
                finish(&tasks, job).await;
            }
        });
        Lane { jobs: sender, shares }
    }

    /// The next slot for a call of that caller.
    ///
    /// # Errors
    /// Who waits there already, if there is none.
    pub fn slot(&self, caller: &Caller) -> Result<LaneSlot, String> {
        let share = self.shares.enter(caller)?;
        // The channel has room for all shares, and is closed only when the host has shut down.
        let job =
            self.jobs.clone().try_reserve_owned().map_err(|_| "calls that were there when this host shut down")?;
        Ok(LaneSlot { job, share })
    }
}

/// Makes a call in a task of its own, because one that panics must end neither the lane nor the calls behind it. Its reply answers when it is dropped.
async fn finish(tasks: &TaskTracker, job: Job) {
    if let Err(error) = tasks.spawn(job).await
        && error.is_panic()
    {
        lasting::panicked("a serial call", &error);
    }
}

impl LaneSlot {
    /// Puts a call there.
    pub fn put(self, job: impl Future<Output = ()> + Send + 'static) {
        let LaneSlot { job: slot, share } = self;
        slot.send(Box::pin(async move {
            // The call no longer waits for its turn.
            drop(share);
            job.await;
        }));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::plugin::CallerRole;

    #[tokio::test]
    async fn a_call_that_panics_ends_alone() {
        let life = Life::default();
        let lane = Lane::new(4, &life);
        let (done, second) = oneshot::channel();
        let host = Caller::of(CallerRole::Host);
        let slot = || lane.slot(&host).unwrap_or_else(|waiting| panic!("{waiting} wait"));
        let (first, second_slot) = (slot(), slot());
        first.put(async { panic!("a mistake of the host's") });
        second_slot.put(async move { done.send("made").unwrap() });
        assert_eq!(second.await.unwrap(), "made");
        let (done, last) = oneshot::channel();
        slot().put(async move { done.send(()).unwrap() });
        last.await.unwrap();
        life.shutdown.cancel();
        life.tasks.close();
        life.tasks.wait().await;
    }
}
