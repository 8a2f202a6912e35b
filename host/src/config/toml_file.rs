//! Reads `pomelo.toml`: keys, bounds and faults of each section.

use std::path::Path;

use super::reader::{File, Table, did_you_mean};
use super::ready::ready_word;
use super::settings::{KIB, MIB, MasterTimes, ModuleSettings, Network, Settings, Ssh, Supervise, Watch};
use super::tree::Tree;
use crate::plugin::Limits;
use crate::supervise::Restart;

/// The longest time that any deadline may be: one day.
const DAY_MS: u64 = 86_400_000;

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
                let name = format!("[module.{}]", member.key);
                if let Some(table) = table.file.table(&member.node, name) {
                    settings.module.insert(member.key.clone(), module(table, &settings.limits));
                }
            }
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
            };
            table.close();
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
    if let Some(levels) = table.table("levels") {
        for member in levels.members() {
            match &member.node.value {
                Tree::Number(level) if level.as_u64().is_some_and(|level| (1..=1000).contains(&level)) => {
                    module
                        .levels
                        .insert(member.key.clone(), level.as_u64().and_then(|l| u32::try_from(l).ok()).unwrap_or(1));
                }
                _ => levels.file.wrong_type(&member.node, &member.key, "a level from 1 to 1000", "list = 2"),
            }
        }
    }
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

fn check_grant(file: File<'_>, grant: &str, at: usize) {
    const WORDS: [&str; 9] =
        ["cluster", "uplink", "process", "starter", "application", "wasi:", "cluster:ID", "uplink:ID", "store:ID"];
    let known = match grant.split_once(':') {
        None => WORDS[..5].contains(&grant),
        Some((kind, name)) => ["wasi", "cluster", "uplink", "store"].contains(&kind) && !name.is_empty(),
    };
    if !known {
        file.fault(at, format!("there is nothing called `{grant}` to grant"), did_you_mean(grant, &WORDS));
    }
}

fn owned(texts: Vec<(&str, usize)>) -> Vec<String> {
    texts.into_iter().map(|(text, _)| text.to_owned()).collect()
}
