//! Who comes back without a token.
//!
//! The `reconnect` of a pomelo 2.x server carries none. Where tokens are asked for, such a server is let in where it registered with a valid one before, which
//! is remembered beyond the process, for as long as that token is valid: a restarted master takes its fleet back. So is one that the operator has
//! admitted by its name. Others are noted as waiting, and their connections are closed without an answer, so that they try again, every minute at
//! most, until the operator admits them. Whom a rule for all lets in is not known by that.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::auth::{Reconnect, Tokens};
use crate::plugin::Keeper;

/// Servers that are remembered; above it the one that was seen longest ago is forgotten.
const MAX_KNOWN: usize = 8192;
/// Servers that are shown as waiting; above it the one that tried longest ago is left out.
const MAX_WAITING: usize = 1024;
/// Ids that may be admitted at a time.
const MAX_ADMITTED: usize = 1024;
/// What is remembered is written again when it is older than this.
const REFRESHED: u64 = 3600;
/// The keeper's scope. No module id has a space.
const SCOPE: &str = "returning servers";

/// Who may come back, who waits for it, and whom the operator admits.
pub(super) struct KnownServers {
    policy: Reconnect,
    keeper: Option<Arc<dyn Keeper>>,
    lists: Mutex<Lists>,
}

#[derive(Default)]
struct Lists {
    known: BTreeMap<String, Known>,
    waiting: BTreeMap<String, Waiting>,
    /// Ids that the operator admits, and until when.
    admitted: BTreeMap<String, SystemTime>,
    /// Until when the operator admits all.
    all: Option<SystemTime>,
}

/// Why a server is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// It may be known from now on.
    Given(By),
    /// It is known.
    Known,
    /// All are let in.
    Passing,
}

/// What a server is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum By {
    /// It has shown the token of this digest.
    Token(String),
    /// The operator has named it.
    Operator,
}

impl Trust {
    /// Of a server that shows a valid token.
    pub fn of(token: &str) -> Self {
        Trust::Given(By::Token(Tokens::digest(token)))
    }
}

/// A server that may come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    server_type: String,
    /// Why.
    by: By,
    /// Where from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    address: Option<IpAddr>,
    /// When last, seconds since 1970.
    seen: u64,
}

/// A server that comes back and is not let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Waiting {
    /// What it says it is.
    pub server_type: String,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// When it tried first and last, seconds since 1970.
    pub since: u64,
    pub last: u64,
    /// How often.
    pub tries: u64,
}

/// A peer that comes back.
#[derive(Clone, Copy)]
pub(super) struct Comer<'a> {
    pub id: &'a str,
    pub server_type: &'a str,
    pub address: Option<IpAddr>,
}

impl KnownServers {
    /// What is known is read from the keeper.
    pub fn new(policy: Reconnect, keeper: Option<Arc<dyn Keeper>>) -> Self {
        let kept = keeper.iter().flat_map(|keeper| keeper.load(SCOPE));
        // What another version has written in another form is as good as nothing.
        let known = kept.filter_map(|(id, text)| Some((id, serde_json::from_str(&text).ok()?))).collect();
        KnownServers { policy, keeper, lists: Mutex::new(Lists { known, ..Lists::default() }) }
    }

    /// A server was let in. Where that gives it the right to, it may come back.
    pub fn remember(&self, comer: Comer<'_>, trust: Trust, now: SystemTime) {
        let mut lists = self.lists.lock();
        lists.waiting.remove(comer.id);
        let (by, address) = match (trust, lists.known.get(comer.id)) {
            (Trust::Given(by), _) => (by, comer.address),
            // What it has shown, and where, stays what it was.
            (Trust::Known, Some(known)) => (known.by.clone(), known.address),
            (Trust::Known, None) | (Trust::Passing, _) => return,
        };
        lists.admitted.remove(comer.id);
        let known = Known { server_type: comer.server_type.to_owned(), by, address, seen: seconds(now) };
        let fresh = |old: &Known| {
            (&old.server_type, &old.by, old.address) == (&known.server_type, &known.by, known.address)
                && known.seen.saturating_sub(old.seen) < REFRESHED
        };
        if lists.known.get(comer.id).is_some_and(fresh) {
            return;
        }
        let oldest = |lists: &Lists| lists.known.iter().min_by_key(|(_, known)| known.seen).map(|(id, _)| id.clone());
        if lists.known.len() >= MAX_KNOWN
            && !lists.known.contains_key(comer.id)
            && let Some(oldest) = oldest(&lists)
        {
            lists.known.remove(&oldest);
            self.keep(&oldest, None);
        }
        self.keep(comer.id, serde_json::to_string(&known).ok());
        lists.known.insert(comer.id.to_owned(), known);
    }

