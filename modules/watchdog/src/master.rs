//! The master's side: which monitors listen, and what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use pomelo_sdk::{Failure, Result};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::history::History;
use crate::net_changes::{Change, net_changes};
use crate::protocol::{Answer, Batch, Changes, Info, Known, Mark, Order, Request, Table};

/// What this side needs of the host.
pub trait Host {
    /// The master's own id.
    fn id(&self) -> String;
    /// Of how many changes at once a server of pomelo 2.x is told one by one.
    fn few(&self) -> usize {
        FEW_CHANGES
    }
    /// How many bytes of changes are given in place of a table.
    fn short(&self, table: &Table) -> usize {
        table.servers.get().len() / SHORTER
    }
    /// The table as it was at that revision, or has become since.
    fn table(&self, from: u64) -> Result<Rc<Table>>;
    /// The table's revision now.
    fn rev(&self) -> Result<u64>;
    /// What the table holds for a server now, if that is in it.
    fn server(&self, id: &str) -> Result<Option<Info>>;
    fn configured(&self) -> Result<Vec<String>>;
    /// Sends an order to servers, and does not wait for their answers.
    fn tell(&self, ids: &[&str], order: &Order) -> Result;
    fn now(&self) -> Duration;
    fn members(&self, prefix: &str) -> Result<Vec<(String, Member)>>;
    fn member(&self, key: &str) -> Result<Option<Member>>;
    fn set_member(&self, key: &str, member: &Member) -> Result;
    fn delete(&self, key: &str);
    fn text(&self, key: &str) -> Option<String>;
    fn set_text(&self, key: &str, text: &str) -> Result;
    /// What the listeners were told last. It may be lost at any time.
    fn history<T>(&self, look: impl FnOnce(&mut History) -> T) -> T;
}

/// What is kept about a server, under the key `member:ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Whether it is told of changes.
    listens: bool,
    /// Whether it understands revisions.
    rev: bool,
    /// A server of pomelo 2.x: the revision of the table that it was given last. It needs not be told of changes up to it. A monitor of ours: what the listeners
    /// had been told when it left the table last.
    at: u64,
    /// The table's revision when it subscribed. It is absent where an earlier version of the module kept this.
    joined: Option<u64>,
    /// Whether it has finished starting.
    recorded: bool,
    /// Whether it has been told that all servers have started.
    over: bool,
    /// When it left the table, milliseconds since 1970. The other members wait for its return.
    away: Option<u64>,
}

const PREFIX: &str = "member:";
/// Set once all configured servers have started.
const STARTED: &str = "started";
/// A configured server that had not started when that was last looked at.
const AWAITED: &str = "awaited";
/// The revision up to which listeners have been told of the table.
const TOLD: &str = "told";
/// At most so many servers that are away are remembered, or as many as are configured if those are more. Ids can come and go without end, and what is kept of
/// them must leave room for the servers that are there.
pub const MOST_AWAY: usize = 1024;
/// A server of pomelo 2.x is told of each change by a message of its own, and answers each. Where more than so many come at once, as
/// when a fleet starts, it is given the whole table instead, as one that comes back is.
const FEW_CHANGES: usize = 32;
/// A monitor that has missed changes is given them where they are so many times shorter than the table, which is one text for all.
const SHORTER: usize = 2;
/// A server that has been away for longer comes back as a new one. The time is long, because pomelo's servers try again after up to a minute.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

fn key(id: &str) -> String {
    [PREFIX, id].concat()
}

/// A message of a monitor.
pub fn handle(host: &impl Host, caller: &str, request: &Request) -> Result<Answer> {
    match request.action.as_str() {
        "subscribe" => subscribe(host, caller, request),
        "query" => query(host, caller, request),
        "unsubscribe" => {
            if let Some(member) = host.member(&key(caller))? {
                host.set_member(&key(caller), &Member { listens: false, ..member })?;
            }
            Ok(Answer::Nothing)
        }
        "record" => record(host, caller),
        other => Err(Failure::new(
            "bad-message",
            ["Unknown action ", other, ": it is subscribe, unsubscribe, query or record."].concat(),
        )),
    }
}

