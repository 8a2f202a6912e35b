//! Makes the options of each part from a configuration. The parts themselves know no configuration.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::arguments::{HostArgs, MonitorArgs};
use super::compile::compiler;
use super::exit::Exit;
use crate::admin_log::{self, AdminLog};
use crate::auth::{Access, Exposure, External, LoginBounds, Tokens, Users, Way};
use crate::budget::{self, Budget};
use crate::built_in::built_in;
use crate::config::{self, Config, Credentials, Texts};
use crate::console::{ModuleSettings, Settings};
use crate::journal::Journal;
use crate::master::{self, MassLoss, TableBounds};
use crate::monitor::{FromMaster, FromMasterOptions};
use crate::observe::{self, Recorder};
use crate::plugin::{Engine, EngineLimits, Grants, Keeper};
use crate::state_db::{Damaged, StateDb};
use crate::tls::{ClientTls, ServerTls};
use crate::transport::listener;
use crate::versions::Versions;
use crate::{monitor, reload, scripts};

/// Where all hosts of a data directory keep versions of modules' files. No server's directory begins with a dot.
const VERSIONS: &str = ".versions";
/// Where all hosts of a data directory share what they have fetched from their master.
const FETCHED: &str = ".modules";
/// Bytes of a frame that are reserved for ids and for the transport. The rest is for the answer.
const ENVELOPE: usize = 8 << 10;

/// The configuration that the arguments name.
pub(super) fn config(arguments: &HostArgs) -> anyhow::Result<Config> {
    let mut config = load(arguments.config.as_deref(), &arguments.env, None, None)?;
    if let Some(modules) = &arguments.modules {
        config.settings.modules.dir.clone_from(modules);
    }
    if let Some(port) = arguments.port {
        config.master.port = port;
        config.master.info.insert("port".into(), port.into());
    }
    Ok(config)
}

/// The configuration that a monitor's arguments name; absent if they name none.
pub(super) fn monitor_config(arguments: &MonitorArgs) -> anyhow::Result<Option<Config>> {
    if arguments.config.is_none() && !arguments.demo {
        return Ok(None);
    }
    let texts = arguments.files.as_deref().map(|file| {
        Texts::read(file).with_context(|| format!("the master's files cannot be read in {}", file.display()))
    });
    let texts = texts.transpose()?;
    let mut config = load(arguments.config.as_deref(), &arguments.env, arguments.master.as_deref(), texts.as_ref())?;
    if let Some(text) = &arguments.server {
        let info =
            serde_json::from_str(text).map_err(|error| Exit::usage(format!("--server is malformed: {error}")))?;
        let master = arguments.master.clone().unwrap_or_else(|| config.master.address());
        let added = config.added(&[info], &[], &master).map_err(|wrong| Exit::usage(wrong.join("\n")))?;
        config.servers.extend(added);
    }
    if arguments.data.is_some() {
        config.settings.data.clone_from(&arguments.data);
    }
    if let Some(modules) = &arguments.modules {
        config.settings.modules.dir.clone_from(modules);
    }
    Ok(Some(config))
}

fn load(
    directory: Option<&Path>,
    environment: &str,
    master: Option<&str>,
    texts: Option<&Texts>,
) -> anyhow::Result<Config> {
    match directory {
        Some(directory) => Ok(Config::load_for_monitor(directory, environment, master, texts)?),
        None => Ok(Config::demo()?),
    }
}

/// The servers that the configuration names, the master's own among them, and the most that may join beside them.
fn servers(config: Option<&Config>) -> (usize, usize) {
    let named = config.map_or(0, |config| config.servers.len() + 1);
    let joined = config.and_then(|config| config.settings.network.max_joined);
    (named, joined.unwrap_or_else(|| config::MAX_JOINED.max(named)))
}

/// How many times as many servers are expected as the limits of the built-in modules are made for.
pub(super) fn scale(config: Option<&Config>) -> usize {
    let (named, joined) = servers(config);
    named.saturating_add(joined).div_ceil(TableBounds::SERVERS).max(1)
}

/// Bytes of a frame with the server table, for each time that the table is as large as by default.
const TABLE_FRAME: usize = 4 << 20;

