//! Versions of files that have been good: kept once they have outlived their first seconds, put in force again where the file that is there at the start is not,
//! and put back into the modules' directory when an operator goes back to one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::install::Installer;
use super::registry::{FileRefusal, Registry};
use super::source::{Origin, Source};
use super::table::Unit;
use crate::failure::{Failure, code};
use crate::journal::{Event, kind};
use crate::plugin::{Caller, Grants};
use crate::util::regular;
use crate::versions::{State, Version, Versions, digest_of, short};
use crate::wire::{sentence, shown};

/// How long a version that has not been started waits at least before it is looked at again.
const LOOK: Duration = Duration::from_secs(1);
/// How many versions are tried one after another.
const TRIED: usize = 3;

/// What is kept of a module's file, as `history` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// The file.
    pub source: PathBuf,
    /// Sha-256 of the version in force, in hexadecimal.
    pub in_force: String,
    /// The versions that are kept on this host, the newest first. The one in force is among them once it has outlived its first seconds.
    pub versions: Vec<Version>,
}

/// What `rollback` has done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolledBack {
    /// The file that was written. Whoever follows its directory takes it over.
    pub source: PathBuf,
    /// Sha-256 of what it is now.
    pub digest: String,
    /// Sha-256 of what it was; absent where it could not be read.
    pub from: Option<String>,
}

/// Does something with files on a thread that may wait.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let ended = |_| Failure::new(code::NOT_AVAILABLE, "this host is shutting down");
    tokio::task::spawn_blocking(work).await.map_err(ended)
}

impl Installer {
    /// Keeps a version that stays in force without a trap, once it has been started. One that was there at the start of this host, and traps at once, gives
    /// way to one that was good before, unless it is good itself.
    pub(super) async fn outlive(self, unit: Arc<Unit>) {
        let Origin::File(path) = &unit.origin else { return };
        let module = unit.module();
        let mut wait = self.probation();
        loop {
            tokio::select! {
                () = self.registry.life.shutdown.cancelled() => return,
                () = module.is_faulty() => {
                    let digest = &module.inspection().digest;
                    let was_present = unit.was_present.load(Ordering::Acquire);
                    if was_present && self.is_in_force(&unit) && !self.is(&unit.name, digest, State::Good).await {
                        let why = "it trapped right after this host had started".to_owned();
                        self.replace_faulty(&unit, path, why).await;
                    }
                    return;
                }
                () = tokio::time::sleep(wait) => {}
            }
            if !self.is_in_force(&unit) {
                return;
            }
            if self.is_ready(&unit) {
                break;
            }
            wait = wait.max(LOOK);
        }
        // Not all hosts of a machine at once, because one is enough.
        tokio::time::sleep(self.probation().mul_f64(rand::random::<f64>() / 2.0)).await;
        if !self.is_in_force(&unit) {
            return;
        }
        let Some(versions) = self.registry.settings().versions.clone() else { return };
        let (name, digest) = (unit.name.clone(), module.inspection().digest.clone());
        if blocking(move || versions.is_newest(&name, &digest)).await == Ok(false) {
            self.keep(&unit, unit.since, State::Good).await;
        }
        // It need not be held in memory once it can be read again.
        if self.is(&unit.name, &module.inspection().digest, State::Good).await {
            unit.bytes.lock().take();
        }
    }

    /// Keeps what is known of a version of a file, if that is the file that is there.
    pub(super) async fn keep(&self, unit: &Arc<Unit>, since: SystemTime, state: State) {
        let (Some(versions), Origin::File(path)) = (self.registry.settings().versions.clone(), &unit.origin) else {
            return;
        };
        let (path, unit) = (path.clone(), unit.clone());
        let keeping = blocking(move || {
            // A newer file may be there by now, or the version is one that was kept.
            match regular::read(&path, versions.max_file()) {
                Ok(bytes) if digest_of(&bytes) == unit.module().inspection().digest => {
                    versions.keep(&unit.name, &bytes, since, state)
                }
                _ => Ok(()),
            }
        });
        if let Ok(Err(error)) = keeping.await {
            tracing::warn!(%error, "a version of a module is not kept");
        }
    }

