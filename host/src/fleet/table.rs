//! All servers of the fleet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::record::{LastExit, Origin, ServerRecord, cut, now};
use super::state::{Due, End, Input, Place, State, Wanted, due, next};
use super::store::{Shelf, Store};
use super::{KEPT_EXITS, job::JobId};
use crate::failure::Failure;
use crate::wire::Info;

/// Servers at most that have joined and that nobody had named, unless [`Fleet::set_max_joined`] says otherwise.
const MAX_JOINED: usize = 1024;
/// Stands for a job that is about to own a server. Jobs are numbered from 1.
const RESERVED: JobId = 0;
/// Who has set what is wanted where nobody has given an order.
const CONFIGURATION: &str = "configuration";

/// The servers, what is wanted of each, and what each is.
pub struct Fleet {
    table: Mutex<Table>,
    changed: watch::Sender<u64>,
    store: Arc<dyn Store>,
    max_joined: AtomicUsize,
}

#[derive(Default)]
struct Table {
    servers: BTreeMap<String, ServerRecord>,
    /// The order in which servers are shown and restarted: that of the configuration. Others come after them.
    order: Vec<String>,
    /// The job that owns a server.
    owners: BTreeMap<String, JobId>,
    revision: u64,
    /// Set when the master ends: what happens to servers then was done by the master itself.
    closed: bool,
}

/// A server that the configuration names, or that was added.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its type.
    pub server_type: String,
    /// As what it was added; absent if the configuration has it.
    pub added: Option<Info>,
    /// Who can start it.
    pub place: Place,
}

/// Something that happened, with what is to be said of it.
#[derive(Debug, Default)]
pub struct Happening {
    /// Why; empty where there is nothing to say.
    pub why: String,
    /// How its process has ended.
    pub exit: Option<LastExit>,
    /// While it drains: the connections that are left.
    pub connections: Option<u64>,
    /// How often its program was started again, as its monitor says.
    pub restarts: Option<u64>,
}

impl Happening {
    /// With nothing but a reason.
    pub fn why(why: impl Into<String>) -> Self {
        Happening { why: why.into(), ..Happening::default() }
    }
}

impl Table {
    /// Whether one more server may be known that nobody has named. If there are too many, the one that was lost first is forgotten.
    fn has_room_for_one_that_joins(&mut self, most: usize, store: &dyn Store) -> bool {
        let joined = || self.servers.values().filter(|record| record.origin == Origin::Joined);
        if joined().count() < most {
            return true;
        }
        let lost = joined().filter(|record| record.state == State::Lost && !self.owners.contains_key(&record.id));
        let Some(oldest) = lost.min_by_key(|record| record.since).map(|record| record.id.clone()) else { return false };
        self.servers.remove(&oldest);
        store.put(Shelf::Servers, &oldest, None);
        true
    }
}

impl Fleet {
    /// The fleet as it was kept. What cannot be read is left out, and an error in the log names it.
    pub fn load(store: Arc<dyn Store>) -> Self {
        let mut table = Table::default();
        for (id, text) in store.load(Shelf::Servers) {
            match serde_json::from_str::<ServerRecord>(&text) {
                Ok(record) => {
                    table.revision = table.revision.max(record.revision);
                    table.servers.insert(id, record);
                }
                Err(error) => {
                    tracing::error!(server = %id, %error, "what was kept of a server cannot be read, and is left out");
                }
            }
        }
        for record in table.servers.values_mut() {
            let state = next(record.state, record.wanted, record.place, Input::NewMaster);
            if state != record.state {
                (record.state, record.since) = (state, now());
                record.why = match state {
                    State::Lost => "the master was started anew, and the server has not come back yet".into(),
                    _ => String::new(),
                };
            }
            record.connections = None;
        }
        let changed = watch::Sender::new(table.revision);
        Fleet { table: Mutex::new(table), changed, store, max_joined: AtomicUsize::new(MAX_JOINED) }
    }

    /// Bounds the servers that have joined and that nobody had named.
    pub fn set_max_joined(&self, servers: usize) {
        self.max_joined.store(servers, Ordering::Relaxed);
    }

    /// The servers that were added, as they were described.
    pub fn added(&self) -> BTreeMap<String, Info> {
        let table = self.table.lock();
        let added = table.servers.values().filter_map(|record| match &record.origin {
            Origin::Added(info) => Some((record.id.clone(), info.clone())),
            Origin::Configured | Origin::Joined => None,
        });
        added.collect()
    }

