//! Reads the master and the servers.

use std::path::Path;

use serde_json::{Map, Value};

use super::counted::{cluster_count, counted_members};
use super::health::{self, Of};
use super::server::{Master, Server};
use super::taken::Taken;
use super::values::{check_id, check_type, cpus, host, port, port_number, truthy};
use crate::config::command;
use crate::config::reader::{DAY_MS, Table};
use crate::config::settings::Supervise;
use crate::config::tree::{Node, Tree};
use crate::config::words::{ready_word, restart_word};
use crate::supervise::Restart;

/// Members of a server that only its starter needs. They are never told to peers.
pub(in crate::config) const PRIVATE: [&str; 11] = [
    "command",
    "cwd",
    "env",
    "restart",
    "ssh",
    "ready",
    "logs",
    "stop_deadline_ms",
    "drain_ms",
    "ready_timeout_ms",
    "health",
];
/// Members that an added server takes, beside [`PRIVATE`] ones, from the first server of its type, unless it has its own.
const INHERITED_TOO: [&str; 3] = ["auto-restart", "restart-force", "frontend"];

/// The defaults of servers.
pub(in crate::config) struct ServerDefaults<'a> {
    /// Placeholders of commands beside a server's own members.
    pub(in crate::config) placeholders: &'a Map<String, Value>,
    /// The directory at which relative ones begin.
    pub(in crate::config) base: &'a Path,
    /// `[supervise]`.
    pub(in crate::config) supervise: &'a Supervise,
    /// Whether `[pomelo] app` runs the servers that have no command.
    pub(in crate::config) has_app: bool,
}

/// The name under which the place of a server's `cpu` is remembered.
pub(in crate::config) fn cpu_mark(id: &str) -> String {
    format!("cpu of {id}")
}

/// Reads the master.
pub(in crate::config) fn master(mut table: Table<'_>, taken: &mut Taken) -> Master {
    let file = table.file;
    let mut info = table.to_json();
    let id = table.text("id", r#""id": "master-server-1""#);
    if let Some((id, at)) = id {
        check_id(file, id, at);
    }
    let id = id.map_or("master-server-1", |(id, _)| id).to_owned();
    let host = host(&mut table);
    let port = port(&mut table, "port", false).unwrap_or((3005, table.at));
    taken.id(file, &id, table.at);
    taken.address(file, &host, port.0, port.1);
    info.insert("id".into(), id.clone().into());
    info.insert("host".into(), host.clone().into());
    info.insert("port".into(), port.0.into());
    info.insert("serverType".into(), "master".into());
    Master { id, host, port: port.0, info }
}

/// Reads the servers.
pub(in crate::config) fn servers(table: &Table<'_>, taken: &mut Taken, defaults: &ServerDefaults<'_>) -> Vec<Server> {
    let file = table.file;
    let mut servers = Vec::new();
    for group in table.members() {
        let Tree::List(nodes) = &group.node.value else {
            let example = r#""chat": [{"id": "chat-server-1", "host": "127.0.0.1", "port": 6050}]"#;
            file.wrong_type(&group.node, &group.key, "an array of servers", example);
            continue;
        };
        if group.key == "master" {
            file.fault(group.at, "`master` is no type of server here", "the master stands in master.json");
        }
        check_type(file, &group.key, group.at);
        let mut counted = taken.next_number(&group.key);
        for node in nodes {
            let Some(mut table) = file.table(node, format!("a server of type `{}`", group.key)) else { continue };
            let count = cluster_count(&mut table);
            for members in counted_members(&table, &group.key, count, &mut counted) {
                let one = One { members, server_type: &group.key, counted: count.is_some(), defaults };
                // Each counted server reads the same entry. Equal faults are kept once.
                let Some(table) = file.table(node, table.name.clone()) else { continue };
                // The next counted servers would have the same fault.
                let Some(server) = one.read(table, node, taken) else { break };
                servers.push(server);
            }
        }
    }
    servers
}

/// A server whose members are known.
struct One<'a> {
    members: Map<String, Value>,
    server_type: &'a str,
    /// Whether it is one of those that a `clusterCount` stands for.
    counted: bool,
    defaults: &'a ServerDefaults<'a>,
}