    /// Forgets those that have shown a token which is valid no longer: the question is asked with a server type and a digest.
    pub fn retain(&self, valid: impl Fn(&str, &str) -> bool) {
        let mut lists = self.lists.lock();
        // Servers of a type share a few tokens: each is looked at once.
        let mut asked: BTreeMap<(String, String), bool> = BTreeMap::new();
        lists.known.retain(|id, known| {
            let By::Token(digest) = &known.by else { return true };
            let question = (known.server_type.clone(), digest.clone());
            let valid = *asked.entry(question).or_insert_with(|| valid(&known.server_type, digest));
            if !valid {
                tracing::info!(server = %id, "the token that it has shown is valid no longer: it does not come back without one");
                self.keep(id, None);
            }
            valid
        });
    }

    fn keep(&self, id: &str, text: Option<String>) {
        if let Some(keeper) = &self.keeper {
            keeper.put(SCOPE, id, text.map(Into::into));
        }
    }

    /// Why a server may come back without a token. One that may not is noted as waiting.
    pub fn admits(&self, comer: Comer<'_>, now: SystemTime) -> Option<Trust> {
        let mut lists = self.lists.lock();
        lists.expire(now);
        let known = lists.known.get(comer.id).filter(|known| known.server_type == comer.server_type);
        let is_known = match self.policy {
            Reconnect::Known => known.is_some_and(|known| known.address == comer.address),
            Reconnect::KnownId | Reconnect::Any => known.is_some(),
            Reconnect::Never => false,
        };
        if is_known {
            return Some(Trust::Known);
        } else if lists.admitted.contains_key(comer.id) {
            return Some(Trust::Given(By::Operator));
        } else if lists.all.is_some() || self.policy == Reconnect::Any {
            return Some(Trust::Passing);
        }
        let now = seconds(now);
        let new = Waiting {
            server_type: comer.server_type.to_owned(),
            address: comer.address,
            since: now,
            last: now,
            tries: 0,
        };
        let since = lists.waiting.get(comer.id).map_or((now, 0), |before| (before.since, before.tries));
        let waiting = Waiting { since: since.0, tries: since.1.saturating_add(1), ..new };
        lists.waiting.insert(comer.id.to_owned(), waiting);
        if lists.waiting.len() > MAX_WAITING {
            let oldest = lists.waiting.iter().min_by_key(|(_, waiting)| waiting.last).map(|(id, _)| id.clone());
            oldest.map(|id| lists.waiting.remove(&id));
        }
        None
    }

    /// Lets ids, or all where none is given, come back for a time. False where that would be too many ids.
    pub fn admit(&self, ids: &[String], time: Duration, now: SystemTime) -> bool {
        let (mut lists, until) = (self.lists.lock(), now + time);
        lists.expire(now);
        if lists.admitted.len() + ids.len() > MAX_ADMITTED {
            return false;
        }
        if ids.is_empty() {
            lists.all = Some(until);
        }
        lists.admitted.extend(ids.iter().map(|id| (id.clone(), until)));
        true
    }

    /// Who waits.
    pub fn waiting(&self) -> BTreeMap<String, Waiting> {
        self.lists.lock().waiting.clone()
    }
}

impl Lists {
    fn expire(&mut self, now: SystemTime) {
        self.admitted.retain(|_, until| *until > now);
        self.all = self.all.filter(|until| *until > now);
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
