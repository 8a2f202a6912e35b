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
mod tests {
    use super::*;

    #[derive(Default)]
    struct Memory(Mutex<BTreeMap<String, String>>);

    impl Keeper for Memory {
        fn load(&self, _: &str) -> Vec<(String, String)> {
            self.0.lock().clone().into_iter().collect()
        }

        fn put(&self, _: &str, key: &str, value: Option<Arc<str>>) {
            match value {
                Some(value) => drop(self.0.lock().insert(key.into(), value.to_string())),
                None => drop(self.0.lock().remove(key)),
            }
        }
    }

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    fn comer<'a>(id: &'a str, server_type: &'a str, address: &str) -> Comer<'a> {
        Comer { id, server_type, address: address.parse().ok() }
    }

    #[test]
    fn a3_who_registered_before_comes_back_from_where_it_was_even_to_a_restarted_master() {
        let keeper = Arc::new(Memory::default());
        let check = |policy, expected: [bool; 4]| {
            let known_servers = KnownServers::new(policy, Some(keeper.clone()));
            let comers = [
                comer("chat-1", "chat", "10.0.0.1"),
                comer("chat-1", "chat", "10.0.0.2"),
                comer("chat-1", "gate", "10.0.0.1"),
                comer("chat-2", "chat", "10.0.0.1"),
            ];
            assert_eq!(comers.map(|comer| known_servers.admits(comer, at(9)).is_some()), expected, "{policy:?}");
        };
        let first = KnownServers::new(Reconnect::Known, Some(keeper.clone()));
        first.remember(comer("chat-1", "chat", "10.0.0.1"), Trust::of("token"), at(1));
        check(Reconnect::Known, [true, false, false, false]);
        check(Reconnect::KnownId, [true, true, false, false]);
        check(Reconnect::Any, [true; 4]);
        check(Reconnect::Never, [false; 4]);
    }

    #[test]
    fn a3_who_waits_is_shown_and_admitted_for_a_time() {
        let known_servers = KnownServers::new(Reconnect::Known, None);
        let chat = comer("chat-1", "chat", "10.0.0.1");
        assert_eq!([known_servers.admits(chat, at(1)), known_servers.admits(chat, at(2))], [None, None]);
        let waiting = &known_servers.waiting()["chat-1"];
        assert_eq!((waiting.since, waiting.last, waiting.tries), (1, 2, 2));
        assert!(known_servers.admit(&["chat-1".into()], Duration::from_secs(10), at(3)));
        assert_eq!(known_servers.admits(chat, at(13)), None, "the time is over");
        assert!(known_servers.admit(&["chat-1".into()], Duration::from_secs(10), at(14)));
        let trust = known_servers.admits(chat, at(15)).unwrap();
        known_servers.remember(chat, trust, at(15));
        assert!(known_servers.waiting().is_empty());
        assert_eq!(known_servers.admits(chat, at(99)), Some(Trust::Known));
        assert!(known_servers.admit(&[], Duration::from_secs(10), at(100)));
        assert!(known_servers.admits(comer("any", "gate", "10.0.0.9"), at(101)).is_some());
        assert_eq!(known_servers.admits(comer("more", "gate", "10.0.0.9"), at(111)), None);
    }

    #[test]
    fn a3_whom_a_rule_for_all_lets_in_is_not_known_by_that() {
        let keeper = Arc::new(Memory::default());
        let chat = comer("chat-1", "chat", "10.0.0.1");
        for (policy, admitted) in [(Reconnect::Any, false), (Reconnect::Known, true), (Reconnect::KnownId, true)] {
            let known_servers = KnownServers::new(policy, Some(keeper.clone()));
            assert!(!admitted || known_servers.admit(&[], Duration::from_secs(10), at(1)));
            let trust = known_servers.admits(chat, at(2)).unwrap();
            known_servers.remember(chat, trust, at(2));
            assert!(keeper.0.lock().is_empty(), "{policy:?}");
        }
    }

    #[test]
    fn a3_who_is_known_by_a_token_is_forgotten_with_it_and_coming_back_does_not_change_by_what() {
        let keeper = Arc::new(Memory::default());
        let known_servers = KnownServers::new(Reconnect::KnownId, Some(keeper.clone()));
        let (chat, gate) = (comer("chat-1", "chat", "10.0.0.1"), comer("gate-1", "gate", "10.0.0.1"));
        known_servers.remember(chat, Trust::of("old"), at(1));
        assert!(known_servers.admit(&["gate-1".into()], Duration::from_secs(10), at(1)));
        let trust = known_servers.admits(gate, at(2)).unwrap();
        known_servers.remember(gate, trust, at(2));
        // It comes back again and again, from elsewhere as well.
        let elsewhere = comer("chat-1", "chat", "10.0.0.2");
        let trust = known_servers.admits(elsewhere, at(3)).unwrap();
        known_servers.remember(elsewhere, trust, at(2 * REFRESHED));
        // A restarted master knows by what.
        let restarted = KnownServers::new(Reconnect::Known, Some(keeper.clone()));
        assert_eq!(restarted.admits(elsewhere, at(4)), None);
        restarted.retain(|server_type, digest| (server_type, digest) == ("chat", &*Tokens::digest("old")));
        assert_eq!(restarted.admits(chat, at(5)), Some(Trust::Known));
        restarted.retain(|_, _| false);
        assert_eq!((restarted.admits(chat, at(6)), restarted.admits(gate, at(6))), (None, Some(Trust::Known)));
        assert_eq!(keeper.0.lock().keys().collect::<Vec<_>>(), ["gate-1"]);
    }

    #[test]
    fn only_so_many_are_remembered_waiting_and_admitted() {
        let keeper = Arc::new(Memory::default());
        let known_servers = KnownServers::new(Reconnect::KnownId, Some(keeper.clone()));
        for n in 0..=MAX_KNOWN as u64 {
            known_servers.remember(comer(&format!("chat-{n}"), "chat", ""), Trust::of("token"), at(n));
        }
        assert_eq!(keeper.0.lock().len(), MAX_KNOWN);
        assert_eq!(known_servers.admits(comer("chat-0", "chat", ""), at(1)), None, "the oldest went first");
        for n in 0..2 * MAX_WAITING as u64 {
            known_servers.admits(comer(&format!("new-{n}"), "chat", ""), at(n));
        }
        assert_eq!(known_servers.waiting().len(), MAX_WAITING);
        let ids: Vec<String> = (0..=MAX_ADMITTED).map(|n| n.to_string()).collect();
        assert!(!known_servers.admit(&ids, Duration::from_secs(1), at(1)));
        assert!(known_servers.admit(&ids[1..], Duration::from_secs(1), at(1)));
    }
}
