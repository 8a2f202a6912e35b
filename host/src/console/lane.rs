//! Calls that run one at a time, in the order in which they came.

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::life::Life;
use crate::util::lasting;

type Job = BoxFuture<'static, ()>;

/// A queue of calls, and the task that makes them one after another. The task ends when the lane is empty and dropped or shut down.
pub(super) struct Lane(mpsc::Sender<Job>);

/// A slot in a lane. Its call comes after the calls of all slots that were taken before.
pub(super) struct LaneSlot(mpsc::OwnedPermit<Job>);

impl Lane {
    /// A lane in which at most `capacity` calls wait. It has no new slots from the host's shutdown on.
    pub fn new(capacity: usize, life: &Life) -> Self {
        let (sender, mut jobs) = mpsc::channel::<Job>(capacity.max(1));
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
        Lane(sender)
    }

    /// The next slot, if there is one.
    pub fn slot(&self) -> Option<LaneSlot> {
        self.0.clone().try_reserve_owned().ok().map(LaneSlot)
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
        self.0.send(Box::pin(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_call_that_panics_ends_alone() {
        let life = Life::default();
        let lane = Lane::new(4, &life);
        let (done, second) = oneshot::channel();
        let (first, second_slot) = (lane.slot().unwrap(), lane.slot().unwrap());
        first.put(async { panic!("a mistake of the host's") });
        second_slot.put(async move { done.send("made").unwrap() });
        assert_eq!(second.await.unwrap(), "made");
        let (done, last) = oneshot::channel();
        lane.slot().unwrap().put(async move { done.send(()).unwrap() });
        last.await.unwrap();
        life.shutdown.cancel();
        life.tasks.close();
        life.tasks.wait().await;
    }
}
