//! Changes of the server table, to the modules that want them.
//!
//! Each module has a position of its own and is given the net change from there to the table as it is. Changes that come while a call runs, or
//! within the source's window, travel together; a call that fails is made again with what has changed by then. So no change is lost, and none is
//! told in a form that no longer holds.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::{Console, Inbound};
use crate::plugin::{Caller, CallerRole, Handler};

/// Where server events come from.
pub trait EventSource: Send + Sync + 'static {
    /// Waits until there is a change since `position` (absent: since the empty table) and, after the last batch, for the window in which changes
    /// are gathered.
    fn next<'a>(&'a self, position: Option<&'a Position>) -> BoxFuture<'a, Batch>;
}

/// How far a module has been told; the source's own.
pub type Position = Arc<dyn Any + Send + Sync>;

/// A net change of the server table.
pub struct Batch {
    /// What the callback is given: JSON as `server-events.handle` says.
    pub events: Box<RawValue>,
    /// The position after it.
    pub position: Position,
}

/// How long a batch that failed waits before it is told again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

impl Console {
    /// Feeds a file's module with server events for as long as it is there, under the first of its ids.
    pub(super) fn feed(&self, unit: String, id: String) {
        let Some(source) = self.0.events.get().cloned() else { return };
        let (console, shutdown) = (self.clone(), self.0.shutdown.clone());
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = console.feeding(&unit, &id, &*source) => {}
            }
        });
    }

    async fn feeding(&self, unit: &str, id: &str, source: &dyn EventSource) {
        let mut started = self.0.started.subscribe();
        if started.wait_for(|started| *started).await.is_err() {
            return;
        }
        let caller = Arc::new(Caller::of(CallerRole::Host));
        let mut position = None;
        let mut pause = RETRY.0;
        while self.0.table.read().units.contains_key(unit) {
            let batch = source.next(position.as_ref()).await;
            let (done, ended) = oneshot::channel();
            let inbound = Inbound {
                handler: Handler::Events,
                module: id,
                body: Some(&batch.events),
                caller: caller.clone(),
                wants_answer: false,
                depth: 0,
            };
            self.dispatch(
                inbound,
                Box::new(move |outcome| {
                    // Whoever waits is this function; it is gone only at shutdown.
                    let _ = done.send(outcome);
                }),
            );
            match ended.await {
                Ok(Ok(_)) => {
                    position = Some(batch.position);
                    pause = RETRY.0;
                }
                Ok(Err(failure)) => {
                    tracing::warn!(module = id, %failure, ?pause, "server events could not be told; they will be again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
                Err(_) => return,
            }
        }
    }
}
