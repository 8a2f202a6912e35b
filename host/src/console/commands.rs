//! The commands of pomelo-admin's console service: `list`, `enable`, `disable`; and `modules`, which tells more.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::{Console, DISABLED, ENABLED, Origin, STATES};
use crate::failure::{Failure, code};
use crate::journal::{Event, kind};
use crate::plugin::{Caller, Handler, HandlerStats, HostRole};
use crate::wire::raw;

/// What came of a command.
pub struct CommandAnswer {
    /// The answer.
    pub body: Box<RawValue>,
    /// Whether the command is to be passed on to every monitor.
    pub pass_on: bool,
}

/// A module id, as `modules` shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleStatus {
    /// The module id.
    pub id: String,
    /// Hosts on which the id is there.
    pub roles: Vec<HostRole>,
    /// Callbacks that the file exports.
    pub handlers: Vec<&'static str>,
    /// The module's own version.
    pub version: String,
    /// Sha-256 of the file, in hexadecimal.
    pub digest: String,
    /// Size of the file, bytes.
    pub size: usize,
    /// `enabled`, `disabled`, or `put-aside` while a handler that keeps trapping is left alone.
    pub state: &'static str,
    /// Calls that have ended, over all versions.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// What the last of them failed with.
    pub last_error: Option<String>,
    /// Where the version in force came from: `built-in` or a path.
    pub source: String,
    /// Since when this version is in force, seconds since 1970.
    pub since: u64,
    /// Bytes of the module's store in use.
    pub store: usize,
    /// Turns of the timer that were left out since the last one still ran.
    pub skipped_turns: u64,
    /// Figures by handler.
    pub stats: BTreeMap<&'static str, HandlerStats>,
    /// Why the newest file for this module was refused, where it was.
    pub refused: Option<String>,
}

impl Console {
    /// Carries out a command for a caller.
    ///
    /// # Errors
    /// `forbidden`, an unknown command, a command without the module that it needs.
    pub fn command(&self, command: &str, module: Option<&str>, caller: &Caller) -> Result<CommandAnswer, Failure> {
        self.permits(command, caller)?;
        let enable = match command {
            "list" => return Ok(CommandAnswer { body: raw(&json!({ "modules": self.listed() })), pass_on: false }),
            "modules" => {
                return Ok(CommandAnswer {
                    body: raw(&json!({ "modules": self.modules(), "refused": self.refused() })),
                    pass_on: false,
                });
            }
            "enable" => true,
            "disable" => false,
            _ => {
                let message =
                    format!("unknown command:{command} (there are list, enable, disable, modules, events and forget)");
                return Err(Failure::new(code::BAD_MESSAGE, message));
            }
        };
        let Some(id) = module.filter(|id| !id.is_empty()) else {
            return Err(Failure::new(code::BAD_MESSAGE, "empty moduleId"));
        };
        let known = self.0.table.read().knows(id);
        if known && self.set_enabled(id, enable) {
            let (kind, what) = if enable { (kind::ENABLE, "enabled") } else { (kind::DISABLE, "disabled") };
            let event = Event::new(kind, format!("module {id} was {what}")).module(id);
            self.0.services.journal.record(event.client(caller.user.as_deref()));
        }
        Ok(CommandAnswer { body: raw(&if known { 1 } else { -1 }), pass_on: known })
    }

    /// Enables or disables a module id, whether a module of it is loaded or not; whether that changed anything.
    pub fn set_enabled(&self, id: &str, enable: bool) -> bool {
        let mut disabled = self.0.disabled.write();
        let changed = if enable { disabled.remove(id) } else { disabled.insert(id.to_owned()) };
        if changed {
            if let Some(keeper) = self.0.settings.keeper.as_ref().filter(|_| self.0.identity.role == HostRole::Master) {
                keeper.put(STATES, id, Some(if enable { ENABLED } else { DISABLED }.into()));
            }
            tracing::info!(
                module = id,
                enabled = enable,
                "a module was {}",
                if enable { "enabled" } else { "disabled" }
            );
        }
        changed
    }

    /// The ids of disabled modules.
    pub fn disabled(&self) -> Vec<String> {
        self.0.disabled.read().iter().cloned().collect()
    }

    /// Takes over which modules are disabled: what the master tells a monitor when it registers. The state belongs to the id,
    /// whether a module of it is loaded or not.
    pub fn set_disabled(&self, ids: Vec<String>) {
        *self.0.disabled.write() = ids.into_iter().collect();
    }

    /// Ids of the modules, without those of the form `__x__`.
    fn listed(&self) -> Vec<String> {
        let hidden = |id: &String| id.len() > 4 && id.starts_with("__") && id.ends_with("__");
        let mut ids: Vec<_> = self.0.table.read().slots.keys().filter(|id| !hidden(id)).cloned().collect();
        ids.sort();
        ids
    }

    /// What there is to say of every module id of this host, ordered by id.
    pub fn modules(&self) -> Vec<ModuleStatus> {
        let table = self.0.table.read();
        let disabled = self.0.disabled.read();
        let refused = self.0.refused.lock();
        let status = |(id, slot): (&String, &std::sync::Arc<super::table::Slot>)| {
            let (unit, stats) = (&slot.unit, &slot.context.stats);
            let inspection = unit.module.inspection();
            let (calls, failures) = stats.total();
            let here = |handler: &Handler| inspection.has(*handler);
            ModuleStatus {
                id: id.clone(),
                roles: slot.descriptor.roles.clone().unwrap_or_else(|| vec![HostRole::Master, HostRole::Monitor]),
                handlers: Handler::ALL.iter().filter(|h| here(h)).map(|handler| handler.as_str()).collect(),
                version: unit.module.descriptor().version.clone(),
                digest: inspection.digest.clone(),
                size: inspection.size,
                state: match (disabled.contains(id), unit.module.put_aside().is_empty()) {
                    (true, _) => "disabled",
                    (false, false) => "put-aside",
                    (false, true) => "enabled",
                },
                calls,
                failures,
                last_error: stats.last_failure(),
                source: match &unit.origin {
                    Origin::BuiltIn => "built-in".into(),
                    Origin::File(path) => path.display().to_string(),
                },
                since: unit.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
                store: slot.context.store.bytes(),
                skipped_turns: stats.turns_skipped(),
                stats: stats.handlers(),
                refused: refused.get(&unit.name).map(|refusal| refusal.why.clone()),
            }
        };
        let mut all: Vec<_> = table.slots.iter().map(status).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Files that were refused and have no version in force, with the reason.
    pub fn refused(&self) -> BTreeMap<String, String> {
        let table = self.0.table.read();
        let refused = self.0.refused.lock();
        refused
            .iter()
            .filter(|(name, _)| !table.units.contains_key(*name))
            .map(|(name, refusal)| (name.clone(), refusal.why.clone()))
            .collect()
    }
}
