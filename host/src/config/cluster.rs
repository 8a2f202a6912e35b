//! The configuration of a cluster in one environment: all files, read together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::credentials;
use super::crons::{self, Cron};
use super::fault::{ConfigErrors, Faults};
use super::files::{CRONS, FILES, Files, TOKENS, USERS};
use super::servers::{self, Master, Server, ServerDefaults, Taken};
use super::settings::{ModuleSettings, Settings};
use super::texts::Texts;
use crate::auth::{MonitorToken, User};

/// The environment if none is named, as in pomelo.
pub const DEFAULT_ENVIRONMENT: &str = "development";

/// Where a configuration comes from. A monitor is told this, so that it loads the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A directory.
    Directory(PathBuf),
    /// The demo cluster that this program carries.
    Demo,
}

/// The configuration of a cluster in one environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it comes from.
    pub origin: Origin,
    /// The environment, `development` unless another is named.
    pub environment: String,
    /// `master.json`.
    pub master: Master,
    /// `servers.json`, in the order of the file.
    pub servers: Vec<Server>,
    /// `crons.json`; empty if there is no such file.
    pub crons: Vec<Cron>,
    /// `adminUser.json`; empty if there is no such file. No client is then let in.
    pub users: Vec<User>,
    /// `adminServer.json`; absent if there is no such file. Every monitor is then let in.
    pub tokens: Option<Vec<MonitorToken>>,
    /// `pomelo.toml`.
    pub settings: Settings,
    /// The files, as they were read.
    pub texts: Arc<Texts>,
}

impl Config {
    /// The longest time that a configured server may take to end, at least that of `[supervise]`.
    pub fn longest_stop(&self) -> Duration {
        let configured = self.servers.iter().map(|server| server.stop_deadline).max();
        configured.unwrap_or_default().max(self.settings.supervise.stop_deadline)
    }

    /// Loads a directory for one environment.
    ///
    /// `master.json` must be there, the other files need not.
    ///
    /// # Errors
    /// All faults of all files.
    pub fn load(dir: &Path, environment: &str) -> Result<Self, ConfigErrors> {
        Self::load_for_monitor(dir, environment, None, None)
    }

    /// As [`Config::load`]. If `address` is given, `${master}` in commands is this `HOST:PORT`, because the master's command line may name another
    /// port. If `texts` are given they are read in place of the directory's files, but for those of users and tokens; paths in them are relative to
    /// the directory all the same.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_for_monitor(
        dir: &Path,
        environment: &str,
        address: Option<&str>,
        texts: Option<&Texts>,
    ) -> Result<Self, ConfigErrors> {
        let faults = Faults::default();
        let config = Self::read(dir, environment, address, texts, &faults);
        faults.unless_any(config)
    }

    /// Reads the files of an environment. Without a master there is no configuration.
    pub(super) fn read(
        dir: &Path,
        environment: &str,
        address: Option<&str>,
        texts: Option<&Texts>,
        faults: &Faults,
    ) -> Option<Self> {
        let files = Files { in_place: texts, ..Files::new(dir, environment, faults) };
        let settings = files.settings();
        let mut taken = Taken::default();
        let master =
            files.with("master.json", |file, node| Some(servers::master(file.table(node, "the master")?, &mut taken)));
        if master.is_none() {
            files.master_is_missing();
        }
        let configured = || master.as_ref().and_then(Option::as_ref).map(Master::address);
        let extra = placeholders(environment, address.map(str::to_owned).or_else(configured));
        let defaults = server_defaults(&settings, &extra, dir);
        let servers = files.with("servers.json", |file, node| {
            Some(servers::servers(&file.table(node, "servers.json")?, &mut taken, &defaults))
        });
        let servers = servers.flatten().unwrap_or_default();
        let crons = files.with(CRONS, |file, node| crons::crons(&file.table(node, CRONS)?, &servers).into());
        let users = files.with(USERS, credentials::users);
        let tokens = files.with(TOKENS, credentials::tokens);
        master.flatten().map(|master| Config {
            origin: Origin::Directory(dir.to_owned()),
            environment: environment.to_owned(),
            master,
            servers,
            crons: crons.flatten().unwrap_or_default(),
            users: users.unwrap_or_default(),
            tokens,
            settings,
            texts: Arc::new(Texts::new(files.texts.take())),
        })
    }

    /// The paths at which the files may be that a plan compares: all but those of users and tokens.
    pub fn paths(dir: &Path, environment: &str) -> Vec<PathBuf> {
        let compared = FILES.iter().filter(|name| **name != USERS && **name != TOKENS);
        compared.flat_map(|name| [dir.join(name), dir.join(environment).join(name)]).collect()
    }

    /// The server of that id.
    pub fn server(&self, id: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.id == id)
    }

    /// The crons of a server, as its monitor takes them.
    pub fn crons_of(&self, server: &Server) -> Vec<Map<String, Value>> {
        self.crons.iter().filter(|cron| cron.is_for(server)).map(|cron| cron.members.clone()).collect()
    }

    /// The settings of a module, or the defaults if the configuration does not name it.
    pub fn module(&self, id: &str) -> ModuleSettings {
        let settings = &self.settings;
        settings.module.get(id).cloned().unwrap_or_else(|| ModuleSettings::unnamed(&settings.limits))
    }

    /// The file in which all monitors of a machine keep when they start their programs; absent if nothing is kept.
    pub fn starts_file(&self) -> Option<PathBuf> {
        // No id makes a name that begins with a point.
        self.settings.data.as_ref().map(|dir| dir.join(".starts"))
    }

    /// The directory in which the host of a server keeps its state; absent if nothing is kept. The directory need not exist yet.
    pub fn data_dir(&self, server_id: &str) -> Option<PathBuf> {
        self.settings.data.as_ref().map(|dir| dir.join(file_name(server_id)))
    }
}

/// A file name for an id. Bytes that could mean something to a file system are written as `%` and their code.
pub fn file_name(id: &str) -> String {
    let mut name = String::with_capacity(id.len());
    for (i, byte) in id.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && i > 0) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

/// The names of the placeholders that are not members of the server.
pub(super) const PLACEHOLDERS: [&str; 3] = ["environment", "master", "exe"];

/// Placeholders that are not members of the server.
pub(super) fn placeholders(environment: &str, master: Option<String>) -> Map<String, Value> {
    let mut extra = Map::new();
    extra.insert("environment".into(), environment.into());
    if let Some(master) = master {
        extra.insert("master".into(), master.into());
    }
    // A path that is not Unicode cannot stand in a command, so `${exe}` is then unknown.
    if let Some(exe) = std::env::current_exe().ok().as_deref().and_then(Path::to_str) {
        extra.insert("exe".into(), exe.into());
    }
    extra
}

/// The defaults of servers.
pub(super) fn server_defaults<'a>(
    settings: &'a Settings,
    placeholders: &'a Map<String, Value>,
    base: &'a Path,
) -> ServerDefaults<'a> {
    let has_app = settings.pomelo.app.is_some();
    ServerDefaults { placeholders, base, supervise: &settings.supervise, has_app }
}
