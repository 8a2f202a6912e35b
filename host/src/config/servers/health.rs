//! `health` of a server: how its program is checked while it runs, and what is done when it is not well.

use std::fmt;
use std::time::Duration;

use axum::http::uri::PathAndQuery;
use serde::Serialize;
use serde_json::{Map, Value};

use super::values::port_number;
use crate::config::command::{fill, words};
use crate::config::reader::{DAY_MS, File, Table, did_you_mean};
use crate::config::settings::MIB;
use crate::config::tree::{Node, Tree};
use crate::supervise::Restart;
use crate::wire::host_functions;

/// Kinds of checks, of which a server has one.
const CHECKS: [&str; 4] = ["port", "http", "control", "command"];
/// Default of `interval_ms`.
const INTERVAL: Duration = Duration::from_secs(10);
/// Default of `timeout_ms`.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Default of `failures`.
const FAILURES: u64 = 3;
/// The most of `max_memory_mib`: 16 TiB.
const MAX_MEMORY_MIB: u64 = 16 << 20;
/// The most of `profile_ms`. A profiler takes no more.
pub const MAX_PROFILE_MS: u64 = 60_000;

/// How a program is checked while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// What is asked: `port`, `http`, `control` or `command`; absent if only memory is looked at.
    pub check: Option<Check>,
    /// `interval_ms` = 10000: how long after the beginning of a check the next one begins, or at once after a check that took longer.
    pub interval: Duration,
    /// `timeout_ms` = 5000: a check that takes longer has failed.
    pub timeout: Duration,
    /// `failures` = 3: so many failures in a row make the program unhealthy.
    pub failures: u32,
    /// `then` = `"report"`: what is done with a program whose check has failed so often.
    pub then: Then,
    /// `max_memory_mib`: the most resident memory of the program's process group, bytes; absent for no bound.
    pub max_memory: Option<u64>,
    /// `max_memory_then`, otherwise `then`: what is done with a program that had more `failures` times in a row.
    pub memory_then: Then,
    /// `profile_ms`: how long a CPU profile is taken before a restart; absent for none.
    pub profile: Option<Duration>,
}

/// What is asked of a program.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// `port`: somebody listens on `host:port`.
    Port(String),
    /// `http`: a GET is answered with a status from 200 to 399.
    Http {
        /// `host:port`.
        address: String,
        /// The path, with the query if there is one.
        path: String,
    },
    /// `control`: a function that the program offers over its control socket answers, and not with `false`.
    Control(String),
    /// `command`: a program and its arguments, never empty, end with code 0. No shell is involved.
    Command(Vec<String>),
}

/// What is done with a program that is unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// `report`: an event, `/healthz` and metrics say so.
    Report,
    /// `unready`: also, others do not see the server until it is healthy again.
    Unready,
    /// `restart`: also, others do not see the server, and its program is ended and started again.
    Restart,
}

/// Shows no arguments of a command, because they may be secrets.
impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Port(address) => f.debug_tuple("Port").field(address).finish(),
            Check::Http { address, path } => f.debug_struct("Http").field("at", address).field("path", path).finish(),
            Check::Control(name) => f.debug_tuple("Control").field(name).finish(),
            Check::Command(words) => f.debug_tuple("Command").field(&words.first()).finish_non_exhaustive(),
        }
    }
}