/// The engine of a host, with the configured number of instances divided by `share`. Compiled code is kept in the user's cache directory, or in the
/// directory that `POMELO_CACHE` names. If `POMELO_CACHE` is empty, none is kept.
pub(super) fn engine(settings: &config::Settings, share: u32, scale: usize) -> anyhow::Result<Engine> {
    let limits = &settings.engine;
    // A module may be configured with more memory than an engine allows by default.
    let all = [settings.limits.memory, settings.scripts.limits.memory, limits.max_memory.saturating_mul(scale)];
    let memory = settings.module.values().map(|module| module.limits.memory).chain(all);
    let limits = EngineLimits {
        total_instances: (limits.total_instances / share.max(1)).max(16),
        max_memory: memory.max().unwrap_or(limits.max_memory),
        modules: modules(settings),
    };
    let cache = match std::env::var_os("POMELO_CACHE") {
        Some(directory) if directory.is_empty() => None,
        Some(directory) => Some(PathBuf::from(directory)),
        None => directories::ProjectDirs::from("", "", "pomelo").map(|dirs| dirs.cache_dir().join("modules")),
    };
    let compile = &settings.modules.compile;
    let engine = |cache: Option<&Path>| Engine::compiling(limits.clone(), cache, compiler(), compile.clone());
    match cache.as_deref().map(|directory| engine(Some(directory))) {
        Some(Ok(engine)) => Ok(engine),
        Some(Err(error)) => {
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!(%error, "compiled modules are not kept: the cache directory cannot be used");
            Ok(engine(None)?)
        }
        None => Ok(engine(None)?),
    }
}

/// What all modules may hold together: at least as much as any of them may.
fn modules(settings: &config::Settings) -> usize {
    let each = settings.module.values().map(|module| &module.limits);
    let sums = each.chain([&settings.limits, &settings.scripts.limits]).filter_map(|limits| limits.sum());
    sums.max().unwrap_or(0).max(settings.engine.modules)
}

/// The settings of the modules, for the environment that the host runs in.
/// `scale` is how many times as many servers are expected as the built-in modules' limits are made for.
pub(super) fn settings(
    settings: &config::Settings,
    scale: usize,
    environment: &str,
    keeper: Option<Arc<dyn Keeper>>,
) -> Settings {
    let module = |(id, module): (&String, &config::ModuleSettings)| {
        let here = module.environments.is_empty() || module.environments.iter().any(|name| name == environment);
        let converted = ModuleSettings {
            options: serde_json::Value::Object(module.options.clone()).to_string(),
            interval: module.interval.map(|interval| interval.as_secs_f64()),
            delay: module.delay.map(|delay| delay.as_secs_f64()),
            limits: Some(module.limits.clone()),
            grants: Grants::new(module.grants.iter().cloned()),
            levels: module.levels.clone(),
            server_types: module.server_types.clone(),
            enabled: module.enabled && here,
            key: module.key.clone(),
            file: module.file.clone(),
        };
        (id.clone(), converted)
    };
    Settings {
        limits: settings.limits.clone(),
        modules: settings.module.iter().map(module).collect(),
        commands: settings.command_levels.clone(),
        replace_builtin: settings.modules.allow_replace_builtin,
        max_answer: Some(frame(&settings.network, scale).saturating_sub(ENVELOPE)),
        scale,
        drain: Some(settings.watch.drain),
        keeper,
        versions: settings.data.as_ref().filter(|_| settings.modules.keep > 0).map(|dir| {
            let modules = &settings.modules;
            Versions::new(dir.join(VERSIONS), modules.keep, modules.max_file)
        }),
        built_in: built_in(settings.modules.system_monitor),
        keys: settings.modules.keys.clone(),
        require_signature: settings.modules.require_signature,
    }
}

/// The largest frame that a host sends, bytes: as large as the server table needs.
fn frame(network: &config::Network, scale: usize) -> usize {
    match scale {
        0..=1 => network.max_frame,
        _ => network.max_frame.max(TABLE_FRAME.saturating_mul(scale)),
    }
}

/// What peers may use. Where more servers are expected than the limits are made for, it is as many times as much, unless the configuration says
/// something else. Two of the largest frames always fit into one connection, because otherwise it could not be sent what it is to be sent.
fn peers(settings: &config::Settings, scale: usize) -> budget::Limits {
    let (peers, default) = (&settings.peers, budget::Limits::default());
    let connection = peers.connection.max(frame(&settings.network, scale).saturating_mul(2));
    let total = if peers.total == default.total { peers.total.saturating_mul(scale) } else { peers.total };
    budget::Limits { total: total.max(connection), connection, calls: peers.calls }
}

