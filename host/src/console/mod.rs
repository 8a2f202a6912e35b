//! The console service: which module is meant, may this caller ask it, and when is it called.
//!
//! Both hosts have one. [`Console`] is the front of three parts, each with a state of its own:
//!
//! | part | what it has | files |
//! |---|---|---|
//! | `Registry` | the table of module ids, what each id has on this host, what is disabled, what was refused | `registry`, `table`, `settings` |
//! | | … and the way of a message through it | `dispatch`, `asked`, `permissions`, `lane`, `life`, `commands`, `inspection`, `observe` |
//! | `Installer` | from a file's bytes to a version in force, and out again | `source`, `candidate`, `error`, `install`, `swap`, `apply`, `kept`, `handed_on` |
//! | `Turns` | what calls modules unasked: timers, feeds of server events, `start` | `turns`, `events`, `start` |
//!
//! The installer uses the turns and the registry, the turns use the registry, the registry uses neither. This part knows no sockets and no module by
//! name.

mod apply;
mod asked;
mod candidate;
mod commands;
mod dispatch;
mod error;
mod events;
mod handed_on;
mod inspection;
mod install;
mod kept;
mod lane;
mod life;
mod observe;
mod permissions;
mod registry;
mod settings;
mod source;
mod start;
mod swap;
mod table;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::failure::Failure;
use crate::plugin::capability::Services;
use crate::plugin::{Caller, Engine, Identity, ModulesInForce, Neighbours};
use crate::util::lasting;

use install::Installer;
use registry::Registry;
use turns::Turns;

pub use apply::Applied;
pub use asked::Asked;
pub use commands::{CommandAnswer, ModuleStatus, PutAside, of_module};
pub use dispatch::{Admitted, Inbound, Reply};
pub use error::InstallError;
pub use events::{Batch, EventSource, Position};
pub use handed_on::{FileStatus, Refused};
pub use inspection::ModuleInspection;
pub use install::Installed;
pub use kept::{History, RolledBack};
pub use permissions::is_read;
pub use registry::FilesToInstall;
pub use settings::{BuiltIn, ModuleSettings, Settings, Untrusted};
pub use source::{Origin, Source};

/// The console service of a host. Clones are the same service.
#[derive(Clone)]
pub struct Console {
    registry: Arc<Registry>,
    turns: Arc<Turns>,
    installer: Installer,
    /// Files of which the metrics know.
    observed: Arc<Mutex<BTreeSet<String>>>,
}

impl Console {
    /// A console service without modules.
    ///
    /// # Errors
    /// [`InstallError::Unread`] where what was said of modules before cannot be read.
    pub fn new(
        engine: Engine,
        identity: Identity,
        services: Services,
        settings: Settings,
    ) -> Result<Self, InstallError> {
        let registry = Arc::new(Registry::new(identity, services, settings).map_err(InstallError::Unread)?);
        let turns = Arc::new(Turns::new(registry.clone()));
        let installer = Installer { engine, registry: registry.clone(), turns: turns.clone() };
        Ok(Console { registry, turns, installer, observed: Arc::default() })
    }

    /// Whose host this is.
    pub fn identity(&self) -> &Identity {
        &self.registry.identity
    }

    /// Looks at a message: whether this caller may say it, and what it asks. Does not block.
    ///
    /// Serial handlers are called in the order in which admitted messages are dispatched.
    pub fn admit(&self, inbound: Inbound<'_>) -> Admitted {
        self.registry.admit(inbound)
    }

    /// Hands a message to its handler; what comes of it goes to `reply`. Does not block.
    pub fn dispatch(&self, inbound: Inbound<'_>, reply: Reply) {
        self.admit(inbound).dispatch(reply);
    }

    /// Gives the source of server events; to be called once, before [`Console::start`].
    pub fn set_events(&self, source: Arc<dyn EventSource>) {
        self.turns.feeds.set_source(source);
    }

    /// Schedules the timers, and calls each module's `start`: those of the built-in modules one after another, in the order of their names, and those of
    /// files side by side. It does not wait for files: [`Console::files_started`] does. A `start` that fails is reported, and called again with back-off.
    ///
    /// This may be dropped half way, because a monitor has lost its master. Call it again then: what was started before is not started again.
    pub async fn start(&self) {
        self.turns.start().await;
    }

