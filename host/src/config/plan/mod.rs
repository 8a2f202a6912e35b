//! What differs between the configuration that is in force and the files: the plan of what it takes to make them the same.
//!
//! | file | what is there |
//! |---|---|
//! | `server` | what decides how a server is run, key by key |
//! | `settings` | `pomelo.toml` and `master.json`: which keys differ, and who takes each of them |
//!
//! A plan names keys and never a value, because values may be secrets. This part compares two configurations, and with what each process was begun. It
//! reads no file and begins no process: a server that is configured and does not run is no difference here.

mod server;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cluster::Config;
use super::servers::Server;

pub use server::Spec;

/// What differs between the configuration in force and the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Plan {
    /// Servers that only the files have, in the files' order: they are to be started.
    pub new: Vec<PlannedServer>,
    /// Servers that are run in another way by the files, or whose processes were begun in another way, in the files' order: they are to be restarted.
    pub changed: Vec<PlannedServer>,
    /// Servers that only the configuration in force has, in its order, and those that run although it does not have them any more: they are to be
    /// stopped. Servers that were added are not among them, because
    /// no file has them.
    pub gone: Vec<PlannedServer>,
    /// Settings of single modules, in the order of their ids. They take effect without a restart of anything.
    pub modules: Vec<ChangedModule>,
    /// All other settings, in the order of the documentation.
    pub settings: Vec<ChangedSetting>,
}

/// A server of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedServer {
    /// Its id.
    pub id: String,
    /// Its type; in the files' words if both have it.
    pub server_type: String,
    /// What differs, in order: members of `servers.json` (`command`, `port`, `env.NAME`), `crons.ID`, and `[pomelo] app` or `[pomelo] node` for a
    /// server that these run. Empty for servers that are new or gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

/// A module whose settings differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedModule {
    /// The module id: the settings stand under `[module.ID]`.
    pub id: String,
    /// What differs, in order: `options.NAME`, `interval`, `delay`, `limits.cpu_ms`, `grants`, `levels.OPERATION`, `server_types`, `environments`,
    /// `enabled`, `file`.
    pub keys: Vec<String>,
}

/// A setting that is not of a single module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedSetting {
    /// Where it stands: `[network] ping_interval_ms`, or `master.json port`.
    pub key: String,
    /// Who takes it, and when.
    pub taken: Taken,
}

/// When a changed setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Taken {
    /// As soon as it is applied.
    AtOnce,
    /// For each server when it starts the next time.
    NextStart,
    /// Only by a master, or a monitor, that is started anew.
    NewMaster,
}

impl Taken {
    /// The rest of a sentence that begins with the setting's key.
    pub fn said(self) -> &'static str {
        match self {
            Taken::AtOnce => "takes effect at once",
            Taken::NextStart => "servers take it when they start the next time",
            Taken::NewMaster => "only a new master takes it, and monitors that start anew",
        }
    }
}

/// Knows how processes were begun.
pub trait Running: Send + Sync {
    /// With which spec the process of a server was begun that runs; absent if none does that was begun here.
    fn spec(&self, id: &str) -> Option<Spec>;
    /// The servers whose processes run that were begun here, although the configuration in force does not name them and they were not added: they were
    /// to be ended, and that was put off. Id and type of each.
    fn strays(&self) -> Vec<(String, String)>;
    /// A number that grows when a process is begun with another spec than the one before.
    fn revision(&self) -> u64;
}

/// No process was begun here.
pub struct NoneRuns;

impl Running for NoneRuns {
    fn spec(&self, _: &str) -> Option<Spec> {
        None
    }