/// The settings of scripts on a server. Saved scripts are kept in the server's data directory.
pub(super) fn scripts(config: Option<&Config>, settings: &config::Settings, id: &str) -> scripts::Settings {
    scripts::Settings {
        directory: config.and_then(|config| config.data_dir(id)).map(|directory| directory.join("scripts")),
        grants: Grants::new(settings.scripts.grants.iter().cloned()),
        limits: settings.scripts.limits.clone(),
    }
}

/// Where a master keeps the texts of its configuration's files for the monitors that it starts; absent if the configuration names no data directory.
pub(super) fn files_in_force(config: &Config) -> Option<PathBuf> {
    config.data_dir(&config.master.id).map(|directory| directory.join("files.json"))
}

/// The database of a server's durable state; absent if the configuration names no data directory.
pub(super) fn state(config: Option<&Config>, id: &str, damaged: Damaged) -> anyhow::Result<Option<StateDb>> {
    let directory = config.and_then(|config| config.data_dir(id));
    Ok(directory.map(|directory| StateDb::open(&directory, damaged)).transpose()?)
}

/// A master's journal. `state` keeps its events, and tells it of faults of the disk.
pub(super) fn journal(config: &Config, state: Option<&StateDb>) -> Journal {
    let journal = Journal::folding(config.settings.master.events, state.map(StateDb::events));
    if let Some(state) = state {
        state.tell(&journal);
    }
    journal
}

pub(super) fn reload_options(settings: &config::Settings) -> reload::Options {
    reload::Options { settle: settings.watch.settle, poll: settings.watch.poll, max_file: settings.modules.max_file }
}

/// Who may connect.
///
/// # Errors
/// If strangers could log in at the address that the master listens on, unless `allow_exposed` is set.
pub(super) fn access(config: &Config, address: IpAddr, allow_exposed: bool) -> anyhow::Result<Access> {
    let (users, tokens) = (Users::new(config.users.clone()), Tokens::new(config.tokens.clone()));
    let auth = &config.settings.auth;
    match exposure(config, address, &users, &tokens).check() {
        Err(exposed) if !allow_exposed => {
            return Err(Exit::usage(format!("{exposed} (--allow-exposed overrides this)")));
        }
        Err(exposed) => tracing::warn!(%exposed, "listening nevertheless, because of --allow-exposed"),
        Ok(()) => {}
    }
    let check = |way: &Option<Way>| {
        let check = way.clone().map(|way| External::new(way, auth.bounds, auth.ca.clone()));
        check.transpose().map_err(|bad| Exit::usage(format!("`ca` in [auth] of pomelo.toml: {bad}")))
    };
    let network = &config.settings.network;
    let bounds = LoginBounds {
        all: network.logins,
        per_address: network.logins_per_address,
        time: network.login_wait,
        clients_per_user: network.clients_per_user,
    };
    Ok(Access::new(users, tokens).checked_by(check(&auth.user)?, check(&auth.server)?).bounded(bounds))
}

/// The users and tokens of changed files, for a running master.
///
/// # Errors
/// If a file was removed, because everybody or nobody would be let in without it, or if strangers could log in.
pub(super) fn credentials(
    config: &Config,
    address: IpAddr,
    allow_exposed: bool,
    credentials: Credentials,
) -> Result<(Users, Tokens), String> {
    let gone = |file: &str| format!("{file} is gone; the master must be started anew to run without it");
    let users = match credentials.users {
        None if !config.users.is_empty() => return Err(gone("adminUser.json")),
        users => Users::new(users.unwrap_or_default()),
    };
    if credentials.tokens.is_none() && config.tokens.is_some() {
        return Err(gone("adminServer.json"));
    }
    let tokens = Tokens::new(credentials.tokens);
    match exposure(config, address, &users, &tokens).check() {
        Err(exposed) if !allow_exposed => Err(exposed.to_string()),
        _ => Ok((users, tokens)),
    }
}

fn exposure<'a>(config: &Config, address: IpAddr, users: &'a Users, tokens: &'a Tokens) -> Exposure<'a> {
    let auth = &config.settings.auth;
    let (users_checked, servers_checked) = (auth.user.is_some(), auth.server.is_some());
    let certificates = config.settings.tls.takes_certificates();
    Exposure { address, certificates, users, tokens, users_checked, servers_checked }
}

