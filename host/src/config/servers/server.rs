//! The master and the servers as the rest of the host sees them.

use std::path::PathBuf;

use serde_json::{Map, Value};

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
    /// `host`, by default 127.0.0.1: where it listens and where monitors look for it.
    pub host: String,
    /// `port`, by default 3005.
    pub port: u16,
    /// All members, with those that were left out.
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
    /// The machine it runs on; 127.0.0.1 where the file does not say.
    pub host: String,
    /// What peers are told: all members but `command`, `cwd`, `env`, `restart`, `ssh`, `ready` and `logs`, and `serverType`.
    pub info: Info,
    /// The program; absent where the monitor stands alone.
    pub launch: Option<Launch>,
    /// Whether its program is brought back: `restart`, else `auto-restart` and `restart-force` where they are given, else
    /// `[supervise] restart`.
    pub restart: Restart,
    /// `restart-force`: what is left of an earlier run and holds its ports is killed before it is started again.
    pub force: bool,
    /// `cpu`: the CPUs that its program runs on, by number; empty for all. pomelo's form is a number; a list and `taskset`'s `"0-3,8"` will do.
    pub cpus: Vec<usize>,
    /// `ssh`: whether it is started through `ssh`; absent: where its host is another machine and `[ssh]` is there.
    pub ssh: Option<bool>,
    /// What says that its program is ready: `ready`, else `[supervise] ready`.
    pub ready: Option<Ready>,
    /// `logs`: the program's log directory, `logs` by default; a relative path begins where the program runs.
    pub logs: Option<PathBuf>,
    /// What a server that is added takes from this one, as the file has it: `command`, `cwd`, `env`, `restart` and the like.
    pub(in crate::config) inherited: Map<String, Value>,
}

impl Server {
    /// The ports that its program is to listen on.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        ["port", "clientPort"].into_iter().filter_map(|key| self.info.get(key).and_then(port_number))
    }

    /// `host:port` that its program listens on, where it listens.
    pub fn address(&self) -> Option<String> {
        let port = self.ports().next()?;
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        Some(format!("{host}:{port}"))
    }
}
