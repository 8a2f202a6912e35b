//! `master.json` and `servers.json`: the servers of the cluster.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::command::{self, Launch};
use super::reader::{File, Table};
use super::tree::{Node, Tree};
use super::words::{Ready, ready_word, restart_word};
use crate::supervise::Restart;
use crate::wire::{self, Info};

/// The most servers that one `clusterCount` may stand for.
const MAX_CLUSTER_COUNT: u64 = 10_000;
/// Members of a server that are for its starter alone and never told to peers.
pub(super) const PRIVATE: [&str; 7] = ["command", "cwd", "env", "restart", "ssh", "ready", "logs"];
/// What a server that is added takes from the first of its type, unless it says something else.
const INHERITED: [&str; 10] =
    ["command", "cwd", "env", "restart", "ssh", "ready", "logs", "auto-restart", "restart-force", "frontend"];
/// The highest number of a CPU, and one more: what Linux's sets of CPUs hold by default.
const MAX_CPUS: usize = 1024;

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
    pub(super) inherited: Map<String, Value>,
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

/// Ids and addresses that are taken, each with the place that took it: no two servers may share one.
#[derive(Default)]
pub(super) struct Taken {
    ids: HashMap<String, String>,
    addresses: HashMap<(String, u16), String>,
}

impl Taken {
    /// The ids and addresses of servers that are known already.
    pub(super) fn by(master: &Master, servers: &[Server]) -> Self {
        let mut taken = Taken::default();
        let all = servers.iter().map(|server| (&server.id, &server.host, &server.info));
        for (id, host, info) in all.chain([(&master.id, &master.host, &master.info)]) {
            taken.ids.insert(id.clone(), format!("`{id}`"));
            for port in ["port", "clientPort"].into_iter().filter_map(|key| info.get(key).and_then(port_number)) {
                taken.addresses.insert((host.clone(), port), format!("`{id}`"));
            }
        }
        taken
    }

    /// An id that is in use outside the configuration.
    pub(super) fn running(&mut self, id: &str) {
        self.ids.entry(id.to_owned()).or_insert_with(|| format!("the running server `{id}`"));
    }

    /// The number of the next server of that type that is counted out: pomelo numbers them over all entries of the type.
    fn next_number(&self, server_type: &str) -> u64 {
        let number = |id: &String| id.strip_prefix(&counted_id(server_type, ""))?.parse::<u64>().ok();
        self.ids.keys().filter_map(number).max().map_or(0, |last| last.saturating_add(1))
    }

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
    // What comes from no file has no place that could be named.
    if file.source.is_nowhere() {
        return "another of them".to_owned();
    }
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
        let mut counted = taken.next_number(&group.key);
        for node in nodes {
            let Some(mut table) = file.table(node, format!("a server of type `{}`", group.key)) else { continue };
            let count = cluster_count(&mut table);
            for member in counted_members(&table, &group.key, count, &mut counted) {
                let one = One { members: member, server_type: &group.key, extra, base, restart };
                // Only the first of a count reports what all of them share.
                let Some(table) = file.table(node, table.name.clone()) else { continue };
                // What is wrong with one that is counted is wrong with those behind it.
                let Some(server) = one.read(table, node, taken, count.is_some()) else { break };
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
                let Some(value) = info.get(key) else { continue };
                let Some(number) = port_number(value) else {
                    let what = format!("`{key}` must be a port from 1 to 65535, also that of the last one counted");
                    file.fault(node.at, what, format!(r#"for example: "{key}": "3050++""#));
                    return None;
                };
                Some((number, node.at))
            } else {
                port(&mut table, key)
            };
            if let Some((number, at)) = number {
                taken.address(file, &host, number, at);
                info.insert(key.into(), number.into());
            }
        }
        let force = info.get("restart-force").is_some_and(truthy);
        let restart = match (table.text("restart", r#""restart": "always""#), info.get("auto-restart")) {
            (Some((word, at)), _) => restart_word(file, word, at).unwrap_or(restart),
            // As in pomelo, either is enough.
            (None, _) if force => Restart::Always,
            (None, Some(auto)) => {
                if truthy(auto) {
                    Restart::Always
                } else {
                    Restart::Never
                }
            }
            (None, None) => restart,
        };
        let cpus = cpus(&mut table);
        let ssh = table.get("ssh").and_then(|node| match &node.value {
            Tree::Bool(flag) => Some(*flag),
            _ => {
                file.wrong_type(node, "ssh", "true or false", r#""ssh": true"#);
                None
            }
        });
        let mut inherited = info.clone();
        inherited.retain(|key, _| INHERITED.contains(&key.as_str()));
        let ready = table.text("ready", r#""ready": "control""#);
        let has_port = info.contains_key("port") || info.contains_key("clientPort");
        let ready = ready.and_then(|(word, at)| ready_word(file, word, at, has_port));
        let logs = table.text("logs", r#""logs": "logs""#).map(|(dir, _)| dir.into());
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
        if launch.is_none() {
            let what =
                format!("a server of type `{server_type}` has no `command`: nothing is run for it but its monitor");
            file.warn(node.at, what, r#"for example: "command": "./server --port ${port}""#);
        }
        let server_type = server_type.to_owned();
        Some(Server { id, server_type, host, info, launch, restart, force, cpus, ssh, ready, logs, inherited })
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

/// The id of a server that is counted out.
fn counted_id(server_type: &str, number: &str) -> String {
    format!("cluster-server-{server_type}-{number}")
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
    *before = before.saturating_add(count);
    let one = |n: u64| {
        let mut members = members.clone();
        members.insert("id".into(), counted_id(server_type, &first.saturating_add(n).to_string()).into());
        for value in members.values_mut() {
            let base =
                value.as_str().and_then(|text| text.strip_suffix("++")).and_then(|base| base.parse::<u64>().ok());
            if let Some(number) = base.and_then(|base| base.checked_add(n)) {
                *value = number.into();
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

/// `cpu`: a number, a list of numbers, or `taskset`'s list such as `0-3,8`.
fn cpus(table: &mut Table<'_>) -> Vec<usize> {
    let Some(node) = table.get("cpu") else { return Vec::new() };
    let number = |node: &Node| match &node.value {
        Tree::Number(number) => number.as_u64().and_then(|number| usize::try_from(number).ok()),
        _ => None,
    };
    let cpus: Option<Vec<usize>> = match &node.value {
        Tree::List(nodes) => nodes.iter().map(number).collect(),
        Tree::Text(text) => cpu_list(text),
        _ => number(node).map(|number| vec![number]),
    };
    let cpus = cpus.filter(|cpus| !cpus.is_empty() && cpus.iter().all(|cpu| *cpu < MAX_CPUS));
    if cpus.is_none() {
        let what = format!("`cpu` must name CPUs by numbers below {MAX_CPUS}");
        table.file.fault(node.at, what, r#"for example: "cpu": 0, "cpu": [0, 1] or "cpu": "0-3,8""#);
    }
    cpus.unwrap_or_default()
}

fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last >= MAX_CPUS {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
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
