//! Which peers are connected: the servers' monitors, and clients. The server table has a revision, which grows with every change that other servers
//! can see.
//!
//! Several monitors may register under one id. The first whose server runs is the primary, whose `info` is in the table; the others are slaves. A
//! monitor whose connection was lost keeps its place for a while, so that a short break changes nothing. It keeps the place for longer if a large part
//! of the fleet is lost at once (`loss`). A monitor whose server does not run is connected and can be asked, but is not in the table.

mod bounds;
mod loss;
mod member;
mod query;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::journal::{Event, Journal, kind};
use crate::transport::Peer;
use crate::wire::{Info, Phase, raw};

use crate::util::line_budget;
pub use bounds::{IsNamed, TableBounds};
pub use loss::MassLoss;
pub use member::{JoinError, Member};
use member::{first, place, primary};
pub use query::{Entry, Snapshot};

/// How servers have left, and what the monitor of each had said last, by id.
pub(in crate::master) type Departures = BTreeMap<String, (Departure, Option<Arc<Phase>>)>;

/// How a server has left the table, or its monitor the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Its monitor is connected.
    Absent,
    /// Its connection has ended in order.
    Left,
    /// Its connection was lost.
    Lost,
}

/// The peers that are connected to a master.
pub struct Members {
    table: Mutex<MemberTable>,
    changed: watch::Sender<u64>,
    /// Grows whenever what [`Members::phases`] gives may have changed.
    phases: watch::Sender<u64>,
    epoch: String,
    grace: Duration,
    mass_loss: MassLoss,
    journal: Journal,
    bounds: TableBounds,
    is_named: IsNamed,
}

#[derive(Default)]
struct MemberTable {
    rev: u64,
    /// Monitors by server id, the oldest first. No list is empty.
    servers: BTreeMap<String, Vec<Member>>,
    /// Connections of clients by the id they chose.
    clients: HashMap<String, Client>,
    losses: loss::Losses,
    /// What all of `servers` have.
    fill: bounds::Fill,
    /// How servers have left since that was last taken, by id; absent where nobody takes it.
    departures: Option<Departures>,
    /// Which servers left last, and with which revision, the oldest first.
    left: VecDeque<(u64, String)>,
    /// The revision since which all that left are in `left`.
    left_since: u64,
    /// The table as JSON at a revision. It is kept because whoever joins asks for it, and often many do at once.
    json: Option<(u64, Arc<RawValue>)>,
}

/// Servers that have left and are remembered, so that whoever has seen them in the table can be told.
const MOST_LEFT: usize = 4096;

/// A client that has registered.
struct Client {
    peer: Peer,
    user: String,
}

/// Why a server is no longer in the table.
const GONE: &str = "it said so";
const LOST: &str = "its connection was lost";

impl Members {
    /// No members yet. A monitor whose connection is lost keeps its place for `grace`, or longer as `mass_loss` says. Events are written into `journal`.
    pub fn new(grace: Duration, mass_loss: MassLoss, journal: Journal) -> Self {
        // Random, so that a monitor tells the table of this process from that of an earlier one.
        let epoch = format!("{:016x}", rand::random::<u64>());
        let (changed, phases) = (watch::Sender::new(0), watch::Sender::new(0));
        let (bounds, is_named): (_, IsNamed) = (TableBounds::default(), Arc::new(|_| true));
        Members { table: Mutex::default(), changed, phases, epoch, grace, mass_loss, journal, bounds, is_named }
    }

    /// The same with other bounds; `is_named` says which servers the configuration names or were added.
    pub fn bounded(self, bounds: TableBounds, is_named: IsNamed) -> Self {
        Members { bounds, is_named, ..self }
    }

    /// The word that tells this process's table from that of another process.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Whether a monitor would be let in now.
    ///
    /// # Errors
    /// As [`Members::join`].
    pub fn admits(&self, member: &Member) -> Result<(), JoinError> {
        // Asked before the table is locked, because the answer takes locks of others.
        let member = Member { named: (self.is_named)(&member.id), ..member.clone() };
        let longest_lost = {
            let table = self.table.lock();
            table.servers.get(&member.id).map_or(Ok(()), |members| place(members, &member).map(drop))?;
            match table.has_room(self.bounds, &member) {
                // One that is lost gives way.
                Err(refusal @ (JoinError::Joined(_) | JoinError::Full { .. })) => {
                    table.longest_lost().ok_or(refusal)?
                }
                outcome => return outcome,
            }
        };
        self.change(&longest_lost, LOST, Vec::clear);
        self.table.lock().has_room(self.bounds, &member)
    }