    /// Waits until the `start` of each file that was in force when the host started has been called. One that has failed is called again later.
    pub async fn files_started(&self) {
        self.turns.files_started().await;
    }

    /// Installs the modules carried inside the program. To be called before anything else is installed.
    ///
    /// # Errors
    /// The first that is refused.
    pub async fn install_built_in(&self) -> Result<(), InstallError> {
        self.installer.install_built_in().await
    }

    /// Installs a file: as a new module, or as the next version of one. Before [`Console::start`] no `start` is called.
    ///
    /// # Errors
    /// [`InstallError`] says why the file was refused; it is also shown by `modules` until a version is accepted.
    pub async fn install(&self, source: Source) -> Result<Installed, InstallError> {
        self.installer.install(source).await
    }

    /// Installs a file that was there before this host. It is in force before its `start` has been called, as all files are of a host that has not started.
    ///
    /// # Errors
    /// As [`Console::install`].
    pub async fn install_present(&self, source: Source) -> Result<Installed, InstallError> {
        self.installer.install_present(source).await
    }

    /// Takes over other settings, without a restart of anything: levels and what a module may turn to at once, limits at the next call, options when
    /// the module asks for them the next time, intervals from now on. A file that may no longer import what it imports is taken out. Files that were
    /// refused, and files whose ids are others now, are installed again by whoever follows [`Console::files_to_install`].
    pub async fn apply(&self, settings: Settings) -> Applied {
        // In a task of its own, because what is taken out on the way must not be left without its successor if nobody waits any more.
        let installer = self.installer.clone();
        let applying = self.registry.life.tasks.spawn(async move { installer.apply(settings).await });
        applying.await.unwrap_or_else(|error| {
            lasting::panicked("what takes settings over", &error);
            Applied::default()
        })
    }

    /// Puts the newest good version in force that is kept of a file, which was there at the start of this host and cannot be read. Whether there is one.
    pub async fn fall_back(&self, name: &str, path: &Path) -> bool {
        self.installer.fall_back(name, path, None).await
    }

    /// What is kept of the file of a module id.
    ///
    /// # Errors
    /// `forbidden`, `unknown-module`, `not-available` for one that is built in or where nothing is kept.
    pub async fn history(&self, id: &str, caller: &Caller) -> Result<History, Failure> {
        self.registry.history(id, caller).await
    }

    /// Puts a version that is kept back into the modules' directory: the one whose digest begins with `digest`, or the newest good one that is neither the
    /// file nor in force. Whoever follows the directory takes it over; this does not wait for that.
    ///
    /// # Errors
    /// As [`Console::history`]; `not-found` or `bad-message` where there is no such version, or more than one; `failed` where the disk does not do as it should.
    pub async fn roll_back(&self, id: &str, digest: Option<&str>, caller: &Caller) -> Result<RolledBack, Failure> {
        self.registry.roll_back(id, digest, caller).await
    }

    /// Puts the version of a file with that digest back into the modules' directory, in the place of the version `bad`, which has turned out not to be good.
    /// Whoever follows the directory takes it over; this does not wait for that.
    ///
    /// # Errors
    /// `not-available` where nothing is kept, `not-found` where it is not or the file is another one by now, `failed` where the disk does not do as it should.
    pub async fn put_back(&self, name: &str, bad: &str, digest: &str) -> Result<RolledBack, Failure> {
        self.registry.put_back(name, bad, digest).await
    }

    /// Keeps why a file was refused that could not be read, until it is installed or removed: shown by `modules`, and told once in the log and the events.
    /// The name of a directory ends with a slash.
    pub fn refuse(&self, name: &str, why: String) {
        self.installer.refuse_unread(name, why, None);
    }

    /// Forgets what [`Console::refuse`] has kept, because it is over.
    pub fn accept(&self, name: &str) {
        self.registry.forget_refusal(name);
    }

    /// What tells the names of files that are worth another try, because settings or other files have changed.
    pub fn files_to_install(&self) -> FilesToInstall {
        self.registry.files_to_install()
    }

