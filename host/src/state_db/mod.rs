//! The durable keys of modules' stores, and the master's events, which outlive the process. They are in a database file ([redb](https://docs.rs/redb)) in the host's data
//! directory.
//!
//! Changes are gathered in memory, the last value of each key only, and written by a thread of their own, one transaction after another. The
//! changes that wait are therefore never more than what the stores hold, and the stores are limited. This part knows no module.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use redb::{Database, ReadableDatabase, TableDefinition};

use crate::journal::Archive;
use crate::plugin::Keeper;

/// How long a write that failed waits for another try.
const RETRY: Duration = Duration::from_secs(1);
/// How long [`StateDb::flush`] waits for the changes that are not written yet.
const FLUSH: Duration = Duration::from_secs(5);
/// Name of the database in the data directory.
const FILE: &str = "state.redb";
/// (host role and scope, key) → value.
const ENTRIES: TableDefinition<(&str, &str), &str> = TableDefinition::new("entries");

/// A database file, which no other process can open. Changes that wait are written when the last handle is dropped; [`StateDb::flush`] waits until
/// they are written.
pub struct StateDb(Arc<StateFile>);

/// The open database, with the thread that writes to it.
struct StateFile {
    path: PathBuf,
    database: Arc<Database>,
    queue: Arc<WriteQueue>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// The changes that wait to be written.
#[derive(Default)]
struct WriteQueue {
    changes: Mutex<PendingWrites>,
    /// Told when there are changes, and when the database is closed.
    more: Condvar,
    /// Told at the end of every transaction.
    written: Condvar,
}

#[derive(Default)]
struct PendingWrites {
    entries: BTreeMap<(String, String), Option<Arc<str>>>,
    /// Whether a transaction is under way.
    writing: bool,
    /// Whether the last handle was dropped.
    closed: bool,
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
    /// The file is in use by another process, or damaged.
    #[error("{} cannot be opened: {why}{hint}", path.display(), hint = hint(why))]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: Box<redb::Error>,
    },
}

impl StateError {
    /// Whether another process has the database open.
    pub fn is_in_use(&self) -> bool {
        matches!(self, StateError::Open { why, .. } if matches!(**why, redb::Error::DatabaseAlreadyOpen))
    }
}

fn hint(error: &redb::Error) -> &'static str {
    match error {
        redb::Error::DatabaseAlreadyOpen => " (does this server run already?)",
        redb::Error::Corrupted(_) => " (move the file away to begin without what modules had stored)",
        _ => "",
    }
}

impl StateDb {
    /// Opens the database of a data directory; both are made if they are not there.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(directory: &Path) -> Result<Self, StateError> {
        std::fs::create_dir_all(directory).map_err(|why| StateError::Directory { path: directory.to_owned(), why })?;
        let path = directory.join(FILE);
        let opened = |why: redb::Error| StateError::Open { path: path.clone(), why: Box::new(why) };
        let database = Database::create(&path).map_err(|error| opened(error.into()))?;
        let queue = Arc::new(WriteQueue::default());
        let database = Arc::new(database);
        // The table must exist before it is read.
        write(&database, &BTreeMap::new()).map_err(opened)?;
        let writer = {
            let (database, queue, path) = (database.clone(), queue.clone(), path.clone());
            std::thread::Builder::new().name("state".into()).spawn(move || queue.write_all(&database, &path))
        };
        let writer = writer.map_err(|error| opened(redb::Error::Io(error)))?;
        Ok(StateDb(Arc::new(StateFile { path, database, queue, writer: Mutex::new(Some(writer)) })))
    }

    /// Waits until all changes so far are on the disk, at most five seconds. Returns whether they are. Blocks the thread, usually for some
    /// milliseconds.
    pub fn flush(&self) -> bool {
        let (queue, until) = (&self.0.queue, Instant::now() + FLUSH);
        let mut changes = queue.changes.lock();
        while changes.writing || !changes.entries.is_empty() {
            if queue.written.wait_until(&mut changes, until).timed_out() {
                return false;
            }
        }
        true
    }

    /// Keeps the events of a journal.
    pub fn events(&self) -> Arc<dyn Archive> {
        Arc::new(Events(HostKeeper { file: self.0.clone(), host: "journal".into() }))
    }

    /// Keeps the keys of one host of this process. Hosts are separate, because the master and its own monitor have scopes of the same names.
    pub fn of(&self, host: &str) -> Arc<dyn Keeper> {
        Arc::new(HostKeeper { file: self.0.clone(), host: host.to_owned() })
    }
}

/// The part of the database that belongs to one host.
struct HostKeeper {
    file: Arc<StateFile>,
    host: String,
}

impl HostKeeper {
    fn scope(&self, scope: &str) -> String {
        format!("{}/{scope}", self.host)
    }
}