fn subscribe(host: &impl Host, caller: &str, request: &Request) -> Result<Answer> {
    let table = told_table(host)?;
    let rev = request.rev.is_some();
    // It may have left while its message waited, and is forgotten then as others are that have left.
    let away = if host.server(caller)?.is_some() { None } else { Some(millis(host)?) };
    if away.is_some() && !rev {
        return Err(Failure::new("not-found", ["The server ", caller, " is not connected."].concat()));
    }
    // Whoever has no table yet is a new process. That it is new may be told only later, and what its predecessor had done and been told does not count.
    let is_new = request.mark().is_none();
    let member = if is_new { Member::default() } else { host.member(&key(caller))?.unwrap_or_default() };
    let member = Member { listens: true, rev, at: table.rev, joined: Some(host.rev()?), away, ..member };
    keep(host, caller, &member)?;
    answer(host, caller, &table, request, &member)
}

/// A table for whoever asks: not older than what the listeners have been told, because the next change that they are told begins there. While many join at
/// once it is the same for all of them until the next change is told, and each learns of the others by that change.
fn told_table(host: &impl Host) -> Result<Rc<Table>> {
    host.table(told_rev(host))
}

/// The revision up to which the listeners have been told of the table.
fn told_rev(host: &impl Host) -> u64 {
    host.text(TOLD).and_then(|rev| rev.parse().ok()).unwrap_or(0)
}

fn query(host: &impl Host, caller: &str, request: &Request) -> Result<Answer> {
    let table = told_table(host)?;
    let member = host.member(&key(caller))?.unwrap_or_default();
    if member.listens && request.rev.is_none() && member.at != table.rev {
        host.set_member(&key(caller), &Member { at: table.rev, ..member.clone() })?;
    }
    // It came back to a restarted master, which did not know that it understands revisions.
    if member.listens && request.rev.is_some() && !member.rev {
        host.set_member(&key(caller), &Member { rev: true, ..member.clone() })?;
    }
    answer(host, caller, &table, request, &member)
}

fn answer(host: &impl Host, caller: &str, table: &Table, request: &Request, member: &Member) -> Result<Answer> {
    if request.rev.is_none() {
        let plain = table.plain(&host.id())?;
        // An original master's answer has the server that asks, and the table as the listeners know it may be older than that. Of many that join at once
        // each is told of itself with the others: they are given one text, and soon a newer one.
        let is_crowd = host.rev()?.saturating_sub(table.rev) > host.few() as u64;
        let own = if caller == host.id() || is_crowd { None } else { host.server(caller)? };
        return Ok(Answer::Plain(match own {
            Some(own) => plain.with_own(caller, own),
            None => plain,
        }));
    }
    let known = |rev, servers, changes| {
        let (listener, recorded) = (member.listens, member.recorded);
        Answer::Known(Known { epoch: table.epoch.clone(), rev, servers, changes, listener, recorded })
    };
    let Some(mark) = request.mark().filter(|mark| mark.epoch == table.epoch) else {
        return Ok(known(table.rev, Some(table.servers.clone()), None));
    };
    if mark.rev >= table.rev {
        return Ok(known(table.rev, None, None));
    }
    if request.changes
        && let Some((rev, changes)) = since(host, &mark, table)?
    {
        return Ok(known(rev, None, Some(changes)));
    }
    Ok(known(table.rev, Some(table.servers.clone()), None))
}

/// What leads from there to what the listeners know, and its revision, if that is known and much shorter than the table.
fn since(host: &impl Host, mark: &Mark, table: &Table) -> Result<Option<(u64, Box<RawValue>)>> {
    let (told, most) = (told_rev(host), host.short(table));
    host.history(|history| history.since(mark, told, most))
}

