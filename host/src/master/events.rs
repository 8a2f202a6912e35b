//! The changes of the server table that modules are told of.
//!
//! Changes are gathered for a window of time and told as one batch, because every server is told of every change: a batch costs `n` messages in a
//! table of `n` servers. The window grows with the table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::value::RawValue;

use super::members::{Entry, Members, Snapshot};
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

/// About the time that a master takes to tell one server of a batch, with its answer. A batch that came earlier would only queue up behind the one before.
const PER_SERVER: Duration = Duration::from_micros(50);

/// What a module has been told.
struct Told {
    table: Snapshot,
    at: Instant,
    /// Whether that was the table as it was then, and not the first part of it.
    is_whole: bool,
}

/// What is new travels in messages of so many bytes, and one server more. A module with the default limits can take that.
const PART: usize = 256 << 10;

/// Servers that have left are told of in a batch, if they are no more than these.
const MOST_LEFT: usize = 1024;

/// The JSON of a batch; see `server-events` in the WIT package.
#[derive(Serialize)]
struct Events<'a> {
    since: u64,
    rev: u64,
    epoch: &'a str,
    /// Whether a table that was seen between `since` and `rev` may have servers that have left, and of which no event tells.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    exact: bool,
    events: Vec<Event<'a>>,
}

#[derive(Serialize)]
struct Event<'a> {
    event: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rev: Option<u64>,
    #[serde(skip_serializing_if = "is_empty")]
    capabilities: &'a [String],
}

fn is_empty(capabilities: &&[String]) -> bool {
    capabilities.is_empty()
}

impl TableEvents {
    /// The events of a table. Changes within `window` after a batch, and 50 µs more for each server, are told together.
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
            if let Some(told) = told.filter(|told| told.is_whole) {
                let servers = u32::try_from(told.table.servers.len()).unwrap_or(u32::MAX);
                let window = self.window + PER_SERVER.saturating_mul(servers);
                tokio::time::sleep_until((told.at + window).into()).await;
            }
            let (table, left) = self.members.snapshot_since(since);
            let left = left.filter(|left| left.len() <= MOST_LEFT);
            let none = Snapshot::default();
            let before = told.map_or(&none, |told| &told.table);
            // The next part follows at once.
            let (table, is_whole) = part(before, table);
            let (rev, epoch, exact) = (table.rev, self.members.epoch(), left.is_none());
            let events = difference(before, &table, left.iter().flatten());
            let events = raw(&Events { since, rev, epoch, exact, events });
            let at = if is_whole { Instant::now() } else { told.map_or_else(Instant::now, |told| told.at) };
            Batch { events, position: Arc::new(Told { table, at, is_whole }) }
        })
    }
}

/// The table up to a revision, so that what is new in it can be told in one message of about [`PART`] bytes; and whether that is the whole table. What has gone
/// is left out of every part, because it will be gone when the last one is told. A module that has been told a part knows all that is in the table, and is as it
/// was then, up to that revision.
fn part(before: &Snapshot, after: Snapshot) -> (Snapshot, bool) {
    let is_new = |id: &String, entry: &Entry| before.servers.get(id).is_none_or(|old| old.since != entry.since);
    let mut new: Vec<(u64, usize)> = after
        .servers
        .iter()
        .filter(|(id, entry)| is_new(id, entry))
        .map(|(id, entry)| (entry.since, id.len() + entry.text.get().len()))
        .collect();
    new.sort_unstable();
    let mut bytes = 0;
    let cut = new.iter().position(|(_, size)| {
        bytes += size;
        bytes > PART && bytes > *size
    });
    let Some((first_left_out, _)) = cut.and_then(|cut| new.get(cut)) else { return (after, true) };
    let rev = first_left_out - 1;
    let servers = after.servers.into_iter().filter_map(|(id, entry)| {
        if entry.since <= rev {
            return Some((id, entry));
        }
        // It was told as it was before, and is told anew with a later part.
        let old = before.servers.get(&id)?.clone();
        Some((id, old))
    });
    (Snapshot { rev, servers: servers.collect() }, false)
}