    /// Whether that is known of a version of a file.
    pub(super) async fn is(&self, name: &str, digest: &str, state: State) -> bool {
        let Some(versions) = self.registry.settings().versions.clone() else { return false };
        let (name, digest) = (name.to_owned(), digest.to_owned());
        let is = move |version: &Version| version.state == state && version.digest == digest;
        blocking(move || versions.of(&name).is_ok_and(|kept| kept.iter().any(is))).await.unwrap_or(false)
    }

    fn is_in_force(&self, unit: &Arc<Unit>) -> bool {
        self.registry.table.read().units.get(&unit.name).is_some_and(|now| Arc::ptr_eq(now, unit))
    }

    /// Whether `start` has succeeded under each id that a file has here. It may have none, on a master that hands it on for example.
    fn is_ready(&self, unit: &Arc<Unit>) -> bool {
        let table = self.registry.table.read();
        let mut slots = table.slots.values().filter(|slot| Arc::ptr_eq(&slot.unit, unit));
        slots.all(|slot| slot.ready.load(Ordering::Acquire))
    }

    async fn replace_faulty(&self, unit: &Arc<Unit>, path: &Path, why: String) {
        let digest = unit.module().inspection().digest.clone();
        self.keep(unit, SystemTime::now(), State::TakenBack).await;
        if self.fall_back(&unit.name, path, Some(&digest)).await {
            let refusal = FileRefusal { why, digest: Some(digest), ..FileRefusal::default() };
            self.registry.refuse(&unit.name, refusal);
        }
    }

    /// Puts the newest good version of a file in force that is kept, because the one that is there is refused, whose digest is `but`. Whether there is one.
    /// Why the file was refused stays known.
    pub async fn fall_back(&self, name: &str, path: &Path, but: Option<&str>) -> bool {
        let Some(versions) = self.registry.settings().versions.clone() else { return false };
        let (of, asked) = (versions.clone(), name.to_owned());
        let kept = match blocking(move || of.of(&asked)).await {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) => {
                tracing::warn!(file = name, %error, "the versions that are kept cannot be read");
                return false;
            }
            Err(_) => return false,
        };
        let good =
            kept.into_iter().filter(|version| version.state == State::Good && Some(version.digest.as_str()) != but);
        for version in good.take(TRIED) {
            match self.put_back(&versions, name, path, &version).await {
                Ok(()) => {
                    let digest = short(&version.digest);
                    let message = format!(
                        "{name}.wasm: version {digest}, which was good before, is in force in place of the file, which is refused"
                    );
                    tracing::warn!("{message}");
                    metrics::counter!("pomelo_modules_fallen_back_total").increment(1);
                    self.registry.record(Event::new(kind::ROLLBACK, message).module(name));
                    return true;
                }
                Err(why) => {
                    let digest = short(&version.digest);
                    tracing::warn!(
                        file = name,
                        digest,
                        why,
                        "a version that is kept cannot take the place of the file"
                    );
                }
            }
        }
        false
    }

    async fn put_back(&self, versions: &Versions, name: &str, path: &Path, version: &Version) -> Result<(), String> {
        let (from, asked, wanted) = (versions.clone(), name.to_owned(), version.clone());
        let read = blocking(move || from.read(&asked, &wanted)).await.map_err(|failure| failure.message)?;
        let bytes = read.map_err(|error| error.to_string())?;
        let origin = Origin::File(path.to_owned());
        let source = Source { name: name.to_owned(), origin, bytes, grants: Grants::default() };
        let refusal = self.registry.whole_refusal(name);
        let outcome = self.try_install(source, false).await;
        if outcome.is_ok()
            && let Some(unit) = self.registry.table.read().units.get(name)
        {
            unit.is_kept.store(true, Ordering::Release);
        }
        // What is in force now is not the file.
        if let (Some(refusal), None) = (refusal, self.registry.refusal(name)) {
            self.registry.refuse(name, refusal);
        }
        outcome.map(drop).map_err(|error| sentence(&error))
    }
}