fn record(host: &impl Host, caller: &str) -> Result<Answer> {
    let mut member = match host.member(&key(caller))? {
        Some(member) => member,
        // It may have left while its message waited, and would never be forgotten then.
        None if host.server(caller)?.is_some() => Member { joined: Some(host.rev()?), ..Member::default() },
        None => Member { away: Some(millis(host)?), ..Member::default() },
    };
    member.recorded = true;
    // A program that is told that all servers have started looks for them. What it has not been told of yet comes with the next change, and this after it.
    // Our own monitors record again where that message was lost; a program of pomelo's would begin twice.
    let is_told = member.over && !member.rev;
    if host.text(STARTED).is_some() && told_rev(host) >= host.rev()? && !is_told {
        member.over = true;
        host.tell(&[caller], &Order::new("startOver"))?;
    }
    keep(host, caller, &member)?;
    start_over(host)?;
    Ok(Answer::Nothing)
}

/// Tells all listeners once all configured servers have started.
fn start_over(host: &impl Host) -> Result {
    if host.text(STARTED).is_some() {
        return Ok(());
    }
    // This runs at every message and event. While one server is known to be missing, the others are not looked at.
    let awaited = host.text(AWAITED);
    if let Some(id) = &awaited
        && !has_started(host, id)?
    {
        return Ok(());
    }
    let configured = host.configured()?;
    let from = configured.iter().position(|id| Some(id) == awaited.as_ref()).unwrap_or(0);
    let (before, after) = configured.split_at(from);
    for id in after.iter().chain(before) {
        if !has_started(host, id)? {
            return host.set_text(AWAITED, id);
        }
    }
    // A program that is told that all servers have started looks for them, so that it must know of them before. If it does not, a batch with them
    // is still to come.
    if told_rev(host) < host.rev()? {
        return Ok(());
    }
    let members = host.members(PREFIX)?;
    host.set_text(STARTED, "true")?;
    let listeners: Vec<&str> = listening(&members).map(|(id, _)| id).collect();
    tell(host, &listeners, &Order::new("startOver"))?;
    for (key, member) in members.iter().filter(|(_, member)| member.listens && member.away.is_none()) {
        host.set_member(key, &Member { over: true, ..member.clone() })?;
    }
    Ok(())
}

/// Tells those that all servers have started who came after that and had to be told of other servers first, or were away then.
fn tell_late(host: &impl Host, members: &[(String, Member)]) -> Result {
    if host.text(STARTED).is_none() || told_rev(host) < host.rev()? {
        return Ok(());
    }
    let is_late = |member: &Member| member.recorded && !member.over && member.away.is_none();
    let late: Vec<_> = members.iter().filter(|(_, member)| is_late(member)).collect();
    tell(host, &late.iter().map(|(key, _)| id(key)).collect::<Vec<_>>(), &Order::new("startOver"))?;
    for (key, _) in late {
        if let Some(member) = host.member(key)? {
            host.set_member(key, &Member { over: true, ..member })?;
        }
    }
    Ok(())
}

fn has_started(host: &impl Host, id: &str) -> Result<bool> {
    Ok(host.member(&key(id))?.is_some_and(|member| member.recorded && member.away.is_none()))
}