impl One<'_> {
    /// Reads the rest of the entry `node`, whose members are in `table`.
    fn read(mut self, mut table: Table<'_>, node: &Node, taken: &mut Taken) -> Option<Server> {
        let file = table.file;
        let id = if self.counted {
            self.members.get("id").and_then(Value::as_str).map(|id| (id.to_owned(), node.at))
        } else {
            table.required("id", r#"{"id": "chat-server-1"}"#).map(|(id, at)| (id.to_owned(), at))
        };
        let host = host(&mut table);
        self.ports(&mut table, node, &host, taken)?;
        let force = self.members.get("restart-force").is_some_and(truthy);
        let restart = self.restart(&mut table, force);
        let cpus = cpus(&mut table);
        let ssh = ssh(&mut table);
        let ready = table.text("ready", r#""ready": "control""#);
        let has_port = self.members.contains_key("port") || self.members.contains_key("clientPort");
        let ready = ready.and_then(|(word, at)| ready_word(file, word, at, has_port));
        let logs = table.text("logs", r#""logs": "logs""#).map(|(dir, _)| dir.into());
        let supervise = self.defaults.supervise;
        let stop_deadline = table.millis("stop_deadline_ms", supervise.stop_deadline, 0..=DAY_MS);
        let drain = table.millis("drain_ms", supervise.drain, 0..=DAY_MS);
        let ready_timeout = table.millis("ready_timeout_ms", supervise.ready_timeout, 1..=DAY_MS);
        let (id, at) = id?;
        check_id(file, &id, at);
        taken.id(file, &id, at);
        if let Some(node) = table.get("cpu") {
            file.mark(cpu_mark(&id), node.at);
        }
        let One { members, server_type, defaults, .. } = self;
        let mut inherited = members.clone();
        inherited.retain(|key, _| PRIVATE.iter().chain(&INHERITED_TOO).any(|inherited| inherited == key));
        let info = told(members, server_type, &host);
        let mut placeholders = defaults.placeholders.clone();
        placeholders.extend(info.clone());
        let launch = command::read(&mut table, &placeholders, defaults.base);
        let port = ["port", "clientPort"].into_iter().find_map(|key| info.get(key).and_then(port_number));
        let of = Of { members: &placeholders, host: &host, port, runs: launch.is_some(), restart };
        let health = health::read(&mut table, &of);
        if launch.is_none() && !defaults.has_app {
            let what =
                format!("a server of type `{server_type}` has no `command`: nothing is run for it but its monitor");
            file.warn(node.at, what, r#"for example: "command": "./server --port ${port}""#);
        }
        let server_type = server_type.to_owned();
        Some(Server {
            id,
            server_type,
            host,
            info,
            launch,
            restart,
            force,
            cpus,
            ssh,
            ready,
            logs,
            stop_deadline,
            drain,
            ready_timeout,
            health,
            inherited,
        })
    }

    /// Turns the ports into numbers, and marks their addresses as taken. Absent, with a fault, if a counted port is not a valid one.
    fn ports(&mut self, table: &mut Table<'_>, node: &Node, host: &str, taken: &mut Taken) -> Option<()> {
        let file = table.file;
        for key in ["port", "clientPort"] {
            let number = if self.counted {
                let Some(value) = self.members.get(key) else { continue };
                let Some(number) = port_number(value) else {
                    let what = format!("`{key}` must be a port from 1 to 65535, also that of the last one counted");
                    file.fault(node.at, what, format!(r#"for example: "{key}": "3050++""#));
                    return None;
                };
                Some((number, node.at))
            } else {
                port(table, key, true)
            };
            if let Some((number, at)) = number {
                taken.address(file, host, number, at);
                self.members.insert(key.into(), number.into());
            }
        }
        Some(())
    }

    /// `restart`, otherwise pomelo's members, otherwise the default.
    fn restart(&self, table: &mut Table<'_>, force: bool) -> Restart {
        let default = self.defaults.supervise.restart;
        match (table.text("restart", r#""restart": "always""#), self.members.get("auto-restart")) {
            (Some((word, at)), _) => restart_word(table.file, word, at).unwrap_or(default),
            // `restart-force` is enough without `auto-restart`, as in pomelo.
            (None, _) if force => Restart::Always,
            (None, Some(auto)) if truthy(auto) => Restart::Always,
            (None, Some(_)) => Restart::Never,
            (None, None) => default,
        }
    }
}

fn ssh(table: &mut Table<'_>) -> Option<bool> {
    let node = table.get("ssh")?;
    match &node.value {
        Tree::Bool(flag) => Some(*flag),
        _ => {
            table.file.wrong_type(node, "ssh", "true or false", r#""ssh": true"#);
            None
        }
    }
}

/// The `info` that peers are told of a server with those members.
fn told(mut info: Map<String, Value>, server_type: &str, host: &str) -> Map<String, Value> {
    info.insert("serverType".into(), server_type.into());
    info.insert("host".into(), host.into());
    // This becomes a text, because pomelo's servers get their members as arguments and look for the text.
    if let Some(Value::Bool(frontend)) = info.get("frontend") {
        let text = frontend.to_string();
        info.insert("frontend".into(), text.into());
    }
    info.retain(|key, _| !PRIVATE.contains(&key.as_str()));
    info
}
