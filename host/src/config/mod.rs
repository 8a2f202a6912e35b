//! The configuration of a cluster: pomelo's files, and `pomelo.toml` for settings for which pomelo has no file.
//!
//! A directory holds `master.json`, `servers.json`, `crons.json`, `adminUser.json` and `adminServer.json` as pomelo writes them: flat, with one level
//! of environments (`{"development": …, "production": …}`), or in a directory named after the environment. All faults are reported at once, each with
//! its place and a way to mend it. This part reads files and checks them. It starts nothing, opens no connection, and does not watch the files.

mod added;
mod check;
mod cluster;
mod command;
mod credentials;
mod crons;
mod demo;
mod fault;
mod files;
mod plan;
mod reader;
mod servers;
mod settings;
mod texts;
mod toml_file;
mod tree;
mod user_file;
mod words;

#[cfg(test)]
mod tests;

pub use check::{CronLine, Finding, Found, Report, check};
pub use cluster::{Config, DEFAULT_ENVIRONMENT, Origin, file_name};
pub use command::Launch;
pub use credentials::Credentials;
pub use crons::Cron;
pub use demo::DEMO_TOKEN_VARIABLE;
pub use fault::{ConfigErrors, Fault};
pub use plan::{ChangedModule, ChangedSetting, NoneRuns, Plan, PlannedServer, Running, Spec, Taken};
pub use servers::{Check as HealthCheck, Health, MAX_PROFILE_MS, Master, Server, Then};
pub use settings::{AdminLog, Auth, MasterTimes, ModuleSettings, Modules, Network, Settings, Ssh, Supervise, Watch};
pub use texts::Texts;
pub use toml_file::MAX_JOINED;
pub use user_file::{EditError, UserFile};
pub use words::Ready;
