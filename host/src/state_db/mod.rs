//! The durable keys of modules' stores, and the master's events, which outlive the process. They are in a database file ([redb](https://docs.rs/redb)) in the host's data
//! directory.
//!
//! Changes are gathered in memory, the last value of each key only, and written by a thread of their own, one transaction after another (`queue`). A key
//! that the file does not have need not be removed from it (`rows`). The changes that wait are therefore never more than what the stores hold and the file
//! has, and the stores are limited. A fault of the disk is told while it lasts, and over when the disk takes changes again. The file is looked at as a
//! whole when it is opened (`file`), so that a damaged one is found then. This part knows no module.

mod file;
mod queue;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use redb::TableDefinition;

use file::Trouble;
pub use file::{Damaged, MAX_SET_ASIDE};
use queue::Writes;

use crate::failure::{Failure, code};
use crate::journal::{Archive, Journal};
use crate::plugin::Keeper;
use crate::util::private;

/// Name of the database in the data directory.
const FILE: &str = "state.redb";
/// (host role and scope, key) → value.
const ENTRIES: TableDefinition<(&str, &str), &str> = TableDefinition::new("entries");

/// A database file, which no other process can open. Changes that wait are written when the last handle is dropped; [`StateDb::flush`] waits until
/// they are written.
pub struct StateDb {
    open: Arc<OpenState>,
    set_aside: Option<PathBuf>,
}

/// The open database, with the thread that writes to it.
struct OpenState {
    writes: Arc<Writes>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory cannot be made.
    #[error("the data directory {} cannot be made: {why}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        why: std::io::Error,
    },
    /// The file is in use by another process, or the disk does not give it.
    #[error("{} cannot be opened: {why}{hint}", path.display(), hint = hint(why))]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: Box<redb::Error>,
    },
    /// The file is not what was written.
    #[error(
        "{} is damaged ({why}): put a backup in its place, or move it away to begin without what this host had kept{}",
        path.display(),
        aside.as_ref().map_or_else(String::new, |why| format!(" (it cannot be set aside: {why})"))
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// Why it was not set aside, where it was to be.
        aside: Option<std::io::Error>,
    },
}

/// Changes are not on the disk. They wait, and are written when the disk takes them.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be written: {why}", path.display())]
pub struct Unwritten {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub why: String,
}

impl StateError {
    /// Whether another process has the database open.
    pub fn is_in_use(&self) -> bool {
        matches!(self, StateError::Open { why, .. } if matches!(**why, redb::Error::DatabaseAlreadyOpen))
    }

    fn of(path: &Path, trouble: Trouble) -> Self {
        let path = path.to_owned();
        match trouble {
            Trouble::Redb(why) => StateError::Open { path, why },
            Trouble::Damaged(why) => StateError::Damaged { path, why, aside: None },
            // Somebody has removed it in the moment in which another process had made it.
            Trouble::Gone => {
                let why = Box::new(redb::Error::Io(std::io::ErrorKind::NotFound.into()));
                StateError::Open { path, why }
            }
        }
    }
}

fn hint(error: &redb::Error) -> &'static str {
    match error {
        redb::Error::DatabaseAlreadyOpen => " (does this server run already?)",
        _ => "",
    }
}