/// A batch of changes of the table.
pub fn changed(host: &impl Host, batch: Batch) -> Result {
    let Batch { since, rev, epoch, exact, events } = batch;
    let changes = net_changes(events);
    host.history(|history| history.add(&epoch, since, rev, exact, &changes));
    note(host, &changes)?;

    let members = host.members(PREFIX)?;
    let is_upheaval = changes.len() > host.few();
    let (back, others): (Vec<_>, Vec<_>) = told(&members).partition(|(id, member)| {
        let is_plain = !member.rev && member.at < rev;
        // A server of pomelo 2.x cannot say that its table is one for which the changes do not count.
        let lacks_some = exact && is_plain && member.at > since;
        lacks_some || is_plain && is_upheaval || matches!(changes.get(*id), Some(Change::Reconnected { .. }))
    });
    replace(host, &back, rev)?;

    let (ours, plain): (Vec<_>, Vec<_>) = others.into_iter().partition(|(_, member)| member.rev);
    let plain: Vec<_> = plain.into_iter().filter(|(_, member)| member.at < rev).collect();
    let net = Changes {
        since,
        exact,
        add: changes.values().filter_map(Change::info).cloned().collect(),
        remove: changes.iter().filter(|(_, change)| change.info().is_none()).map(|(id, _)| id.clone()).collect(),
    };
    let update = update(epoch, rev, net);
    tell(host, &ids(&ours), &update)?;
    let master = host.id();
    for (id, change) in changes.iter().filter(|(id, _)| **id != master) {
        let order = match change.info() {
            Some(info) => Order { server: Some(info.clone()), ..Order::new("addServer") },
            None => Order { id: Some(id.clone()), ..Order::new("removeServer") },
        };
        tell(host, &ids(&plain), &order)?;
    }
    host.set_text(TOLD, &rev.to_string())?;
    tell_late(host, &members)?;
    // The server that all waited for may be back, or all may know by now of those that have started.
    start_over(host)
}

/// Keeps what the changes mean for the listeners.
fn note(host: &impl Host, changes: &BTreeMap<String, Change>) -> Result {
    let now = millis(host)?;
    for (id, change) in changes {
        let key = key(id);
        match (change, host.member(&key)?) {
            (Change::Registered { rev, .. }, Some(member)) => match (member.joined, rev) {
                // A new process under this id has subscribed before this was told.
                (Some(joined), Some(rev)) if joined >= *rev => {
                    if member.away.is_some() {
                        keep(host, id, &Member { away: None, ..member })?;
                    }
                }
                (None, _) | (_, None) if member.away.is_none() => {}
                // It subscribes and records for itself.
                _ => host.delete(&key),
            },
            (Change::Registered { .. } | Change::Gone, None) => {}
            (Change::Gone, Some(member)) => {
                // In place of what is there, which is as long or has been away before.
                let at = if member.rev { told_rev(host) } else { member.at };
                keep(host, id, &Member { away: Some(now), at, ..member })?;
            }
            (Change::Reconnected { rev, revisions, .. }, member) => {
                let member = member.unwrap_or_default();
                // A restarted master does not know it yet.
                let joined = member.joined.max(*rev);
                keep(host, id, &Member { listens: true, rev: member.rev || *revisions, joined, away: None, ..member })?;
            }
        }
    }
    let forgotten = now.saturating_sub(u64::try_from(FORGOTTEN_AFTER.as_millis())?);
    let mut away = 0;
    for (key, member) in host.members(PREFIX)? {
        match member.away {
            Some(since) if since < forgotten => host.delete(&key),
            Some(_) => away += 1,
            None => {}
        }
    }
    // Below this number the configured servers need not be looked at.
    if away > MOST_AWAY { forget(host, MOST_AWAY) } else { Ok(()) }
}

/// Keeps what is known of a server. If the store is full, servers that are away give way.
fn keep(host: &impl Host, id: &str, member: &Member) -> Result {
    match host.set_member(&key(id), member) {
        Err(failure) if failure.code() == "store-full" => {
            forget(host, 0)?;
            host.set_member(&key(id), member)
        }
        kept => kept,
    }
}

