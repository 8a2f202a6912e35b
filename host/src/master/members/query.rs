//! What can be read of the members: the server table, and which members a target names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::sync::watch;

use super::member::{first, primary};
use super::{Member, MemberTable, Members};
use crate::wire::{Capabilities, Info, Phase, raw};

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
    /// The table's revision since which the entry is as it is.
    pub since: u64,
    /// The table's revision when its monitor registered, which may be before that: it may have stood behind another, or its program may not have run.
    pub arrived: u64,
    /// Whether its monitor came back rather than came.
    pub returned: bool,
}

fn snapshot(table: &MemberTable) -> Snapshot {
    let entry = |member: &Member| Entry {
        info: member.info.clone(),
        text: member.text.clone(),
        capabilities: member.capabilities.clone(),
        since: member.since,
        arrived: member.arrived.unwrap_or(member.since),
        returned: member.returned,
    };
    let servers = table.servers.iter().filter_map(|(id, all)| Some((id.clone(), entry(primary(all)?)))).collect();
    Snapshot { rev: table.rev, servers }
}

impl Members {
    /// The server table now.
    pub fn snapshot(&self) -> Snapshot {
        snapshot(&self.table.lock())
    }

    /// The server table now, and which servers have left it since a revision and are not back. They are absent where not all of them are known any more.
    pub fn snapshot_since(&self, since: u64) -> (Snapshot, Option<BTreeSet<String>>) {
        let table = self.table.lock();
        let now = snapshot(&table);
        let left = (table.left_since <= since).then(|| {
            // One that comes and goes again and again is one.
            let later = table.left.iter().skip(table.left.partition_point(|(rev, _)| *rev <= since));
            later.filter(|(_, id)| !now.servers.contains_key(id)).map(|(_, id)| id.clone()).collect()
        });
        (now, left)
    }

    /// The table as JSON: `rev`, `epoch`, `servers` and `capabilities`.
    pub fn to_json(&self) -> Arc<RawValue> {
        #[derive(serde::Serialize)]
        struct Json<'a> {
            rev: u64,
            epoch: &'a str,
            servers: BTreeMap<&'a str, &'a RawValue>,
            capabilities: BTreeMap<&'a str, &'a RawValue>,
        }
        let (rev, members) = {
            let table = self.table.lock();
            if let Some((rev, json)) = &table.json
                && *rev == table.rev
            {
                return json.clone();
            }
            let parts = |(id, all): (&String, &Vec<Member>)| {
                let member = primary(all)?;
                let capabilities = (!member.capabilities.0.is_empty()).then(|| member.capabilities_text.clone());
                Some((id.clone(), member.text.clone(), capabilities))
            };
            (table.rev, table.servers.iter().filter_map(parts).collect::<Vec<_>>())
        };
        // Nothing as large as the table is made while the table is locked.
        let servers = members.iter().map(|(id, text, _)| (id.as_str(), &**text)).collect();
        let mut capable = BTreeMap::new();
        for (id, _, capabilities) in &members {
            if let Some(capabilities) = capabilities {
                capable.insert(id.as_str(), &**capabilities);
            }
        }
        let json: Arc<RawValue> = raw(&Json { rev, epoch: &self.epoch, servers, capabilities: capable }).into();
        let mut table = self.table.lock();
        if table.rev == rev {
            table.json = Some((rev, json.clone()));
        }
        json
    }

    /// What others are told about a server, if it is in the table.
    pub fn info(&self, id: &str) -> Option<Arc<RawValue>> {
        self.table.lock().servers.get(id).and_then(|members| primary(members)).map(|member| member.text.clone())
    }

    /// The members that targets name, each once, and the targets that name nobody.
    pub fn resolve(&self, targets: &[String]) -> (Vec<Member>, Vec<String>) {
        let table = self.table.lock();
        let mut found: BTreeMap<u64, Member> = BTreeMap::new();
        let mut nobody = Vec::new();
        // A server that does not run has no primary, but its monitor can be asked.
        let primaries = || table.servers.values().filter_map(|members| first(members).cloned());
        for target in targets {
            let named: Vec<Member> = if let Some(members) = table.servers.get(target) {
                first(members).cloned().into_iter().collect()
            } else if target == "*" {
                // No failure if no server is there: a question to all may have no answers.
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

    /// What each server does, as the monitor said last that stands for it: the primary, or the oldest if no monitor's server runs. Servers are absent
    /// whose monitor does not say it, such as those of pomelo 2.x. Those whose connection is lost keep what they said last.
    pub fn phases(&self) -> BTreeMap<String, Arc<Phase>> {
        let table = self.table.lock();
        let said = |members: &Vec<Member>| first(members)?.phase.clone();
        table.servers.iter().filter_map(|(id, members)| Some((id.clone(), said(members)?))).collect()
    }

    /// The monitor that is asked about each id.
    pub(in crate::master) fn firsts(&self) -> Vec<Member> {
        self.table.lock().servers.values().filter_map(|members| first(members).cloned()).collect()
    }

    /// The monitor that is asked about an id.
    pub(in crate::master) fn first(&self, id: &str) -> Option<Member> {
        self.table.lock().servers.get(id).and_then(|members| first(members).cloned())
    }

    /// Whether a server is in the table, and its connection is not lost.
    pub(in crate::master) fn is_present(&self, id: &str) -> bool {
        self.table.lock().servers.get(id).and_then(|members| primary(members)).is_some_and(|member| !member.lost)
    }

    /// Waits until a connection no longer stands for an id.
    pub(in crate::master) async fn over(&self, id: &str, connection: u64) {
        let mut changed = self.phase_changed();
        loop {
            changed.mark_unchanged();
            let there = {
                let table = self.table.lock();
                let members = table.servers.get(id).into_iter().flatten();
                members.into_iter().any(|member| member.connection() == connection)
            };
            // The sender lives as long as the members do.
            if !there || changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// A number that grows whenever what [`Members::phases`] gives, or who is connected, has changed.
    pub fn phase_changed(&self) -> watch::Receiver<u64> {
        self.phases.subscribe()
    }

    /// All connected monitors, slaves among them.
    pub fn all(&self) -> Vec<Member> {
        self.table.lock().servers.values().flatten().filter(|member| !member.lost).cloned().collect()
    }

    /// How many servers are in the table, and how many clients are connected.
    pub fn count(&self) -> (usize, usize) {
        let table = self.table.lock();
        let servers = table.servers.values().filter(|members| primary(members).is_some()).count();
        (servers, table.clients.len())
    }
}
