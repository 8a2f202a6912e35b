//! The turns: what calls modules unasked. Timers, `pull` on the master and `push` on monitors; feeds of server events (`events`); and `start`, once
//! for each version (`start`).
//!
//! It calls modules as everybody does, through the registry, and knows nothing of how they were installed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use super::dispatch::{Inbound, Reply};
use super::events::Feeds;
use super::registry::Registry;
use crate::plugin::{Caller, CallerRole, Handler, HostRole};
use crate::util::lasting;

/// What calls the modules of a registry unasked.
pub(super) struct Turns {
    pub registry: Arc<Registry>,
    /// Whether the host calls its modules' `start`, and lets timers and feeds run.
    pub started: watch::Sender<bool>,
    /// Files whose `start` is under way or waits for its turn, beside the host's other work.
    pub starting: watch::Sender<usize>,
    /// By module id.
    timers: Mutex<HashMap<String, Timer>>,
    pub feeds: Feeds,
}

/// A module id's timer. Dropping this ends its task; a call that the task has begun goes on.
struct Timer {
    delay: Duration,
    interval: Duration,
    task: AbortHandle,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Turns {
    pub fn new(registry: Arc<Registry>) -> Self {
        let (started, starting) = (watch::Sender::new(false), watch::Sender::new(0));
        Turns { registry, started, starting, timers: Mutex::default(), feeds: Feeds::default() }
    }

    /// Whether the host has started.
    pub fn has_started(&self) -> bool {
        *self.started.borrow()
    }

    /// Ends timers and feeds; calls that they have begun go on.
    pub fn end(&self) {
        self.timers.lock().clear();
        self.feeds.end();
    }

    /// Makes the timers and feeds that the table asks for, and ends the others. A timer whose delay and interval are the same keeps its rhythm.
    pub fn schedule(self: &Arc<Self>) {
        // Nothing begins before the start or after the shutdown.
        if !self.has_started() || self.registry.life.shutdown.is_cancelled() {
            return;
        }
        self.feeds.follow(&self.registry);
        let (role, settings) = (self.registry.identity.role, self.registry.settings());
        let wanted: Vec<_> = {
            let table = self.registry.table.read();
            table
                .slots
                .iter()
                .filter_map(|(id, slot)| Some((id.clone(), settings.timer(slot.descriptor.clone()).timer_on(role)?)))
                .collect()
        };
        let mut timers = self.timers.lock();
        timers.retain(|id, timer| wanted.contains(&(id.clone(), (timer.delay, timer.interval))));
        for (id, (delay, interval)) in wanted {
            timers.entry(id.clone()).or_insert_with(|| {
                let registry = self.registry.clone();
                let firing = lasting::lasting("a timer", move || fire(registry.clone(), id.clone(), delay, interval));
                Timer { delay, interval, task: self.registry.life.tasks.spawn(firing).abort_handle() }
            });
        }
    }
}

/// Fires a module's timer until it is aborted. Turns do not overlap: one that comes while the last still runs is left out and counted. A disabled
/// module has no turns.
async fn fire(registry: Arc<Registry>, id: String, delay: Duration, interval: Duration) {
    let handler = match registry.identity.role {
        HostRole::Master => Handler::Master,
        HostRole::Monitor => Handler::Monitor,
    };
    let caller = Arc::new(Caller::of(CallerRole::Timer));
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + delay, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last: Option<oneshot::Receiver<()>> = None;
    while !registry.life.shutdown.is_cancelled() {
        ticks.tick().await;
        let context = registry.table.read().slots.get(&id).map(|slot| slot.context.clone());
        let (Some(context), Ok(())) = (context, registry.check_enabled(&id)) else { continue };
        if last.as_mut().is_some_and(|last| last.try_recv() == Err(oneshot::error::TryRecvError::Empty)) {
            context.stats.skipped();
            continue;
        }
        let (done, ended) = oneshot::channel();
        last = Some(ended);
        let inbound = Inbound::unasked(handler, &id, None, caller.clone());
        let module = id.clone();
        let reply = move |outcome: Result<_, _>| {
            if let Err(failure) = outcome {
                tracing::warn!(%module, handler = handler.as_str(), %failure, "a timer's call failed");
            }
            // The timer may have ended meanwhile.
            let _ = done.send(());
        };
        registry.admit(inbound).dispatch(Reply::new(reply));
    }
}
