//! What calls modules unasked: timers, `pull` on the master and `push` on monitors; and, on the master, server events.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use super::{Console, Inbound};
use crate::plugin::{Caller, CallerRole, Handler, HostRole};

/// A module id's timer. Dropping it ends it; a call that it has begun goes on.
pub(super) struct Timer {
    delay: Duration,
    interval: Duration,
    task: AbortHandle,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Console {
    /// Makes timers and feeds those of the table. A timer whose figures are what they were keeps its rhythm.
    pub(super) fn schedule(&self) {
        // After the shutdown nothing begins.
        if !*self.0.started.borrow() || self.0.shutdown.is_cancelled() {
            return;
        }
        self.feed();
        let role = self.0.identity.role;
        let wanted: Vec<_> = {
            let table = self.0.table.read();
            table.slots.iter().filter_map(|(id, slot)| Some((id.clone(), slot.descriptor.timer_on(role)?))).collect()
        };
        let mut timers = self.0.timers.lock();
        timers.retain(|id, timer| wanted.contains(&(id.clone(), (timer.delay, timer.interval))));
        for (id, (delay, interval)) in wanted {
            timers.entry(id.clone()).or_insert_with(|| {
                let task = self.0.tasks.spawn(self.clone().turns(id, delay, interval)).abort_handle();
                Timer { delay, interval, task }
            });
        }
    }

    /// Fires until it is aborted. Turns do not overlap: one that comes while the last still runs is left out and counted. A disabled module has no
    /// turns.
    async fn turns(self, id: String, delay: Duration, interval: Duration) {
        let handler = match self.0.identity.role {
            HostRole::Master => Handler::Master,
            HostRole::Monitor => Handler::Monitor,
        };
        let caller = Arc::new(Caller::of(CallerRole::Timer));
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + delay, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last: Option<oneshot::Receiver<()>> = None;
        while !self.0.shutdown.is_cancelled() {
            ticks.tick().await;
            let context = self.0.table.read().slots.get(&id).map(|slot| slot.context.clone());
            let (Some(context), Ok(())) = (context, self.enabled(&id)) else { continue };
            if last.as_mut().is_some_and(|last| last.try_recv() == Err(oneshot::error::TryRecvError::Empty)) {
                context.stats.skipped();
                continue;
            }
            let (done, ended) = oneshot::channel();
            last = Some(ended);
            let inbound = Inbound {
                handler,
                module: &id,
                body: None,
                caller: caller.clone(),
                wants_answer: false,
                depth: 0,
                trace: None,
            };
            let module = id.clone();
            let reply = move |outcome: Result<_, _>| {
                if let Err(failure) = outcome {
                    tracing::warn!(%module, handler = handler.as_str(), %failure, "a timer's call failed");
                }
                // The timer may have ended meanwhile.
                let _ = done.send(());
            };
            self.dispatch(inbound, Box::new(reply));
        }
    }
}
