//! The files of the configuration, taken over by a master that runs: settings at once, servers by a job.
//!
//! What is taken over is what was shown: whoever asks says of which files he has seen the plan. From then on these files are in force, also for monitors
//! that start later. The job brings the servers to them; if it is cancelled or pauses, the plan still names the servers that were begun otherwise.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::MasterFleet;
use crate::config::{Config, Plan, Server, Taken};
use crate::console::{Applied, Settings};
use crate::failure::{Failure, code};
use crate::fleet::job::Action;
use crate::fleet::{Place, State, Wanted};
use crate::journal::{Event, kind};
use crate::master::MasterCore;
use crate::monitor::Monitor;
use crate::reload::{ConfigDifference, InForce};
use crate::scripts;
use crate::wire::Capabilities;

/// The command by which monitors are told to read their files again.
pub(in crate::master) const APPLY: &str = "apply";

/// Makes the settings of modules, and those of scripts on the master, from a configuration.
pub type SettingsOf = Arc<dyn Fn(&Config) -> (Settings, scripts::Settings) + Send + Sync>;

/// The files of a master's configuration.
#[derive(Clone)]
pub struct Files {
    /// What is in force, and how the files differ.
    pub in_force: InForce,
    /// What the parts of the master take of it.
    pub settings: SettingsOf,
}

/// What takes another configuration over on a master.
pub(in crate::master) struct Applier {
    core: Weak<MasterCore>,
    own: Weak<Monitor>,
    files: Files,
    /// Set once the files were applied: monitors that register after that may have read the ones before.
    applied: AtomicBool,
}

/// What a job is to do, so that the servers are as the files say.
#[derive(Default)]
pub(super) struct Changes {
    pub servers: Vec<(String, Action)>,
    /// Servers that need what others let go of.
    pub late: Vec<String>,
    pub notes: Vec<String>,
    /// Servers that are reserved until the job owns them.
    pub reserved: Vec<String>,
}

impl Applier {
    pub fn new(core: &Arc<MasterCore>, own: &Arc<Monitor>, files: Files) -> Self {
        Applier { core: Arc::downgrade(core), own: Arc::downgrade(own), files, applied: AtomicBool::new(false) }
    }

    /// Takes over the settings of modules, here and on the monitors, and says what has come of it.
    async fn take(&self, config: &Config) -> Vec<String> {
        let (Some(core), Some(own)) = (self.core.upgrade(), self.own.upgrade()) else { return Vec::new() };
        let (settings, scripts) = (self.files.settings)(config);
        let applied = core.console.apply(settings.clone()).await;
        own.apply(settings, scripts).await;
        core.distribution.apply(config.settings.modules.rollouts());
        // No monitor registers meanwhile.
        let _commands = core.commands.lock();
        for id in applied.enabled.keys() {
            // As it is now, because a client may have given a command meanwhile.
            let command = if core.console.disabled().contains(id) { "disable" } else { "enable" };
            core.pass_on(command, Some(id));
        }
        self.applied.store(true, Ordering::Relaxed);
        core.pass_on(APPLY, None);
        said(&applied)
    }

    /// Whether the files were applied since the master started.
    pub fn has_applied(&self) -> bool {
        self.applied.load(Ordering::Relaxed)
    }
}

impl MasterFleet {
    /// Takes the files over whose digest is `shown`, or those that are there if that is absent, and says what is to be done with the servers.
    /// `queue` says whether servers may belong to other jobs. Calls of this, and additions of servers, must not overlap.
    ///
    /// # Errors
    /// `not-available` where there are no files; `failed` where they cannot be read, have changed since they were shown, or cannot be handed on; `busy`
    /// where another job owns one of the servers. Nothing has changed then.
    pub(super) async fn apply(&self, shown: Option<&str>, queue: bool, by: &str) -> Result<Changes, Failure> {
        let none = || Failure::new(code::NOT_AVAILABLE, "this master runs without files of a configuration");
        let applier = self.applier.get().ok_or_else(none)?;
        let in_force = &applier.files.in_force;
        let difference = in_force.look().await;
        let (files, plan) = match difference.as_deref() {
            None => return Ok(Changes::default()),
            Some(ConfigDifference::Faults(faults)) => {
                return Err(Failure::new(code::FAILED, format!("the files cannot be taken: {faults}")));
            }
            Some(ConfigDifference::Differs { files, plan }) => (files, plan),
        };
        if shown.is_some_and(|shown| shown != files.texts.digest()) {
            let what = "the files have changed since that plan was made: `pomelo plan` shows what they say now";
            return Err(Failure::new(code::FAILED, what));
        }
        let all = plan.new.iter().chain(&plan.changed).chain(&plan.gone);
        let reserved: Vec<String> = all.map(|server| server.id.clone()).collect();
        if let Some((id, job)) = reserved.iter().find_map(|id| Some((id, self.fleet.owner(id)?))).filter(|_| !queue) {
            let what = format!("{id} belongs to job {job}: `pomelo jobs {job}` shows it, --queue waits for it");
            return Err(Failure::new(code::BUSY, what));
        }
        let before = in_force.config();
        let after = Plan::applied(&before, files);
        self.fleet.reserve(&reserved);
        if let Err(failure) = self.starter.replace(&after, |named| self.fleet.name(named)).await {
            self.fleet.unreserve(&reserved);
            return Err(failure);
        }
        in_force.set(after.clone());
        let message = format!("the files of the configuration were applied: {}", plan.summary());
        self.journal.record(Event::new(kind::FILES, message).client(Some(by)));
        let mut changes = Changes { reserved, ..Changes::default() };
        self.servers(plan, &before, &after, &mut changes);
        changes.notes.extend(applier.take(&after).await);
        for taken in [Taken::NextStart, Taken::NewMaster] {
            changes.notes.extend(plan.taken(taken).map(|key| format!("{key}: {}", taken.said())));
        }
        in_force.look().await;
        Ok(changes)
    }

