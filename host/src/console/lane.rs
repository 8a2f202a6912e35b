//! Calls that run one at a time, in the order in which they came.

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::life::Life;

type Job = BoxFuture<'static, ()>;

/// A queue of calls, and the task that makes them one after another. The task ends when the lane is empty and dropped or shut down.
pub(super) struct Lane(mpsc::Sender<Job>);

/// A slot in a lane. Its call comes after the calls of all slots that were taken before.
pub(super) struct LaneSlot(mpsc::OwnedPermit<Job>);

impl Lane {
    /// A lane in which at most `capacity` calls wait. It has no new slots from the host's shutdown on.
    pub fn new(capacity: usize, life: &Life) -> Self {
        let (sender, mut jobs) = mpsc::channel::<Job>(capacity.max(1));
        let shutdown = life.shutdown.clone();
        life.tasks.spawn(async move {
            while let Some(Some(job)) = shutdown.run_until_cancelled(jobs.recv()).await {
                job.await;
            }
            // Lanes stay as long as their modules stay in the table: until the host's end, which waits for this task.
            jobs.close();
            while let Some(job) = jobs.recv().await {
                job.await;
            }
        });
        Lane(sender)
    }

    /// The next slot, if there is one.
    pub fn slot(&self) -> Option<LaneSlot> {
        self.0.clone().try_reserve_owned().ok().map(LaneSlot)
    }
}

impl LaneSlot {
    /// Puts a call there.
    pub fn put(self, job: impl Future<Output = ()> + Send + 'static) {
        self.0.send(Box::pin(job));
    }
}
