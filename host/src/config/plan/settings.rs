//! `pomelo.toml` and `master.json`: which keys differ, and who takes each of them.
//!
//! Each section's fields are named one by one, and the compiler refuses a list that lacks one. So a new setting cannot be forgotten here.

use std::collections::BTreeSet;

use super::{ChangedModule, ChangedSetting, Taken};
use crate::budget::Limits as PeerLimits;
use crate::config::cluster::Config;
use crate::config::settings::{
    AdminLog, Auth, MasterTimes, ModuleSettings, Modules, Network, Pomelo, Scripts, Settings, Ssh, Supervise, Tls,
    Watch,
};
use crate::plugin::{EngineLimits, Limits};
use crate::supervise::kept_output::Options as KeptOutput;

/// The keys of the fields that differ.
macro_rules! differing {
    ($type:ident, $before:expr, $after:expr, { $($field:ident: $key:literal),* $(,)? }) => {{
        let (before, after): (&$type, &$type) = ($before, $after);
        let $type { $($field: _),* } = before;
        let mut keys: Vec<&'static str> = Vec::new();
        $(if before.$field != after.$field { keys.push($key); })*
        keys
    }};
}

fn limits(before: &Limits, after: &Limits) -> Vec<&'static str> {
    differing!(Limits, before, after, {
        cpu: "cpu_ms", wall: "wall_ms", memory: "memory_mib", running: "running", instances: "instances", reserve: "reserve",
        queue: "queue", store: "store_kib", answer: "answer_kib", message: "message_kib", module: "module_mib", weight: "cpu_weight",
    })
}

/// The limits that differ, without those that both sides have from `[limits]`: there it is the common one that has changed. Each side comes with its
/// common limits.
fn own_limits(before: (&Limits, &Limits), after: (&Limits, &Limits)) -> Vec<&'static str> {
    let set = [limits(before.0, before.1), limits(after.0, after.1)];
    limits(before.0, after.0).into_iter().filter(|key| set.iter().any(|set| set.contains(key))).collect()
}

/// The most memory that a module may be given without a new engine, bytes.
fn memory_ceiling(settings: &Settings) -> usize {
    let own = [settings.limits.memory, settings.scripts.limits.memory, EngineLimits::default().max_memory];
    settings.module.values().map(|module| module.limits.memory).chain(own).max().unwrap_or_default()
}

/// The modules whose own settings differ. A limit that both have from `[limits]` is not a module's own.
pub(super) fn modules(in_force: &Config, files: &Config) -> Vec<ChangedModule> {
    let ids: BTreeSet<&String> = in_force.settings.module.keys().chain(files.settings.module.keys()).collect();
    let changed = ids.into_iter().map(|id| {
        let mut keys = module(in_force, files, id);
        keys.retain(|key| *key != memory_key() || !above_ceiling(&in_force.settings, &files.settings, id));
        ChangedModule { id: id.clone(), keys }
    });
    changed.filter(|module| !module.keys.is_empty()).collect()
}

fn memory_key() -> &'static str {
    "limits.memory_mib"
}

/// Whether the files give the module more memory than the engine of a running master can.
fn above_ceiling(in_force: &Settings, files: &Settings, id: &str) -> bool {
    files.module.get(id).is_some_and(|module| module.limits.memory > memory_ceiling(in_force))
}

