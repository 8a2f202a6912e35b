//! What changes on disk while a host runs: here the modules' directory, in `credentials` users and tokens, in `certificates` what `[tls]` names, in `files` the rest of the configuration.
//!
//! A module file that appears is installed. One that changes replaces its earlier version. One that goes is removed.
//!
//! The folder is watched and not the files, because editors and package tools replace a file by renaming another. A file that was closed or renamed is
//! read at once. A file that only changes is read when its size and time have stayed the same for the settle time. The folder is looked at once a second
//! as well (`looks`), because not every change is told: what a link leads to, or the folder itself, may be replaced. This part does not know whether a
//! file is a good module: the console service decides. It only refuses what is no file, too large, or cannot be read.

mod certificates;
mod credentials;
mod files;
mod looks;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::console::{Console, FilesToInstall, InstallError, Origin, Source};
use crate::plugin::Grants;
use crate::util::regular::{self, Unread};
use crate::util::{Backoff, lasting};

use looks::{Look, MAX_FILES, Seen, look};
use watch::{Change, Changes};

pub use certificates::CertificateFiles;
pub use credentials::CredentialFiles;
pub use files::{ConfigDifference, ConfigFiles, Difference, InForce, Load};

/// How the directory is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a file must stay as it is, where nothing says that it was closed. Default 100 ms.
    pub settle: Duration,
    /// Whether the system's events are not waited for, so that changes are found by looking at the directory, once a second. Network file systems send no
    /// events, and a system has too few watches for many hosts.
    pub poll: bool,
    /// The largest file, bytes. Default 32 MiB.
    pub max_file: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { settle: Duration::from_millis(100), poll: false, max_file: 32 << 20 }
    }
}

/// How long a file that could not be read, or whose `start` failed, waits for another try: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The work of this part, where it has a fault.
const WHAT: &str = "what follows the modules' directory";

/// A directory of modules, for one or more console services.
pub struct Modules {
    directory: PathBuf,
    consoles: Vec<Console>,
    options: Options,
    changes: Changes,
    /// What each service says of files that are worth another try.
    to_install: Vec<FilesToInstall>,
    /// Cancelled when the files that were there at first have been installed, or refused.
    looked_at: CancellationToken,
    /// Those of them that may be installed at the next try, although nothing has changed.
    again: Vec<PathBuf>,
    read: ReadFiles,
}

/// What the files that were read looked like when they were. One that looks so at a look was not changed.
#[derive(Clone, Default)]
struct ReadFiles(Arc<Mutex<BTreeMap<PathBuf, Look>>>);

impl ReadFiles {
    /// Keeps what a file looks like, just before it is read; or that it is gone.
    fn set(&self, path: &Path, look: Option<Look>) {
        let mut files = self.0.lock();
        match look {
            Some(look) => drop(files.insert(path.to_owned(), look)),
            None => drop(files.remove(path)),
        }
    }

    fn is(&self, path: &Path, look: Option<&Look>) -> bool {
        self.0.lock().get(path) == look
    }
}

/// Why a directory cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("the modules' directory {} cannot be used: {why}", directory.display())]
pub struct WatchError {
    directory: PathBuf,
    why: io::Error,
}

impl Modules {
    /// Begins to watch a directory, and installs the modules that it holds, in the order of their names. A refused one is reported and left out.
    ///
    /// # Errors
    /// [`WatchError`].
    pub async fn open(directory: &Path, consoles: Vec<Console>, options: Options) -> Result<Self, WatchError> {
        let mut modules = Modules::watch(directory, consoles, options)?;
        modules.install_present().await;
        Ok(modules)
    }

    /// Begins to watch a directory, which is made if it is not there. The modules that it holds are installed by [`Modules::follow`], so that nobody waits
    /// for them who has other work.
    ///
    /// # Errors
    /// [`WatchError`].
    pub fn watch(directory: &Path, consoles: Vec<Console>, options: Options) -> Result<Self, WatchError> {
        let in_directory = |why| WatchError { directory: directory.to_owned(), why };
        std::fs::create_dir_all(directory).map_err(in_directory)?;
        // Links are not resolved, because one on the way may lead elsewhere later.
        let directory = std::path::absolute(directory).map_err(in_directory)?;
        // Watching comes first: what appears while the files are read is seen.
        let changes = Changes::watch(&directory, options.poll).map_err(in_directory)?;
        Ok(Modules {
            directory,
            to_install: consoles.iter().map(Console::files_to_install).collect(),
            consoles,
            options,
            changes,
            looked_at: CancellationToken::new(),
            again: Vec::new(),
            read: ReadFiles::default(),
        })
    }

