//! The types of the master and of the servers.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::health::{Health, address};
use super::values::port_number;
use crate::config::command::Launch;
use crate::config::words::Ready;
use crate::supervise::Restart;
use crate::wire::Info;

/// The master of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Master {
    /// `id`, by default `master-server-1`.
    pub id: String,
    /// `host`, by default 127.0.0.1. The master listens on it, and monitors connect to it.
    pub host: String,
    /// `port`, by default 3005.
    pub port: u16,
    /// All members, with the defaults of those that were left out.
    pub info: Info,
}

impl Master {
    /// `host:port`, with brackets around an IPv6 address.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A server of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Unique in the cluster, the master included.
    pub id: String,
    /// The key under which it stands in `servers.json`.
    pub server_type: String,
    /// The machine that it runs on, by default 127.0.0.1.
    pub host: String,
    /// The `info` that peers are told: all members but those that only its starter needs, such as `command` and `env`, and `serverType`.
    pub info: Info,
    /// The program; absent if only a monitor is run.
    pub launch: Option<Launch>,
    /// Whether its program is started again: `restart`, otherwise `auto-restart` and `restart-force` if they are given, otherwise `[supervise]
    /// restart`.
    pub restart: Restart,
    /// `restart-force`: whether processes that an earlier run left behind, which may hold its ports, are killed before each start.
    pub force: bool,
    /// `cpu`: the CPUs that its program runs on, by number; empty for all. The file has a number as in pomelo, a list, or a text as for `taskset`,
    /// such as `"0-3,8"`.
    pub cpus: Vec<usize>,
    /// `ssh`: whether it is started through `ssh`. If absent, it is if its host is another machine and the configuration has `[ssh]`.
    pub ssh: Option<bool>,
    /// What says that its program is ready: `ready`, otherwise `[supervise] ready`.
    pub ready: Option<Ready>,
    /// `logs`: the program's log directory, `logs` by default. A relative path begins at the directory in which the program runs.
    pub logs: Option<PathBuf>,
    /// `stop_deadline_ms`, otherwise that of `[supervise]`: its program is killed if it has not ended this long after it was asked to.
    pub stop_deadline: Duration,
    /// `drain_ms`, otherwise that of `[supervise]`: how long it may take, when it drains, until it has no connections.
    pub drain: Duration,
    /// `ready_timeout_ms`, otherwise that of `[supervise]`: its program is ended if it is not ready within this time.
    pub ready_timeout: Duration,
    /// `health`: how its program is checked while it runs; absent if it is not.
    pub health: Option<Health>,
    /// Members that an added server of this type takes from this one, as in the file: `command`, `cwd`, `env`, `restart` and the like.
    pub(in crate::config) inherited: Map<String, Value>,
}

impl Server {
    /// The ports that its program is to listen on.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        ["port", "clientPort"].into_iter().filter_map(|key| self.info.get(key).and_then(port_number))
    }

    /// The longest time that it may take to end in order: to drain, and to end when it is asked to.
    pub fn ending_deadline(&self) -> Duration {
        self.drain + self.stop_deadline
    }

    /// `host:port` that its program listens on; absent if it has no port.
    pub fn address(&self) -> Option<String> {
        let port = self.ports().next()?;
        Some(address(&self.host, port))
    }
}
