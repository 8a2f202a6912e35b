//! The settings of `pomelo.toml`, for which pomelo has no file, and their defaults. [`super::toml_file`] reads them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::cluster::file_name;
use super::words::Ready;
use crate::admin_log;
use crate::auth::{Bounds, Reconnect, Secret, Way};
use crate::budget;
use crate::plugin::{CompileLimits, EngineLimits, Limits};
use crate::rollout::{self, Wave};
use crate::supervise::kept_output;
use crate::supervise::{KEPT_LINES, Policy, Restart};
use crate::tls::{ClearText, ClientFiles, ServerFiles};
use crate::transport::Wire;
use crate::trust::Keys;
use crate::versions;

pub(super) const KIB: usize = 1024;
pub(super) const MIB: usize = 1024 * 1024;

/// All of `pomelo.toml`. The default is that of an empty file, except that nothing is kept on disk and directories are relative to the working
/// directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `[limits]`, and `[module.ID.limits]` for one module: what a module may use. `cpu_ms`, `wall_ms`, `memory_mib`, `module_mib`, `running`, `instances`,
    /// `reserve`, `queue`, `store_kib`, `answer_kib`, `message_kib`, `cpu_weight`.
    pub limits: Limits,
    /// `[limits]`: what peers may use of the master. `peers_mib`, `connection_mib`, `connection_calls`.
    pub peers: budget::Limits,
    /// `[limits] total_instances`: the most calls under way in all modules together. `modules_mib`: what all modules may hold together.
    pub engine: EngineLimits,
    /// `[modules]`: the directory of modules.
    pub modules: Modules,
    /// `[module.ID]`: settings of single modules.
    pub module: BTreeMap<String, ModuleSettings>,
    /// `[scripts]`: small programs that are run once on a server.
    pub scripts: Scripts,
    /// `[network]`: connections.
    pub network: Network,
    /// `[watch]`: how the modules directory is watched.
    pub watch: Watch,
    /// `[supervise]`: how servers' programs are ended and started again.
    pub supervise: Supervise,
    /// `[master]`: the server table and its events.
    pub master: MasterTimes,
    /// `[ssh]`: servers on other machines. If absent, the master does not start them.
    pub ssh: Option<Ssh>,
    /// `[tls]`: certificates, and from where clear text is let in.
    pub tls: Tls,
    /// `[auth]`: the operator's own checks.
    pub auth: Auth,
    /// `[commands] levels`: from a command of the host (`list`, `enable`, …) to the highest level that may give it, in place of the default.
    pub command_levels: BTreeMap<String, u32>,
    /// `[admin_log]`: the log of what clients asked for.
    pub admin_log: AdminLog,
    /// `[logs]`: the files that the output of programs is kept in. `max_mib` = 16: size at which a new file is begun; `keep` = 4: older files of each
    /// server that are kept.
    pub logs: kept_output::Options,
    /// `[monitor] http`: an address such as `127.0.0.1:0` at which each monitor serves its metrics and health. If absent, it serves none.
    pub monitor_http: Option<SocketAddr>,
    /// `[metrics] token`: the token that whoever asks for metrics from another machine must show. If absent, only this machine may ask.
    pub metrics_token: Option<Secret>,
    /// `[pomelo]`: servers of pomelo 2.x.
    pub pomelo: Pomelo,
    /// `[data] dir`: the directory of all state, `data` by default. A relative path begins at the configuration directory.
    pub data: Option<PathBuf>,
}

/// `[tls]`. Relative paths begin at the configuration directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// `certificate` and `key`: what the master's port shows, and `client_ca`: which authority signs the certificates of servers and users. If absent,
    /// the port speaks clear text only.
    pub server: Option<ServerFiles>,
    /// `ca`: the authority with which monitors check the master's certificate. If absent, those that the system trusts.
    pub ca: Option<PathBuf>,
    /// `dir` = `"tls"`: a monitor shows the certificate `server-ID.pem` with `server-ID.key` from there, if it is there.
    pub dir: PathBuf,
    /// `required` = false: whether others than this machine must speak TLS; and `clear_networks` = []: from here they need not.
    pub clear: ClearText,
}

