//! Reads `pomelo.toml`: keys, bounds and faults of each section.

use std::collections::BTreeMap;
use std::path::Path;

use axum::http::Uri;

use super::reader::{File, Table, did_you_mean};
use super::ready::ready_word;
use super::settings::{
    AdminLog, Auth, KIB, MIB, MasterTimes, ModuleSettings, Network, Pomelo, Scripts, Settings, Ssh, Supervise, Watch,
};
use super::tree::{Member, Node, Tree};
use crate::auth::{Bounds, Reconnect, Secret, Way};
use crate::plugin::Limits;
use crate::supervise::Restart;
use crate::wire::COMMANDS;

/// The longest time that any deadline may be: one day.
const DAY_MS: u64 = 86_400_000;

/// Sections that make a table of the file's top one of a single environment.
const SECTIONS: [&str; 11] =
    ["limits", "modules", "module", "network", "watch", "supervise", "master", "data", "auth", "commands", "admin_log"];

/// The part of the file that is for an environment: where its tables are environments, as in pomelo's files, that of the name; else all of it.
/// Absent, with a fault, where there are others only. An environment cannot be named as a section is.
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

/// The environments that the file has, where its tables are environments.
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
pub(super) fn read(root: Option<Table<'_>>, base: &Path) -> Settings {
    let mut settings = Settings { data: Some("data".into()), ..Settings::default() };
    if let Some(mut root) = root {
        if let Some(mut table) = root.table("limits") {
            let total = table.size("total_instances", settings.engine.total_instances as usize, 1, 16..=100_000);
            settings.engine.total_instances = u32::try_from(total).unwrap_or(u32::MAX);
            settings.limits = limits(table, &settings.limits);
        }
        if let Some(mut table) = root.table("modules") {
            if let Some((dir, _)) = table.text("dir", "dir = \"modules\"") {
                settings.modules.dir = dir.into();
            }
            settings.modules.allow_replace_builtin = table.flag("allow_replace_builtin", false);
            settings.modules.system_monitor = table.flag("system_monitor", false);
            table.close();
        }
        if let Some(table) = root.table("module") {
            for member in table.members() {
                table.file.mark(format!("module {}", member.key), member.at);
                let name = format!("[module.{}]", member.key);
                if let Some(table) = table.file.table(&member.node, name) {
                    settings.module.insert(member.key.clone(), module(table, &settings.limits));
                }
            }
        }
        settings.scripts.limits.clone_from(&settings.limits);
        if let Some(table) = root.table("scripts") {
            settings.scripts = scripts(table, &settings.limits);
        }
        if let Some(table) = root.table("network") {
            settings.network = network(table);
        }
        if let Some(mut table) = root.table("watch") {
            let default = Watch::default();
            settings.watch = Watch {
                settle: table.millis("settle_ms", default.settle, 1..=60_000),
                drain: table.millis("drain_ms", default.drain, 0..=DAY_MS),
                poll: table.flag("poll", default.poll),
            };
            table.close();
        }
        if let Some(table) = root.table("supervise") {
            settings.supervise = supervise(table);
        }
        if let Some(mut table) = root.table("master") {
            let default = MasterTimes::default();
            settings.master = MasterTimes {
                grace: table.millis("grace_ms", default.grace, 0..=DAY_MS),
                event_window: table.millis("event_window_ms", default.event_window, 0..=10_000),
                events: table.size("events", default.events, 1, 16..=100_000),
                mass_loss_share: table.share("mass_loss_share", default.mass_loss_share),
                mass_loss_hold: table.millis("mass_loss_hold_ms", default.mass_loss_hold, 0..=DAY_MS),
            };
            table.close();
        }
        if let Some(table) = root.table("auth") {
            settings.auth = auth(table, base);
        }
        if let Some(mut table) = root.table("commands") {
            settings.command_levels = levels(&mut table);
            for command in settings.command_levels.keys().filter(|command| !COMMANDS.contains(&command.as_str())) {
                let what = format!("there is no command `{command}` of the host");
                table.file.fault(table.at, what, did_you_mean(command, COMMANDS));
            }
            table.close();
        }
        if let Some(mut table) = root.table("admin_log") {
            let default = AdminLog::default();
            let file = table.text("file", "file = \"admin.log\"").map(|(file, _)| file.into());
            let max_bytes = table.number("max_mib", default.max_bytes / MIB as u64, 1..=4096) * MIB as u64;
            let keep = table.number("keep", default.keep.into(), 0..=1000);
            settings.admin_log = AdminLog {
                file: file.unwrap_or(default.file),
                max_bytes,
                keep: u32::try_from(keep).unwrap_or(default.keep),
            };
            table.close();
        }
        if let Some(mut table) = root.table("monitor") {
            if let Some((text, at)) = table.text("http", "http = \"127.0.0.1:0\"") {
                settings.monitor_http = text.parse().ok();
                if settings.monitor_http.is_none() {
                    let what = format!("`http` must be an address and a port, not `{text}`");
                    table.file.fault(at, what, "for example: http = \"127.0.0.1:0\"; port 0 takes any");
                }
            }
            table.close();
        }
        if let Some(mut table) = root.table("metrics") {
            if let Some((token, at)) = table.text("token", "token = \"a long random text\"") {
                if token.len() < 16 {
                    table.file.fault(at, "`token` is short enough to be guessed", "take at least 16 characters");
                }
                settings.metrics_token = Some(Secret::new(token));
            }
            table.close();
        }
        if let Some(table) = root.table("pomelo") {
            settings.pomelo = pomelo(table, base);
        }
        if let Some(mut table) = root.table("data") {
            if let Some((dir, _)) = table.text("dir", "dir = \"data\"") {
                settings.data = Some(dir.into());
            }
            table.close();
        }
        settings.ssh = root.table("ssh").map(ssh);
        root.close();
    }
    settings.modules.dir = base.join(&settings.modules.dir);
    settings.data = settings.data.map(|dir| base.join(dir));
    settings
}

