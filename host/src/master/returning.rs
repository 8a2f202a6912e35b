//! Who comes back without a token.
//!
//! The `reconnect` of a pomelo 2.x server carries none. Where tokens are asked for, such a server is let in where it registered with a valid one before, which
//! is remembered beyond the process: a restarted master takes its fleet back. Others are noted as waiting, and their connections are closed without an
//! answer, so that they try again, every minute at most, until the operator admits them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::auth::Reconnect;
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
pub(super) struct Returning {
    policy: Reconnect,
    keeper: Option<Arc<dyn Keeper>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: BTreeMap<String, Known>,
    waiting: BTreeMap<String, Waiting>,
    /// Ids that the operator admits, and until when.
    admitted: BTreeMap<String, SystemTime>,
    /// Until when the operator admits all.
    all: Option<SystemTime>,
}

/// A server that has registered with a valid token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    server_type: String,
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

impl Returning {
    /// What is known is read from the keeper.
    pub fn new(policy: Reconnect, keeper: Option<Arc<dyn Keeper>>) -> Self {
        let kept = keeper.iter().flat_map(|keeper| keeper.load(SCOPE));
        // What another version has written in another form is as good as nothing.
        let known = kept.filter_map(|(id, text)| Some((id, serde_json::from_str(&text).ok()?))).collect();
        Returning { policy, keeper, state: Mutex::new(State { known, ..State::default() }) }
    }

    /// A server has registered with a valid token, or was let in without: it may come back.
    pub fn remember(&self, comer: Comer<'_>, now: SystemTime) {
        let mut state = self.state.lock();
        state.waiting.remove(comer.id);
        state.admitted.remove(comer.id);
        let known = Known { server_type: comer.server_type.to_owned(), address: comer.address, seen: seconds(now) };
        let fresh = |old: &Known| {
            (&old.server_type, old.address) == (&known.server_type, known.address)
                && known.seen.saturating_sub(old.seen) < REFRESHED
        };
        if state.known.get(comer.id).is_some_and(fresh) {
            return;
        }
        let oldest = |state: &State| state.known.iter().min_by_key(|(_, known)| known.seen).map(|(id, _)| id.clone());
        if state.known.len() >= MAX_KNOWN
            && !state.known.contains_key(comer.id)
            && let Some(oldest) = oldest(&state)
        {
            state.known.remove(&oldest);
            self.keep(&oldest, None);
        }
        self.keep(comer.id, serde_json::to_string(&known).ok());
        state.known.insert(comer.id.to_owned(), known);
    }

    fn keep(&self, id: &str, text: Option<String>) {
        if let Some(keeper) = &self.keeper {
            keeper.put(SCOPE, id, text.map(Into::into));
        }
    }

    /// Whether a server may come back without a token. One that may not is noted as waiting.
    pub fn admits(&self, comer: Comer<'_>, now: SystemTime) -> bool {
        let mut state = self.state.lock();
        state.expire(now);
        let known = state.known.get(comer.id).filter(|known| known.server_type == comer.server_type);
        let by_policy = match self.policy {
            Reconnect::Known => known.is_some_and(|known| known.address == comer.address),
            Reconnect::KnownId => known.is_some(),
            Reconnect::Any => true,
            Reconnect::Never => false,
        };
        if by_policy || state.all.is_some() || state.admitted.contains_key(comer.id) {
            return true;
        }
        let now = seconds(now);
        let new = Waiting {
            server_type: comer.server_type.to_owned(),
            address: comer.address,
            since: now,
            last: now,
            tries: 0,
        };
        let since = state.waiting.get(comer.id).map_or((now, 0), |before| (before.since, before.tries));
        let waiting = Waiting { since: since.0, tries: since.1.saturating_add(1), ..new };
        state.waiting.insert(comer.id.to_owned(), waiting);
        if state.waiting.len() > MAX_WAITING {
            let oldest = state.waiting.iter().min_by_key(|(_, waiting)| waiting.last).map(|(id, _)| id.clone());
            oldest.map(|id| state.waiting.remove(&id));
        }
        false
    }

