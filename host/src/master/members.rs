//! Who is connected: the servers' monitors, and clients. The server table has a revision that grows with every change that others can see.
//!
//! Several monitors may stand under one id: the first whose server runs is the primary, and its `info` is in the table; the others are slaves. A
//! connection that was lost in silence keeps its place for a while, so that a short break is no change. A monitor whose server does not run is
//! connected, can be asked, and is not in the table.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::exchange::Exchange;
use crate::transport::Peer;
use crate::wire::{Capabilities, Info, raw};

/// Who is connected to a master.
pub struct Members {
    table: Mutex<Table>,
    changed: watch::Sender<u64>,
    epoch: String,
    grace: Duration,
}

#[derive(Default)]
struct Table {
    rev: u64,
    /// Monitors by server id, the oldest first. No list is empty.
    servers: BTreeMap<String, Vec<Member>>,
    /// Connections of clients by the id they chose.
    clients: HashMap<String, Client>,
}

/// A client that has registered.
struct Client {
    peer: Peer,
    user: String,
}

/// A monitor that has registered.
#[derive(Clone)]
pub struct Member {
    /// Server id.
    pub id: String,
    /// Type of the server.
    pub server_type: String,
    /// What the others are told about the server.
    pub info: Arc<Info>,
    /// The same as JSON: it is told to every other server.
    text: Arc<RawValue>,
    /// The way to the monitor.
    pub exchange: Exchange,
    /// What it understands beyond pomelo's messages.
    pub capabilities: Arc<Capabilities>,
    /// Whether it was here before.
    pub returned: bool,
    /// The table's revision since which this is so.
    pub since: u64,
    /// Whether the connection is lost and the place only kept.
    lost: bool,
    /// Whether the server runs.
    present: bool,
}

/// The server table at one moment.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// The table's revision.
    pub rev: u64,
    /// By server id.
    pub servers: BTreeMap<String, Entry>,
}

/// A server in a [`Snapshot`].
#[derive(Clone)]
pub struct Entry {
    /// What the others are told about it.
    pub info: Arc<Info>,
    /// The same as JSON.
    pub text: Arc<RawValue>,
    /// What its monitor understands beyond pomelo's messages.
    pub capabilities: Arc<Capabilities>,
    /// The table's revision since which this is so.
    pub since: u64,
    /// Whether its monitor came back rather than came.
    pub returned: bool,
}

/// Why a peer cannot become a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A client chose an id that is taken.
    #[error("a client of this id is connected already")]
    ClientId,
    /// Too many monitors under one id.
    #[error("too many monitors are registered under this server id")]
    Slaves,
    /// The id belongs to servers of another type.
    #[error("a server of this id and of type `{0}` is registered already")]
    Type(String),
}

/// Monitors that may stand behind the primary of one id.
const MAX_SLAVES: usize = 16;

/// The monitor that stands for an id: the oldest whose server runs.
fn primary(members: &[Member]) -> Option<&Member> {
    members.iter().find(|member| member.present)
}

/// The place of a new monitor among those of its id: that of the one at the same address, else behind all.
fn place(members: &[Member], new: &Member) -> Result<Option<usize>, Refusal> {
    if let Some(other) = members.iter().find(|other| other.server_type != new.server_type) {
        return Err(Refusal::Type(other.server_type.clone()));
    }
    let same = members.iter().position(|other| other.address() == new.address());
    if same.is_none() && members.len() > MAX_SLAVES { Err(Refusal::Slaves) } else { Ok(same) }
}

impl Member {
    /// A monitor that wants to register.
    pub fn new(
        id: String,
        server_type: String,
        info: Info,
        exchange: Exchange,
        capabilities: Capabilities,
        returned: bool,
    ) -> Self {
        let (text, info, capabilities) = (raw(&info).into(), Arc::new(info), Arc::new(capabilities));
        Member { id, server_type, info, text, exchange, capabilities, returned, since: 0, lost: false, present: true }
    }

    /// The same monitor with a server that does not run yet.
    pub fn down(self) -> Self {
        Member { present: false, ..self }
    }