    /// Installs the modules that the directory holds, one after another, because of two files with the same id the first one has it. Their `start` is not
    /// waited for.
    async fn install_present(&mut self) {
        for path in self.files() {
            // What goes wrong with one file keeps no other from being installed.
            let outcome =
                lasting::step(WHAT, install(&path, self.options.max_file, &self.read, &self.consoles, true)).await;
            if matches!(outcome, Some(Outcome::Again)) {
                self.again.push(path);
            }
        }
        self.looked_at.cancel();
    }

    /// What is cancelled when the files that were there at first have been installed, or refused.
    pub fn looked_at(&self) -> CancellationToken {
        self.looked_at.clone()
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Follows the directory until `stop`. What it holds is installed first, unless that was done before.
    pub async fn follow(mut self, stop: CancellationToken) {
        if !self.looked_at.is_cancelled() && stop.run_until_cancelled(self.install_present()).await.is_none() {
            return;
        }
        // At most one task for each file.
        let mut under_way = HashMap::new();
        while stop.run_until_cancelled(lasting::step(WHAT, self.step(&mut under_way))).await.is_some() {}
        for task in under_way.into_values() {
            task.abort();
        }
    }

    /// Waits for a change, and begins what it asks for.
    async fn step(&mut self, under_way: &mut HashMap<PathBuf, JoinHandle<()>>) {
        if !self.again.is_empty() {
            let again = std::mem::take(&mut self.again);
            return self.begin(again.into_iter().map(|path| (path, true)).collect(), under_way);
        }
        let changed = tokio::select! {
            change = self.changes.next() => match change {
                Change::File { path, closed } => vec![(path, closed)],
                // The system has told it before, and it was read meanwhile.
                Change::Seen(Seen::File(path, look)) if self.read.is(&path, look.as_ref()) => Vec::new(),
                Change::Seen(Seen::File(path, _)) => vec![(path, false)],
                // Its files are told one by one.
                Change::Seen(Seen::Replaced) => Vec::new(),
                Change::Seen(Seen::Trouble(why)) => {
                    self.trouble(why);
                    Vec::new()
                }
                Change::Anything => self.known_and_present().into_iter().map(|path| (path, false)).collect(),
            },
            // Settings or other files have changed: what was refused may be accepted now, or a file has other ids.
            names = files_to_install(&mut self.to_install) => {
                let mut again = self.files();
                again.retain(|path| name_of(path).is_some_and(|name| names.contains(&name)));
                again.into_iter().map(|path| (path, true)).collect()
            }
        };
        self.begin(changed, under_way);
    }

    /// Begins what files ask for that have changed, and of which it is told whether they were closed.
    fn begin(&self, changed: Vec<(PathBuf, bool)>, under_way: &mut HashMap<PathBuf, JoinHandle<()>>) {
        under_way.retain(|_, task| !task.is_finished());
        for (path, closed) in changed.into_iter().filter(|(path, _)| is_module(path) && self.admits(path)) {
            // The file has changed again: what is still under way for its earlier content ends. The version in force goes on.
            if let Some(task) = under_way.remove(&path) {
                task.abort();
            }
            let settle = if closed { Duration::ZERO } else { self.options.settle };
            let file = File { path: path.clone(), read: self.read.clone(), options: self.options.clone() };
            let task = file.settled(settle, self.consoles.clone());
            let task = tokio::spawn(async move {
                // Whether it has panicked was told.
                let _ = lasting::step(WHAT, task).await;
            });
            under_way.insert(path, task);
        }
    }

    /// The files that are there, in the order of their names: those of the last look, and those that were read since.
    fn files(&self) -> Vec<PathBuf> {
        let mut files: BTreeSet<PathBuf> = self.changes.present().all().into_iter().collect();
        files.extend(self.read.0.lock().keys().cloned());
        files.into_iter().collect()
    }

    /// Whether there is room for a file. That there is none is told by the next look.
    fn admits(&self, path: &Path) -> bool {
        let (read, present) = (self.read.0.lock(), self.changes.present());
        read.contains_key(path) || present.contains(path) || read.len().max(present.len()) < MAX_FILES
    }

    /// Tells what is wrong with the directory as a whole, or that it is over.
    fn trouble(&self, why: Option<String>) {
        // No file's name has a slash.
        let name = format!("{}/", self.directory.display());
        for console in &self.consoles {
            match &why {
                Some(why) => console.refuse(&name, why.clone()),
                None => console.accept(&name),
            }
        }
    }

    /// The files that are there, and those that modules in force came from.
    fn known_and_present(&self) -> Vec<PathBuf> {
        let mut all = self.files();
        for status in self.consoles.iter().flat_map(Console::modules) {
            let path = PathBuf::from(status.source);
            if path.parent() == Some(&self.directory) {
                all.push(path);
            }
        }
        all.sort();
        all.dedup();
        all
    }
}

/// Waits until a console service has files that are worth another try. The other services pass over those that they have in force.
async fn files_to_install(told: &mut [FilesToInstall]) -> BTreeSet<String> {
    if told.is_empty() {
        return std::future::pending().await;
    }
    let waiting = told.iter_mut().map(|told| Box::pin(told.next()));
    futures_util::future::select_all(waiting).await.0
}

/// Whether a path could be a module: `NAME.wasm`, not hidden.
fn is_module(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("wasm"))
        && path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
}