impl StateDb {
    /// Opens the database of a data directory; both are made if they are not there, for this user alone. `damaged` says what is done with a file that is
    /// not what was written.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(directory: &Path, damaged: Damaged) -> Result<Self, StateError> {
        private::directory(directory).map_err(|why| StateError::Directory { path: directory.to_owned(), why })?;
        let path = directory.join(FILE);
        let failed = |trouble| StateError::of(&path, trouble);
        let mut set_aside = None;
        let (database, rows) = match file::open(&path) {
            Err(Trouble::Damaged(why)) if damaged == Damaged::SetAside => {
                match file::set_aside(&path) {
                    Ok(aside) => set_aside = Some(aside),
                    Err(aside) => {
                        return Err(StateError::Damaged { path: path.clone(), why, aside: Some(aside) });
                    }
                }
                file::open(&path).map_err(failed)?
            }
            opened => opened.map_err(failed)?,
        };
        let writes = Arc::new(Writes::new(path.clone(), database, rows));
        let writer = {
            let writes = writes.clone();
            std::thread::Builder::new().name("state".into()).spawn(move || writes.write_all())
        };
        let writer = writer.map_err(|error| failed(redb::Error::Io(error).into()))?;
        Ok(StateDb { open: Arc::new(OpenState { writes, writer: Mutex::new(Some(writer)) }), set_aside })
    }

    /// Where the damaged file is that stood in its place, if there was one.
    pub fn set_aside(&self) -> Option<&Path> {
        self.set_aside.as_deref()
    }

    /// From now on faults of the disk are told in that journal.
    pub fn tell(&self, journal: &Journal) {
        self.open.writes.tell(journal);
    }

    /// Waits until all changes so far are on the disk, at most five seconds. Blocks the thread, usually for some milliseconds. While the disk takes
    /// nothing, it fails as soon as one more attempt has failed.
    ///
    /// # Errors
    /// Where the changes are not on the disk. They wait for it.
    pub fn flush(&self) -> Result<(), Unwritten> {
        self.open.writes.flush()
    }

    /// Keeps the events of a journal.
    pub fn events(&self) -> Arc<dyn Archive> {
        Arc::new(Events(HostKeeper { open: self.open.clone(), host: "journal".into() }))
    }

    /// Keeps the keys of one host of this process. Hosts are separate, because the master and its own monitor have scopes of the same names.
    pub fn of(&self, host: &str) -> Arc<dyn Keeper> {
        Arc::new(HostKeeper { open: self.open.clone(), host: host.to_owned() })
    }
}

/// The part of the database that belongs to one host.
struct HostKeeper {
    open: Arc<OpenState>,
    host: String,
}

impl HostKeeper {
    fn scope(&self, scope: &str) -> String {
        format!("{}/{scope}", self.host)
    }
}

impl Keeper for HostKeeper {
    fn load(&self, scope: &str) -> Result<Vec<(String, String)>, Failure> {
        let writes = &self.open.writes;
        writes.read(&self.scope(scope)).map_err(|trouble| {
            let what = format!("what was kept in {} cannot be read: {trouble}", writes.path.display());
            Failure::new(code::FAILED, what)
        })
    }

    fn put(&self, scope: &str, key: &str, value: Option<Arc<str>>) {
        self.open.writes.put((self.scope(scope), key.to_owned()), value);
    }
}

/// The part of the database that has the journal's events.
struct Events(HostKeeper);

impl Events {
    /// What is there. The file was read as a whole a moment ago, so that an error is one of the disk that has come since.
    fn load(&self, scope: &str) -> Vec<(String, String)> {
        self.0.load(scope).unwrap_or_else(|failure| {
            tracing::error!(%failure, "earlier events are not shown");
            Vec::new()
        })
    }
}

impl Archive for Events {
    fn load(&self) -> Vec<(u64, String)> {
        let entries = self.load("events").into_iter();
        entries.filter_map(|(number, event)| Some((number.parse().ok()?, event))).collect()
    }

    fn put(&self, number: u64, event: Option<String>) {
        self.0.put("events", &format!("{number:020}"), event.map(Into::into));
    }

    fn reserved(&self) -> Option<u64> {
        self.load("numbers").into_iter().find_map(|(_, number)| number.parse().ok())
    }

    fn reserve(&self, number: u64) {
        self.0.put("numbers", "reserved", Some(number.to_string().into()));
    }
}

impl Drop for OpenState {
    fn drop(&mut self) {
        self.writes.end();
        if let Some(writer) = self.writer.lock().take() {
            // A writer that panicked has nothing more to write.
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests;
