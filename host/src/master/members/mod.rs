//! Who is connected: the servers' monitors, and clients. The server table has a revision that grows with every change that others can see.
//!
//! Several monitors may stand under one id: the first whose server runs is the primary, and its `info` is in the table; the others are slaves. A
//! connection that was lost in silence keeps its place for a while, so that a short break is no change, and for longer where a large part of the
//! fleet is lost at once (`loss`). A monitor whose server does not run is connected, can be asked, and is not in the table.

mod loss;
mod member;
mod query;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::journal::{Event, Journal, kind};
use crate::transport::Peer;
use crate::wire::{Info, raw};

pub use loss::MassLoss;
pub use member::{JoinError, Member};
use member::{place, primary};
pub use query::{Entry, Snapshot};

/// Who is connected to a master.
pub struct Members {
    table: Mutex<MemberTable>,
    changed: watch::Sender<u64>,
    epoch: String,
    grace: Duration,
    mass_loss: MassLoss,
    journal: Journal,
}

#[derive(Default)]
struct MemberTable {
    rev: u64,
    /// Monitors by server id, the oldest first. No list is empty.
    servers: BTreeMap<String, Vec<Member>>,
    /// Connections of clients by the id they chose.
    clients: HashMap<String, Client>,
    losses: loss::Losses,
}

/// A client that has registered.
struct Client {
    peer: Peer,
    user: String,
}

/// Why a server is no longer in the table.
const GONE: &str = "it said so";
const LOST: &str = "its connection was lost";

impl Members {
    /// Nobody. A lost connection keeps its place for `grace`, or longer as `mass_loss` says; what happens is written into `journal`.
    pub fn new(grace: Duration, mass_loss: MassLoss, journal: Journal) -> Self {
        // A word that no other process of a master has drawn: with it, a monitor tells a new table from an old one.
        let epoch = format!("{:016x}", rand::random::<u64>());
        Members { table: Mutex::default(), changed: watch::Sender::new(0), epoch, grace, mass_loss, journal }
    }

    /// The word that tells this process's table from those of others.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Whether a monitor would be let in now.
    ///
    /// # Errors
    /// As [`Members::join`].
    pub fn admits(&self, member: &Member) -> Result<(), JoinError> {
        let table = self.table.lock();
        table.servers.get(&member.id).map_or(Ok(()), |members| place(members, member).map(drop))
    }

    /// Lets a monitor in. One with the same id, host and port takes the place of the connection that is there, which is cut; another
    /// address under a taken id becomes a slave.
    ///
    /// # Errors
    /// [`JoinError::Slaves`], [`JoinError::Type`].
    pub fn join(&self, member: Member) -> Result<(), JoinError> {
        let id = member.id.clone();
        let old = self.change(&id, GONE, |members| match place(members, &member)? {
            Some(place) => {
                let old = std::mem::replace(&mut members[place], member);
                // Who is retained after a mass loss is gone as far as anybody can tell; now the id has somebody who is there.
                members.retain(|member| !member.retained);
                Ok(Some(old))
            }
            None => {
                let (address, first) = (member.address(), primary(members).map(Member::address));
                members.push(member);
                members.retain(|member| !member.retained);
                if let Some(first) = first.filter(|_| members.len() > 1) {
                    let what = format!("the monitor at {address} stands behind the one at {first}");
                    tracing::info!(server = %id, "{what}");
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

    /// A monitor's connection is over. `lost`: it broke, and may come back within the time of grace; else it said that it leaves.
    pub fn leave(self: &Arc<Self>, id: &str, connection: u64, lost: bool) {
        if lost && !self.grace.is_zero() {
            let mut table = self.table.lock();
            let place = table.servers.get_mut(id).and_then(|m| m.iter_mut().find(|m| m.connection() == connection));
            // Not there: another connection has taken its place.
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

    /// A monitor's server does not run any more.
    pub fn absent(&self, id: &str, connection: u64) {
        self.change(id, "its program does not run", |members| {
            if let Some(member) = members.iter_mut().find(|member| member.connection() == connection) {
                member.present = false;
            }
        });
    }

    /// A monitor's server runs again, and this is what others are told of it now.
    pub fn present(&self, id: &str, connection: u64, info: Info) {
        self.change(id, GONE, |members| {
            if let Some(member) = members.iter_mut().find(|member| member.connection() == connection) {
                // One that was never seen comes for the first time.
                member.returned |= member.since > 0;
                (member.present, member.text, member.info) = (true, raw(&info).into(), Arc::new(info));
                // Whatever it was before, this is a new entry.
                member.since = 0;
            }
        });
    }

    /// Changes the monitors of an id. The table gets a new revision if that changes what others see: the primary of the id. `gone` says why there is
    /// none any more, if that comes of it.
    fn change<T>(&self, id: &str, gone: &str, change: impl FnOnce(&mut Vec<Member>) -> T) -> T {
        let mut table = self.table.lock();
        let table = &mut *table;
        let seen = |members: &[Member]| primary(members).map(|member| (member.connection(), member.since));
        let members = table.servers.entry(id.to_owned()).or_default();
        let before = seen(members);
        let outcome = change(members);
        if seen(members) != before {
            table.rev += 1;
            match members.iter_mut().find(|member| member.present) {
                Some(member) => {
                    member.since = table.rev;
                    let (pid, address) = (member.info.get("pid").and_then(Value::as_u64), member.address());
                    let what = if before.is_some() { "joined in the place of the one before" } else { "joined" };
                    tracing::info!(server = %id, pid, %address, "{what}");
                    let process = pid.map_or_else(String::new, |pid| format!(", process {pid}"));
                    let message = format!("{what}: {}{process}", address.trim_end_matches(':'));
                    self.journal.record(Event::new(kind::JOIN, message).server(id));
                }
                None => {
                    tracing::info!(server = %id, why = gone, "left");
                    self.journal.record(Event::new(kind::LEAVE, format!("left: {gone}")).server(id));
                }
            }
            self.changed.send_replace(table.rev);
        }
        if members.is_empty() {
            table.servers.remove(id);
        }
        outcome
    }

    /// Takes an id for a client's connection.
    ///
    /// # Errors
    /// [`JoinError::ClientId`].
    pub fn client_joins(&self, id: &str, peer: &Peer, user: &str) -> Result<(), JoinError> {
        let mut table = self.table.lock();
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

    /// The connections of clients whose user the question is answered with yes for.
    pub fn clients_of(&self, user: impl Fn(&str) -> bool) -> Vec<Peer> {
        let table = self.table.lock();
        table.clients.values().filter(|client| user(&client.user)).map(|client| client.peer.clone()).collect()
    }

    /// The table's revision, and its changes.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