/// The admin log, a file in the master's data directory unless the configuration names another. The demo cluster has no data directory, so its
/// requests are in the program's log only.
pub(super) fn admin_log(config: &Config, journal: &Journal) -> anyhow::Result<AdminLog> {
    let Some(directory) = config.data_dir(&config.master.id) else { return Ok(AdminLog::default()) };
    let settings = &config.settings.admin_log;
    let options = admin_log::Options::new(directory.join(&settings.file));
    tracing::info!(file = %options.file.display(), "what clients ask for is written to the admin log");
    let options = admin_log::Options { max_bytes: settings.max_bytes, keep: settings.keep, ..options };
    Ok(AdminLog::open(options, journal)?)
}

/// The address that the master listens on.
pub(super) async fn address(config: &Config) -> anyhow::Result<SocketAddr> {
    let (host, port) = (&config.master.host, config.master.port);
    let mut found = tokio::net::lookup_host((host.as_str(), port))
        .await
        .with_context(|| format!("the master's host `{host}` cannot be resolved"))?;
    found.next().with_context(|| format!("the master's host `{host}` has no address"))
}

/// The certificate of the master's port; absent if it speaks clear text only.
///
/// # Errors
/// If a file of `[tls]` cannot be used.
pub(super) fn tls(config: &Config) -> anyhow::Result<Option<ServerTls>> {
    let files = config.settings.tls.server.clone();
    files.map(ServerTls::load).transpose().map_err(|bad| Exit::usage(format!("[tls] of pomelo.toml: {bad}")))
}

/// How the monitor of a server reaches the master of its configuration; absent if it does so in clear text.
///
/// # Errors
/// If a file of `[tls]` cannot be used.
pub(super) fn monitor_tls(settings: &config::Settings, id: &str) -> anyhow::Result<Option<ClientTls>> {
    let files = settings.tls.is_on().then(|| settings.tls.monitor(id));
    files.map(ClientTls::load).transpose().map_err(|bad| Exit::usage(format!("[tls] of pomelo.toml: {bad}")))
}

/// Begins to collect metrics. Returns the recorder, and the token for asking it.
pub(super) fn observe(settings: &config::Settings) -> observe::Options {
    let recorder = Recorder::install();
    if let Err(error) = &recorder {
        tracing::warn!(%error, "no metrics are collected");
    }
    observe::Options { recorder: recorder.ok(), token: settings.metrics_token.clone() }
}

/// File descriptors that a master needs for anything but connections: files, programs, its own sockets.
const RESERVE: usize = 256;

/// Raises the number of files that this process may have open as far as the system allows; returns the number.
fn open_files() -> usize {
    let allowed = getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, hard)| {
        let raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
        if raised { hard } else { soft }
    });
    allowed.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// The most connections at a time: as many as configured, but no more than there are file descriptors for, because a descriptor is needed even to
/// refuse a connection.
fn connections(configured: usize, files: usize) -> usize {
    let room = files.saturating_sub(RESERVE).max(files / 2).max(1);
    if configured > room {
        tracing::warn!(
            configured,
            room,
            "this process may not have enough files open for so many connections (`ulimit -n`); fewer are accepted"
        );
    }
    configured.min(room)
}

pub(super) fn master_options(
    config: &Config,
    address: SocketAddr,
    observe: observe::Options,
    admin_log: AdminLog,
    journal: Journal,
    tls: Option<ServerTls>,
) -> master::Options {
    let network = &config.settings.network;
    let (named, joined) = servers(Some(config));
    // Monitors connect to the host name in the configuration. The listener does not know that name if it listens on a loopback address.
    let mut allowed_hosts = network.allowed_hosts.clone();
    // With its port: a page of another port of that host is not one of this master's.
    allowed_hosts.push(config.master.address());
    let listener = listener::Options {
        max_connections: connections(network.max_connections, open_files()),
        connections_per_address: network.connections_per_address.unwrap_or(usize::MAX),
        strangers: network.strangers,
        strangers_per_address: network.strangers_per_address,
        strangers_held: network.strangers_held,
        polling: network.polling,
        polling_sessions: network.polling_sessions,
        polling_per_address: network.polling_per_address,
        body_time: network.body_time,
        request_time: network.request_time,
        frame_time: network.frame_time,
        ping_interval: network.ping_interval,
        ping_timeout: network.ping_timeout,
        outbox: network.outbox,
        first_frame_limit: network.max_unregistered_frame,
        max_frame: network.max_frame,
        allowed_hosts,
        mqtt_idle: config.settings.pomelo.idle,
        budget: Budget::new(peers(&config.settings, scale(Some(config)))),
        tls,
        clear: config.settings.tls.clear.clone(),
        journal: journal.clone(),
        ..listener::Options::default()
    };
    let own = std::iter::once((config.master.id.clone(), "master".to_owned()));
    let others = config.servers.iter().map(|server| (server.id.clone(), server.server_type.clone()));
    master::Options {
        id: config.master.id.clone(),
        info: config.master.info.clone(),
        address,
        listener,
        register_deadline: network.register_deadline,
        max_frame: network.max_frame,
        pending: network.pending,
        tell_deadline: network.request_deadline,
        grace: config.settings.master.grace,
        event_window: config.settings.master.event_window,
        mass_loss: MassLoss {
            share: config.settings.master.mass_loss_share,
            hold: config.settings.master.mass_loss_hold,
            // The longest time until the loss of a silent connection is noticed.
            window: network.ping_interval + network.ping_timeout + config.settings.master.grace,
        },
        table: TableBounds::new(network.info, named, joined),
        journal,
        observe,
        reconnect: config.settings.pomelo.reconnect,
        configured: own.chain(others).collect(),
        admin_log,
        files: None,
        rollouts: config.settings.modules.rollouts(),
    }
}