/// Forgets servers that are away until `most` are left, or as many as are configured if those are more and `most` is not 0. Those that have been away for the
/// longest time go first, and of all those first that are not configured.
fn forget(host: &impl Host, most: usize) -> Result {
    let configured: BTreeSet<String> = host.configured()?.into_iter().collect();
    let most = if most == 0 { 0 } else { most.max(configured.len()) };
    let mut away: Vec<(bool, u64, String)> = host
        .members(PREFIX)?
        .into_iter()
        .filter_map(|(key, member)| Some((configured.contains(id(&key)), member.away?, key)))
        .collect();
    away.sort_unstable();
    let more = away.len().saturating_sub(most);
    away.iter().take(more).for_each(|(_, _, key)| host.delete(key));
    Ok(())
}

/// Gives the whole table to the servers that came back. The table has all changes up to `rev`.
fn replace(host: &impl Host, back: &[(&str, &Member)], rev: u64) -> Result {
    if back.is_empty() {
        return Ok(());
    }
    let table = host.table(rev)?;
    let (ours, plain): (Vec<_>, Vec<_>) = back.iter().copied().partition(|(_, member)| member.rev);
    if !plain.is_empty() {
        let servers = serde_json::value::to_raw_value(&table.plain(&host.id())?)?;
        tell(host, &ids(&plain), &Order { servers: Some(servers), ..Order::new("replaceServer") })?;
        for (id, member) in &plain {
            host.set_member(&key(id), &Member { at: table.rev, ..(*member).clone() })?;
        }
    }
    if !ours.is_empty() {
        host.tell(&ids(&ours), &again(host, &ours, &table)?)?;
    }
    Ok(())
}

/// What brings monitors of ours up to date that were away: the changes since the first of them left, where they are known and much shorter than the table. One
/// that has missed more asks.
fn again(host: &impl Host, back: &[(&str, &Member)], table: &Table) -> Result<Order> {
    let epoch = table.epoch.clone();
    let left = back.iter().map(|(_, member)| member.at).min().unwrap_or(0);
    let mark = Mark { epoch: epoch.clone(), rev: left };
    // A restarted master does not know when one left.
    let changes = if left > 0 { since(host, &mark, table)? } else { None };
    let Some((rev, changes)) = changes else {
        let (rev, servers) = (Some(table.rev), Some(table.servers.clone()));
        return Ok(Order { epoch: Some(epoch), rev, servers, ..Order::new("replaceServer") });
    };
    Ok(update(epoch, rev, serde_json::from_str(changes.get())?))
}

/// The order that brings a view from one table to a newer one.
fn update(epoch: String, rev: u64, changes: Changes) -> Order {
    let Changes { since, exact, add, remove } = changes;
    let (add, remove) = (Some(add), Some(remove));
    Order { epoch: Some(epoch), since: Some(since), rev: Some(rev), exact, add, remove, ..Order::new("update") }
}

fn tell(host: &impl Host, ids: &[&str], order: &Order) -> Result {
    if ids.is_empty() { Ok(()) } else { host.tell(ids, order) }
}

fn millis(host: &impl Host) -> Result<u64> {
    Ok(u64::try_from(host.now().as_millis())?)
}

/// The listeners that are told of changes. Those of ours that are not in the table are among them: the monitor of a server that drains, or whose program is
/// down, is connected as a rule, and the program looks at its view as long as it runs, and at once when it is started. Whoever is not connected is not
/// reached, and asks for the table when it comes back.
fn told(members: &[(String, Member)]) -> impl Iterator<Item = (&str, &Member)> {
    let told = |member: &Member| member.listens && (member.away.is_none() || member.rev);
    members.iter().filter(move |(_, member)| told(member)).map(|(key, member)| (id(key), member))
}

/// The listeners that are in the table.
fn listening(members: &[(String, Member)]) -> impl Iterator<Item = (&str, &Member)> {
    members.iter().filter(|(_, member)| member.listens && member.away.is_none()).map(|(key, member)| (id(key), member))
}

fn ids<'a>(members: &[(&'a str, &Member)]) -> Vec<&'a str> {
    members.iter().map(|(id, _)| *id).collect()
}

fn id(key: &str) -> &str {
    key.strip_prefix(PREFIX).unwrap_or(key)
}
