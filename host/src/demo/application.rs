//! The functions that the demo's server offers its monitor: who is connected, settings, a blacklist, its state, an action for crons, its drain and its
//! end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::say;
use crate::failure::{Failure, code};
use crate::monitor::application::{Change, Functions};

/// The most settings.
const MAX_SETTINGS: usize = 256;
/// The most patterns of the blacklist.
const MAX_PATTERNS: usize = 1000;

/// The state of the server.
#[derive(Default)]
pub(super) struct Application {
    members: Mutex<BTreeSet<String>>,
    settings: Mutex<BTreeMap<String, Value>>,
    blacklist: Mutex<Vec<String>>,
    connections: Mutex<BTreeMap<u64, Connection>>,
    /// Whether it takes no new connections, because it drains.
    drains: AtomicBool,
    /// Lines that were answered.
    answered: AtomicU64,
    last: AtomicU64,
}

/// A connection of a user's.
struct Connection {
    address: SocketAddr,
    /// The user's name and the time of the login, milliseconds since 1970; absent before the login.
    login: Option<(String, u64)>,
}

/// Takes a connection out of the list when it is over.
pub(super) struct Connected {
    application: Arc<Application>,
    number: u64,
}

#[derive(Deserialize)]
struct Setting {
    key: String,
    #[serde(default)]
    value: Value,
}

impl Application {
    /// Adds a user's connection. Absent if the address is on the blacklist, and while the server drains.
    pub(super) fn connected(self: &Arc<Self>, address: SocketAddr) -> Option<Connected> {
        if self.drains.load(Ordering::Acquire) {
            return None;
        }
        if self.blacklist.lock().iter().any(|pattern| matches(pattern, address.ip())) {
            return None;
        }
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        self.connections.lock().insert(number, Connection { address, login: None });
        Some(Connected { application: self.clone(), number })
    }

    /// The functions that are offered. `end` is cancelled when the monitor asks the server to end.
    pub(super) fn functions(self: &Arc<Self>, end: CancellationToken) -> Functions {
        /// A function of the application's, under its name.
        fn with<A, R>(
            application: &Arc<Application>,
            function: fn(&Application, A) -> Result<R, Failure>,
        ) -> impl Fn(A) -> futures_util::future::Ready<Result<R, Failure>> + use<A, R> {
            let application = application.clone();
            move |args| futures_util::future::ready(function(&application, args))
        }
        let nothing = |_: IgnoredAny| async { Ok(json!({})) };
        Functions::new()
            .on("connections", with(self, |application, _: IgnoredAny| Ok(application.logins())))
            .on("logins", with(self, |application, _: IgnoredAny| Ok(application.logins())))
            .on("settings", with(self, |application, _: IgnoredAny| Ok(application.settings.lock().clone())))
            .on("get", with(self, |application, Setting { key, .. }| application.get(&key)))
            .on("set", with(self, |application, setting| application.set(setting)))
            .on("enable", with(self, |application, setting| application.set(Setting { value: true.into(), ..setting })))
            .on(
                "disable",
                with(self, |application, setting| application.set(Setting { value: false.into(), ..setting })),
            )
            .on("blacklist", with(self, Application::block))
            .on("status", with(self, |application, _: IgnoredAny| Ok(application.status())))
            .on("handlers", |_: IgnoredAny| async { Ok(json!({"demo": {"members": "function", "login": "function"}})) })
            .on("components", |_: IgnoredAny| async { Ok(json!({"echo": {}})) })
            .on("proxies", nothing)
            .on(
                "demo.report",
                with(self, |application, _: IgnoredAny| {
                    say(Value::Object(application.status()));
                    Ok(())
                }),
            )
            .on_change(with(self, Application::change))
            .on_drain({
                let application = self.clone();
                move |deadline| {
                    say(format!("draining within {} ms", deadline.as_millis()));
                    application.drains.store(true, Ordering::Release);
                    futures_util::future::ready(Ok(()))
                }
            })
            .on_undrain({
                let application = self.clone();
                move || {
                    say("draining no longer");
                    application.drains.store(false, Ordering::Release);
                    futures_util::future::ready(Ok(()))
                }
            })
            .on_stop(move |_| {
                end.cancel();
                futures_util::future::ready(Ok(()))
            })
    }

