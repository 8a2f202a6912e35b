//! Which servers may come back without a token.
//!
//! The `reconnect` of a pomelo 2.x server carries no token. If tokens are required, such a server is let in if it is known: it has registered with a
//! valid token before, or the operator has admitted it by its id. Known servers are kept in the database, so that a restarted master takes its fleet
//! back, and are forgotten when their token is removed.
//!
//! Other servers are listed as waiting. Their connections are closed without an answer, because a pomelo server that gets an answer gives up, while one
//! without tries again, every minute or sooner, until the operator admits it. A rule that lets all servers in makes none of them known.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::members::IsNamed;
use crate::auth::{Reconnect, Tokens};
use crate::failure::Failure;
use crate::plugin::Keeper;

/// Servers that are remembered. If there are more, the one that was seen longest ago is forgotten, of those first that the configuration does not name.
const MAX_KNOWN: usize = 8192;
/// Servers that are listed as waiting. If there are more, the one that tried longest ago is left out, of those first that the configuration does not name.
const MAX_WAITING: usize = 1024;
/// Ids that may be admitted at a time.
const MAX_ADMITTED: usize = 1024;
/// Seconds after which a server's time of `seen` is written anew.
const REFRESHED: u64 = 3600;
/// The keeper's scope. No module id has a space.
const SCOPE: &str = "returning servers";

/// The servers that may come back, those that wait for it, and those that the operator admits.
pub(super) struct KnownServers {
    policy: Reconnect,
    keeper: Option<Arc<dyn Keeper>>,
    lists: Mutex<Lists>,
    is_named: IsNamed,
}

/// A moment, by both clocks. What is kept and shown is of the day. What lasts for a time must not end sooner or later because somebody sets the clock.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    wall: SystemTime,
    /// Since a moment of this process, by the clock that nobody sets.
    since: Duration,
}

impl Moment {
    pub fn now() -> Self {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        Moment { wall: SystemTime::now(), since: BEGAN.elapsed() }
    }

    fn seconds(self) -> u64 {
        self.wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

/// The known, the waiting and the admitted servers.
#[derive(Default)]
struct Lists {
    known: BTreeMap<String, Known>,
    waiting: BTreeMap<String, Waiting>,
    /// Ids that the operator admits, and until when by the clock that nobody sets.
    admitted: BTreeMap<String, Duration>,
    /// Until when the operator admits all.
    all: Option<Duration>,
}

/// Why a server is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// It is known from now on, by this.
    Given(By),
    /// It was known before.
    Known,
    /// All servers are let in at the moment. That makes none known.
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
    /// The trust in a server that shows a valid token.
    pub fn of(token: &str) -> Self {
        Trust::Given(By::Token(Tokens::digest(token)))
    }
}

/// A server that may come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    server_type: String,
    by: By,
    /// The address that it came from when it became known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    address: Option<IpAddr>,
    /// When it was let in last, seconds since 1970.
    seen: u64,
}

/// A server that tried to come back and was not let in.
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
    /// Reads the known servers from the keeper.
    ///
    /// # Errors
    /// `failed` where the keeper cannot read them.
    pub fn new(policy: Reconnect, keeper: Option<Arc<dyn Keeper>>) -> Result<Self, Failure> {
        let kept = keeper.as_ref().map_or(Ok(Vec::new()), |keeper| keeper.load(SCOPE))?;
        // An entry that cannot be read was written by another version in another form, and is ignored.
        let known = kept.into_iter().filter_map(|(id, text)| Some((id, serde_json::from_str(&text).ok()?))).collect();
        let lists = Mutex::new(Lists { known, ..Lists::default() });
        Ok(KnownServers { policy, keeper, lists, is_named: Arc::new(|_| false) })
    }

    /// The same; `is_named` says which servers the configuration names or were added.
    pub fn knowing(self, is_named: IsNamed) -> Self {
        KnownServers { is_named, ..self }
    }

    /// A server was let in. It is known from now on if its trust says so.
    pub fn remember(&self, comer: Comer<'_>, trust: Trust, now: Moment) {
        let mut lists = self.lists.lock();
        lists.waiting.remove(comer.id);
        let (by, address) = match (trust, lists.known.get(comer.id)) {
            (Trust::Given(by), _) => (by, comer.address),
            // What made it known, and where it came from then, stay as they were.
            (Trust::Known, Some(known)) => (known.by.clone(), known.address),
            (Trust::Known, None) | (Trust::Passing, _) => return,
        };
        lists.admitted.remove(comer.id);
        let known = Known { server_type: comer.server_type.to_owned(), by, address, seen: now.seconds() };
        let fresh = |old: &Known| {
            (&old.server_type, &old.by, old.address) == (&known.server_type, &known.by, known.address)
                && known.seen.saturating_sub(old.seen) < REFRESHED
        };
        if lists.known.get(comer.id).is_some_and(fresh) {
            return;
        }
        let oldest = |lists: &Lists| {
            lists.known.iter().min_by_key(|(id, known)| ((self.is_named)(id), known.seen)).map(|(id, _)| id.clone())
        };
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

    /// Forgets the servers that are known by a token which is no longer valid. `valid` is asked with a server type and a token's digest.
    pub fn retain(&self, valid: impl Fn(&str, &str) -> bool) {
        let mut lists = self.lists.lock();
        // Servers of a type share a few tokens: each is looked at once.
        let mut asked: BTreeMap<(String, String), bool> = BTreeMap::new();
        lists.known.retain(|id, known| {
            let By::Token(digest) = &known.by else { return true };
            let question = (known.server_type.clone(), digest.clone());
            let valid = *asked.entry(question).or_insert_with(|| valid(&known.server_type, digest));
            if !valid {
                tracing::info!(server = %id, "the token by which it is known is no longer valid: it needs a token to come back");
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

    /// Why a server may come back without a token. A server that may not is listed as waiting.
    pub fn admits(&self, comer: Comer<'_>, now: Moment) -> Option<Trust> {
        let mut lists = self.lists.lock();
        lists.expire(now.since);
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
        let now = now.seconds();
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
            let order = |(id, waiting): &(&String, &Waiting)| ((self.is_named)(id), waiting.last);
            let oldest = lists.waiting.iter().min_by_key(order).map(|(id, _)| id.clone());
            oldest.map(|id| lists.waiting.remove(&id));
        }
        None
    }

    /// Lets the servers of these ids come back for a time, or all if no id is given. False if too many ids would be admitted.
    pub fn admit(&self, ids: &[String], time: Duration, now: Moment) -> bool {
        let (mut lists, until) = (self.lists.lock(), now.since.saturating_add(time));
        lists.expire(now.since);
        if lists.admitted.len() + ids.len() > MAX_ADMITTED {
            return false;
        }
        if ids.is_empty() {
            lists.all = Some(until);
        }
        lists.admitted.extend(ids.iter().map(|id| (id.clone(), until)));
        true
    }

    /// The waiting servers by id.
    pub fn waiting(&self) -> BTreeMap<String, Waiting> {
        self.lists.lock().waiting.clone()
    }
}

impl Lists {
    fn expire(&mut self, now: Duration) {
        self.admitted.retain(|_, until| *until > now);
        self.all = self.all.filter(|until| *until > now);
    }
}

#[cfg(test)]
mod tests;
