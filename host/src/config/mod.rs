//! The configuration of a cluster: pomelo's files, and `pomelo.toml` for what pomelo has no file for.
//!
//! A directory holds `master.json`, `servers.json`, `crons.json`, `adminUser.json` and `adminServer.json` as pomelo writes them: flat, with one level of
//! environments (`{"development": …, "production": …}`), or in a directory named after the environment. Every fault is found and told at
//! once, with its place and a way to mend it. This part reads files and knows what is right in them; it starts nothing, opens no
//! connection, and does not watch what it has read.

mod added;
mod check;
mod command;
mod credentials;
mod crons;
mod demo;
mod fault;
mod reader;
mod servers;
mod settings;
mod toml_file;
mod tree;
mod user_file;
mod words;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::auth::{MonitorToken, User};
use fault::Faults;
use reader::File;
use servers::Taken;
use tree::{Node, Source, Tree};

pub use check::{Finding, Found, Report, check};
pub use command::Launch;
pub use credentials::Credentials;
pub use crons::Cron;
pub use demo::DEMO_TOKEN_VARIABLE;
pub use fault::{ConfigErrors, Fault};
pub use servers::{Master, Server};
pub use settings::{AdminLog, Auth, MasterTimes, ModuleSettings, Modules, Network, Settings, Ssh, Supervise, Watch};
pub use user_file::{EditError, UserFile};
pub use words::Ready;

/// The environment where none is named, as in pomelo.
pub const DEFAULT_ENVIRONMENT: &str = "development";

/// Who may log in.
const USERS: &str = "adminUser.json";
/// Which monitors may join.
const TOKENS: &str = "adminServer.json";
/// The files of a configuration.
const FILES: [&str; 6] = ["master.json", "servers.json", USERS, TOKENS, "crons.json", "pomelo.toml"];

/// The largest file that is read, bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Where a configuration comes from: what a monitor must be told to load the same one.
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
    /// `crons.json`; empty where the file is not there.
    pub crons: Vec<Cron>,
    /// `adminUser.json`; empty where the file is not there, and then no client is let in.
    pub users: Vec<User>,
    /// `adminServer.json`; absent where the file is not there, and then every monitor is let in.
    pub tokens: Option<Vec<MonitorToken>>,
    /// `pomelo.toml`.
    pub settings: Settings,
}

impl Config {
    /// Loads a directory for one environment.
    ///
    /// `master.json` must be there, the other files need not.
    ///
    /// # Errors
    /// All faults of all files.
    pub fn load(dir: &Path, environment: &str) -> Result<Self, ConfigErrors> {
        Self::load_with_master(dir, environment, None)
    }

    /// As [`Config::load`]; `${master}` in commands is the `HOST:PORT` given, if it is, since the master may have been told another port on
    /// its command line.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with_master(dir: &Path, environment: &str, address: Option<&str>) -> Result<Self, ConfigErrors> {
        let faults = Faults::default();
        let config = Self::read(dir, environment, address, &faults);
        faults.unless_any(config)
    }

    /// Reads the files of an environment. Without a master there is no configuration.
    fn read(dir: &Path, environment: &str, address: Option<&str>, faults: &Faults) -> Option<Self> {
        let files = Files { dir, environment, faults };
        let settings = files.settings();
        let mut taken = Taken::default();
        let master =
            files.with("master.json", |file, node| Some(servers::master(file.table(node, "the master")?, &mut taken)));
        if master.is_none() {
            files.master_is_missing();
        }
        let configured = || master.as_ref().and_then(Option::as_ref).map(Master::address);
        let extra = placeholders(environment, address.map(str::to_owned).or_else(configured));
        let servers = files.with("servers.json", |file, node| {
            let table = file.table(node, "servers.json")?;
            Some(servers::servers(&table, &mut taken, &extra, dir, settings.supervise.restart))
        });
        let servers = servers.flatten().unwrap_or_default();
        let crons =
            files.with("crons.json", |file, node| crons::crons(&file.table(node, "crons.json")?, &servers).into());
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
        })
    }

    /// The server of that id.
    pub fn server(&self, id: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.id == id)
    }

    /// The crons of a server, as its monitor takes them.
    pub fn crons_of(&self, server: &Server) -> Vec<Map<String, Value>> {
        self.crons.iter().filter(|cron| cron.is_for(server)).map(|cron| cron.members.clone()).collect()
    }

    /// Settings of a module: its own, or the defaults.
    pub fn module(&self, id: &str) -> ModuleSettings {
        let settings = &self.settings;
        settings.module.get(id).cloned().unwrap_or_else(|| ModuleSettings::unnamed(&settings.limits))
    }

    /// Where a host keeps its state, a directory for each server id; absent where nothing is kept. The directory need not be there yet.
    pub fn data_dir(&self, server_id: &str) -> Option<PathBuf> {
        self.settings.data.as_ref().map(|dir| dir.join(file_name(server_id)))
    }
}