    /// Where the server is: with its id, what tells one monitor under an id from another.
    fn address(&self) -> String {
        let text = |name: &str| match self.info.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        format!("{}:{}", text("host"), text("port"))
    }

    /// Whether its connection is lost and its place only kept: nothing can be sent to it.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    fn connection(&self) -> u64 {
        self.exchange.peer().id()
    }
}

impl Members {
    /// Nobody. A lost connection keeps its place for `grace`.
    pub fn new(grace: Duration) -> Self {
        // A word that no other process of a master has drawn: with it, a monitor tells a new table from an old one.
        let epoch = format!("{:016x}", rand::random::<u64>());
        Members { table: Mutex::default(), changed: watch::Sender::new(0), epoch, grace }
    }

    /// The word that tells this process's table from those of others.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Whether a monitor would be let in now.
    ///
    /// # Errors
    /// As [`Members::join`].
    pub fn admits(&self, member: &Member) -> Result<(), Refusal> {
        let table = self.table.lock();
        table.servers.get(&member.id).map_or(Ok(()), |members| place(members, member).map(drop))
    }

    /// Lets a monitor in. One with the same id, host and port takes the place of the connection that is there, which is cut; another
    /// address under a taken id becomes a slave.
    ///
    /// # Errors
    /// [`Refusal::Slaves`], [`Refusal::Type`].
    pub fn join(&self, member: Member) -> Result<(), Refusal> {
        let id = member.id.clone();
        let old = self.change(&id, |members| match place(members, &member)? {
            Some(place) => Ok(Some(std::mem::replace(&mut members[place], member))),
            None => {
                members.push(member);
                Ok(None)
            }
        })?;
        if let Some(old) = old {
            old.exchange.over("its server's monitor has connected anew");
            old.exchange.peer().cut("the server's monitor has connected anew");
        }
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
                members.remove(&id, connection);
            });
        } else {
            self.remove(id, connection);
        }
    }

    fn remove(&self, id: &str, connection: u64) {
        self.change(id, |members| members.retain(|member| member.connection() != connection));
    }

    /// A monitor's server does not run any more.
    pub fn absent(&self, id: &str, connection: u64) {
        self.change(id, |members| {
            if let Some(member) = members.iter_mut().find(|member| member.connection() == connection) {
                member.present = false;
            }
        });
    }

    /// A monitor's server runs again, and this is what others are told of it now.
    pub fn present(&self, id: &str, connection: u64, info: Info) {
        self.change(id, |members| {
            if let Some(member) = members.iter_mut().find(|member| member.connection() == connection) {
                // One that was never seen comes for the first time.
                member.returned |= member.since > 0;
                (member.present, member.text, member.info) = (true, raw(&info).into(), Arc::new(info));
                // Whatever it was before, this is a new entry.
                member.since = 0;
            }
        });
    }

    /// Changes the monitors of an id. The table gets a new revision if that changes what others see: the primary of the id.
    fn change<T>(&self, id: &str, change: impl FnOnce(&mut Vec<Member>) -> T) -> T {
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
                }
                None => tracing::info!(server = %id, "left"),
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
    /// [`Refusal::ClientId`].
    pub fn client_joins(&self, id: &str, peer: &Peer, user: &str) -> Result<(), Refusal> {
        let mut table = self.table.lock();
        if table.clients.contains_key(id) {
            return Err(Refusal::ClientId);
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

    /// Waits until a server is in the table.
    pub async fn joined(&self, id: &str) {
        let mut revision = self.revision();
        while self.table.lock().servers.get(id).is_none_or(|members| primary(members).is_none()) {
            // The sender lives as long as the members do.
            let _ = revision.changed().await;
        }
    }

    /// The server table now.
    pub fn snapshot(&self) -> Snapshot {
        let table = self.table.lock();
        let entry = |member: &Member| Entry {
            info: member.info.clone(),
            text: member.text.clone(),
            capabilities: member.capabilities.clone(),
            since: member.since,
            returned: member.returned,
        };
        let servers = table.servers.iter().filter_map(|(id, all)| Some((id.clone(), entry(primary(all)?)))).collect();
        Snapshot { rev: table.rev, servers }
    }

    /// The table's revision, and its changes.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The table as JSON: `rev`, `epoch` and `servers`.
    pub fn to_json(&self) -> Box<RawValue> {
        #[derive(serde::Serialize)]
        struct Json<'a> {
            rev: u64,
            epoch: &'a str,
            servers: BTreeMap<&'a str, &'a RawValue>,
        }
        let table = self.table.lock();
        let servers = table.servers.iter().filter_map(|(id, all)| Some((id.as_str(), &*primary(all)?.text))).collect();
        raw(&Json { rev: table.rev, epoch: &self.epoch, servers })
    }

    /// The members that targets name, each once, and the targets that name nobody.
    pub fn resolve(&self, targets: &[String]) -> (Vec<Member>, Vec<String>) {
        let table = self.table.lock();
        let mut found: BTreeMap<u64, Member> = BTreeMap::new();
        let mut nobody = Vec::new();
        // A server that does not run has no primary; its monitor can be asked all the same.
        let first = |members: &'_ Vec<Member>| primary(members).or(members.first()).cloned();
        let primaries = || table.servers.values().filter_map(first);
        for target in targets {
            let named: Vec<Member> = if let Some(members) = table.servers.get(target) {
                first(members).into_iter().collect()
            } else if target == "*" {
                // That nobody is there is a fine answer to a question to all.
                found.extend(primaries().map(|member| (member.connection(), member)));
                continue;
            } else if let Some(wanted) = target.strip_prefix("type:") {
                primaries().filter(|member| member.server_type == wanted).collect()
            } else {
                let at = target.rsplit_once('@').and_then(|(id, at)| Some((table.servers.get(id)?, at)));
                at.into_iter().flat_map(|(all, at)| all.iter().filter(move |m| m.address() == at)).cloned().collect()
            };
            if named.is_empty() {
                nobody.push(target.clone());
            }
            found.extend(named.into_iter().map(|member| (member.connection(), member)));
        }
        (found.into_values().collect(), nobody)
    }

    /// All connected monitors, slaves among them.
    pub fn all(&self) -> Vec<Member> {
        self.table.lock().servers.values().flatten().filter(|member| !member.lost).cloned().collect()
    }

    /// How many servers and clients are connected.
    pub fn count(&self) -> (usize, usize) {
        let table = self.table.lock();
        (table.servers.len(), table.clients.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Outbox, Transport};
    use crate::wire::Topic;

    fn member(id: &str, port: u16) -> (Member, Outbox) {
        let (peer, outbox) = Peer::new(Transport::Memory, None, 8, usize::MAX);
        let info = Info::from_iter([("host".into(), "h".into()), ("port".into(), port.into())]);
        let exchange = Exchange::new(peer, Topic::Monitor, 8);
        (Member::new(id.into(), "chat".into(), info, exchange, Capabilities::default(), false), outbox)
    }

    fn port(members: &Members, id: &str) -> Option<Value> {
        members.snapshot().servers.get(id).map(|entry| entry.info["port"].clone())
    }

    #[tokio::test]
    async fn r4_the_oldest_slave_takes_the_place_of_a_primary_that_leaves() {
        let members = Arc::new(Members::new(Duration::ZERO));
        let [(first, _a), (second, _b), (third, _c)] = [1, 2, 3].map(|port| member("s", port));
        let connections = [first.connection(), second.connection(), third.connection()];
        for member in [first, second, third] {
            members.join(member).unwrap();
        }
        assert_eq!((members.snapshot().rev, port(&members, "s")), (1, Some(1.into())), "slaves are not seen");
        assert_eq!(members.resolve(&["s@h:3".into()]).0.len(), 1, "a slave has an address");
        members.leave("s", connections[0], false);
        assert_eq!((members.snapshot().rev, port(&members, "s")), (2, Some(2.into())));
        members.leave("s", connections[2], false);
        assert_eq!(members.snapshot().rev, 2, "a slave that leaves is not seen");
        members.leave("s", connections[1], false);
        assert_eq!((members.snapshot().rev, port(&members, "s")), (3, None));
    }

    #[tokio::test]
    async fn r4_an_id_belongs_to_one_type_of_server() {
        let members = Arc::new(Members::new(Duration::ZERO));
        let (first, _a) = member("s", 1);
        let connection = first.connection();
        members.join(first).unwrap();
        for port in [1, 2] {
            let (other, _b) = member("s", port);
            let refusal = members.join(Member { server_type: "gate".into(), ..other }).unwrap_err();
            assert_eq!(refusal, Refusal::Type("chat".into()));
        }
        members.leave("s", connection, false);
        let (other, _c) = member("s", 2);
        members.join(Member { server_type: "gate".into(), ..other }).unwrap();
    }

    #[tokio::test]
    async fn r4_one_more_slave_than_there_is_room_for_is_not_admitted() {
        let members = Members::new(Duration::ZERO);
        for port in 0..=17 {
            let (member, _outbox) = member("s", port);
            let admitted = members.admits(&member);
            assert_eq!(admitted.is_ok(), usize::from(port) <= MAX_SLAVES, "{port}");
            assert_eq!(members.join(member), admitted);
        }
    }

    #[tokio::test]
    async fn r4_the_same_address_replaces_the_connection_that_is_there() {
        let members = Arc::new(Members::new(Duration::ZERO));
        let (old, old_outbox) = member("s", 1);
        let (new, _outbox) = member("s", 1);
        let old_connection = old.connection();
        members.join(old).unwrap();
        members.join(new).unwrap();
        assert!(old_outbox.cut.is_cancelled());
        members.leave("s", old_connection, true);
        assert_eq!((members.snapshot().rev, members.count()), (2, (1, 0)), "the old one's end changes nothing");
    }

    #[tokio::test]
    async fn w5_a_connection_that_is_back_within_its_grace_is_no_change_of_who_is_there() {
        let members = Arc::new(Members::new(Duration::from_millis(20)));
        let (old, _old) = member("s", 1);
        let (new, _new) = member("s", 1);
        let connection = old.connection();
        members.join(old).unwrap();
        members.leave("s", connection, true);
        assert_eq!(members.count().0, 1);
        members.join(new.clone()).unwrap();
        members.leave("s", new.connection(), true);
        let mut revision = members.revision();
        revision.wait_for(|rev| *rev == 3).await.unwrap();
        assert_eq!(members.count().0, 0);
    }

    #[tokio::test]
    async fn a_server_that_does_not_run_is_not_in_the_table_and_can_be_asked() {
        let members = Arc::new(Members::new(Duration::ZERO));
        let (member, _outbox) = member("s", 1);
        let connection = member.connection();
        members.join(member).unwrap();
        members.absent("s", connection);
        assert_eq!((members.snapshot().rev, port(&members, "s")), (2, None));
        assert_eq!(members.resolve(&["s".into()]).0.len(), 1);
        members.present("s", connection, Info::from_iter([("port".into(), 9.into())]));
        assert_eq!((members.snapshot().rev, port(&members, "s")), (3, Some(9.into())));
        assert!(members.snapshot().servers["s"].returned);
    }

    #[test]
    fn targets_name_ids_types_and_all() {
        let members = Members::new(Duration::ZERO);
        let (a, _a) = member("a", 1);
        let (b, _b) = member("b", 2);
        members.join(a).unwrap();
        members.join(b).unwrap();
        let resolve = |targets: &[&str]| {
            let targets: Vec<_> = targets.iter().map(|&target| target.to_owned()).collect();
            let (found, nobody) = members.resolve(&targets);
            (found.into_iter().map(|member| member.id).collect::<Vec<_>>().join(","), nobody.join(","))
        };
        assert_eq!(resolve(&["a", "a", "x"]), ("a".into(), "x".into()));
        assert_eq!(resolve(&["*", "b"]), ("a,b".into(), "".into()));
        assert_eq!(resolve(&["type:chat"]), ("a,b".into(), "".into()));
        assert_eq!(resolve(&["type:gate", "a@h:9"]), ("".into(), "type:gate,a@h:9".into()));
    }
}
