//! `[limits]`, `[modules]`, `[module.ID]` and `[scripts]`: where modules are, and what they may use.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::budget;
use crate::config::reader::{DAY_MS, File, Table, did_you_mean};
use crate::config::settings::{KIB, MIB, ModuleSettings, Modules, Scripts};
use crate::config::tree::Tree;
use crate::plugin::{CompileLimits, EngineLimits, Limits};
use crate::rollout::Wave;
use crate::trust::{Keys, MAX_KEYS, NoKey};

/// The most waves of a rollout.
const MAX_WAVES: usize = 100;

/// `[limits]`: of all peers together, of all modules together, and of each module.
pub(super) fn all_limits(mut table: Table<'_>) -> (budget::Limits, EngineLimits, Limits) {
    let peers = budget::Limits::default();
    let peers = budget::Limits {
        total: table.size("peers_mib", peers.total, MIB, 16..=1024 * 1024),
        connection: table.size("connection_mib", peers.connection, MIB, 1..=64 * 1024),
        calls: table.size("connection_calls", peers.calls, 1, 1..=1_000_000),
    };
    if peers.connection > peers.total {
        let hint = "one connection could hold more than all may: lower the first or raise the second";
        table.file.fault(table.at, "`connection_mib` is more than `peers_mib`", hint);
    }
    let mut engine = EngineLimits::default();
    let total = table.size("total_instances", engine.total_instances as usize, 1, 16..=100_000);
    engine.total_instances = u32::try_from(total).unwrap_or(u32::MAX);
    engine.modules = table.size("modules_mib", engine.modules, MIB, 16..=1024 * 1024);
    (peers, engine, limits(table, &Limits::default()))
}

/// `[modules]`.
pub(super) fn modules(mut table: Table<'_>) -> Modules {
    let default = Modules::default();
    let modules = Modules {
        dir: table.text("dir", "dir = \"modules\"").map_or(default.dir, |(dir, _)| dir.into()),
        allow_replace_builtin: table.flag("allow_replace_builtin", default.allow_replace_builtin),
        system_monitor: table.flag("system_monitor", default.system_monitor),
        max_file: table.size("file_mib", default.max_file as usize, MIB, 1..=1024) as u64,
        keep: table.size("keep", default.keep, 1, 0..=100),
        keys: keys(&mut table),
        require_signature: table.flag("require_signature", default.require_signature),
        from_master: table.flag("from_master", default.from_master),
        local: table.text("local", "local = \"local-modules\"").map(|(dir, _)| dir.into()),
        waves: waves(&mut table),
        wave_time: table.seconds("wave_s").unwrap_or(default.wave_time),
        compile: CompileLimits {
            cpu: Duration::from_secs(
                table.size("compile_seconds", default.compile.seconds() as usize, 1, 1..=3600) as u64
            ),
            memory: table.size("compile_mib", default.compile.memory, MIB, 128..=1024 * 1024),
            code: table.size("code_mib", default.compile.code, MIB, 16..=64 * 1024),
        },
    };
    table.close();
    modules
}

/// `keys`: names and public keys.
fn keys(table: &mut Table<'_>) -> Keys {
    const HINT: &str = "`pomelo module keygen` makes a pair of keys, and prints this line";
    let mut keys = Keys::default();
    let Some(table) = table.table("keys") else { return keys };
    for member in table.members() {
        let Tree::Text(text) = &member.node.value else {
            table.file.wrong_type(&member.node, &member.key, "a public key of minisign", "keys = { ann = \"RWQ…\" }");
            continue;
        };
        if keys.names().count() >= MAX_KEYS {
            table.file.fault(member.at, format!("there are more than {MAX_KEYS} keys"), "leave some out");
            break;
        }
        if let Err(none) = keys.add(&member.key, text) {
            let hint = if none == NoKey::Foreign { HINT } else { "keep one of the two" };
            table.file.fault(member.node.at, format!("`{}`: {none}", member.key), hint);
        }
    }
    keys
}

/// `waves`: numbers of servers, percentages, types.
fn waves(table: &mut Table<'_>) -> Vec<Wave> {
    const EXAMPLE: &str = "waves = [\"1\", \"10%\", \"type:chat\"]";
    let mut waves = Vec::new();
    for (text, at) in table.texts("waves", EXAMPLE) {
        match text.parse() {
            Ok(wave) if waves.len() < MAX_WAVES => waves.push(wave),
            Ok(_) => table.file.fault(at, format!("there are more than {MAX_WAVES} waves"), "leave some out"),
            Err(()) => {
                let hint = format!("a number of servers, a percentage or a type: {EXAMPLE}");
                table.file.fault(at, format!("`{text}` is no wave"), &hint);
            }
        }
    }
    waves
}

/// The tables `[module.ID]`.
pub(super) fn each_module(table: &Table<'_>, defaults: &Limits, keys: &Keys) -> BTreeMap<String, ModuleSettings> {
    let mut modules = BTreeMap::new();
    for member in table.members() {
        table.file.mark(format!("module {}", member.key), member.at);
        let name = format!("[module.{}]", member.key);
        if let Some(table) = table.file.table(&member.node, name) {
            modules.insert(member.key.clone(), module(table, defaults, keys));
        }
    }
    modules
}

fn module(mut table: Table<'_>, defaults: &Limits, keys: &Keys) -> ModuleSettings {
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
    module.server_types = table.words("server_types", "server_types = [\"connector\"]");
    module.environments = table.words("environments", "environments = [\"production\"]");
    module.enabled = table.flag("enabled", true);
    if let Some((key, at)) = table.text("key", "key = \"ann\"") {
        if !keys.has(key) {
            let known: Vec<&str> = keys.names().collect();
            table.file.fault(
                at,
                format!("there is no key `{key}` among `keys` under [modules]"),
                did_you_mean(key, &known),
            );
        }
        module.key = Some(key.to_owned());
    }
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

/// `[scripts]`.
pub(super) fn scripts(mut table: Table<'_>, defaults: &Limits) -> Scripts {
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
        weight: u32::try_from(table.size("cpu_weight", default.weight as usize, 1, 1..=10_000))
            .unwrap_or(default.weight),
        message: table.size("message_kib", default.message, KIB, 1..=1024 * 1024),
        module: default.module.map(|module| table.size("module_mib", module, MIB, 1..=1024 * 1024)),
    };
    table.close();
    limits
}

fn check_grant(file: File<'_>, grant: &str, at: usize) {
    const PLAIN: usize = 8;
    const WORDS: [&str; PLAIN + 3] = [
        "cluster",
        "uplink",
        "process",
        "kept-output",
        "starter",
        "application",
        "scripts",
        "profiler",
        "cluster:ID",
        "uplink:ID",
        "store:ID",
    ];
    let known = match grant.split_once(':') {
        None => WORDS[..PLAIN].contains(&grant),
        // What there is of WASI every module has by now. Earlier versions wanted it granted.
        Some((kind, name)) => ["wasi", "cluster", "uplink", "store"].contains(&kind) && !name.is_empty(),
    };
    if !known {
        file.fault(at, format!("there is nothing called `{grant}` to grant"), did_you_mean(grant, &WORDS));
    }
}

/// `levels`: from an operation or a command to the highest level that may ask for it.
pub(super) fn levels(table: &mut Table<'_>) -> BTreeMap<String, u32> {
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
