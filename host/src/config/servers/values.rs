//! Members that are more than texts: ids, hosts, ports, CPUs.

use std::net::Ipv6Addr;

use serde_json::Value;

use crate::config::reader::{File, Table};
use crate::config::tree::{Node, Tree};
use crate::wire;

/// One more than the highest number of a CPU. Linux's sets of CPUs hold so many by default.
const MAX_CPUS: usize = 1024;

/// Keeps a fault if a text cannot be an id.
pub(super) fn check_id(file: File<'_>, id: &str, at: usize) {
    if let Err(bad) = wire::check_id(id) {
        let hint = "ids have no `*`, no `@` and do not begin with `type:`; for example: \"chat-server-1\"";
        file.fault(at, format!("that cannot be an id: {bad}"), hint);
    }
}

/// Keeps a fault if a text cannot be the type of servers.
pub(super) fn check_type(file: File<'_>, server_type: &str, at: usize) {
    if let Err(bad) = wire::check_name(server_type) {
        file.fault(
            at,
            format!("that cannot be a type of servers: {bad}"),
            "for example: \"chat\": [{\"id\": \"chat-server-1\"}]",
        );
    }
}

/// `host`, by default 127.0.0.1. An IPv6 address loses its brackets, because they are added where they are needed.
pub(super) fn host(table: &mut Table<'_>) -> String {
    let Some((text, at)) = table.text("host", r#""host": "127.0.0.1""#) else { return "127.0.0.1".to_owned() };
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = bare.unwrap_or(text);
    // An address may name its interface: `fe80::1%eth0`.
    let is_ipv6 = host.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    if let Err(bad) = wire::check_name(host) {
        table.file.fault(at, format!("`host`: {bad}"), r#"for example: "host": "127.0.0.1" or "host": "game.example""#);
    } else if !is_ipv6 && text.contains([':', '[', ']']) {
        let hint =
            r#"for example: "host": "127.0.0.1", "host": "::1" or "host": "game.example"; a port has a key of its own"#;
        table.file.fault(at, format!("`host` must be a name or an address, not `{text}`"), hint);
    }
    host.to_owned()
}

/// A port as a number or, as pomelo writes some, a text. `may_count` is whether the entry may have a `clusterCount`, which a fault then suggests.
pub(super) fn port(table: &mut Table<'_>, key: &'static str, may_count: bool) -> Option<(u16, usize)> {
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
            match &node.value {
                Tree::Text(text) if may_count && text.ends_with("++") => {
                    format!(r#"`++` counts up from server to server of an entry with `clusterCount`: "clusterCount": 4, "{key}": "{text}""#)
                }
                _ => format!(r#"for example: "{key}": 3050"#),
            },
        );
    }
    number.map(|number| (number, node.at))
}

/// The port that a value is.
pub(super) fn port_number(value: &Value) -> Option<u16> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|port| *port > 0)
}

/// `cpu`: a number, a list of numbers, or `taskset`'s list such as `0-3,8`.
pub(super) fn cpus(table: &mut Table<'_>) -> Vec<usize> {
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

/// Whether a member means true. pomelo has texts such as `"true"` as well.
pub(super) fn truthy(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| value.as_str() == Some("true"))
}