/// What a monitor takes from its master; absent where it follows a directory of its own machine. `local` is the directory of local files.
///
/// # Errors
/// If there is no place for what it takes.
pub(super) fn from_master(
    config: Option<&Config>,
    id: &str,
    local: Option<&Path>,
) -> anyhow::Result<Option<Arc<FromMaster>>> {
    let Some(config) = config.filter(|config| config.settings.modules.from_master) else { return Ok(None) };
    let (Some(own), Some(data)) = (config.data_dir(id), &config.settings.data) else {
        return Err(Exit::usage(
            "`from_master` under [modules] in pomelo.toml needs a data directory: `dir` under [data]",
        ));
    };
    let options = FromMasterOptions {
        directory: std::path::absolute(own.join("modules"))?,
        shared: data.join(FETCHED),
        local: local.map(std::path::absolute).transpose()?,
        max_file: config.settings.modules.max_file,
    };
    let directory = options.directory.clone();
    let from_master = FromMaster::new(options);
    let from_master =
        from_master.with_context(|| format!("modules from the master cannot be kept in {}", directory.display()))?;
    Ok(Some(Arc::new(from_master)))
}

pub(super) fn monitor_options(network: &config::Network, scale: usize) -> monitor::Options {
    let mut options = monitor::Options { pending: network.pending, ..monitor::Options::default() };
    options.register_deadline = network.register_deadline.max(Duration::from_secs(1));
    options.wire = network.wire;
    options.pings = (network.ping_interval, network.ping_interval + network.ping_timeout);
    options.connection.outbox = network.outbox;
    options.connection.max_frame = frame(network, scale);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_knows_itself_under_the_name_that_monitors_are_given() {
        let mut config = Config::demo().unwrap();
        config.master.host = "master.example".into();
        let options = master_options(
            &config,
            ([127, 0, 0, 1], 0).into(),
            observe::Options::default(),
            AdminLog::default(),
            Journal::default(),
            None,
        );
        assert_eq!(options.listener.allowed_hosts, ["master.example:3005"]);
    }

    #[test]
    fn all_modules_may_hold_at_least_what_any_of_them_may() {
        let mut settings = config::Settings::default();
        assert_eq!(modules(&settings), 128 << 20);
        settings.scripts.limits.module = Some(200 << 20);
        assert_eq!(modules(&settings), 200 << 20);
    }

    #[test]
    fn what_peers_may_use_grows_with_the_servers_and_the_frames() {
        let mut settings = config::Settings::default();
        assert_eq!(peers(&settings, 1), budget::Limits::default());
        let of_three = peers(&settings, 3);
        assert_eq!((of_three.total, of_three.connection), (768 << 20, 32 << 20));
        settings.peers.total = 64 << 20;
        settings.network.max_frame = 40 << 20;
        let limits = peers(&settings, 3);
        assert_eq!((limits.total, limits.connection), (80 << 20, 80 << 20));
    }

    #[test]
    fn no_more_connections_are_served_than_there_are_file_descriptors_for() {
        for (configured, files, served) in [(4096, 65_536, 4096), (4096, 1024, 768), (10, 1024, 10), (4096, 100, 50)] {
            assert_eq!(connections(configured, files), served, "{configured} of {files}");
        }
        open_files();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard, "as many as this process may allow itself");
    }
}