fn limits(mut table: Table<'_>, default: &Limits) -> Limits {
    let limits = Limits {
        cpu: table.millis("cpu_ms", default.cpu, 1..=DAY_MS),
        wall: table.millis("wall_ms", default.wall, 1..=DAY_MS),
        memory: table.size("memory_mib", default.memory, MIB, 1..=4096),
        running: table.size("running", default.running, 1, 1..=100_000),
        instances: table.size("instances", default.instances, 1, 1..=100_000),
        reserve: table.size("reserve", default.reserve, 1, 1..=100_000),
        queue: table.size("queue", default.queue, 1, 0..=1_000_000),
        store: table.size("store_kib", default.store, KIB, 0..=4 * 1024 * 1024),
        answer: table.size("answer_kib", default.answer, KIB, 1..=1024 * 1024),
    };
    table.close();
    limits
}

fn scripts(mut table: Table<'_>, defaults: &Limits) -> Scripts {
    let mut scripts = Scripts { grants: Vec::new(), limits: defaults.clone() };
    for (grant, at) in table.texts("grants", "grants = [\"process\"]") {
        check_grant(table.file, grant, at);
        scripts.grants.push(grant.to_owned());
    }
    if let Some(own) = table.table("limits") {
        scripts.limits = limits(own, defaults);
    }
    table.close();
    scripts
}

fn network(mut table: Table<'_>) -> Network {
    let default = Network::default();
    let network = Network {
        ping_interval: table.millis("ping_interval_ms", default.ping_interval, 100..=600_000),
        ping_timeout: table.millis("ping_timeout_ms", default.ping_timeout, 100..=600_000),
        register_deadline: table.millis("register_deadline_ms", default.register_deadline, 100..=600_000),
        max_frame: table.size("max_frame_kib", default.max_frame, KIB, 16..=1024 * 1024),
        max_unregistered_frame: table.size("max_unregistered_frame_kib", default.max_unregistered_frame, KIB, 1..=1024),
        max_connections: table.size("max_connections", default.max_connections, 1, 1..=1_000_000),
        outbox: table.size("outbox", default.outbox, 1, 16..=1_000_000),
        pending: table.size("pending", default.pending, 1, 1..=1_000_000),
        request_deadline: table.millis("request_deadline_ms", default.request_deadline, 1..=DAY_MS),
        allowed_hosts: owned(table.texts("allowed_hosts", "allowed_hosts = [\"admin.example.org\"]")),
    };
    table.close();
    network
}