/// The keys of one module's settings that differ.
fn module(in_force: &Config, files: &Config, id: &str) -> Vec<String> {
    let (before, after) = (in_force.module(id), files.module(id));
    let differing = differing!(ModuleSettings, &before, &after, {
        options: "options", interval: "interval", delay: "delay", limits: "limits", grants: "grants", levels: "levels",
        server_types: "server_types", environments: "environments", enabled: "enabled", file: "file", key: "key",
    });
    let mut keys = Vec::new();
    for key in differing {
        match key {
            "options" => keys.extend(members("options", &before.options, &after.options)),
            "levels" => keys.extend(members("levels", &before.levels, &after.levels)),
            "limits" => {
                let common = (&in_force.settings.limits, &files.settings.limits);
                let own = own_limits((&before.limits, common.0), (&after.limits, common.1));
                keys.extend(own.into_iter().map(|key| format!("limits.{key}")));
            }
            "grants" => {
                let set = |grants: &[String]| grants.iter().cloned().collect::<BTreeSet<_>>();
                if set(&before.grants) != set(&after.grants) {
                    keys.push("grants".to_owned());
                }
            }
            key => keys.push(key.to_owned()),
        }
    }
    keys
}

/// `table.NAME` for the members of a table that differ.
fn members<'a, T: 'a + PartialEq, I>(table: &str, before: I, after: I) -> Vec<String>
where
    I: IntoIterator<Item = (&'a String, &'a T)> + Copy,
{
    let find = |side: I, name: &String| side.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value);
    let names: BTreeSet<&String> = before.into_iter().chain(after).map(|(name, _)| name).collect();
    let differing = names.into_iter().filter(|name| find(before, name) != find(after, name));
    differing.map(|name| format!("{table}.{name}")).collect()
}

