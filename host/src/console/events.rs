//! Tells changes of the server table to the modules that want them.
//!
//! Each module has a position of its own, and is given the net change from there to the table as it is. Changes that come while a call runs, or
//! within the source's window, travel together. A call that fails is made again, with what has changed by then. So no change is lost, and none is
//! told after it was undone.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::dispatch::{Inbound, Reply};
use super::registry::Registry;
use crate::failure::{Failure, code};
use crate::plugin::{Caller, CallerRole, Handler};
use crate::util::{Backoff, lasting};

/// Where server events come from.
pub trait EventSource: Send + Sync + 'static {
    /// Waits until there is a change since `position` (absent: since the empty table) and, after the last batch, for the window in which changes
    /// are gathered.
    fn next<'a>(&'a self, position: Option<&'a Position>) -> BoxFuture<'a, Batch>;
}

/// How far a module has been told. Only the source knows its content.
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

/// The task that tells a module id of server events. Dropping this ends the task; a call that the task has begun goes on.
struct Feed(AbortHandle);

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The feeds of a registry's modules.
#[derive(Default)]
pub(super) struct Feeds {
    source: OnceLock<Arc<dyn EventSource>>,
    /// By module id.
    feeds: Mutex<HashMap<String, Feed>>,
}

impl Feeds {
    /// Gives the source. The first one stays.
    pub fn set_source(&self, source: Arc<dyn EventSource>) {
        // A second source would be a mistake of the program, without harm.
        let _ = self.source.set(source);
    }

    /// Ends all feeds; calls that they have begun go on.
    pub fn end(&self) {
        self.feeds.lock().clear();
    }

    /// Feeds those modules of the table that want server events, each under the first of its ids. An id that had a feed keeps it, and with it its
    /// position, whichever version or file answers to it now.
    pub fn follow(&self, registry: &Arc<Registry>) {
        let Some(source) = self.source.get() else { return };
        let wanted: BTreeSet<String> = {
            let table = registry.table.read();
            let units = table.units.values().filter(|unit| unit.module().inspection().has(Handler::Events));
            units.filter_map(|unit| table.ids_of(&unit.name).into_iter().next()).collect()
        };
        let mut feeds = self.feeds.lock();
        feeds.retain(|id, _| wanted.contains(id));
        for id in wanted {
            feeds.entry(id.clone()).or_insert_with(|| {
                let (registry, source) = (registry.clone(), source.clone());
                let feeding = {
                    let registry = registry.clone();
                    // One that begins anew tells the whole table again.
                    lasting::lasting("a feed of server events", move || {
                        feed(registry.clone(), id.clone(), source.clone())
                    })
                };
                Feed(registry.life.tasks.spawn(feeding).abort_handle())
            });
        }
    }
}

/// Tells a module of changes, one batch after another, until it is aborted.
async fn feed(registry: Arc<Registry>, id: String, source: Arc<dyn EventSource>) {
    let caller = Arc::new(Caller::of(CallerRole::Host));
    let mut position = None;
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let batch = source.next(position.as_ref()).await;
        let (done, ended) = oneshot::channel();
        let inbound = Inbound::unasked(Handler::Events, &id, Some(&batch.events), caller.clone());
        registry.admit(inbound).dispatch(Reply::new(move |outcome| {
            // This function waits for it, and may have been aborted meanwhile.
            let _ = done.send(outcome);
        }));
        // A reply is never dropped without an outcome.
        let lost = |_| Err(Failure::new(code::FAILED, "the call was lost"));
        match ended.await.unwrap_or_else(lost) {
            Ok(_) => {
                position = Some(batch.position);
                backoff.reset();
            }
            // A host that ends tells nothing again, and that is no fault.
            Err(_) if registry.life.shutdown.is_cancelled() => return,
            Err(failure) => {
                let wait = backoff.next_wait();
                tracing::warn!(module = id, %failure, ?wait, "server events could not be told; they will be told again");
                tokio::time::sleep(wait).await;
            }
        }
    }
}
