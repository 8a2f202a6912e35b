//! `master.json` and `servers.json`: the servers of the cluster.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::command::{self, Launch};
use super::reader::{File, Table};
use super::toml_file::restart_policy;
use super::tree::{Node, Tree};
use crate::supervise::Restart;
use crate::wire::{self, Info};

/// The most servers that one `clusterCount` may stand for.
const MAX_CLUSTER_COUNT: u64 = 10_000;
/// Members of a server that are for its starter alone and never told to peers.
const PRIVATE: [&str; 4] = ["command", "cwd", "env", "restart"];

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
    /// What peers are told: all members but `command`, `cwd`, `env` and `restart`, and `serverType`.
    pub info: Info,
    /// The program; absent where the monitor stands alone.
    pub launch: Option<Launch>,
    /// Whether its program is brought back: `restart`, else `auto-restart` where that is given, else `[supervise] restart`.
    pub restart: Restart,
}

/// Ids and addresses that are taken, each with the place that took it: no two servers may share one.
#[derive(Default)]
pub(super) struct Taken {
    ids: HashMap<String, String>,
    addresses: HashMap<(String, u16), String>,
}

impl Taken {
    fn id(&mut self, file: File<'_>, id: &str, at: usize) {
        let here = place(file, at);
        if let Some(first) = self.ids.get(id) {
            file.fault(
                at,
                format!("the id `{id}` is used twice"),
                format!("it is first used at {first}; ids are unique"),
            );
        } else {
            self.ids.insert(id.to_owned(), here);
        }
    }

    fn address(&mut self, file: File<'_>, host: &str, port: u16, at: usize) {
        let here = place(file, at);
        if let Some(first) = self.addresses.get(&(host.to_owned(), port)) {
            let hint = format!("{first} has it already; give one of them another port");
            file.fault(at, format!("{host}:{port} is used twice"), hint);
        } else {
            self.addresses.insert((host.to_owned(), port), here);
        }
    }
}

fn place(file: File<'_>, at: usize) -> String {
    let fault = file.source.fault(at, "", "");
    format!("{}:{}:{}", fault.file.display(), fault.line, fault.column)
}

/// Reads the master.
pub(super) fn master(mut table: Table<'_>, taken: &mut Taken) -> Master {
    let file = table.file;
    let mut info = table.to_json();
    let id = table.text("id", r#""id": "master-server-1""#);
    if let Some((id, at)) = id {
        check_id(file, id, at);
    }
    let id = id.map_or("master-server-1", |(id, _)| id).to_owned();
    let host = table.text("host", r#""host": "127.0.0.1""#).map_or("127.0.0.1", |(host, _)| host).to_owned();
    let port = port(&mut table, "port").unwrap_or((3005, table.at));
    taken.id(file, &id, table.at);
    taken.address(file, &host, port.0, port.1);
    info.insert("id".into(), id.clone().into());
    info.insert("host".into(), host.clone().into());
    info.insert("port".into(), port.0.into());
    info.insert("serverType".into(), "master".into());
    Master { id, host, port: port.0, info }
}

/// Reads the servers. `extra` are placeholders beside a server's own members.
pub(super) fn servers(
    table: &Table<'_>,
    taken: &mut Taken,
    extra: &Map<String, Value>,
    base: &Path,
    restart: Restart,
) -> Vec<Server> {
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
        // How many servers of this type were counted out so far: pomelo numbers them over all entries of the type.
        let mut counted = 0;
        for node in nodes {
            let Some(mut table) = file.table(node, format!("a server of type `{}`", group.key)) else { continue };
            let count = cluster_count(&mut table);
            for member in counted_members(&table, &group.key, count, &mut counted) {
                let one = One { members: member, server_type: &group.key, extra, base, restart };
                // Only the first of a count reports what all of them share.
                let Some(table) = file.table(node, table.name.clone()) else { continue };
                servers.extend(one.read(table, node, taken, count.is_some()));
            }
        }
    }
    servers
}

/// A server whose members are known.
struct One<'a> {
    members: Map<String, Value>,
    server_type: &'a str,
    extra: &'a Map<String, Value>,
    base: &'a Path,
    restart: Restart,
}