/// The net change from one table to another. Who has `left` meanwhile is told of as well, although it was not in the first table: whoever has seen a table
/// between the two may have it.
fn difference<'a>(
    before: &'a Snapshot,
    after: &'a Snapshot,
    left: impl IntoIterator<Item = &'a String>,
) -> Vec<Event<'a>> {
    let passing = left.into_iter().filter(|id| !before.servers.contains_key(*id));
    let gone = before.servers.keys().chain(passing).filter(|id| !after.servers.contains_key(*id));
    let gone = gone.map(|id| Event { event: "disconnect", id, server: None, rev: None, capabilities: &[] });
    let new =
        after.servers.iter().filter(|(id, entry)| before.servers.get(*id).is_none_or(|old| old.since != entry.since));
    let new = new.map(|(id, entry)| {
        let event = if entry.returned { "reconnect" } else { "register" };
        Event { event, id, server: Some(&entry.text), rev: Some(entry.arrived), capabilities: &entry.capabilities.0 }
    });
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::wire::{Capabilities, Info};

    fn entry(since: u64, bytes: usize) -> Entry {
        let text: Arc<RawValue> = raw(&"x".repeat(bytes)).into();
        let (info, capabilities) = (Arc::new(Info::new()), Arc::new(Capabilities::default()));
        Entry { info, text, capabilities, since, arrived: since, returned: false }
    }

    /// What a view holds after all parts, each applied as a module does it.
    fn told(before: &Snapshot, after: &Snapshot) -> (BTreeMap<String, u64>, Vec<usize>) {
        let view_of = |table: &Snapshot| table.servers.iter().map(|(id, entry)| (id.clone(), entry.since)).collect();
        let (mut view, mut at): (BTreeMap<String, u64>, _) = (view_of(before), before.clone());
        let mut sizes = Vec::new();
        loop {
            let (next, is_whole) = part(&at, after.clone());
            assert!(next.rev > at.rev, "each part goes on");
            sizes.push(0);
            for Event { event, id, server, .. } in difference(&at, &next, []) {
                match event {
                    "disconnect" => drop(view.remove(id)),
                    _ => drop(view.insert(id.to_owned(), next.servers[id].since)),
                }
                *sizes.last_mut().unwrap() += server.map_or(0, |server| server.get().len());
            }
            at = next;
            if is_whole {
                assert_eq!(view, view_of(after));
                return (view, sizes);
            }
        }
    }

    #[test]
    fn a_large_table_is_told_in_parts_that_any_module_can_take() {
        let none = Snapshot::default();
        let table = |rev: u64, servers: &[(u64, u64, usize)]| Snapshot {
            rev,
            servers: servers.iter().map(|(id, since, bytes)| (format!("s-{id}"), entry(*since, *bytes))).collect(),
        };
        let small = table(3, &[(1, 1, 10), (2, 3, 10)]);
        assert_eq!(told(&none, &small).1.len(), 1);
        let many: Vec<_> = (1..=10_000).map(|number| (number, number, 200)).collect();
        let many = table(10_000, &many);
        let (view, sizes) = told(&none, &many);
        assert_eq!(view.len(), 10_000);
        assert!(sizes.len() > 5 && sizes.iter().all(|size| *size <= PART + 300), "{sizes:?}");
        // Some have gone, some came back as others, and some are new.
        let since = |id: u64| if id <= 10_000 && id % 2 == 1 { id } else { 10_001 + id };
        let later: Vec<_> = (4_000..=12_000).map(|id| (id, since(id), 300)).collect();
        told(&many, &table(30_000, &later));
        // One that is larger than a part travels alone.
        let huge = table(2, &[(1, 1, PART * 2), (2, 2, PART * 2)]);
        assert_eq!(told(&none, &huge).1.len(), 2);
    }
}