fn supervise(mut table: Table<'_>) -> Supervise {
    let default = Supervise::default();
    let restart = table.text("restart", "restart = \"always\"");
    let ready = table.text("ready", "ready = \"delay\"");
    let supervise = Supervise {
        stop_deadline: table.millis("stop_deadline_ms", default.stop_deadline, 0..=DAY_MS),
        backoff_min: table.millis("backoff_min_ms", default.backoff_min, 1..=DAY_MS),
        backoff_max: table.millis("backoff_max_ms", default.backoff_max, 1..=DAY_MS),
        healthy_after: table.millis("healthy_after_ms", default.healthy_after, 1..=DAY_MS),
        ready_delay: table.millis("ready_delay_ms", default.ready_delay, 0..=DAY_MS),
        ready: ready.and_then(|(word, at)| ready_word(table.file, word, at, true)).unwrap_or(default.ready),
        ready_deadline: table.millis("ready_deadline_ms", default.ready_deadline, 1..=DAY_MS),
        output_lines: table.size("output_lines", default.output_lines, 1, 1..=100_000),
        restart: restart.and_then(|(word, at)| restart_policy(table.file, word, at)).unwrap_or(default.restart),
    };
    if supervise.backoff_min > supervise.backoff_max {
        table.file.fault(
            table.at,
            "`backoff_min_ms` is more than `backoff_max_ms`",
            "the wait grows from the first to the second",
        );
    }
    table.close();
    supervise
}

fn ssh(mut table: Table<'_>) -> Ssh {
    let mut text = |key, example| {
        let (text, at) = table.text(key, example)?;
        // `ssh` would take it for an option, and a shell for nothing.
        if text.is_empty() || text.starts_with('-') || text.contains(char::is_control) {
            let what = format!("`{key}` must not be empty, begin with `-`, or have control characters");
            table.file.fault(at, what, format!("for example: {example}"));
        }
        Some(text.to_owned())
    };
    let user = text("user", "user = \"pomelo\"");
    let program = text("program", "program = \"/usr/local/bin/pomelo\"");
    let config = text("config", "config = \"/srv/game/config\"");
    let ssh = Ssh { options: owned(table.texts("options", "options = [\"-p\", \"2222\"]")), user, program, config };
    table.close();
    ssh
}

/// The restart policy of that name, or a fault.
pub(super) fn restart_policy(file: File<'_>, word: &str, at: usize) -> Option<Restart> {
    const WORDS: [&str; 3] = ["always", "on-failure", "never"];
    match word {
        "always" => Some(Restart::Always),
        "on-failure" => Some(Restart::OnFailure),
        "never" => Some(Restart::Never),
        _ => {
            file.fault(at, format!("`restart` cannot be `{word}`"), did_you_mean(word, &WORDS));
            None
        }
    }
}

fn pomelo(mut table: Table<'_>, base: &Path) -> Pomelo {
    let default = Pomelo::default();
    let mut reconnect = default.reconnect;
    if let Some((word, at)) = table.text("reconnect", "reconnect = \"known\"") {
        match Reconnect::parse(word) {
            Some(policy) => reconnect = policy,
            None => {
                let hint = did_you_mean(word, &Reconnect::WORDS);
                table.file.fault(at, format!("`reconnect` cannot be `{word}`"), hint);
            }
        }
    }
    let app = table.text("app", "app = \"../app.js\"").map(|(app, _)| base.join(app));
    let node = table.text("node", "node = \"node\"").map_or(default.node, |(node, _)| node.to_owned());
    let pomelo = Pomelo { reconnect, app, node, idle: table.millis("idle_ms", default.idle, 1000..=DAY_MS) };
    table.close();
    pomelo
}

fn module(mut table: Table<'_>, defaults: &Limits) -> ModuleSettings {
    let mut module = ModuleSettings::unnamed(defaults);
    if let Some(options) = table.table("options") {
        module.options = options.to_json();
    }
    module.interval = table.seconds("interval");
    module.delay = table.seconds("delay");
    if let Some(limits_table) = table.table("limits") {
        module.limits = limits(limits_table, defaults);
    }
    for (grant, at) in table.texts("grants", "grants = [\"cluster\", \"store:watchdog\"]") {
        check_grant(table.file, grant, at);
        module.grants.push(grant.to_owned());
    }
    module.levels = levels(&mut table);
    module.server_types = owned(table.texts("server_types", "server_types = [\"connector\"]"));
    module.environments = owned(table.texts("environments", "environments = [\"production\"]"));
    module.enabled = table.flag("enabled", true);
    if let Some((file, at)) = table.text("file", "file = \"probe.wasm\"") {
        if file.contains(['/', '\\']) || file.is_empty() || file.starts_with('.') {
            table.file.fault(
                at,
                "`file` must be the plain name of a file",
                "it is looked for in the modules directory",
            );
        }
        module.file = Some(file.to_owned());
    }
    table.close();
    module
}

