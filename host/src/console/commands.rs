//! The commands of pomelo-admin's console service: `list`, `enable`, `disable`; and `modules` and `inspect`, which tell more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::registry::Registry;
use super::source::Origin;
use super::table::Slot;
use crate::failure::{Failure, code};
use crate::journal::{Event, kind};
use crate::plugin::{Caller, Handler, HandlerStats, HostRole};
use crate::wire::{raw, shown};

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
    /// `starting` until its `start` has succeeded, `enabled`, `disabled`, or `put-aside` while a handler that keeps trapping is left alone by a class of callers. Where it is left alone by single users or
    /// monitors only, `put_aside` names them.
    pub state: &'static str,
    /// The handlers that are put aside, and for whom.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub put_aside: Vec<PutAside>,
    /// Calls that have ended, over all versions.
    pub calls: u64,
    /// Those that failed by a fault of the module's.
    pub failures: u64,
    /// Those that were not done for another reason: a mistake of the caller's, or no room.
    pub refusals: u64,
    /// CPU time that the calls of its file have used, milliseconds. All ids of the file show the same, also on the master's own monitor.
    pub cpu_ms: u64,
    /// What the last of them failed with.
    pub last_error: Option<String>,
    /// Where the version in force came from: `built-in` or a path.
    pub source: String,
    /// The name of the key that the file is signed with; absent for a built-in module, and where it is signed with no key that is known.
    pub signer: Option<String>,
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
    /// Whether the version in force was kept from before, and is in the place of the file.
    pub kept: bool,
}

/// A handler that is put aside, as `modules` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PutAside {
    /// The handler.
    pub handler: &'static str,
    /// For whom, in words.
    #[serde(rename = "for")]
    pub of: String,
}

/// The module that a command is about.
///
/// # Errors
/// `bad-message` if none is named.
pub fn of_module(module: Option<&str>) -> Result<&str, Failure> {
    module.filter(|id| !id.is_empty()).ok_or_else(|| Failure::new(code::BAD_MESSAGE, "empty moduleId"))
}

impl Registry {
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
                    body: raw(&json!({
                        "modules": self.modules(), "refused": self.refused(), "installing": self.installing(),
                    })),
                    pass_on: false,
                });
            }
            "inspect" => {
                let body = raw(&self.inspect(of_module(module)?)?);
                return Ok(CommandAnswer { body, pass_on: false });
            }
            "enable" => true,
            "disable" => false,
            _ => {
                let message = format!(
                    "unknown command:{} (there are list, enable, disable, modules, inspect, history, rollback, events, describe, forget, plan and admit)",
                    shown(command)
                );
                return Err(Failure::new(code::BAD_MESSAGE, message));
            }
        };
        let id = of_module(module)?;
        let known = self.table.read().knows(id);
        if known && self.set_enabled(id, enable) {
            let (kind, what) = if enable { (kind::ENABLE, "enabled") } else { (kind::DISABLE, "disabled") };
            let event = Event::new(kind, format!("module {id} was {what}")).module(id);
            self.record_of_client(event.client(caller.user.as_deref()));
        }
        Ok(CommandAnswer { body: raw(&if known { 1 } else { -1 }), pass_on: known })
    }

    /// Ids of the modules, without those of the form `__x__`.
    fn listed(&self) -> Vec<String> {
        let hidden = |id: &String| id.len() > 4 && id.starts_with("__") && id.ends_with("__");
        let mut ids: Vec<_> = self.table.read().slots.keys().filter(|id| !hidden(id)).cloned().collect();
        ids.sort();
        ids
    }

    /// What there is to say of every module id of this host, ordered by id.
    pub fn modules(&self) -> Vec<ModuleStatus> {
        let (disabled, refusals) = (self.disabled(), self.refusals());
        // How much there is to say of a module is its own affair. So none of it is put together while the table is locked.
        let mut slots: Vec<Arc<Slot>> = self.table.read().slots.values().cloned().collect();
        slots.sort_by(|a, b| a.descriptor.id.cmp(&b.descriptor.id));
        let status = |slot: &Arc<Slot>| {
            let id = &slot.descriptor.id;
            let (unit, stats) = (&slot.unit, &slot.context.stats);
            let module = unit.module();
            let inspection = module.inspection();
            let (calls, failures, refused) = stats.total();
            let aside = module.put_aside();
            let whole_class = aside.iter().any(|aside| aside.of.caller.is_none());
            let here = |handler: &Handler| inspection.has(*handler);
            ModuleStatus {
                id: id.clone(),
                roles: slot.descriptor.roles.clone().unwrap_or_else(|| vec![HostRole::Master, HostRole::Monitor]),
                handlers: Handler::ALL.iter().filter(|h| here(h)).map(|handler| handler.as_str()).collect(),
                version: unit.module().descriptor().version.clone(),
                digest: inspection.digest.clone(),
                size: inspection.size,
                state: match (disabled.contains(id), whole_class, slot.ready.load(Ordering::Acquire)) {
                    (true, _, _) => "disabled",
                    (false, true, _) => "put-aside",
                    (false, false, false) => "starting",
                    (false, false, true) => "enabled",
                },
                put_aside: aside
                    .iter()
                    .map(|aside| PutAside { handler: aside.handler.as_str(), of: aside.of.to_string() })
                    .collect(),
                calls,
                failures,
                refusals: refused,
                cpu_ms: module.cpu().as_millis().try_into().unwrap_or(u64::MAX),
                last_error: stats.last_failure(),
                source: match &unit.origin {
                    Origin::BuiltIn => "built-in".into(),
                    Origin::File(path) => path.display().to_string(),
                },
                signer: self.settings().keys.name_of(&unit.signer.read()).map(str::to_owned),
                since: unit.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
                store: slot.context.store.bytes(),
                skipped_turns: stats.turns_skipped(),
                stats: stats.handlers(),
                refused: refusals.get(&unit.name).cloned(),
                kept: unit.is_kept.load(Ordering::Acquire),
            }
        };
        slots.iter().map(status).collect()
    }

    /// Files that were refused and have no version in force, with the reason.
    pub fn refused(&self) -> BTreeMap<String, String> {
        let mut refusals = self.refusals();
        let table = self.table.read();
        refusals.retain(|file, _| !table.units.contains_key(file));
        refusals
    }
}