impl Tls {
    /// Whether monitors without a token need a certificate.
    pub fn takes_certificates(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.client_ca.is_some())
    }

    /// Whether monitors of this configuration reach the master over TLS.
    pub fn is_on(&self) -> bool {
        self.server.is_some() || self.ca.is_some()
    }

    /// The files with which the monitor of a server connects to the master. It shows a certificate if it has one of its own.
    pub fn monitor(&self, id: &str) -> ClientFiles {
        let named = |ending: &str| self.dir.join(format!("server-{}.{ending}", file_name(id)));
        let (certificate, key) = (named("pem"), named("key"));
        match certificate.exists() {
            true => ClientFiles { ca: self.ca.clone(), certificate: Some(certificate), key: Some(key) },
            false => ClientFiles { ca: self.ca.clone(), ..ClientFiles::default() },
        }
    }
}

/// `[auth]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Auth {
    /// `user_command` (a list of words) or `user_url`: checks clients in place of `adminUser.json`.
    pub user: Option<Way>,
    /// `server_command` or `server_url`: checks monitors in place of `adminServer.json`.
    pub server: Option<Way>,
    /// `ca`: the authority that is trusted where an address is `https`. If absent, those that the system trusts.
    pub ca: Option<PathBuf>,
    /// `timeout_ms` = 5000: how long a check may take, and `concurrent` = 4: how many run at the same time.
    pub bounds: Bounds,
}

/// `[admin_log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminLog {
    /// `file` = `"admin.log"`: a relative path begins at the master's data directory.
    pub file: PathBuf,
    /// `max_mib` = 16: size at which a new file is begun, bytes.
    pub max_bytes: u64,
    /// `keep` = 8: older files that are kept.
    pub keep: u32,
}

impl Default for AdminLog {
    fn default() -> Self {
        let default = admin_log::Options::new("admin.log");
        AdminLog { file: default.file, max_bytes: default.max_bytes, keep: default.keep }
    }
}

/// `[modules]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Modules {
    /// `dir` = `"modules"`: the directory of `.wasm` files. A relative path begins at the configuration directory.
    pub dir: PathBuf,
    /// `allow_replace_builtin` = false: whether a file may take the place of a built-in module of its id.
    pub allow_replace_builtin: bool,
    /// `system_monitor` = false: whether the built-in modules that look at machines, processes and logs run, as with pomelo's `systemMonitor`.
    pub system_monitor: bool,
    /// `file_mib` = 32: the largest file, bytes.
    pub max_file: u64,
    /// `keep` = 5: how many versions of each file that have been good are kept in the data directory. 0: none.
    pub keep: usize,
    /// `keys`: public keys of minisign by names of the operator's choice, with which files may be signed.
    pub keys: Keys,
    /// `require_signature` = false: whether a file that is signed with none of them is refused.
    pub require_signature: bool,
    /// `from_master` = false: whether monitors run what their master has in force of its modules' directory, and not what is in `dir` on their own machine.
    pub from_master: bool,
    /// `local`: a directory of files for the monitors of one machine, where they take modules from their master. A local file wins over one of the same
    /// name from the master. A relative path begins at the configuration directory. If absent, there are none.
    pub local: Option<PathBuf>,
    /// `waves` = []: how a new version reaches the monitors that take modules from this master: so many servers first (`"1"`), then so many of a hundred
    /// (`"10%"`) or all of a type (`"type:chat"`), in the order given, and then all. Empty for all at once.
    pub waves: Vec<Wave>,
    /// `wave_s` = 15: how long all servers of a wave must have run the version before the next wave.
    pub wave_time: Duration,
    /// `compile_seconds` = 60 and `compile_mib` = 1024: what it may cost to compile one file. `code_mib` = 128: the compiled code of all modules of a
    /// host together.
    pub compile: CompileLimits,
}

