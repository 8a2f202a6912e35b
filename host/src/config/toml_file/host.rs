//! The sections about the host itself: connections, programs, the master, other machines, servers of pomelo 2.x.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::modules::levels;
use crate::auth::{Reconnect, Secret};
use crate::config::reader::{DAY_MS, Table, did_you_mean};
use crate::config::settings::{AdminLog, KIB, MIB, MasterTimes, Network, Pomelo, Ssh, Supervise, Watch};
use crate::config::words::{ready_word, restart_word, wire_word};
use crate::supervise::kept_output;
use crate::wire::COMMANDS;

/// The servers that may join without being named, where the configuration does not say it and names fewer.
pub const MAX_JOINED: usize = 1024;

/// `[network]`.
pub(super) fn network(mut table: Table<'_>) -> Network {
    let default = Network::default();
    let wire = table.text("wire", "wire = \"pomelo\"");
    let network = Network {
        wire: wire.and_then(|(word, at)| wire_word(table.file, word, at)).unwrap_or(default.wire),
        ping_interval: table.millis("ping_interval_ms", default.ping_interval, 100..=600_000),
        ping_timeout: table.millis("ping_timeout_ms", default.ping_timeout, 100..=600_000),
        register_deadline: table.millis("register_deadline_ms", default.register_deadline, 100..=600_000),
        max_frame: table.size("max_frame_kib", default.max_frame, KIB, 16..=1024 * 1024),
        max_unregistered_frame: table.size("max_unregistered_frame_kib", default.max_unregistered_frame, KIB, 1..=1024),
        info: table.size("info_kib", default.info, KIB, 1..=1024),
        max_joined: table.get("max_joined").is_some().then(|| table.size("max_joined", MAX_JOINED, 1, 0..=1_000_000)),
        max_connections: table.size("max_connections", default.max_connections, 1, 1..=1_000_000),
        connections_per_address: table
            .get("connections_per_address")
            .is_some()
            .then(|| table.size("connections_per_address", default.max_connections, 1, 1..=1_000_000)),
        strangers: table.size("strangers", default.strangers, 1, 1..=1_000_000),
        strangers_per_address: table.size("strangers_per_address", default.strangers_per_address, 1, 1..=1_000_000),
        strangers_held: table.size("strangers_held_mib", default.strangers_held, MIB, 1..=1024),
        polling: table.flag("polling", default.polling),
        polling_sessions: table.size("polling_sessions", default.polling_sessions, 1, 0..=1_000_000),
        polling_per_address: table.size("polling_per_address", default.polling_per_address, 1, 0..=1_000_000),
        body_time: table.millis("body_time_ms", default.body_time, 100..=600_000),
        request_time: table.millis("request_time_ms", default.request_time, 100..=600_000),
        frame_time: table.millis("frame_time_ms", default.frame_time, 100..=600_000),
        logins: table.size("logins", default.logins, 1, 1..=10_000),
        logins_per_address: table.size("logins_per_address", default.logins_per_address, 1, 1..=10_000),
        clients_per_user: table.size("clients_per_user", default.clients_per_user, 1, 1..=1_000_000),
        login_wait: table.millis("login_wait_ms", default.login_wait, 100..=600_000),
        outbox: table.size("outbox", default.outbox, 1, 16..=1_000_000),
        pending: table.size("pending", default.pending, 1, 1..=1_000_000),
        request_deadline: table.millis("request_deadline_ms", default.request_deadline, 1..=DAY_MS),
        allowed_hosts: table.words("allowed_hosts", "allowed_hosts = [\"admin.example.org\"]"),
    };
    table.close();
    network
}

/// `[watch]`.
pub(super) fn watch(mut table: Table<'_>) -> Watch {
    let default = Watch::default();
    let watch = Watch {
        settle: table.millis("settle_ms", default.settle, 1..=60_000),
        drain: table.millis("drain_ms", default.drain, 0..=DAY_MS),
        poll: table.flag("poll", default.poll),
    };
    table.close();
    watch
}