    /// Removes a file's module: new calls find no such module, calls under way end in the background. A built-in module whose place it had takes
    /// that back in one step, so that no call falls between the two. A file of that name in another directory that has taken over stays.
    pub async fn remove(&self, name: &str, path: &Path) {
        self.installer.remove(name, path).await;
    }

    /// Says which directory has files that the master hands on: of their comings and goings it tells itself, once for all hosts. To be said once, before any
    /// is installed.
    pub fn set_from_master(&self, directory: &Path) {
        self.registry.set_from_master(directory);
    }

    /// Counts changes of [`Console::files`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.registry.changes()
    }

    /// The files that are in force or were refused, without the built-in modules, in the order of their names.
    pub fn files(&self) -> Vec<FileStatus> {
        self.registry.files()
    }

    /// The bytes of a version of a file that is in force or was kept.
    ///
    /// # Errors
    /// `not-found` where this host has them no longer.
    pub async fn bytes_of(&self, name: &str, digest: &str) -> Result<Arc<[u8]>, Failure> {
        self.registry.bytes_of(name, digest).await
    }

    /// Carries out a command for a caller.
    ///
    /// # Errors
    /// `forbidden`, an unknown command, a command without the module that it needs.
    pub fn command(&self, command: &str, module: Option<&str>, caller: &Caller) -> Result<CommandAnswer, Failure> {
        self.registry.command(command, module, caller)
    }

    /// Whether a client may give a command. Where the configuration says nothing else, everybody may give a command that only shows something, and
    /// level 1 the others.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn permits(&self, command: &str, caller: &Caller) -> Result<(), Failure> {
        self.registry.permits(command, caller)
    }

    /// Whether a client may ask a module of this host for an operation.
    pub fn may_ask(&self, caller: &Caller, module: &str, operation: &str) -> bool {
        self.registry.may_ask(caller, module, operation)
    }

    /// Enables or disables a module id, whether a module of it is loaded or not; whether that changed anything.
    pub fn set_enabled(&self, id: &str, enable: bool) -> bool {
        self.registry.set_enabled(id, enable)
    }

    /// The ids of disabled modules.
    pub fn disabled(&self) -> Vec<String> {
        self.registry.disabled().into_iter().collect()
    }

    /// Takes over which modules are disabled: what the master tells a monitor when it registers. The state belongs to the id, whether a module of it
    /// is loaded or not.
    pub fn set_disabled(&self, ids: Vec<String>) {
        self.registry.set_disabled(ids.into_iter().collect());
    }

    /// What there is to say of every module id of this host, ordered by id.
    pub fn modules(&self) -> Vec<ModuleStatus> {
        self.registry.modules()
    }

    /// Files that were refused and have no version in force, with the reason.
    pub fn refused(&self) -> BTreeMap<String, String> {
        self.registry.refused()
    }

    /// Brings the metrics that are states up to date.
    pub fn observe(&self) {
        observe::observe(&self.registry, &mut self.observed.lock());
        metrics::gauge!("pomelo_guests_waiting").set(observe::count(self.installer.engine.waiting_guests()));
    }

    /// The modules of this host, as a handle that does not keep the host alive.
    pub fn neighbours(&self) -> Arc<dyn Neighbours> {
        self.registry.neighbours()
    }

    /// The versions in force on this host, as a handle that does not keep the host alive.
    pub fn modules_in_force(&self) -> Arc<dyn ModulesInForce> {
        self.registry.modules_in_force()
    }

    /// Waits for the calls under way, at most for the time given, and ends timers, feeds and lanes. Calls that come later are refused.
    pub async fn shut_down(&self, at_most: Duration) {
        let life = &self.registry.life;
        life.shutdown.cancel();
        self.turns.end();
        let modules = self.registry.table.read().modules();
        futures_util::future::join_all(modules.iter().map(|module| module.drain(at_most))).await;
        life.tasks.close();
        let _ = tokio::time::timeout(at_most, life.tasks.wait()).await;
    }

    /// Whether this host is shutting down.
    pub fn is_shutting_down(&self) -> bool {
        self.registry.life.shutdown.is_cancelled()
    }

    /// Waits until this host begins to shut down.
    pub async fn shutting_down(&self) {
        self.registry.life.shutdown.cancelled().await;
    }
}