impl Default for Modules {
    fn default() -> Self {
        Modules {
            dir: "modules".into(),
            allow_replace_builtin: false,
            system_monitor: false,
            max_file: 32 << 20,
            keep: versions::KEPT,
            keys: Keys::default(),
            require_signature: false,
            from_master: false,
            local: None,
            waves: Vec::new(),
            wave_time: rollout::Options::default().wave_time,
            compile: CompileLimits::default(),
        }
    }
}

impl Modules {
    /// How new versions reach the monitors that take modules from this master.
    pub fn rollouts(&self) -> rollout::Options {
        rollout::Options { waves: self.waves.clone(), wave_time: self.wave_time }
    }
}

/// `[module.ID]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleSettings {
    /// `options`: any table. The module gets it as JSON.
    pub options: Map<String, Value>,
    /// `interval`, seconds: instead of the module's own. A shorter one than 1 s counts as 1 s.
    pub interval: Option<Duration>,
    /// `delay`, seconds: instead of the module's own.
    pub delay: Option<Duration>,
    /// `limits`: a key that is not given has the value of `[limits]`.
    pub limits: Limits,
    /// `grants`: what the module may use, any of `cluster`, `uplink`, `process`, `kept-output`, `starter`, `application`, `scripts`, `profiler`,
    /// `cluster:ID`, `uplink:ID`, `store:ID`.
    pub grants: Vec<String>,
    /// `levels`: from an operation to the highest level that may ask for it, instead of the module's own.
    pub levels: BTreeMap<String, u32>,
    /// `server_types`: the types of servers on which the module runs; empty for all.
    pub server_types: Vec<String>,
    /// `environments`: the environments in which the module runs; empty for all.
    pub environments: Vec<String>,
    /// `enabled` = true.
    pub enabled: bool,
    /// `key`: the name of the key that its file must be signed with. If absent, it may be signed with any, or none.
    pub key: Option<String>,
    /// `file`: the name of its file in the modules directory, if it is not found by id, because one file can serve several ids.
    pub file: Option<String>,
}

impl ModuleSettings {
    /// The settings of a module that the configuration does not name.
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
            key: None,
            file: None,
        }
    }
}

/// `[scripts]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scripts {
    /// `grants` = []: what scripts may use beside `agent` and `store`. The words are those of a module, without `scripts`.
    pub grants: Vec<String>,
    /// `limits`: of one run. A key that is not given has the value of `[limits]`. At most `running` scripts run at the same time.
    pub limits: Limits,
}