fn name_of(path: &Path) -> Option<String> {
    path.file_stem().and_then(OsStr::to_str).map(str::to_owned)
}

/// A file under whose name something has changed.
struct File {
    path: PathBuf,
    read: ReadFiles,
    options: Options,
}

impl File {
    /// Waits until the file stays as it is, then installs or removes it.
    async fn settled(self, settle: Duration, consoles: Vec<Console>) {
        let File { path, read, options } = self;
        let mut seen = look_at(&path).await;
        if !settle.is_zero() {
            loop {
                tokio::time::sleep(settle).await;
                let now = look_at(&path).await;
                if now == seen {
                    break;
                }
                seen = now;
            }
        }
        if seen.is_none() {
            // Some tools remove a file before they write the next one.
            tokio::time::sleep(options.settle).await;
            // A directory that is not there says nothing of its files.
            let directory = path.parent().unwrap_or(&path).to_owned();
            let listed = tokio::fs::metadata(directory).await.is_ok_and(|directory| directory.is_dir());
            if look_at(&path).await.is_none() {
                if listed {
                    read.set(&path, None);
                    let name = shown_name(&path);
                    futures_util::future::join_all(consoles.iter().map(|console| console.remove(&name, &path))).await;
                }
                return;
            }
        }
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            if install(&path, options.max_file, &read, &consoles, false).await == Outcome::Done {
                return;
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }
}

/// What became of a file.
#[derive(PartialEq)]
enum Outcome {
    /// The next try may succeed, although nothing has changed: its `start` failed, or the disk or the compiler did.
    Again,
    /// It is in force, or refused for good.
    Done,
}

/// Looks at a file on a thread that may wait.
async fn look_at(path: &Path) -> Option<Look> {
    let path = path.to_owned();
    // The thread only ends with the runtime.
    tokio::task::spawn_blocking(move || look(&path)).await.ok().flatten()
}

/// A file's name without its ending, for those who read it.
fn shown_name(path: &Path) -> String {
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Installs a file everywhere. It may have been `present` before the hosts.
async fn install(path: &Path, max_file: u64, read: &ReadFiles, consoles: &[Console], present: bool) -> Outcome {
    read.set(path, look_at(path).await);
    let refuse = async |why: String| {
        for console in consoles {
            console.refuse(&shown_name(path), why.clone());
            if present {
                console.fall_back(&shown_name(path), path).await;
            }
        }
    };
    let Some(name) = name_of(path) else {
        refuse("a module's file name must be Unicode".into()).await;
        return Outcome::Done;
    };
    let reading = path.to_owned();
    let bytes: Arc<[u8]> = match tokio::task::spawn_blocking(move || regular::read(&reading, max_file)).await {
        Ok(Ok(bytes)) => bytes.into(),
        Ok(Err(Unread::Io(error))) => {
            refuse(Unread::Io(error).to_string()).await;
            return Outcome::Again;
        }
        Ok(Err(why)) => {
            let hint = if matches!(why, Unread::Large { .. }) {
                ": raise `file_mib` under [modules] in pomelo.toml"
            } else {
                ""
            };
            refuse(format!("{why}{hint}")).await;
            return Outcome::Done;
        }
        // Only at the end of the runtime.
        Err(_) => return Outcome::Done,
    };
    let source = Source { name, origin: Origin::File(path.to_owned()), bytes, grants: Grants::default() };
    let installed = consoles.iter().map(async |console| match present {
        true => console.install_present(source.clone()).await,
        false => console.install(source.clone()).await,
    });
    let outcomes = futures_util::future::join_all(installed).await;
    match outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(InstallError::is_passing)) {
        true => Outcome::Again,
        false => Outcome::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn why_a_directory_cannot_be_used_is_said_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = Modules::open(file.path(), Vec::new(), Options::default()).await.err().expect("it is a file");
        let why = refused.why.to_string();
        let said = format!("{:#}", anyhow::Error::from(refused));
        assert_eq!(said.matches(&why).count(), 1, "{said}");
    }
}
