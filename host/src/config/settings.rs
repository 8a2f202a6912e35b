//! `pomelo.toml`: the settings that pomelo has no file for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::reader::{File, Table, did_you_mean};
use super::tree::Tree;
use crate::supervise::{Policy, Restart};

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;
/// The longest time that any deadline may be: one day.
const DAY_MS: u64 = 86_400_000;

/// All of `pomelo.toml`. The default is what an empty file means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `[limits]`: what a module may use.
    pub limits: Limits,
    /// `[modules]`: where modules are.
    pub modules: Modules,
    /// `[module.ID]`: settings of single modules.
    pub module: BTreeMap<String, ModuleSettings>,
    /// `[network]`: connections.
    pub network: Network,
    /// `[watch]`: the modules directory under observation.
    pub watch: Watch,
    /// `[supervise]`: programs and how they are brought back.
    pub supervise: Supervise,
    /// `[master]`: the server table.
    pub master: MasterTimes,
    /// `[data] dir`: where state is kept, `data` by default; a relative path begins at the configuration directory.
    pub data: Option<PathBuf>,
}

/// `[limits]`, and `[module.ID.limits]` for one module.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// `cpu_ms` = 1000: CPU time of one call.
    pub cpu: Duration,
    /// `wall_ms` = 10000: time of one call, waiting included.
    pub wall: Duration,
    /// `memory_mib` = 16: memory of one instance, bytes.
    pub memory: usize,
    /// `instances` = 64: instances of one module.
    pub instances: usize,
    /// `reserve` = 4: instances kept for calls that are nested in others; fewer than `instances`.
    pub reserve: usize,
    /// `queue` = 1024: calls of one module that wait for an instance.
    pub queue: usize,
    /// `store_kib` = 1024: keys and values of one module's store, bytes.
    pub store: usize,
    /// `answer_kib` = 1024: one answer, bytes.
    pub answer: usize,
    /// `total_instances` = 1024: instances of all modules together. Of the engine: only in `[limits]`.
    pub total_instances: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            cpu: Duration::from_secs(1),
            wall: Duration::from_secs(10),
            memory: 16 * MIB,
            instances: 64,
            reserve: 4,
            queue: 1024,
            store: 1024 * KIB,
            answer: 1024 * KIB,
            total_instances: 1024,
        }
    }
}

/// `[modules]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Modules {
    /// `dir` = `"modules"`: where `.wasm` files are; a relative path begins at the configuration directory.
    pub dir: PathBuf,
    /// `allow_replace_builtin` = false: whether a file may take the place of a built-in module of its id.
    pub allow_replace_builtin: bool,
}

impl Default for Modules {
    fn default() -> Self {
        Modules { dir: "modules".into(), allow_replace_builtin: false }
    }
}

/// `[module.ID]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleSettings {
    /// `options`: any table; given to the module as JSON.
    pub options: Map<String, Value>,
    /// `interval`, seconds: instead of the module's own. Below 1 s the host takes 1 s.
    pub interval: Option<Duration>,
    /// `delay`, seconds: instead of the module's own.
    pub delay: Option<Duration>,
    /// `limits`: those of `[limits]` where a key is not given.
    pub limits: Limits,
    /// `grants`: what the module may use: `cluster`, `uplink`, `process`, `starter`, `application`, `wasi:…`, `cluster:ID`, `uplink:ID`,
    /// `store:ID`.
    pub grants: Vec<String>,
    /// `levels`: operation to the highest level that may do it, instead of the module's own.
    pub levels: BTreeMap<String, u32>,
    /// `server_types`: where the module runs; empty for everywhere.
    pub server_types: Vec<String>,
    /// `environments`: in which the module runs; empty for all.
    pub environments: Vec<String>,
    /// `enabled` = true.
    pub enabled: bool,
    /// `file`: name of its file in the modules directory, where that is not found by id: one file can serve several ids.
    pub file: Option<String>,
}

impl ModuleSettings {
    /// What counts for a module that the configuration does not name.
    pub fn unnamed(limits: &Limits) -> Self {
        ModuleSettings {
            options: Map::new(),
            interval: None,
            delay: None,
            limits: limits.clone(),
            grants: Vec::new(),
            levels: BTreeMap::new(),
            server_types: Vec::new(),
            environments: Vec::new(),
            enabled: true,
            file: None,
        }
    }
}

/// `[network]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// `ping_interval_ms` = 5000.
    pub ping_interval: Duration,
    /// `ping_timeout_ms` = 5000.
    pub ping_timeout: Duration,
    /// `register_deadline_ms` = 5000: a connection that has not registered by then is closed.
    pub register_deadline: Duration,
    /// `max_frame_kib` = 4096: a frame of a registered peer, bytes.
    pub max_frame: usize,
    /// `max_unregistered_frame_kib` = 16: a frame of a peer that has not registered, bytes.
    pub max_unregistered_frame: usize,
    /// `max_connections` = 4096.
    pub max_connections: usize,
    /// `outbox` = 4096: frames that wait to be sent to one peer.
    pub outbox: usize,
    /// `pending` = 4096: requests under way to one peer.
    pub pending: usize,
    /// `request_deadline_ms` = 10000: for requests whose sender names none.
    pub request_deadline: Duration,
    /// `allowed_hosts` = []: names under which browsers may reach this host, beside its address.
    pub allowed_hosts: Vec<String>,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(5),
            register_deadline: Duration::from_secs(5),
            max_frame: 4096 * KIB,
            max_unregistered_frame: 16 * KIB,
            max_connections: 4096,
            outbox: 4096,
            pending: 4096,
            request_deadline: Duration::from_secs(10),
            allowed_hosts: Vec::new(),
        }
    }
}