impl One<'_> {
    fn read(self, mut table: Table<'_>, node: &Node, taken: &mut Taken, counted: bool) -> Option<Server> {
        let file = table.file;
        let One { members: mut info, server_type, extra, base, restart } = self;
        let id = if counted {
            info.get("id").and_then(Value::as_str).map(|id| (id.to_owned(), node.at))
        } else {
            table.required("id", r#"{"id": "chat-server-1"}"#).map(|(id, at)| (id.to_owned(), at))
        };
        let host = table.text("host", r#""host": "127.0.0.1""#).map_or("127.0.0.1", |(host, _)| host).to_owned();
        for key in ["port", "clientPort"] {
            let number = if counted {
                info.get(key).and_then(port_number).map(|number| (number, node.at))
            } else {
                port(&mut table, key)
            };
            if let Some((number, at)) = number {
                taken.address(file, &host, number, at);
                info.insert(key.into(), number.into());
            }
        }
        let restart = match (table.text("restart", r#""restart": "always""#), info.get("auto-restart")) {
            (Some((word, at)), _) => restart_policy(file, word, at).unwrap_or(restart),
            (None, Some(auto)) => {
                if truthy(auto) {
                    Restart::Always
                } else {
                    Restart::Never
                }
            }
            (None, None) => restart,
        };
        info.insert("serverType".into(), server_type.into());
        info.insert("host".into(), host.clone().into());
        // pomelo's servers get their members as arguments and look for this text.
        if let Some(Value::Bool(frontend)) = info.get("frontend") {
            let text = frontend.to_string();
            info.insert("frontend".into(), text.into());
        }
        info.retain(|key, _| !PRIVATE.contains(&key.as_str()));
        let (id, at) = id?;
        check_id(file, &id, at);
        taken.id(file, &id, at);
        let mut placeholders = extra.clone();
        placeholders.extend(info.clone());
        let launch = command::read(&mut table, &placeholders, base);
        Some(Server { id, server_type: server_type.to_owned(), host, info, launch, restart })
    }
}

/// `clusterCount`: how many servers an entry stands for.
fn cluster_count(table: &mut Table<'_>) -> Option<u64> {
    let node = table.get("clusterCount")?;
    let count = match &node.value {
        Tree::Number(number) => number.as_u64(),
        Tree::Text(text) => text.parse().ok(),
        _ => None,
    };
    let count = count.filter(|count| (1..=MAX_CLUSTER_COUNT).contains(count));
    if count.is_none() {
        let what = format!("`clusterCount` must be a whole number from 1 to {MAX_CLUSTER_COUNT}");
        table.file.fault(node.at, what, r#"for example: "clusterCount": 4"#);
    }
    count
}

/// The members of each server that an entry stands for: texts that end in `++` count up, and ids are made.
fn counted_members(
    table: &Table<'_>,
    server_type: &str,
    count: Option<u64>,
    before: &mut u64,
) -> Vec<Map<String, Value>> {
    let members = table.to_json();
    let Some(count) = count else { return vec![members] };
    let first = *before;
    *before += count;
    let one = |n: u64| {
        let mut members = members.clone();
        members.insert("id".into(), format!("cluster-server-{server_type}-{}", first + n).into());
        for value in members.values_mut() {
            let base =
                value.as_str().and_then(|text| text.strip_suffix("++")).and_then(|base| base.parse::<u64>().ok());
            if let Some(base) = base {
                *value = (base + n).into();
            }
        }
        members
    };
    (0..count).map(one).collect()
}

/// A port as a number or, as pomelo writes some, a text.
fn port(table: &mut Table<'_>, key: &'static str) -> Option<(u16, usize)> {
    let node = table.get(key)?;
    let number = match &node.value {
        Tree::Number(number) => port_number(&Value::Number(number.clone())),
        Tree::Text(text) => port_number(&Value::String(text.clone())),
        _ => None,
    };
    if number.is_none() {
        table.file.fault(
            node.at,
            format!("`{key}` must be a port from 1 to 65535"),
            format!(r#"for example: "{key}": 3050"#),
        );
    }
    number.map(|number| (number, node.at))
}

fn port_number(value: &Value) -> Option<u16> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|port| *port > 0)
}

fn truthy(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| value.as_str() == Some("true"))
}

fn check_id(file: File<'_>, id: &str, at: usize) {
    if let Err(bad) = wire::check_id(id) {
        let hint = "ids have no `*`, no `@` and do not begin with `type:`; for example: \"chat-server-1\"";
        file.fault(at, bad.to_string(), hint);
    }
}