    fn strays(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn revision(&self) -> u64 {
        0
    }
}

impl Plan {
    /// What differs between the configuration in force and that of the files, both of the same environment. A server that runs is compared with how it
    /// was begun, because the restart that a change needs may have been put off.
    ///
    /// Users and tokens are no part of it, because a master follows their files by itself.
    pub fn between(in_force: &Config, files: &Config, running: &dyn Running) -> Plan {
        let mut plan = Plan { modules: settings::modules(in_force, files), ..Plan::default() };
        plan.settings = settings::others(in_force, files);
        for server in &files.servers {
            let Some(before) = in_force.server(&server.id) else {
                plan.new.push(PlannedServer::of(server, Vec::new()));
                continue;
            };
            let before = running.spec(&server.id).unwrap_or_else(|| before.spec(in_force));
            let keys = before.differing(&server.spec(files));
            if !keys.is_empty() {
                plan.changed.push(PlannedServer::of(server, keys));
            }
        }
        let gone = in_force.servers.iter().filter(|server| files.server(&server.id).is_none());
        plan.gone = gone.map(|server| PlannedServer::of(server, Vec::new())).collect();
        let strays = running.strays().into_iter().filter(|(id, _)| files.server(id).is_none());
        plan.gone.extend(strays.map(|(id, server_type)| PlannedServer { id, server_type, keys: Vec::new() }));
        plan
    }

    /// The configuration in force once the files have been applied to a running master: that of the files, but with the settings that only a new
    /// master takes as they were. What the plan then still names are these.
    pub fn applied(in_force: &Config, files: &Config) -> Config {
        Config {
            origin: in_force.origin.clone(),
            environment: in_force.environment.clone(),
            master: in_force.master.clone(),
            servers: files.servers.clone(),
            crons: files.crons.clone(),
            users: files.users.clone(),
            tokens: files.tokens.clone(),
            settings: settings::applied(&in_force.settings, &files.settings),
            texts: files.texts.clone(),
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Plan::default()
    }

    /// The settings that are taken in that way.
    pub fn taken(&self, taken: Taken) -> impl Iterator<Item = &str> {
        self.settings.iter().filter(move |setting| setting.taken == taken).map(|setting| setting.key.as_str())
    }

    /// The plan for people, a line for each server, module and setting. If nothing differs, one line says so.
    pub fn lines(&self) -> Vec<String> {
        let server = |sign: char, server: &PlannedServer, what: &str| {
            format!("{sign} {} ({}): {what}", server.id, server.server_type)
        };
        let mut lines = Vec::new();
        lines.extend(self.new.iter().map(|new| server('+', new, "new")));
        lines.extend(self.changed.iter().map(|changed| server('~', changed, &changed.keys.join(", "))));
        lines.extend(self.gone.iter().map(|gone| server('-', gone, "no longer configured")));
        let module = |module: &ChangedModule| {
            format!("  [module.{}] {}: {}", module.id, module.keys.join(", "), Taken::AtOnce.said())
        };
        lines.extend(self.modules.iter().map(module));
        lines.extend(self.settings.iter().map(|setting| format!("  {}: {}", setting.key, setting.taken.said())));
        if lines.is_empty() {
            lines.push("nothing differs between the files and what runs".to_owned());
        }
        lines
    }

    /// One sentence about the plan, such as `1 server is new, 2 have changed; 3 settings differ`.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        let mut count = |number: usize, one: &str, more: &str| {
            if number > 0 {
                parts.push(format!("{number} {}", if number == 1 { one } else { more }));
            }
        };
        count(self.new.len(), "server is new", "servers are new");
        count(self.changed.len(), "server has changed", "servers have changed");
        count(self.gone.len(), "server is gone", "servers are gone");
        let settings = self.modules.iter().map(|module| module.keys.len()).sum::<usize>() + self.settings.len();
        count(settings, "setting differs", "settings differ");
        if parts.is_empty() { "nothing differs".to_owned() } else { parts.join(", ") }
    }
}

/// The lines of [`Plan::lines`].
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl PlannedServer {
    fn of(server: &Server, keys: Vec<String>) -> Self {
        PlannedServer { id: server.id.clone(), server_type: server.server_type.clone(), keys }
    }
}