/// `[watch]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// `settle_ms` = 100: how long a file must stay as it is before it is loaded.
    pub settle: Duration,
    /// `drain_ms` = 10000: how long calls of a replaced version may go on.
    pub drain: Duration,
    /// `poll` = false: look at the directory from time to time, for file systems that send no events.
    pub poll: bool,
}

impl Default for Watch {
    fn default() -> Self {
        Watch { settle: Duration::from_millis(100), drain: Duration::from_secs(10), poll: false }
    }
}

/// `[supervise]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Supervise {
    /// `stop_deadline_ms` = 5000: a program that was asked to end and has not by then is killed.
    pub stop_deadline: Duration,
    /// `backoff_min_ms` = 200: wait before the first restart.
    pub backoff_min: Duration,
    /// `backoff_max_ms` = 30000: the wait doubles up to this.
    pub backoff_max: Duration,
    /// `healthy_after_ms` = 60000: a program that ran this long begins with the shortest wait again.
    pub healthy_after: Duration,
    /// `ready_delay_ms` = 300: a program that runs this long counts as started, and its server is registered.
    pub ready_delay: Duration,
    /// `restart` = `"always"`: whether a program that ended by itself is brought back, for servers that do not say.
    pub restart: Restart,
}

impl Default for Supervise {
    fn default() -> Self {
        Supervise {
            stop_deadline: Duration::from_secs(5),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
            healthy_after: Duration::from_secs(60),
            ready_delay: Duration::from_millis(300),
            restart: Restart::Always,
        }
    }
}

impl Supervise {
    /// The policy for a program with that answer to whether it is brought back.
    pub fn policy(&self, restart: Restart) -> Policy {
        Policy {
            restart,
            backoff_min: self.backoff_min,
            backoff_max: self.backoff_max,
            healthy_after: self.healthy_after,
            ready_delay: self.ready_delay,
            stop_deadline: self.stop_deadline,
        }
    }
}

/// `[master]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MasterTimes {
    /// `grace_ms` = 500: how long a connection that was lost in silence is waited for before its server counts as gone.
    pub grace: Duration,
    /// `event_window_ms` = 50: changes within it are told together.
    pub event_window: Duration,
}

impl Default for MasterTimes {
    fn default() -> Self {
        MasterTimes { grace: Duration::from_millis(500), event_window: Duration::from_millis(50) }
    }
}

/// Reads the whole file. Relative directories begin at `base`.
pub(super) fn read(root: Option<Table<'_>>, base: &Path) -> Settings {
    let mut settings = Settings { data: Some("data".into()), ..Settings::default() };
    if let Some(mut root) = root {
        if let Some(table) = root.table("limits") {
            settings.limits = limits(table, &settings.limits, true);
        }
        if let Some(mut table) = root.table("modules") {
            if let Some((dir, _)) = table.text("dir", "dir = \"modules\"") {
                settings.modules.dir = dir.into();
            }
            settings.modules.allow_replace_builtin = table.flag("allow_replace_builtin", false);
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
        root.close();
    }
    settings.modules.dir = base.join(&settings.modules.dir);
    settings.data = settings.data.map(|dir| base.join(dir));
    settings
}

fn limits(mut table: Table<'_>, default: &Limits, of_engine: bool) -> Limits {
    let limits = Limits {
        cpu: table.millis("cpu_ms", default.cpu, 1..=DAY_MS),
        wall: table.millis("wall_ms", default.wall, 1..=DAY_MS),
        memory: table.size("memory_mib", default.memory, MIB, 1..=4096),
        instances: table.size("instances", default.instances, 1, 1..=100_000),
        reserve: table.size("reserve", default.reserve, 1, 0..=1000),
        queue: table.size("queue", default.queue, 1, 0..=1_000_000),
        store: table.size("store_kib", default.store, KIB, 0..=4 * 1024 * 1024),
        answer: table.size("answer_kib", default.answer, KIB, 1..=1024 * 1024),
        total_instances: if of_engine {
            table.size("total_instances", default.total_instances, 1, 1..=100_000)
        } else {
            default.total_instances
        },
    };
    if limits.reserve >= limits.instances {
        let what = format!("`reserve` ({}) must be less than `instances` ({})", limits.reserve, limits.instances);
        table.file.fault(table.at, what, "the reserve is a part of the instances: lower it, or raise `instances`");
    }
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
    let supervise = Supervise {
        stop_deadline: table.millis("stop_deadline_ms", default.stop_deadline, 0..=DAY_MS),
        backoff_min: table.millis("backoff_min_ms", default.backoff_min, 1..=DAY_MS),
        backoff_max: table.millis("backoff_max_ms", default.backoff_max, 1..=DAY_MS),
        healthy_after: table.millis("healthy_after_ms", default.healthy_after, 1..=DAY_MS),
        ready_delay: table.millis("ready_delay_ms", default.ready_delay, 0..=DAY_MS),
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
        module.limits = limits(limits_table, defaults, false);
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
