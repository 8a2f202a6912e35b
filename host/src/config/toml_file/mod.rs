//! Reads `pomelo.toml`: keys, bounds and faults of each section.

mod auth;
mod host;
mod modules;
mod tls;

pub use host::MAX_JOINED;

use std::path::{Path, PathBuf};

use super::reader::{File, Table, did_you_mean};
use super::settings::{Scripts, Settings, Tls};
use super::tree::{Member, Node, Tree};

/// A file with one of these sections at the top is for all environments.
const SECTIONS: [&str; 13] = [
    "limits",
    "modules",
    "module",
    "network",
    "watch",
    "supervise",
    "master",
    "data",
    "auth",
    "commands",
    "admin_log",
    "logs",
    "tls",
];

/// The part of the file that is for an environment. If its tables are environments, as in pomelo's files, this is the table of that name, otherwise
/// the whole file. Absent, with a fault, if the file has only other environments. An environment cannot have the name of a section.
pub(super) fn part<'a>(file: File<'_>, node: &'a Node, environment: &str) -> Option<&'a Node> {
    let Tree::Table(members) = &node.value else { return Some(node) };
    let sections = |members: &[Member]| members.iter().any(|member| SECTIONS.contains(&member.key.as_str()));
    let tables = |member: &Member| matches!(member.node.value, Tree::Table(_));
    if sections(members) || !members.iter().all(tables) {
        return Some(node);
    }
    if let Some(member) = members.iter().find(|member| member.key == environment) {
        return Some(&member.node);
    }
    if members.iter().any(|member| matches!(&member.node.value, Tree::Table(inner) if sections(inner))) {
        let names: Vec<&str> = members.iter().map(|member| member.key.as_str()).collect();
        let what = format!("there is no environment `{environment}` in this file");
        file.fault(node.at, what, did_you_mean(environment, &names));
        return None;
    }
    Some(node)
}

/// The environments that the file has; empty if its tables are not environments.
pub(super) fn environments(node: &Node) -> Vec<String> {
    let Tree::Table(members) = &node.value else { return Vec::new() };
    let section = |member: &Member| SECTIONS.contains(&member.key.as_str());
    let is_environment =
        |member: &Member| matches!(&member.node.value, Tree::Table(inner) if inner.iter().any(section));
    if members.iter().any(section) || !members.iter().all(is_environment) {
        return Vec::new();
    }
    members.iter().map(|member| member.key.clone()).collect()
}

/// Reads the whole file. Relative directories begin at `base`.
pub(super) fn read(mut root: Option<Table<'_>>, base: &Path) -> Settings {
    let (peers, engine, limits) = section(&mut root, "limits", modules::all_limits);
    let mut modules = section(&mut root, "modules", modules::modules);
    modules.dir = base.join(modules.dir);
    modules.local = modules.local.map(|local| base.join(local));
    let no_scripts = || Scripts { grants: Vec::new(), limits: limits.clone() };
    let keys = modules.keys.clone();
    let settings = Settings {
        peers,
        engine,
        modules,
        module: section(&mut root, "module", |table| modules::each_module(&table, &limits, &keys)),
        scripts: section(&mut root, "scripts", |table| Some(modules::scripts(table, &limits)))
            .unwrap_or_else(no_scripts),
        network: section(&mut root, "network", host::network),
        watch: section(&mut root, "watch", host::watch),
        supervise: section(&mut root, "supervise", host::supervise),
        master: section(&mut root, "master", host::master),
        tls: root
            .as_mut()
            .and_then(|root| root.table("tls"))
            .map_or_else(|| Tls { dir: base.join(tls::DIR), ..Tls::default() }, |table| tls::tls(table, base)),
        auth: section(&mut root, "auth", |table| auth::auth(table, base)),
        command_levels: section(&mut root, "commands", host::commands),
        admin_log: section(&mut root, "admin_log", host::admin_log),
        logs: section(&mut root, "logs", host::logs),
        monitor_http: section(&mut root, "monitor", host::monitor_http),
        metrics_token: section(&mut root, "metrics", host::metrics_token),
        pomelo: section(&mut root, "pomelo", |table| host::pomelo(table, base)),
        data: section(&mut root, "data", host::data_dir)
            .or_else(|| Some(PathBuf::from("data")))
            .map(|dir| base.join(dir)),
        ssh: section(&mut root, "ssh", |table| Some(host::ssh(table))),
        limits,
    };
    if let Some(root) = root {
        root.close();
    }
    settings
}

/// The settings of a section; the defaults if there is no such section.
fn section<'a, T: Default>(root: &mut Option<Table<'a>>, name: &'static str, read: impl FnOnce(Table<'a>) -> T) -> T {
    root.as_mut().and_then(|root| root.table(name)).map(read).unwrap_or_default()
}