    /// Whether a monitor that is registered may say that of its server now.
    ///
    /// # Errors
    /// As [`Members::join`].
    pub fn admits_info(&self, id: &str, connection: u64, info: &Info) -> Result<(), JoinError> {
        let table = self.table.lock();
        let known = table.servers.get(id).and_then(|members| members.iter().find(|m| m.connection() == connection));
        let Some(known) = known else { return Ok(()) };
        let new = Member { text: raw(info).into(), ..known.clone() };
        table.has_room(self.bounds, &new)
    }

    /// Lets a monitor in. If a monitor of the same id, host and port is there, the new one takes its place and the old connection is cut. A monitor at
    /// another address under a taken id becomes a slave.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn join(&self, member: Member) -> Result<(), JoinError> {
        self.admits(&member)?;
        let id = member.id.clone();
        let member = Member { named: (self.is_named)(&id), ..member };
        let old = self.change(&id, GONE, |members| match place(members, &member)? {
            Some(place) => {
                let old = std::mem::replace(&mut members[place], member);
                // A monitor that is retained after a mass loss is most likely gone, and now the id has one that is there.
                members.retain(|member| !member.retained);
                Ok(Some(old))
            }
            None => {
                let (address, first) = (member.address(), primary(members).map(Member::address));
                members.push(member);
                members.retain(|member| !member.retained);
                if let Some(first) = first.filter(|_| members.len() > 1) {
                    let what = format!("the monitor at {address} stands behind the one at {first}");
                    line_budget::of_server(&id, || tracing::info!(server = %id, "{what}"));
                    self.journal.record(Event::new(kind::SLAVE, what).server(id.clone()));
                }
                Ok(None)
            }
        })?;
        if let Some(old) = old {
            old.exchange.over("its server's monitor has connected anew");
            old.exchange.peer().cut("the server's monitor has connected anew");
        }
        self.look_whether_all_are_back();
        Ok(())
    }

    /// A monitor's connection is over. `lost`: it broke, and the monitor may come back within the time of grace. Else the monitor said that it leaves.
    pub fn leave(self: &Arc<Self>, id: &str, connection: u64, lost: bool) {
        if lost && !self.grace.is_zero() {
            let mut table = self.table.lock();
            let place = table.servers.get_mut(id).and_then(|m| m.iter_mut().find(|m| m.connection() == connection));
            // If it is not there, another connection has taken its place.
            let Some(member) = place else { return };
            member.lost = true;
            let (members, id) = (self.clone(), id.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(members.grace).await;
                members.grace_is_over(&id, connection);
            });
        } else {
            self.remove(id, connection, if lost { LOST } else { GONE });
        }
    }

    fn remove(&self, id: &str, connection: u64, why: &str) {
        self.change(id, why, |members| members.retain(|member| member.connection() != connection));
    }

    /// A monitor's server no longer runs.
    pub fn absent(&self, id: &str, connection: u64) {
        self.change(id, "its program does not run", |members| {
            if let Some(member) = members.iter_mut().find(|member| member.connection() == connection) {
                member.present = false;
            }
        });
    }

    /// A monitor says what its server does now.
    pub fn does(&self, id: &str, connection: u64, phase: Phase) {
        self.change(id, GONE, |members| {
            if let Some(member) = members.iter_mut().find(|member| member.connection() == connection) {
                member.phase = Some(Arc::new(phase));
            }
        });
    }

    /// A monitor's server runs again, and this is what others are told of it now. `phase` is what its monitor says that it does.
    pub fn present(&self, id: &str, connection: u64, info: Info, phase: Option<Phase>) {
        self.change(id, GONE, |members| {
            if let Some(member) = members.iter_mut().find(|member| member.connection() == connection) {
                // A server that was never in the table does not return.
                member.returned |= member.since > 0;
                (member.present, member.text, member.info) = (true, raw(&info).into(), Arc::new(info));
                // 0 makes it a new entry, whatever the server was before.
                member.since = 0;
                member.phase = phase.map(Arc::new);
            }
        });
    }

    /// Changes the monitors of an id. The table gets a new revision if the id's primary changes, because other servers see only that. `gone` says why the
    /// id has no primary any more, for the case that it has none afterwards.
    fn change<T>(&self, id: &str, gone: &str, change: impl FnOnce(&mut Vec<Member>) -> T) -> T {
        let mut table = self.table.lock();
        let table = &mut *table;
        let seen = |members: &[Member]| primary(members).map(|member| (member.connection(), member.since));
        let members = table.servers.entry(id.to_owned()).or_default();
        let told = |members: &[Member]| first(members).and_then(|member| member.phase.clone());
        let (before, said, connected) = (seen(members), told(members), !members.is_empty());
        let filled = bounds::Fill::of(members);
        let named = members.first().is_none_or(|member| member.named);
        let outcome = change(members);
        table.fill.change(filled, bounds::Fill::of(members));
        let named = named && members.first().is_none_or(|member| member.named);
        // Ids that come and go without end must not push all other events out.
        let record = |event: Event| if named { self.journal.record(event) } else { self.journal.record_some(event) };
        if seen(members) != before {
            table.rev += 1;
            match members.iter_mut().find(|member| member.present) {
                Some(member) => {
                    member.since = table.rev;
                    let (pid, address) = (member.info.get("pid").and_then(Value::as_u64), member.address());
                    let what = if before.is_some() { "joined in the place of the one before" } else { "joined" };
                    line_budget::of_server(id, || tracing::info!(server = %id, pid, %address, "{what}"));
                    let process = pid.map_or_else(String::new, |pid| format!(", process {pid}"));
                    let message = format!("{what}: {}{process}", address.trim_end_matches(':'));
                    record(Event::new(kind::JOIN, message).server(id));
                }
                None => {
                    line_budget::of_server(id, || tracing::info!(server = %id, why = gone, "left"));
                    record(Event::new(kind::LEAVE, format!("left: {gone}")).server(id));
                    table.left.push_back((table.rev, id.to_owned()));
                    if table.left.len() > MOST_LEFT
                        && let Some((rev, _)) = table.left.pop_front()
                    {
                        table.left_since = rev;
                    }
                }
            }
            self.changed.send_replace(table.rev);
        }
        for member in members.iter_mut().filter(|member| member.arrived.is_none()) {
            member.arrived = Some(table.rev);
        }
        let departed = connected && members.is_empty() || before.is_some() && primary(members).is_none();
        if departed {
            let how = match gone {
                _ if !members.is_empty() => Departure::Absent,
                LOST => Departure::Lost,
                _ => Departure::Left,
            };
            // Whoever follows may not have seen yet what its monitor said last.
            if let Some(departures) = &mut table.departures {
                departures.insert(id.to_owned(), (how, told(members).or_else(|| said.clone())));
            }
        }
        if departed || connected == members.is_empty() || !same(said.as_ref(), told(members).as_ref()) {
            self.phases.send_modify(|changes| *changes += 1);
        }
        if members.is_empty() {
            table.servers.remove(id);
        }
        outcome
    }

    /// How servers have left since this was asked last, and what their monitors had said last. It is noted from the first time on.
    pub(in crate::master) fn take_departures(&self) -> Departures {
        self.table.lock().departures.replace(Departures::new()).unwrap_or_default()
    }

    /// Takes an id for a client's connection.
    ///
    /// # Errors
    /// [`JoinError::ClientId`], [`JoinError::User`] where there are `at_most` of that user.
    pub fn client_joins(&self, id: &str, peer: &Peer, user: &str, at_most: usize) -> Result<(), JoinError> {
        let mut table = self.table.lock();
        if table.clients.values().filter(|client| client.user == user).count() >= at_most {
            return Err(JoinError::User(at_most));
        }
        if table.clients.contains_key(id) {
            return Err(JoinError::ClientId);
        }
        table.clients.insert(id.to_owned(), Client { peer: peer.clone(), user: user.to_owned() });
        Ok(())
    }

    /// Gives a client's id back.
    pub fn client_leaves(&self, id: &str, connection: u64) {
        let mut table = self.table.lock();
        if table.clients.get(id).is_some_and(|client| client.peer.id() == connection) {
            table.clients.remove(id);
        }
    }

    /// The connections of the clients whose user fulfils the condition.
    pub fn clients_of(&self, user: impl Fn(&str) -> bool) -> Vec<Peer> {
        let table = self.table.lock();
        table.clients.values().filter(|client| user(&client.user)).map(|client| client.peer.clone()).collect()
    }

    /// The table's revision, and its changes.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Whether two phases are the very same, as they were told.
fn same(one: Option<&Arc<Phase>>, other: Option<&Arc<Phase>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}