/// `[supervise]`.
pub(super) fn supervise(mut table: Table<'_>) -> Supervise {
    let default = Supervise::default();
    let restart = table.text("restart", "restart = \"always\"");
    let ready = table.text("ready", "ready = \"delay\"");
    if let Some(node) = table.get("ready_deadline_ms") {
        table.file.fault(node.at, "`ready_deadline_ms` has another name", "it is `ready_timeout_ms` now");
    }
    let supervise = Supervise {
        stop_deadline: table.millis("stop_deadline_ms", default.stop_deadline, 0..=DAY_MS),
        drain: table.millis("drain_ms", default.drain, 0..=DAY_MS),
        backoff_min: table.millis("backoff_min_ms", default.backoff_min, 1..=DAY_MS),
        backoff_max: table.millis("backoff_max_ms", default.backoff_max, 1..=DAY_MS),
        healthy_after: table.millis("healthy_after_ms", default.healthy_after, 1..=DAY_MS),
        ready_delay: table.millis("ready_delay_ms", default.ready_delay, 0..=DAY_MS),
        ready: ready.and_then(|(word, at)| ready_word(table.file, word, at, true)).unwrap_or(default.ready),
        ready_timeout: table.millis("ready_timeout_ms", default.ready_timeout, 1..=DAY_MS),
        output_lines: table.size("output_lines", default.output_lines, 1, 1..=100_000),
        restart: restart.and_then(|(word, at)| restart_word(table.file, word, at)).unwrap_or(default.restart),
        starts_per_s: {
            let rate = table.number("starts_per_s", default.starts_per_s.into(), 1..=10_000);
            u32::try_from(rate).unwrap_or(default.starts_per_s)
        },
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

/// `[master]`.
pub(super) fn master(mut table: Table<'_>) -> MasterTimes {
    let default = MasterTimes::default();
    let master = MasterTimes {
        grace: table.millis("grace_ms", default.grace, 0..=DAY_MS),
        event_window: table.millis("event_window_ms", default.event_window, 0..=10_000),
        events: table.size("events", default.events, 1, 16..=100_000),
        mass_loss_share: table.share("mass_loss_share", default.mass_loss_share),
        mass_loss_hold: table.millis("mass_loss_hold_ms", default.mass_loss_hold, 0..=DAY_MS),
    };
    table.close();
    master
}

/// `[commands]`: levels of the host's own commands.
pub(super) fn commands(mut table: Table<'_>) -> BTreeMap<String, u32> {
    let levels = levels(&mut table);
    for command in levels.keys().filter(|command| !COMMANDS.contains(&command.as_str())) {
        let what = format!("there is no command `{command}` of the host");
        table.file.fault(table.at, what, did_you_mean(command, COMMANDS));
    }
    table.close();
    levels
}

/// `[admin_log]`.
pub(super) fn admin_log(mut table: Table<'_>) -> AdminLog {
    let default = AdminLog::default();
    let file = table.text("file", "file = \"admin.log\"").map(|(file, _)| file.into());
    let max_bytes = table.number("max_mib", default.max_bytes / MIB as u64, 1..=4096) * MIB as u64;
    let keep = table.number("keep", default.keep.into(), 0..=1000);
    table.close();
    AdminLog { file: file.unwrap_or(default.file), max_bytes, keep: u32::try_from(keep).unwrap_or(default.keep) }
}

/// `[logs]`.
pub(super) fn logs(mut table: Table<'_>) -> kept_output::Options {
    let default = kept_output::Options::default();
    let max_bytes = table.number("max_mib", default.max_bytes / MIB as u64, 1..=4096) * MIB as u64;
    let keep = table.number("keep", default.keep.into(), 0..=1000);
    table.close();
    kept_output::Options { max_bytes, keep: u32::try_from(keep).unwrap_or(default.keep) }
}

/// `[monitor] http`.
pub(super) fn monitor_http(mut table: Table<'_>) -> Option<SocketAddr> {
    let http = table.text("http", "http = \"127.0.0.1:0\"").and_then(|(text, at)| {
        let address = text.parse().ok();
        if address.is_none() {
            let what = format!("`http` must be an address and a port, not `{text}`");
            table.file.fault(at, what, "for example: http = \"127.0.0.1:0\"; port 0 takes any");
        }
        address
    });
    table.close();
    http
}

/// `[metrics] token`.
pub(super) fn metrics_token(mut table: Table<'_>) -> Option<Secret> {
    let token = table.text("token", "token = \"a long random text\"").map(|(token, at)| {
        if token.len() < 16 {
            table.file.fault(at, "`token` is short enough to be guessed", "take at least 16 characters");
        }
        Secret::new(token)
    });
    table.close();
    token
}

/// `[data] dir`.
pub(super) fn data_dir(mut table: Table<'_>) -> Option<PathBuf> {
    let dir = table.text("dir", "dir = \"data\"").map(|(dir, _)| dir.into());
    table.close();
    dir
}

/// `[pomelo]`.
pub(super) fn pomelo(mut table: Table<'_>, base: &Path) -> Pomelo {
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

/// `[ssh]`.
pub(super) fn ssh(mut table: Table<'_>) -> Ssh {
    let mut text = |key, example| {
        let (text, at) = table.text(key, example)?;
        // `ssh` would take a value that begins with `-` for an option, and a shell would drop an empty one.
        if text.is_empty() || text.starts_with('-') || text.contains(char::is_control) {
            let what = format!("`{key}` must not be empty, begin with `-`, or have control characters");
            table.file.fault(at, what, format!("for example: {example}"));
        }
        Some(text.to_owned())
    };
    let user = text("user", "user = \"pomelo\"");
    let program = text("program", "program = \"/usr/local/bin/pomelo\"");
    let config = text("config", "config = \"/srv/game/config\"");
    let ssh = Ssh { options: table.words("options", "options = [\"-p\", \"2222\"]"), user, program, config };
    table.close();
    ssh
}