    /// What is to be done with the servers of a plan, once the fleet and the starter know of it.
    fn servers(&self, plan: &Plan, before: &Config, after: &Config, changes: &mut Changes) {
        // By place: the servers that listen there now, and will not when the job is over, or not before they have been restarted.
        let mut held: BTreeMap<(String, u16), &str> = BTreeMap::new();
        for gone in &plan.gone {
            // One that was down is forgotten already.
            if self.fleet.get(&gone.id).is_some() {
                changes.servers.push((gone.id.clone(), Action::Drain));
                held.extend(before.server(&gone.id).into_iter().flat_map(ports).map(|place| (place, gone.id.as_str())));
            }
        }
        for changed in &plan.changed {
            let id = &changed.id;
            let Some(record) = self.fleet.get(id) else { continue };
            let begun_here = self.starter.has_begun(id);
            if record.wanted == Wanted::Down {
                changes.notes.push(format!("{id} is down, and takes the change when it is started"));
            } else if !begun_here && (record.place == Place::Theirs || !record.state.is_down()) {
                changes.notes.push(format!("{id} takes the change when whoever starts its monitor starts it anew"));
            } else if !begun_here || self.starter.has_changed(id) {
                changes.servers.push((id.clone(), Action::Restart));
                held.extend(before.server(id).into_iter().flat_map(ports).map(|place| (place, id.as_str())));
            }
        }
        for new in &plan.new {
            let id = &new.id;
            let Some(record) = self.fleet.get(id) else { continue };
            match record.state {
                _ if record.wanted == Wanted::Down => changes.notes.push(format!("{id} was stopped, and stays down")),
                State::Elsewhere => changes.notes.push(format!("{id} is to be started on its own machine")),
                // It was added before, or had joined.
                _ if self.starter.has_changed(id) => changes.servers.push((id.clone(), Action::Restart)),
                _ => changes.servers.push((id.clone(), Action::Start)),
            }
        }
        // Those that are gone have no place any more.
        let waits = |id: &&String| {
            let mut wanted = after.server(id).into_iter().flat_map(ports);
            wanted.any(|place| held.get(&place).is_some_and(|holder| holder != id))
        };
        changes.late = changes.servers.iter().map(|(id, _)| id).filter(waits).cloned().collect();
        let added = self.starter.added_and_changed().into_iter();
        changes.notes.extend(added.map(|id| format!("{id} was added, and takes the change when it is restarted")));
    }
}

/// The places on which a server listens.
fn ports(server: &Server) -> impl Iterator<Item = (String, u16)> {
    server.ports().map(|port| (server.host.clone(), port))
}

/// What has come of the settings of modules, a sentence each.
fn said(applied: &Applied) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    let modules = applied.modules.iter();
    said.extend(modules.map(|(id, keys)| format!("[module.{id}] {}: in effect", keys.join(", "))));
    if !applied.common.is_empty() {
        said.push(format!("{} of all modules: in effect", applied.common.join(", ")));
    }
    said.extend(applied.refused.iter().map(|(file, why)| format!("{file}.wasm was taken out: {why}")));
    if !applied.again.is_empty() {
        said.push(format!("looked at again: {}", applied.again.join(", ")));
    }
    said.extend(applied.not_applied.iter().cloned());
    said
}

impl MasterCore {
    /// Passes a command on to every monitor that understands it.
    pub(in crate::master) fn pass_on(&self, command: &str, module: Option<&str>) {
        let needed = if command == APPLY { Capabilities::APPLY } else { Capabilities::COMMANDS };
        for member in self.members.all() {
            if member.capabilities.has(needed) {
                // A monitor that is leaving is told when it registers again, or reads its files when it starts anew.
                let _ = member.exchange.command(command, module, crate::wire::null());
            }
        }
    }
}