/// `[network]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// `wire` = "socket.io", or "pomelo": on what this configuration's monitors reach the master.
    pub wire: Wire,
    /// `ping_interval_ms` = 5000.
    pub ping_interval: Duration,
    /// `ping_timeout_ms` = 5000.
    pub ping_timeout: Duration,
    /// `register_deadline_ms` = 5000: a connection that has not registered within this time is closed.
    pub register_deadline: Duration,
    /// `max_frame_kib` = 4096: the largest frame of a registered peer, bytes.
    pub max_frame: usize,
    /// `max_unregistered_frame_kib` = 16: the largest frame of a peer that has not registered, bytes.
    pub max_unregistered_frame: usize,
    /// `info_kib` = 8: what a server may say of itself in `info`, bytes, because all others are told of it. One that the configuration does not name may say a
    /// quarter of it.
    pub info: usize,
    /// `max_joined`: the most servers that join without being named in the configuration. 1024, or as many as are configured if those are more.
    pub max_joined: Option<usize>,
    /// `max_connections` = 4096, or fewer: as many as the process may have files open, less 256.
    pub max_connections: usize,
    /// `connections_per_address`: the most connections of one address (of IPv6 the first 64 bits), those of registered peers among them; by default no
    /// fewer than `max_connections`, because a whole fleet may come from one address.
    pub connections_per_address: Option<usize>,
    /// `strangers` = 2048: the most connections whose peers have not registered, and never more than half of `max_connections`.
    pub strangers: usize,
    /// `strangers_per_address` = 1024: the same of one address.
    pub strangers_per_address: usize,
    /// `strangers_held_mib` = 16: what all such connections may have sent of requests and messages that are not complete, bytes.
    pub strangers_held: usize,
    /// `polling` = true: whether a Socket.IO session may begin with polling. This project's own clients never poll.
    pub polling: bool,
    /// `polling_sessions` = 256: the most sessions that poll. One that has changed to a WebSocket does not count.
    pub polling_sessions: usize,
    /// `polling_per_address` = 32: the same of one address.
    pub polling_per_address: usize,
    /// `body_time_ms` = 10000: how long the body of a request may take, and a second more for each 64 KiB of it.
    pub body_time: Duration,
    /// `request_time_ms` = 30000: how long a request of a peer that has not registered may take, with its answer.
    pub request_time: Duration,
    /// `frame_time_ms` = 30000: how long a message may take that has begun, and a second more for each 64 KiB of it.
    pub frame_time: Duration,
    /// `logins` = 512: the most logins that wait to be checked.
    pub logins: usize,
    /// `logins_per_address` = 64: the most of one address and, apart from these, of one user who has logged in from that address before.
    pub logins_per_address: usize,
    /// `clients_per_user` = 256: the most clients of one user that are connected at a time. Level 1 is not bounded.
    pub clients_per_user: usize,
    /// `login_wait_ms` = 5000: a login that has waited for so long is refused.
    pub login_wait: Duration,
    /// `outbox` = 4096: the most frames that wait to be sent to one peer.
    pub outbox: usize,
    /// `pending` = 4096: the most requests under way to one peer.
    pub pending: usize,
    /// `request_deadline_ms` = 10000: for requests whose sender names none.
    pub request_deadline: Duration,
    /// `allowed_hosts` = []: names under which browsers may reach this host, beside its address, as `host` with any port or `host:port`.
    pub allowed_hosts: Vec<String>,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            wire: Wire::default(),
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(5),
            register_deadline: Duration::from_secs(5),
            max_frame: 4096 * KIB,
            max_unregistered_frame: 16 * KIB,
            info: 8 * KIB,
            max_joined: None,
            max_connections: 4096,
            connections_per_address: None,
            strangers: 2048,
            strangers_per_address: 1024,
            strangers_held: 16 * MIB,
            polling: true,
            polling_sessions: 256,
            polling_per_address: 32,
            body_time: Duration::from_secs(10),
            request_time: Duration::from_secs(30),
            frame_time: Duration::from_secs(30),
            logins: 512,
            logins_per_address: 64,
            clients_per_user: 256,
            login_wait: Duration::from_secs(5),
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
    /// `settle_ms` = 100: how long a file must stay unchanged before it is loaded.
    pub settle: Duration,
    /// `drain_ms` = 10000: how long calls of a replaced version may go on.
    pub drain: Duration,
    /// `poll` = false: whether to look at the directory from time to time, for file systems that send no events.
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
    /// `stop_deadline_ms` = 10000: a program that has not ended this long after it was asked to is killed, for servers without `stop_deadline_ms`.
    pub stop_deadline: Duration,
    /// `drain_ms` = 0: how long a server that drains may take until it has no connections, for servers without `drain_ms`.
    pub drain: Duration,
    /// `backoff_min_ms` = 200: wait before the first restart.
    pub backoff_min: Duration,
    /// `backoff_max_ms` = 30000: the wait doubles up to this.
    pub backoff_max: Duration,
    /// `healthy_after_ms` = 60000: a program that ran this long begins with the shortest wait again.
    pub healthy_after: Duration,
    /// `ready_delay_ms` = 300: a program that runs this long counts as started, and its server is registered.
    pub ready_delay: Duration,
    /// `ready` = `"delay"`: what says that a program is ready, for servers without `ready`: `delay`, `port` or `control`. With `port`, a server
    /// without a port counts as ready after the delay.
    pub ready: Ready,
    /// `ready_timeout_ms` = 60000: a program that is not ready within this time, by its port or its control socket, is ended, and started again as
    /// `restart` says; for servers without `ready_timeout_ms`.
    pub ready_timeout: Duration,
    /// `output_lines` = 1000: the newest lines of a program's output that are kept.
    pub output_lines: usize,
    /// `restart` = `"always"`: whether a program that ended by itself is started again, for servers without `restart`.
    pub restart: Restart,
    /// `starts_per_s` = 20: so many programs are started in a second on one machine, and so many at once; others wait for their turn. Monitors are
    /// counted apart from servers' programs, and programs that are started again because they ended apart from others.
    pub starts_per_s: u32,
}