    /// The ids of the servers in its view.
    pub(super) fn members(&self) -> String {
        self.members.lock().iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn change(&self, change: Change) -> Result<(), Failure> {
        if matches!(change, Change::StartOver) {
            say("all servers have started");
        }
        let (before, now) = {
            let mut members = self.members.lock();
            let before = members.clone();
            match change {
                Change::Added(servers) => {
                    let ids = servers.iter().filter_map(|info| info.get("id")?.as_str());
                    members.extend(ids.map(str::to_owned));
                }
                Change::Removed(ids) => members.retain(|id| !ids.contains(id)),
                Change::Replaced(servers) => *members = servers.keys().cloned().collect(),
                Change::StartOver => {}
            }
            (before, members.clone())
        };
        // Without the lock, because the output may be slow.
        now.difference(&before).for_each(|id| say(format!("{id} has joined")));
        before.difference(&now).for_each(|id| say(format!("{id} has left")));
        Ok(())
    }

    /// Who is connected, in pomelo's form.
    fn logins(&self) -> Value {
        let connections = self.connections.lock();
        let login = |connection: &Connection| {
            let (uid, time) = connection.login.as_ref()?;
            Some(json!({"loginTime": time, "uid": uid, "address": connection.address.to_string()}))
        };
        let list: Vec<Value> = connections.values().filter_map(login).collect();
        json!({"totalConnCount": connections.len(), "loginedCount": list.len(), "loginedList": list})
    }

    fn get(&self, key: &str) -> Result<Value, Failure> {
        let value = self.settings.lock().get(key).cloned();
        value.ok_or_else(|| Failure::new(code::NOT_FOUND, format!("there is no setting `{}`", crate::wire::shown(key))))
    }

    fn set(&self, Setting { key, value }: Setting) -> Result<(), Failure> {
        let mut settings = self.settings.lock();
        if settings.len() >= MAX_SETTINGS && !settings.contains_key(&key) {
            return Err(Failure::new(code::BUSY, format!("there are {MAX_SETTINGS} settings already")));
        }
        settings.insert(key, value);
        Ok(())
    }

    fn block(&self, patterns: Vec<String>) -> Result<(), Failure> {
        let mut blacklist = self.blacklist.lock();
        if blacklist.len() + patterns.len() > MAX_PATTERNS {
            return Err(Failure::new(code::BUSY, format!("the blacklist has at most {MAX_PATTERNS} patterns")));
        }
        blacklist.extend(patterns);
        Ok(())
    }

    fn status(&self) -> Map<String, Value> {
        Map::from_iter([
            ("answered".to_owned(), self.answered.load(Ordering::Relaxed).into()),
            ("blacklisted".to_owned(), self.blacklist.lock().len().into()),
            ("members".to_owned(), self.members.lock().len().into()),
        ])
    }
}

impl Connected {
    /// Counts a line that was answered.
    pub(super) fn answered(&self) {
        self.application.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes the user's name and the time.
    pub(super) fn login(&self, name: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        if let Some(connection) = self.application.connections.lock().get_mut(&self.number) {
            connection.login = Some((name.to_owned(), now.try_into().unwrap_or(u64::MAX)));
        }
    }

    /// The ids of the servers in the server's view.
    pub(super) fn members(&self) -> String {
        self.application.members()
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.application.connections.lock().remove(&self.number);
    }
}

/// Whether an address is one of a pattern's: an address, a network such as `10.0.0.0/8`, or `10.0.*.*`.
fn matches(pattern: &str, address: IpAddr) -> bool {
    if let Some((network, bits)) = pattern.split_once('/') {
        let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
        return match (network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= bits && bits <= 32
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= bits && bits <= 128
            }
            _ => false,
        };
    }
    let address = address.to_string();
    let same = |(part, of): (&str, &str)| part == "*" || part == of;
    pattern.split('.').count() == address.split('.').count() && pattern.split('.').zip(address.split('.')).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c7_patterns_are_addresses_networks_and_stars() {
        let check = |pattern: &str, address: &str, expected| {
            assert_eq!(matches(pattern, address.parse().unwrap()), expected, "{pattern} {address}");
        };
        check("10.0.0.1", "10.0.0.1", true);
        check("10.0.0.1", "10.0.0.2", false);
        check("10.0.*.*", "10.0.7.9", true);
        check("10.0.*.*", "10.1.7.9", false);
        check("10.0.0.0/8", "10.9.9.9", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("0.0.0.0/0", "1.2.3.4", true);
        check("::1", "::1", true);
        check("fe80::/10", "fe80::1", true);
        check("fe80::/10", "10.0.0.1", false);
        check("nonsense", "10.0.0.1", false);
    }
}