impl Registry {
    /// The file of a module id that is in force, its path, and where its versions are kept.
    fn kept_of(&self, command: &str, id: &str) -> Result<(Arc<Unit>, PathBuf, Versions), Failure> {
        let none = |why: String| Failure::new(code::NOT_AVAILABLE, why);
        let unit = self.unit(id)?;
        let Origin::File(path) = &unit.origin else {
            return Err(none(format!("{command}: {id} is built in; its version is that of the program")));
        };
        let versions = self.settings().versions.clone();
        let versions = versions.ok_or_else(|| {
            none(format!(
                "{command}: this host keeps no versions: it has no data directory, or `keep` under [modules] is 0"
            ))
        })?;
        Ok((unit.clone(), path.clone(), versions))
    }

    /// What is kept of the file of a module id.
    ///
    /// # Errors
    /// `forbidden`, `unknown-module`, `not-available`.
    pub async fn history(&self, id: &str, caller: &Caller) -> Result<History, Failure> {
        self.permits("history", caller)?;
        let (unit, source, versions) = self.kept_of("history", id)?;
        let in_force = unit.module().inspection().digest.clone();
        let kept = blocking(move || versions.of(&unit.name)).await?;
        let versions = kept.map_err(|error| Failure::new(code::FAILED, error.to_string()))?;
        Ok(History { source, in_force, versions })
    }

    /// Puts a version of a file that is kept back into the modules' directory, in the place of `bad`, which has turned out not to be good.
    ///
    /// # Errors
    /// As [`Registry::roll_back`]; also where the file is another one by now.
    pub async fn put_back(&self, name: &str, bad: &str, digest: &str) -> Result<RolledBack, Failure> {
        let unit = self.table.read().units.get(name).cloned();
        let path = unit.and_then(|unit| match &unit.origin {
            Origin::File(path) => Some(path.clone()),
            Origin::BuiltIn => None,
        });
        let none = |why: &str| Failure::new(code::NOT_AVAILABLE, why);
        let path = path.ok_or_else(|| none("there is no file of that name"))?;
        let versions = self.settings().versions.clone().ok_or_else(|| none("this host keeps no versions"))?;
        let (name, bad, digest) = (name.to_owned(), bad.to_owned(), digest.to_owned());
        let putting = move || {
            let now = regular::read(&path, versions.max_file()).map(|bytes| digest_of(&bytes));
            match now.is_ok_and(|now| now == bad) {
                true => go_back(&versions, &name, &path, None, Some(&digest), Some(&bad)),
                false => Err(another(&path)),
            }
        };
        blocking(putting).await?
    }

    /// Puts a version that is kept back into the modules' directory: the one whose digest begins with `digest`, or the newest good one that is neither the
    /// file nor in force. What the file was is kept. Whoever follows the directory takes the file over, so that this does not wait for that.
    ///
    /// # Errors
    /// `forbidden`, `unknown-module`, `not-available`; `not-found` or `bad-message` where there is no such version, or more than one; `failed` where the disk
    /// does not do as it should.
    pub async fn roll_back(&self, id: &str, digest: Option<&str>, caller: &Caller) -> Result<RolledBack, Failure> {
        self.permits("rollback", caller)?;
        let (unit, path, versions) = self.kept_of("rollback", id)?;
        // One that is in the place of a file may become the file.
        let is_file = !unit.is_kept.load(Ordering::Acquire);
        let in_force = is_file.then(|| unit.module().inspection().digest.clone());
        let (name, wanted) = (unit.name.clone(), digest.map(str::to_owned));
        let rolled_back =
            blocking(move || go_back(&versions, &name, &path, in_force.as_deref(), wanted.as_deref(), None)).await??;
        let user = caller.user.as_deref();
        let from = rolled_back.from.as_deref().map_or("a file that cannot be read", short);
        let (name, to) = (&unit.name, short(&rolled_back.digest));
        let message = format!("{name}.wasm is version {to} again; it was {from}");
        tracing::warn!(by = user, "{message}");
        self.record_of_client(Event::new(kind::ROLLBACK, message).module(id).client(user));
        Ok(rolled_back)
    }
}