/// A file name for an id: what could mean something to a file system is written as `%` and its code.
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

/// Placeholders that are no members of the server.
fn placeholders(environment: &str, master: Option<String>) -> Map<String, Value> {
    let mut extra = Map::new();
    extra.insert("environment".into(), environment.into());
    if let Some(master) = master {
        extra.insert("master".into(), master.into());
    }
    // A path that is not Unicode cannot stand in a command that is; `${exe}` is then unknown.
    if let Some(exe) = std::env::current_exe().ok().as_deref().and_then(Path::to_str) {
        extra.insert("exe".into(), exe.into());
    }
    extra
}

/// The directory that is being read.
struct Files<'a> {
    dir: &'a Path,
    environment: &'a str,
    faults: &'a Faults,
}

impl Files<'_> {
    /// `pomelo.toml`.
    fn settings(&self) -> Settings {
        let source = self.find("pomelo.toml");
        let node = source.as_ref().map(|source| {
            let (node, errors) = source.toml();
            errors.into_iter().for_each(|fault| self.faults.push(fault));
            node
        });
        let table = source.as_ref().zip(node.as_ref()).and_then(|(source, node)| {
            let file = File { source, faults: self.faults };
            file.table(toml_file::part(file, node, self.environment)?, "pomelo.toml")
        });
        toml_file::read(table, self.dir)
    }

    /// Reads a JSON file, if it is there, and hands on the part for the environment.
    fn with<T>(&self, name: &str, read: impl FnOnce(File<'_>, &Node) -> T) -> Option<T>
    where
        T: Default,
    {
        let source = self.find(name)?;
        let file = File { source: &source, faults: self.faults };
        match source.json() {
            Ok(node) => Some(self.environment(file, &node).map_or_else(T::default, |node| read(file, node))),
            Err(fault) => {
                self.faults.push(fault);
                Some(T::default())
            }
        }
    }

    /// The text of a file: that in the directory, else that in the environment's directory, as pomelo looks for it.
    fn find(&self, name: &str) -> Option<Source> {
        [self.dir.join(name), self.dir.join(self.environment).join(name)].iter().find_map(|path| match read(path) {
            Ok(text) => text.map(|text| Source::new(path, text)),
            Err(error) => {
                self.faults.whole(
                    path,
                    format!("cannot be read: {error}"),
                    "it must be a UTF-8 text of at most 16 MiB",
                );
                Some(Source::new(path, String::from("null")))
            }
        })
    }

    /// The part of a file that is for the environment: the member of its name, or all where there is no such level.
    fn environment<'n>(&self, file: File<'_>, node: &'n Node) -> Option<&'n Node> {
        let Tree::Table(members) = &node.value else {
            // A file that could not be read has its fault already.
            return (!matches!(node.value, Tree::Null)).then_some(node);
        };
        if let Some(member) = members.iter().rfind(|member| member.key == self.environment) {
            return Some(&member.node);
        }
        let names = environments(&file.source.path, node);
        if !names.is_empty() {
            let what = format!("there is no environment `{}` in this file", self.environment);
            file.fault(node.at, what, reader::did_you_mean(self.environment, &names));
            return None;
        }
        Some(node)
    }

    fn master_is_missing(&self) {
        let path = self.dir.join("master.json");
        let inner = self.dir.join("config");
        let hint = if inner.join("master.json").exists() {
            format!("the configuration seems to be in {}", inner.display())
        } else {
            r#"for example: {"id": "master-server-1", "host": "127.0.0.1", "port": 3005}"#.to_owned()
        };
        self.faults.whole(path, "the file is not there", hint);
    }
}

/// The environments that a JSON file has: none where it is for all of them.
fn environments<'n>(path: &Path, node: &'n Node) -> Vec<&'n str> {
    let Tree::Table(members) = &node.value else { return Vec::new() };
    let name = path.file_name().unwrap_or_default();
    let is_level = |node: &Node| match &node.value {
        Tree::Table(_) => true,
        // Lists are server types in servers.json, and environments where a file is a list itself.
        Tree::List(_) => name == USERS || name == TOKENS,
        _ => false,
    };
    if !members.iter().all(|member| is_level(&member.node)) {
        return Vec::new();
    }
    members.iter().map(|member| member.key.as_str()).collect()
}

/// A file's text; absent where there is no such file.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_FILE => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
        Ok(_) => fs::read_to_string(path).map(Some),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}