impl Keeper for HostKeeper {
    fn load(&self, scope: &str) -> Vec<(String, String)> {
        let scope = self.scope(scope);
        read(&self.file.database, &scope).unwrap_or_else(|error| {
            tracing::error!(file = %self.file.path.display(), %error, "what a module had stored cannot be read");
            Vec::new()
        })
    }

    fn put(&self, scope: &str, key: &str, value: Option<Arc<str>>) {
        let queue = &self.file.queue;
        queue.changes.lock().entries.insert((self.scope(scope), key.to_owned()), value);
        queue.more.notify_one();
    }
}

/// The part of the database that has the journal's events.
struct Events(HostKeeper);

impl Archive for Events {
    fn load(&self) -> Vec<(u64, String)> {
        let entries = self.0.load("events").into_iter();
        entries.filter_map(|(number, event)| Some((number.parse().ok()?, event))).collect()
    }

    fn put(&self, number: u64, event: Option<String>) {
        self.0.put("events", &format!("{number:020}"), event.map(Into::into));
    }

    fn reserved(&self) -> Option<u64> {
        self.0.load("numbers").into_iter().find_map(|(_, number)| number.parse().ok())
    }

    fn reserve(&self, number: u64) {
        self.0.put("numbers", "reserved", Some(number.to_string().into()));
    }
}

impl WriteQueue {
    /// Writes the changes that wait. Returns when the database is closed and no change waits.
    fn write_all(&self, database: &Database, path: &Path) {
        loop {
            let entries = {
                let mut changes = self.changes.lock();
                while changes.entries.is_empty() {
                    if changes.closed {
                        return;
                    }
                    self.more.wait(&mut changes);
                }
                changes.writing = true;
                std::mem::take(&mut changes.entries)
            };
            let written = write(database, &entries);
            let mut changes = self.changes.lock();
            changes.writing = false;
            if let Err(error) = written {
                metrics::counter!("pomelo_state_errors_total").increment(1);
                tracing::error!(file = %path.display(), %error, "what modules store cannot be written; it will be tried again");
                // A change that came meanwhile is newer than the one that could not be written.
                for (row, value) in entries {
                    changes.entries.entry(row).or_insert(value);
                }
                if changes.closed {
                    self.written.notify_all();
                    return;
                }
                self.more.wait_for(&mut changes, RETRY);
            }
            self.written.notify_all();
        }
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        self.queue.changes.lock().closed = true;
        self.queue.more.notify_one();
        if let Some(writer) = self.writer.lock().take() {
            // A writer that panicked has nothing more to write.
            let _ = writer.join();
        }
    }
}

fn read(database: &Database, scope: &str) -> Result<Vec<(String, String)>, redb::Error> {
    let table = database.begin_read()?.open_table(ENTRIES)?;
    let mut found = Vec::new();
    for entry in table.range((scope, "")..)? {
        let (row, value) = entry?;
        let (of, key) = row.value();
        if of != scope {
            break;
        }
        found.push((key.to_owned(), value.value().to_owned()));
    }
    Ok(found)
}

fn write(database: &Database, entries: &BTreeMap<(String, String), Option<Arc<str>>>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(ENTRIES)?;
        for ((scope, key), value) in entries {
            match value {
                Some(value) => drop(table.insert((scope.as_str(), key.as_str()), &**value)?),
                None => drop(table.remove((scope.as_str(), key.as_str()))?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m4_what_was_put_is_there_when_the_file_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDb::open(directory.path()).unwrap();
        let (master, monitor) = (state.of("master"), state.of("monitor"));
        master.put("m", "a", Some("1".into()));
        master.put("m", "a", Some("2".into()));
        master.put("m", "b", Some("gone".into()));
        master.put("m", "b", None);
        monitor.put("m", "a", Some("another".into()));
        master.put("m2", "c", Some("3".into()));
        let refused = StateDb::open(directory.path()).err().expect("one process at a time");
        let StateError::Open { why, .. } = &refused else { panic!("{refused}") };
        let why = why.to_string();
        let said = format!("{:#}", anyhow::Error::from(refused));
        assert_eq!(said.matches(&why).count(), 1, "{said}");
        drop((state, master, monitor));

        let state = StateDb::open(directory.path()).unwrap();
        let master = state.of("master");
        assert_eq!(master.load("m"), [("a".into(), "2".into())]);
        master.put("m", "d", Some("4".into()));
        assert!(state.flush());
        assert_eq!(
            master.load("m"),
            [("a".into(), "2".into()), ("d".into(), "4".into())],
            "what was flushed is in the file"
        );
        assert_eq!(state.of("monitor").load("m"), [("a".into(), "another".into())]);
        assert_eq!(state.of("master").load("none"), []);
    }
}