    /// Takes over which servers are named, in that order. A server that is new is wanted up. A server that is no longer named is forgotten, unless it
    /// may run: then it is known from its having joined.
    pub fn name(&self, named: &[Named]) {
        let mut table = self.table.lock();
        let table = &mut *table;
        table.order = named.iter().map(|named| named.id.clone()).collect();
        let mut changed = Vec::new();
        for named in named {
            let origin = named.added.clone().map_or(Origin::Configured, Origin::Added);
            let new = || ServerRecord::new(&named.id, &named.server_type, origin.clone(), named.place, CONFIGURATION);
            let mut fresh = false;
            let record = table.servers.entry(named.id.clone()).or_insert_with(|| {
                fresh = true;
                new()
            });
            let before = record.clone();
            (record.origin, record.server_type) = (origin.clone(), named.server_type.clone());
            // What this master has begun stays its own, and what somebody else has begun stays his, whatever the configuration says of others.
            if record.state.is_down() || record.state == State::Lost {
                record.place = named.place;
                record.state = match (record.state, named.place) {
                    (State::Elsewhere, Place::Ours) => State::Pending,
                    (State::Pending, Place::Theirs) => State::Elsewhere,
                    (state, _) => state,
                };
            }
            if fresh || *record != before {
                changed.push(named.id.clone());
            }
        }
        let names: std::collections::HashSet<&str> = table.order.iter().map(String::as_str).collect();
        let unnamed: Vec<String> = table.servers.keys().filter(|id| !names.contains(id.as_str())).cloned().collect();
        for id in unnamed {
            let Some(record) = table.servers.get_mut(&id) else { continue };
            let owned = table.owners.get(&id).is_some_and(|owner| *owner != RESERVED);
            if record.state.is_down() && !owned {
                table.servers.remove(&id);
                self.store.put(Shelf::Servers, &id, None);
            } else if record.origin != Origin::Joined {
                record.origin = Origin::Joined;
                changed.push(id);
            }
        }
        for id in changed {
            self.keep(table, &id);
        }
        table.revision += 1;
        self.changed.send_replace(table.revision);
    }

    /// Forgets a server that was added and does not run, or that nobody has named. Returns whether it was there.
    pub fn forget(&self, id: &str) -> bool {
        let mut table = self.table.lock();
        let forgotten = table.servers.remove(id).is_some();
        if forgotten {
            table.order.retain(|known| known != id);
            self.store.put(Shelf::Servers, id, None);
            table.revision += 1;
            self.changed.send_replace(table.revision);
        }
        forgotten
    }

    /// Takes in what has happened to a server. A server that nobody has named is known from its joining on, while there is room. One that is lost gives
    /// way to it.
    pub fn input(&self, id: &str, server_type: Option<&str>, input: Input, happening: Happening) {
        let mut table = self.table.lock();
        let table = &mut *table;
        if table.closed {
            return;
        }
        if !table.servers.contains_key(id) {
            let appears =
                matches!(input, Input::Joined | Input::SaysStarting | Input::SaysUnready | Input::SaysBackingOff);
            let Some(server_type) = server_type.filter(|_| appears) else { return };
            if !table.has_room_for_one_that_joins(self.max_joined.load(Ordering::Relaxed), &*self.store) {
                return;
            }
            let record = ServerRecord::new(id, server_type, Origin::Joined, Place::Theirs, "it has joined");
            table.servers.insert(id.to_owned(), record);
        }
        let owned = table.owners.contains_key(id);
        let Some(record) = table.servers.get_mut(id) else { return };
        let before = record.clone();
        let clean = input == Input::Exited(End::Clean) && record.state != State::Stopping && !owned;
        if clean && record.wanted == Wanted::Up {
            (record.wanted, record.wanted_by, record.wanted_since) =
                (Wanted::Down, "itself: it ended in order".into(), now());
        }
        if input == Input::Launched {
            record.place = Place::Ours;
        }
        let state = next(record.state, record.wanted, record.place, input);
        let mut has_ended = false;
        if let Some(exit) = happening.exit
            && !record.exits.iter().any(|known| known.is(&exit))
        {
            has_ended = true;
            record.exits.push(exit);
            let more = record.exits.len().saturating_sub(KEPT_EXITS);
            record.exits.drain(..more);
        }
        if let Some(restarts) = happening.restarts {
            record.restarts = record.restarts.max(restarts);
        }
        if input == Input::Exited(End::Again) && !owned {
            record.restarts += 1;
        }
        record.joins += u64::from(input == Input::Joined);
        record.connections = happening.connections.filter(|_| state == State::Draining);
        if state != record.state {
            let was = (record.state, record.since);
            (record.state, record.since) = (state, now());
            record.why = cut(&happening.why);
            if state == State::Running && was.0 == State::Starting {
                record.ready_ms = Some(record.since.saturating_sub(was.1));
            }
        } else if has_ended && state == State::BackingOff {
            // It has run meanwhile, for too short a time to be told.
            (record.since, record.why) = (now(), cut(&happening.why));
        } else if !happening.why.is_empty()
            // Who has failed already has a better reason than that its process is gone as well.
            && !matches!(input, Input::Joined | Input::Absent | Input::Left | Input::Lost | Input::Exited(End::Final))
        {
            record.why = cut(&happening.why);
        }
        let over = record.origin == Origin::Joined && record.state.is_down() && !owned;
        let same = *record == before;
        if over {
            table.servers.remove(id);
            self.store.put(Shelf::Servers, id, None);
        } else if same {
            return;
        } else {
            self.keep(table, id);
        }
        table.revision += 1;
        self.changed.send_replace(table.revision);
    }