/// All settings that differ and are not of a single module.
pub(super) fn others(in_force: &Config, files: &Config) -> Vec<ChangedSetting> {
    let mut found = Vec::new();
    let mut say = |section: &str, keys: Vec<&'static str>, taken: Taken| {
        found.extend(keys.into_iter().map(|key| ChangedSetting { key: format!("{section} {key}"), taken }));
    };
    use Taken::{AtOnce, NewMaster, NextStart};
    let (before, after) = (&in_force.settings, &files.settings);
    let Settings {
        limits: common,
        peers,
        engine,
        modules,
        // `modules` above compares them.
        module: _,
        scripts,
        network,
        watch,
        supervise,
        master,
        ssh,
        tls,
        auth,
        command_levels,
        admin_log,
        logs,
        monitor_http,
        metrics_token,
        pomelo,
        data,
    } = before;
    let ceiling = memory_ceiling(before);
    let (memory, rest): (Vec<_>, Vec<_>) = limits(common, &after.limits)
        .into_iter()
        .partition(|key| *key == "memory_mib" && after.limits.memory > ceiling);
    say("[limits]", rest, AtOnce);
    say("[limits]", memory, NewMaster);
    let peers = differing!(PeerLimits, peers, &after.peers, {
        total: "peers_mib", connection: "connection_mib", calls: "connection_calls",
    });
    say("[limits]", peers, NewMaster);
    let engine = differing!(EngineLimits, engine, &after.engine, {
        total_instances: "total_instances", max_memory: "max_memory", modules: "modules_mib",
    });
    say("[limits]", engine, NewMaster);
    let keys = differing!(Modules, modules, &after.modules, {
        dir: "dir", allow_replace_builtin: "allow_replace_builtin", system_monitor: "system_monitor", max_file: "file_mib",
        keep: "keep", from_master: "from_master", local: "local", waves: "waves", wave_time: "wave_s",
        keys: "keys", require_signature: "require_signature",
        compile: "compile_seconds, compile_mib or code_mib",
    });
    for key in keys {
        let taken = match key {
            "allow_replace_builtin" | "waves" | "wave_s" | "keys" | "require_signature" => AtOnce,
            "from_master" | "local" => NextStart,
            _ => NewMaster,
        };
        say("[modules]", vec![key], taken);
    }
    for key in differing!(Scripts, scripts, &after.scripts, { grants: "grants", limits: "limits" }) {
        if key == "grants" {
            say("[scripts]", vec![key], AtOnce);
            continue;
        }
        let own = own_limits((&scripts.limits, common), (&after.scripts.limits, &after.limits));
        let above = |key: &&str| *key == "memory_mib" && after.scripts.limits.memory > ceiling;
        let (memory, rest) = own.into_iter().partition(above);
        say("[scripts.limits]", rest, AtOnce);
        say("[scripts.limits]", memory, NewMaster);
    }
    let network = differing!(Network, network, &after.network, {
        wire: "wire", ping_interval: "ping_interval_ms", ping_timeout: "ping_timeout_ms", register_deadline: "register_deadline_ms",
        max_frame: "max_frame_kib", max_unregistered_frame: "max_unregistered_frame_kib", info: "info_kib", max_joined: "max_joined",
        max_connections: "max_connections",
        connections_per_address: "connections_per_address", strangers: "strangers", strangers_per_address: "strangers_per_address",
        strangers_held: "strangers_held_mib", polling: "polling", polling_sessions: "polling_sessions",
        polling_per_address: "polling_per_address", body_time: "body_time_ms", request_time: "request_time_ms", frame_time: "frame_time_ms",
        logins: "logins", logins_per_address: "logins_per_address", clients_per_user: "clients_per_user", login_wait: "login_wait_ms",
        outbox: "outbox", pending: "pending", request_deadline: "request_deadline_ms", allowed_hosts: "allowed_hosts",
    });
    say("[network]", network, NewMaster);
    let (drain, rest): (Vec<_>, Vec<_>) = differing!(Watch, watch, &after.watch, {
        settle: "settle_ms", drain: "drain_ms", poll: "poll",
    })
    .into_iter()
    .partition(|key| *key == "drain_ms");
    say("[watch]", drain, AtOnce);
    say("[watch]", rest, NewMaster);
    // Monitors take it when they start the next time, and the starter when there is a new master.
    let (starts, supervise): (Vec<_>, Vec<_>) = differing!(Supervise, supervise, &after.supervise, {
        stop_deadline: "stop_deadline_ms", backoff_min: "backoff_min_ms", backoff_max: "backoff_max_ms",
        healthy_after: "healthy_after_ms", ready_delay: "ready_delay_ms", ready: "ready", ready_timeout: "ready_timeout_ms", drain: "drain_ms",
        output_lines: "output_lines", restart: "restart", starts_per_s: "starts_per_s",
    })
    .into_iter()
    .partition(|key| *key == "starts_per_s");
    say("[supervise]", starts, NewMaster);
    say("[supervise]", supervise, NextStart);
    let master = differing!(MasterTimes, master, &after.master, {
        grace: "grace_ms", event_window: "event_window_ms", events: "events", mass_loss_share: "mass_loss_share",
        mass_loss_hold: "mass_loss_hold_ms",
    });
    say("[master]", master, NewMaster);
    let (no_ssh, ssh_there) = (Ssh::default(), ssh.is_some() != after.ssh.is_some());
    let mut keys = differing!(Ssh, ssh.as_ref().unwrap_or(&no_ssh), after.ssh.as_ref().unwrap_or(&no_ssh), {
        options: "options", user: "user", program: "program", config: "config",
    });
    if ssh_there && keys.is_empty() {
        // The section alone decides whether servers of other machines are started.
        keys.push(if ssh.is_some() { "(gone)" } else { "(new)" });
    }
    say("[ssh]", keys, NewMaster);
    let tls = differing!(Tls, tls, &after.tls, {
        server: "certificate, key or client_ca", ca: "ca", dir: "dir", clear: "required or clear_networks",
    });
    // Monitors read them when they start. The files that they name are read again whenever they change.
    let (of_monitors, tls) = tls.into_iter().partition(|key| ["ca", "dir"].contains(key));
    say("[tls]", tls, NewMaster);
    say("[tls]", of_monitors, NextStart);
    let auth = differing!(Auth, auth, &after.auth, {
        user: "user", server: "server", ca: "ca", bounds: "timeout_ms and concurrent",
    });
    say("[auth]", auth, NewMaster);
    let admin_log = differing!(AdminLog, admin_log, &after.admin_log, {
        file: "file", max_bytes: "max_mib", keep: "keep",
    });
    say("[admin_log]", admin_log, NewMaster);
    let logs = differing!(KeptOutput, logs, &after.logs, { max_bytes: "max_mib", keep: "keep" });
    say("[logs]", logs, NextStart);
    say("[monitor]", different("http", monitor_http != &after.monitor_http), NextStart);
    say("[metrics]", different("token", metrics_token != &after.metrics_token), NewMaster);
    // Which application is run, and by what, is a difference of the servers.
    let pomelo = differing!(Pomelo, pomelo, &after.pomelo, {
        reconnect: "reconnect", app: "app", node: "node", idle: "idle_ms",
    });
    say("[pomelo]", pomelo.into_iter().filter(|key| !["app", "node"].contains(key)).collect(), NewMaster);
    say("[data]", different("dir", data != &after.data), NewMaster);
    let levels = members("[commands] levels", command_levels, &after.command_levels);
    found.extend(levels.into_iter().map(|key| ChangedSetting { key, taken: AtOnce }));
    let above = files.settings.module.keys().filter(|id| {
        above_ceiling(before, after, id) && module(in_force, files, id).iter().any(|key| key == memory_key())
    });
    let above = above.map(|id| format!("[module.{id}] {}", memory_key()));
    found.extend(above.map(|key| ChangedSetting { key, taken: NewMaster }));
    let master = members("master.json", &in_force.master.info, &files.master.info);
    // The file has no sections, so that its name stands before its keys with a blank.
    let master = master.into_iter().map(|key| key.replacen("json.", "json ", 1));
    found.extend(master.map(|key| ChangedSetting { key, taken: NewMaster }));
    found
}

