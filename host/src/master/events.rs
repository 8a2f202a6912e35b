//! The changes of the server table that modules are told of.
//!
//! Changes are gathered for a window of time and told as one batch, because every server is told of every change: a batch costs `n` messages in a
//! table of `n` servers. The window grows with the table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::value::RawValue;

use super::members::{Members, Snapshot};
use crate::console::{Batch, EventSource, Position};
use crate::wire::raw;

/// The server table's changes: the difference between the table that a module was told last and the table as it is.
///
/// So a module that is slow, or that failed, misses nothing. Nothing is kept for it but the table that it was told.
pub struct TableEvents {
    members: Arc<Members>,
    /// Changes within this time after a batch make the next batch together. [`PER_SERVER`] is added for each server.
    window: Duration,
}

/// The time that it takes to tell one server of a batch, at both ends, with a margin. A batch that came earlier would only queue up behind the one
/// before.
const PER_SERVER: Duration = Duration::from_micros(250);

/// What a module has been told.
struct Told {
    table: Snapshot,
    at: Instant,
}

/// The JSON of a batch; see `server-events` in the WIT package.
#[derive(Serialize)]
struct Events<'a> {
    since: u64,
    rev: u64,
    epoch: &'a str,
    events: Vec<Event<'a>>,
}

#[derive(Serialize)]
struct Event<'a> {
    event: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "is_empty")]
    capabilities: &'a [String],
}

fn is_empty(capabilities: &&[String]) -> bool {
    capabilities.is_empty()
}

impl TableEvents {
    /// The events of a table. Changes within `window` after a batch, and a quarter of a millisecond more for each server, are told together.
    pub fn new(members: Arc<Members>, window: Duration) -> Self {
        TableEvents { members, window }
    }
}

impl EventSource for TableEvents {
    fn next<'a>(&'a self, position: Option<&'a Position>) -> BoxFuture<'a, Batch> {
        Box::pin(async move {
            let told = position.and_then(|position| position.downcast_ref::<Told>());
            let since = told.map_or(0, |told| told.table.rev);
            let mut revision = self.members.revision();
            // The sender lives as long as the members do.
            let _ = revision.wait_for(|rev| *rev > since).await;
            if let Some(told) = told {
                let servers = u32::try_from(told.table.servers.len()).unwrap_or(u32::MAX);
                let window = self.window + PER_SERVER.saturating_mul(servers);
                tokio::time::sleep_until((told.at + window).into()).await;
            }
            let table = self.members.snapshot();
            let none = Snapshot::default();
            let events = difference(told.map_or(&none, |told| &told.table), &table);
            let events = raw(&Events { since, rev: table.rev, epoch: self.members.epoch(), events });
            Batch { events, position: Arc::new(Told { table, at: Instant::now() }) }
        })
    }
}

/// The net change from one table to another.
fn difference<'a>(before: &'a Snapshot, after: &'a Snapshot) -> Vec<Event<'a>> {
    let gone = before.servers.keys().filter(|id| !after.servers.contains_key(*id));
    let gone = gone.map(|id| Event { event: "disconnect", id, server: None, capabilities: &[] });
    let new =
        after.servers.iter().filter(|(id, entry)| before.servers.get(*id).is_none_or(|old| old.since != entry.since));
    let new = new.map(|(id, entry)| {
        let event = if entry.returned { "reconnect" } else { "register" };
        Event { event, id, server: Some(&entry.text), capabilities: &entry.capabilities.0 }
    });
    gone.chain(new).collect()
}