    /// Lets ids, or all where none is given, come back for a time. False where that would be too many ids.
    pub fn admit(&self, ids: &[String], time: Duration, now: SystemTime) -> bool {
        let (mut state, until) = (self.state.lock(), now + time);
        state.expire(now);
        if state.admitted.len() + ids.len() > MAX_ADMITTED {
            return false;
        }
        if ids.is_empty() {
            state.all = Some(until);
        }
        state.admitted.extend(ids.iter().map(|id| (id.clone(), until)));
        true
    }

    /// Who waits.
    pub fn waiting(&self) -> BTreeMap<String, Waiting> {
        self.state.lock().waiting.clone()
    }
}

impl State {
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
            let returning = Returning::new(policy, Some(keeper.clone()));
            let comers = [
                comer("chat-1", "chat", "10.0.0.1"),
                comer("chat-1", "chat", "10.0.0.2"),
                comer("chat-1", "gate", "10.0.0.1"),
                comer("chat-2", "chat", "10.0.0.1"),
            ];
            assert_eq!(comers.map(|comer| returning.admits(comer, at(9))), expected, "{policy:?}");
        };
        Returning::new(Reconnect::Known, Some(keeper.clone())).remember(comer("chat-1", "chat", "10.0.0.1"), at(1));
        check(Reconnect::Known, [true, false, false, false]);
        check(Reconnect::KnownId, [true, true, false, false]);
        check(Reconnect::Any, [true; 4]);
        check(Reconnect::Never, [false; 4]);
    }

    #[test]
    fn a3_who_waits_is_shown_and_admitted_for_a_time() {
        let returning = Returning::new(Reconnect::Known, None);
        let chat = comer("chat-1", "chat", "10.0.0.1");
        assert!(!returning.admits(chat, at(1)) && !returning.admits(chat, at(2)));
        let waiting = &returning.waiting()["chat-1"];
        assert_eq!((waiting.since, waiting.last, waiting.tries), (1, 2, 2));
        assert!(returning.admit(&["chat-1".into()], Duration::from_secs(10), at(3)));
        assert!(!returning.admits(chat, at(13)), "the time is over");
        assert!(returning.admit(&["chat-1".into()], Duration::from_secs(10), at(14)));
        assert!(returning.admits(chat, at(15)));
        returning.remember(chat, at(15));
        assert!(returning.waiting().is_empty() && returning.admits(chat, at(99)), "it is known now");
        assert!(returning.admit(&[], Duration::from_secs(10), at(100)));
        assert!(returning.admits(comer("any", "gate", "10.0.0.9"), at(101)));
        assert!(!returning.admits(comer("more", "gate", "10.0.0.9"), at(111)));
    }

    #[test]
    fn only_so_many_are_remembered_waiting_and_admitted() {
        let keeper = Arc::new(Memory::default());
        let returning = Returning::new(Reconnect::KnownId, Some(keeper.clone()));
        for n in 0..=MAX_KNOWN as u64 {
            returning.remember(comer(&format!("chat-{n}"), "chat", ""), at(n));
        }
        assert_eq!(keeper.0.lock().len(), MAX_KNOWN);
        assert!(!returning.admits(comer("chat-0", "chat", ""), at(1)), "the oldest went first");
        for n in 0..2 * MAX_WAITING as u64 {
            returning.admits(comer(&format!("new-{n}"), "chat", ""), at(n));
        }
        assert_eq!(returning.waiting().len(), MAX_WAITING);
        let ids: Vec<String> = (0..=MAX_ADMITTED).map(|n| n.to_string()).collect();
        assert!(!returning.admit(&ids, Duration::from_secs(1), at(1)));
        assert!(returning.admit(&ids[1..], Duration::from_secs(1), at(1)));
    }
}