/// The failure of going back from a version that is not the file any more.
fn another(path: &Path) -> Failure {
    Failure::new(code::NOT_FOUND, format!("{} is another file by now", path.display()))
}

/// Puts a version back: the one that is `wanted`, or the newest good one that is neither the file nor `in_force`. Only from the version `bad`, where that is given.
fn go_back(
    versions: &Versions,
    name: &str,
    path: &Path,
    in_force: Option<&str>,
    wanted: Option<&str>,
    bad: Option<&str>,
) -> Result<RolledBack, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(code::FAILED, error.to_string());
    let of_path = |error: &dyn std::fmt::Display| failed(&format!("{}: {error}", path.display()));
    let kept = versions.of(name).map_err(|error| failed(&error))?;
    let now = regular::read(path, versions.max_file()).ok();
    let from = now.as_ref().map(|bytes| digest_of(bytes));
    let matching: Vec<&Version> = match wanted {
        Some(digest) => kept.iter().filter(|version| version.digest.starts_with(digest)).collect(),
        None => {
            let other = |version: &&Version| {
                version.state == State::Good
                    && Some(version.digest.as_str()) != in_force
                    && Some(&version.digest) != from.as_ref()
            };
            kept.iter().find(other).into_iter().collect()
        }
    };
    let version = match (matching.as_slice(), wanted) {
        ([version], _) => *version,
        ([], None) => {
            return Err(Failure::new(code::NOT_FOUND, format!("no other good version of {name}.wasm is kept")));
        }
        ([], Some(digest)) => {
            let digest = shown(digest);
            let message = format!("no version of {name}.wasm is kept whose digest begins with {digest}: see `history`");
            return Err(Failure::new(code::NOT_FOUND, message));
        }
        (several, _) => {
            let message = format!("the digests of {} versions begin so: give more of it", several.len());
            return Err(Failure::new(code::BAD_MESSAGE, message));
        }
    };
    if Some(&version.digest) == from.as_ref() {
        let message = format!("{} is that version", path.display());
        return Err(Failure::new(code::BAD_MESSAGE, message));
    }
    let bytes = versions.read(name, version).map_err(|error| failed(&error))?;
    // Beside the file, and with a name that nobody takes for a module, so that it takes the file's place in one step.
    let directory = path.parent().unwrap_or(Path::new("."));
    let written = || -> std::io::Result<NamedTempFile> {
        let mut file = NamedTempFile::with_prefix_in(".rollback-", directory)?;
        file.write_all(&bytes)?;
        let permissions = std::fs::metadata(path).map(|found| found.permissions());
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(permissions.unwrap_or(readable))?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    let written = written().map_err(|error| of_path(&error))?;
    // What can fail for the directory's sake has been done: the version that is there stays a good one where this goes no further.
    if let Some(now) = &now {
        versions.keep(name, now, SystemTime::now(), State::RolledBack).map_err(|error| failed(&error))?;
    }
    // Somebody may have put another file there while these were written.
    let is = || regular::read(path, versions.max_file()).map(|bytes| digest_of(&bytes));
    if bad.is_some_and(|bad| !is().is_ok_and(|is| is == bad)) {
        return Err(another(path));
    }
    written.persist(path).map_err(|error| of_path(&error.error))?;
    Ok(RolledBack { source: path.to_owned(), digest: version.digest.clone(), from })
}