impl Default for Supervise {
    fn default() -> Self {
        Supervise {
            stop_deadline: Duration::from_secs(10),
            drain: Duration::ZERO,
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
            healthy_after: Duration::from_secs(60),
            ready_delay: Duration::from_millis(300),
            ready: Ready::Delay,
            ready_timeout: Duration::from_secs(60),
            output_lines: KEPT_LINES,
            restart: Restart::Always,
            starts_per_s: 20,
        }
    }
}

impl Supervise {
    /// The policy of a program with that `restart`.
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
    /// `grace_ms` = 500: how long the master waits, after a connection broke without a goodbye, before its server counts as gone.
    pub grace: Duration,
    /// `event_window_ms` = 50: changes of the server table within this time are told together.
    pub event_window: Duration,
    /// `events` = 1000: the newest events that `pomelo events` shows.
    pub events: usize,
    /// `mass_loss_share` = 0.5: if more than this share of the servers, and at least three, vanish at once, they are kept in every view and an alarm
    /// is raised; 1 for never.
    pub mass_loss_share: f64,
    /// `mass_loss_hold_ms` = 60000: how long they are kept.
    pub mass_loss_hold: Duration,
}

impl Default for MasterTimes {
    fn default() -> Self {
        MasterTimes {
            grace: Duration::from_millis(500),
            event_window: Duration::from_millis(50),
            events: 1000,
            mass_loss_share: 0.5,
            mass_loss_hold: Duration::from_secs(60),
        }
    }
}

/// `[ssh]`: how servers on other machines are started. No value may be a secret, because anybody on this machine can see the arguments of `ssh`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssh {
    /// `options` = []: options of `ssh`, before the host's own: `["-p", "2222", "-i", "/etc/pomelo/key"]`.
    pub options: Vec<String>,
    /// `user`: the user there; by default `ssh`'s.
    pub user: Option<String>,
    /// `program`: the path of this program there; by default the same as here.
    pub program: Option<String>,
    /// `config`: the directory of the configuration there; by default the same as here.
    pub config: Option<String>,
}

/// `[pomelo]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pomelo {
    /// `reconnect` = `"known"`: which servers of pomelo 2.x may reconnect if tokens are required, because they show none then. `known`: those that
    /// registered with a valid token before, from the same address; `known-id`: from any address; `any`: all; `never`: none. Others wait for `pomelo
    /// admit`.
    pub reconnect: Reconnect,
    /// `app`: the main program of an application of pomelo 2.x, such as `"../app.js"`. A relative path begins at the configuration directory. If it
    /// is given, servers without a `command` are run as pomelo's own starter runs them, without a monitor beside them.
    pub app: Option<PathBuf>,
    /// `node` = `"node"`: the program that runs it.
    pub node: String,
    /// `idle_ms` = 150000: a peer on pomelo-admin's wire that is silent for this time counts as gone. pomelo's peers send something once a minute.
    pub idle: Duration,
}

impl Default for Pomelo {
    fn default() -> Self {
        let (reconnect, app, node) = (Reconnect::Known, None, "node".into());
        Pomelo { reconnect, app, node, idle: Duration::from_secs(150) }
    }
}