fn different(key: &'static str, differs: bool) -> Vec<&'static str> {
    if differs { vec![key] } else { Vec::new() }
}

/// The settings in force once those of the files have been applied: what only a new master takes is as it was.
pub(super) fn applied(in_force: &Settings, files: &Settings) -> Settings {
    let ceiling = memory_ceiling(in_force);
    let limited = |limits: &Limits, before: &Limits| {
        let memory = if limits.memory > ceiling { before.memory } else { limits.memory };
        Limits { memory, ..limits.clone() }
    };
    let mut settings = in_force.clone();
    settings.limits = limited(&files.limits, &in_force.limits);
    let module = |(id, module): (&String, &ModuleSettings)| {
        let before = in_force.module.get(id).map_or(&in_force.limits, |module| &module.limits);
        (id.clone(), ModuleSettings { limits: limited(&module.limits, before), ..module.clone() })
    };
    settings.module = files.module.iter().map(module).collect();
    settings.scripts.grants.clone_from(&files.scripts.grants);
    settings.scripts.limits = limited(&files.scripts.limits, &in_force.scripts.limits);
    settings.modules.allow_replace_builtin = files.modules.allow_replace_builtin;
    settings.modules.keys.clone_from(&files.modules.keys);
    settings.modules.require_signature = files.modules.require_signature;
    settings.modules.from_master = files.modules.from_master;
    settings.modules.local.clone_from(&files.modules.local);
    settings.modules.waves.clone_from(&files.modules.waves);
    settings.modules.wave_time = files.modules.wave_time;
    settings.watch.drain = files.watch.drain;
    settings.supervise = Supervise { starts_per_s: in_force.supervise.starts_per_s, ..files.supervise.clone() };
    settings.tls.ca.clone_from(&files.tls.ca);
    settings.tls.dir.clone_from(&files.tls.dir);
    settings.logs = files.logs;
    settings.monitor_http = files.monitor_http;
    settings.command_levels.clone_from(&files.command_levels);
    settings.pomelo.app.clone_from(&files.pomelo.app);
    settings.pomelo.node.clone_from(&files.pomelo.node);
    settings
}