    /// Takes nothing in any more, because the master ends and ends its servers. The next master finds what was wanted until then.
    pub fn close(&self) {
        self.table.lock().closed = true;
    }

    /// Says what is wanted of servers, and who wants it. Ids that are not known are passed over.
    pub fn want(&self, ids: &[String], wanted: Wanted, by: &str) {
        let mut table = self.table.lock();
        let table = &mut *table;
        for id in ids {
            let Some(record) = table.servers.get_mut(id) else { continue };
            let input = if wanted == Wanted::Up { Input::Up } else { Input::Down };
            (record.wanted, record.wanted_by, record.wanted_since) = (wanted, cut(by), now());
            let state = next(record.state, wanted, record.place, input);
            if state != record.state {
                (record.state, record.since) = (state, now());
                record.why.clear();
            }
            self.keep(table, id);
        }
        table.revision += 1;
        self.changed.send_replace(table.revision);
    }

    /// Waits until all changes so far are on the disk.
    ///
    /// # Errors
    /// `failed` if they cannot be written.
    pub async fn written(&self) -> Result<(), Failure> {
        self.store.written().await
    }

    /// One server.
    pub fn get(&self, id: &str) -> Option<ServerRecord> {
        self.table.lock().servers.get(id).cloned()
    }

    /// What a server is.
    pub fn state(&self, id: &str) -> Option<State> {
        self.table.lock().servers.get(id).map(|record| record.state)
    }

    /// All servers: those that are named in the order of the configuration, then the others.
    pub fn servers(&self) -> Vec<ServerRecord> {
        let table = self.table.lock();
        let named = table.order.iter().filter_map(|id| table.servers.get(id));
        let names: std::collections::HashSet<&str> = table.order.iter().map(String::as_str).collect();
        let others = table.servers.values().filter(|record| !names.contains(record.id.as_str()));
        named.chain(others).cloned().collect()
    }

    /// What is due of servers that no job owns.
    pub fn due(&self) -> Vec<(String, Due)> {
        let table = self.table.lock();
        let free = table.servers.values().filter(|record| !table.owners.contains_key(&record.id));
        free.filter_map(|record| Some((record.id.clone(), due(record.state, record.wanted)?))).collect()
    }

    /// The job that owns a server.
    pub fn owner(&self, id: &str) -> Option<JobId> {
        self.table.lock().owners.get(id).copied().filter(|owner| *owner != RESERVED)
    }

    /// A number that grows with every change.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits until a server is as told. Ends with nothing if it is forgotten meanwhile.
    pub async fn until<T>(&self, id: &str, mut is: impl FnMut(&ServerRecord) -> Option<T>) -> Option<T> {
        let mut changed = self.changed();
        loop {
            changed.mark_unchanged();
            let seen = self.table.lock().servers.get(id).map(&mut is);
            match seen {
                None => return None,
                Some(Some(seen)) => return Some(seen),
                Some(None) => {}
            }
            // The sender is part of this fleet.
            changed.changed().await.ok()?;
        }
    }

    /// Keeps servers free for the job that is about to own them. They need not be named yet. Until then nothing is due of them.
    pub fn reserve(&self, ids: &[String]) {
        let mut table = self.table.lock();
        for id in ids {
            table.owners.entry(id.clone()).or_insert(RESERVED);
        }
    }

    /// Ends that for servers that no job owns.
    pub fn unreserve(&self, ids: &[String]) {
        ids.iter().for_each(|id| self.release(RESERVED, id));
    }

    /// Makes a job the owner of servers, all or none.
    ///
    /// # Errors
    /// The servers that others own, with their jobs.
    pub(super) fn claim(&self, job: JobId, ids: &[String]) -> Result<(), BTreeMap<String, JobId>> {
        let mut table = self.table.lock();
        let owned: BTreeMap<String, JobId> = ids
            .iter()
            .filter_map(|id| {
                Some((id.clone(), *table.owners.get(id).filter(|owner| ![job, RESERVED].contains(*owner))?))
            })
            .collect();
        if !owned.is_empty() {
            return Err(owned);
        }
        table.owners.extend(ids.iter().map(|id| (id.clone(), job)));
        Ok(())
    }

    /// Gives a server of a job back.
    pub(super) fn release(&self, job: JobId, id: &str) {
        let mut table = self.table.lock();
        let table = &mut *table;
        if table.owners.get(id) == Some(&job) {
            table.owners.remove(id);
            // As long as a job owned it, it was kept for the job to look at.
            if table.servers.get(id).is_some_and(|record| record.origin == Origin::Joined && record.state.is_down()) {
                table.servers.remove(id);
                self.store.put(Shelf::Servers, id, None);
            }
            table.revision += 1;
            self.changed.send_replace(table.revision);
        }
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn keep(&self, table: &mut Table, id: &str) {
        table.revision += 1;
        let revision = table.revision;
        if let Some(record) = table.servers.get_mut(id) {
            record.revision = revision;
            self.store.put(Shelf::Servers, id, serde_json::to_string(record).ok());
        }
    }
}
