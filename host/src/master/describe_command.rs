//! The command `describe`: how a server is run.
//!
//! Its body: `id`. The answer: `spec`, what decides how it is run, by key as in a plan, with the values of its environment left out because they may be
//! secrets; `differs`, the keys in which its process was begun in another way; `log`, the file of its output, if it is on this machine; `modules`, the
//! ids that its monitor has by this master's files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::MasterCore;
use super::commands::Order;
use crate::failure::{Failure, code};
use crate::plugin::HostRole;
use crate::wire::raw;

/// The name of the command.
pub(super) const DESCRIBE: &str = "describe";

#[derive(Default, Deserialize)]
#[serde(default)]
struct DescribeBody {
    id: String,
}

/// How a server is run.
#[derive(Default, Serialize)]
pub(super) struct Described {
    pub spec: BTreeMap<String, Value>,
    pub differs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    pub modules: Vec<String>,
}

impl MasterCore {
    /// Carries out the command for a caller.
    ///
    /// # Errors
    /// `forbidden`, `bad-message`, `not-found` where the server is neither configured nor was added.
    pub(super) fn describe(&self, asked: &Order<'_>) -> Result<Box<RawValue>, Failure> {
        self.console.permits(asked.command, asked.caller)?;
        let DescribeBody { id } = asked.body()?;
        let described = self.fleet.as_ref().and_then(|fleet| {
            let described = fleet.starter.described(&id)?;
            Some((described, fleet.starter.server_type(&id)?))
        });
        let unknown = || Failure::new(code::NOT_FOUND, format!("`{id}` is neither configured nor was it added"));
        let (mut described, server_type) = described.ok_or_else(unknown)?;
        let config = self.options.files.as_ref().map(|files| files.in_force.config());
        let is_there = |module: &str| {
            let types = config.as_ref().map(|config| config.module(module).server_types).unwrap_or_default();
            types.is_empty() || types.contains(&server_type)
        };
        let modules = self.console.modules().into_iter();
        let modules = modules.filter(|module| module.roles.contains(&HostRole::Monitor) && is_there(&module.id));
        described.modules = modules.map(|module| module.id).collect();
        Ok(raw(&described))
    }
}