/// `levels`: from an operation or command to the highest level that may ask for it.
fn levels(table: &mut Table<'_>) -> BTreeMap<String, u32> {
    let mut levels = BTreeMap::new();
    let Some(table) = table.table("levels") else { return levels };
    for member in table.members() {
        let level = match &member.node.value {
            Tree::Number(level) => level.as_u64().filter(|level| (1..=1000).contains(level)),
            _ => None,
        };
        match level.and_then(|level| u32::try_from(level).ok()) {
            Some(level) => drop(levels.insert(member.key.clone(), level)),
            None => table.file.wrong_type(&member.node, &member.key, "a level from 1 to 1000", "list = 2"),
        }
    }
    levels
}

/// `[auth]`; commands run in `base`.
fn auth(mut table: Table<'_>, base: &Path) -> Auth {
    let default = Bounds::default();
    let auth = Auth {
        user: way(&mut table, "user_command", "user_url", base),
        server: way(&mut table, "server_command", "server_url", base),
        bounds: Bounds {
            timeout: table.millis("timeout_ms", default.timeout, 10..=60_000),
            concurrent: table.size("concurrent", default.concurrent, 1, 1..=64),
        },
    };
    table.close();
    auth
}

/// One of a command and an address.
fn way(table: &mut Table<'_>, command: &'static str, url: &'static str, base: &Path) -> Option<Way> {
    let given = table.get(command).map(|node| node.at);
    let words = owned(table.texts(command, &format!("{command} = [\"./check-login\"]")));
    let address = table.text(url, &format!("{url} = \"http://127.0.0.1:8080/login\""));
    if let Some(at) = given {
        if words.first().is_none_or(String::is_empty) {
            table.file.fault(
                at,
                format!("`{command}` names no program"),
                format!("for example: {command} = [\"./check-login\"]"),
            );
            return None;
        }
        if address.is_some() {
            table.file.fault(at, format!("both `{command}` and `{url}` are given"), "keep one of the two");
        }
        return Some(Way::Command(words, base.to_owned()));
    }
    let (text, at) = address?;
    let parsed = text.parse::<Uri>().ok().filter(|uri| uri.host().is_some());
    let (what, hint) = match parsed.as_ref().map(|uri| (uri.scheme_str(), uri.authority())) {
        Some((Some("http"), Some(authority))) if authority.as_str().contains('@') => (
            format!("`{url}` holds a user or a password"),
            "the endpoint must know this master by its address".to_owned(),
        ),
        Some((Some("http"), _)) => return parsed.map(Way::Url),
        Some((Some("https"), _)) => (
            format!("`{url}` cannot be https"),
            format!("name a proxy on this machine that speaks TLS, or let `{command}` ask"),
        ),
        _ => (format!("`{url}` is no address"), format!("for example: {url} = \"http://127.0.0.1:8080/login\"")),
    };
    table.file.fault(at, what, hint);
    None
}

fn check_grant(file: File<'_>, grant: &str, at: usize) {
    const PLAIN: usize = 7;
    const WORDS: [&str; PLAIN + 4] = [
        "cluster",
        "uplink",
        "process",
        "starter",
        "application",
        "scripts",
        "profiler",
        "wasi:",
        "cluster:ID",
        "uplink:ID",
        "store:ID",
    ];
    let known = match grant.split_once(':') {
        None => WORDS[..PLAIN].contains(&grant),
        Some((kind, name)) => ["wasi", "cluster", "uplink", "store"].contains(&kind) && !name.is_empty(),
    };
    if !known {
        file.fault(at, format!("there is nothing called `{grant}` to grant"), did_you_mean(grant, &WORDS));
    }
}

fn owned(texts: Vec<(&str, usize)>) -> Vec<String> {
    texts.into_iter().map(|(text, _)| text.to_owned()).collect()
}