/// The server that the checks are of.
pub(super) struct Of<'a> {
    /// What placeholders may name.
    pub members: &'a Map<String, Value>,
    /// Where it runs.
    pub host: &'a str,
    /// Its own port, if it has one.
    pub port: Option<u16>,
    /// Whether it has a `command`.
    pub runs: bool,
    /// Whether its program is started again.
    pub restart: Restart,
}

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Reads `health` of a server.
pub(super) fn read(table: &mut Table<'_>, of: &Of<'_>) -> Option<Health> {
    let mut table = table.table("health")?;
    let file = table.file;
    table.name = "`health`".into();
    let given: Vec<(&str, &Node)> =
        CHECKS.into_iter().filter_map(|kind| table.get(kind).map(|node| (kind, node))).collect();
    if let [(first, _), (second, node), ..] = given[..] {
        let what = format!("`health` has both `{first}` and `{second}`");
        file.fault(node.at, what, "keep one of the two; a `command` can check several things");
    }
    let check = given.first().and_then(|(kind, node)| check(file, kind, node, of));
    let timing = (
        table.millis("interval_ms", INTERVAL, 100..=DAY_MS),
        table.millis("timeout_ms", TIMEOUT, 10..=600_000),
        table.number("failures", FAILURES, 1..=1000),
    );
    let then = then(&mut table, "then");
    let max_memory = optional(&mut table, "max_memory_mib", MAX_MEMORY_MIB, 512);
    let memory_then = self::then(&mut table, "max_memory_then");
    let profile = optional(&mut table, "profile_ms", MAX_PROFILE_MS, 5000);
    let bounds_memory = table.get("max_memory_mib").is_some();
    if given.is_empty() && !bounds_memory {
        let what = "`health` does not say what is checked";
        file.fault(table.at, what, r#"for example: "health": {"http": "/healthz"}; others are port, control, command"#);
    }
    if memory_then.is_some() && !bounds_memory {
        file.fault(table.at, "`max_memory_then` without `max_memory_mib`", r#"for example: "max_memory_mib": 512"#);
    }
    let at = table.at;
    table.close();
    let (interval, timeout, failures) = timing;
    let then = then.unwrap_or(Then::Report);
    let health = Health {
        check,
        interval,
        timeout,
        failures: u32::try_from(failures).unwrap_or(u32::MAX),
        then,
        max_memory: max_memory.map(|mib| mib.saturating_mul(MIB as u64)),
        memory_then: memory_then.unwrap_or(then),
        profile: profile.map(Duration::from_millis),
    };
    warn(file, at, &health, of);
    Some(health)
}

/// Warns of what has no effect, or hardly the one that is wanted.
fn warn(file: File<'_>, at: usize, health: &Health, of: &Of<'_>) {
    let restarts = health.then == Then::Restart || health.memory_then == Then::Restart;
    if !of.runs {
        file.warn(at, "`health` of a server without a `command`: nobody checks it", "a monitor checks what it runs");
    }
    if restarts && of.restart == Restart::Never {
        let what =
            "`health` is to restart a program that `restart` or `auto-restart` keeps down: it would only be ended";
        file.warn(at, what, r#"for example: "restart": "on-failure""#);
    }
    if health.profile.is_some() && !restarts {
        file.warn(
            at,
            "`profile_ms` of `health` that restarts nothing: no profile is taken",
            r#"add "then": "restart""#,
        );
    }
}

fn check(file: File<'_>, kind: &str, node: &Node, of: &Of<'_>) -> Option<Check> {
    match kind {
        "port" => port(file, node, of).map(|port| Check::Port(address(of.host, port))),
        "http" => http(file, node, of),
        "control" => control(file, node),
        _ => {
            let words = words(file, node, of.members);
            let empty = words.first().is_none_or(String::is_empty);
            if empty {
                file.fault(node.at, "`command` of `health` is empty", r#"for example: "command": "./check ${port}""#);
            }
            (!empty).then_some(Check::Command(words))
        }
    }
}

/// `true` for the server's own port, a number, or a text with placeholders.
fn port(file: File<'_>, node: &Node, of: &Of<'_>) -> Option<u16> {
    let port = match &node.value {
        Tree::Bool(true) => return own_port(file, node, of),
        Tree::Number(number) => port_number(&Value::Number(number.clone())),
        Tree::Text(text) => port_number(&Value::String(fill(file, node.at, text, of.members))),
        _ => None,
    };
    if port.is_none() {
        let what = "`port` of `health` must be true or a port from 1 to 65535";
        file.fault(node.at, what, r#"for example: "port": true for the server's own, or "port": "${clientPort}""#);
    }
    port
}

fn own_port(file: File<'_>, node: &Node, of: &Of<'_>) -> Option<u16> {
    if of.port.is_none() {
        file.fault(node.at, "`health` asks the server's own port, and it has none", r#"give it one: "port": 3050"#);
    }
    of.port
}

fn http(file: File<'_>, node: &Node, of: &Of<'_>) -> Option<Check> {
    const EXAMPLE: &str = r#""http": "/healthz""#;
    let Tree::Text(text) = &node.value else {
        file.wrong_type(node, "http", "a string", EXAMPLE);
        return None;
    };
    let path = fill(file, node.at, text, of.members);
    if !path.starts_with('/') || path.parse::<PathAndQuery>().is_err() {
        let what = "`http` of `health` must be a path that begins with `/`";
        file.fault(node.at, what, format!("for example: {EXAMPLE}; it is asked on the server's own port"));
        return None;
    }
    own_port(file, node, of).map(|port| Check::Http { address: address(of.host, port), path })
}

fn control(file: File<'_>, node: &Node) -> Option<Check> {
    const EXAMPLE: &str = r#""control": "health""#;
    let Tree::Text(name) = &node.value else {
        file.wrong_type(node, "control", "a string", EXAMPLE);
        return None;
    };
    if name.is_empty() {
        file.fault(node.at, "`control` of `health` is empty", format!("for example: {EXAMPLE}"));
        return None;
    }
    if host_functions::ALL.contains(&name.as_str()) {
        let what = format!("`{name}` is no check: the host calls this function for what its name says");
        file.fault(node.at, what, format!("name a function that changes nothing, for example: {EXAMPLE}"));
        return None;
    }
    Some(Check::Control(name.clone()))
}

fn then(table: &mut Table<'_>, key: &'static str) -> Option<Then> {
    const WORDS: [&str; 3] = ["report", "unready", "restart"];
    let (word, at) = table.text(key, &format!(r#""{key}": "unready""#))?;
    match word {
        "report" => Some(Then::Report),
        "unready" => Some(Then::Unready),
        "restart" => Some(Then::Restart),
        _ => {
            table.file.fault(at, format!("`{key}` cannot be `{word}`"), did_you_mean(word, &WORDS));
            None
        }
    }
}

/// A whole number from 1 that need not be there.
fn optional(table: &mut Table<'_>, key: &'static str, most: u64, example: u64) -> Option<u64> {
    let node = table.get(key)?;
    let number = match &node.value {
        Tree::Number(number) => number.as_u64().filter(|number| (1..=most).contains(number)),
        _ => None,
    };
    if number.is_none() {
        let what = format!("`{key}` must be a whole number from 1 to {most}");
        table.file.fault(node.at, what, format!(r#"for example: "{key}": {example}"#));
    }
    number
}
