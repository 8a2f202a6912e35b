//! The changes that wait to be written, and the thread that writes them.
//!
//! A transaction that the disk does not take is tried again: once a second, and at once when somebody waits for it. The database library uses no file
//! again that had a fault, so that it is opened anew for that. Changes wait meanwhile, the last value of each key only.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use redb::{Database, ReadableDatabase};

use super::file::{self, Trouble, guarded};
use super::rows::Rows;
use super::{ENTRIES, Unwritten};
use crate::journal::{Journal, at};

/// How long a write that failed waits for another try.
const RETRY: Duration = Duration::from_secs(1);
/// How long [`Writes::flush`] waits for the disk.
const FLUSH: Duration = Duration::from_secs(5);

/// (scope, key)
pub(super) type Row = (String, String);
/// The last values of keys; absent for keys that are to be removed.
type Changes = BTreeMap<Row, Option<Arc<str>>>;

/// The database, and what waits to be written to it.
pub(super) struct Writes {
    pub path: PathBuf,
    /// Absent while it cannot be opened.
    database: RwLock<Option<Arc<Database>>>,
    pending: Mutex<Pending>,
    /// Told when there are changes, when somebody waits for them, and when the database is closed.
    more: Condvar,
    /// Told at the end of every attempt.
    written: Condvar,
    /// Where faults are told, once there is one.
    journal: OnceLock<Journal>,
}

#[derive(Default)]
struct Pending {
    changes: Changes,
    /// What the file has. What it lacks need not be removed.
    rows: Rows,
    /// What is being written, while an attempt is under way.
    under_way: Option<Arc<Changes>>,
    /// Attempts that were begun, and those that are over.
    begun: u64,
    over: u64,
    /// Why the last attempt failed.
    failure: Option<String>,
    /// Whether somebody waits, so that the next attempt is made at once.
    urgent: bool,
    /// Whether the last handle was dropped.
    closed: bool,
}

impl Pending {
    fn insert(&mut self, row: Row, value: Option<Arc<str>>) {
        let being_written = || self.under_way.as_ref().is_some_and(|changes| changes.contains_key(&row));
        if value.is_none() && !self.rows.may_have(&row.0, &row.1) && !being_written() {
            self.changes.remove(&row);
        } else {
            self.changes.insert(row, value);
        }
    }

    fn is_written(&self) -> bool {
        self.under_way.is_none() && self.changes.is_empty()
    }

    /// Puts back what was not written. A change that came meanwhile is newer.
    fn put_back(&mut self, changes: &Changes) {
        for (row, value) in changes {
            if !self.changes.contains_key(row) {
                self.changes.insert(row.clone(), value.clone());
            }
        }
        let rows = &self.rows;
        self.changes.retain(|(scope, key), value| value.is_some() || rows.may_have(scope, key));
    }
}

impl Writes {
    pub fn new(path: PathBuf, database: Database, rows: Rows) -> Self {
        Writes {
            path,
            database: RwLock::new(Some(Arc::new(database))),
            pending: Mutex::new(Pending { rows, ..Pending::default() }),
            more: Condvar::new(),
            written: Condvar::new(),
            journal: OnceLock::new(),
        }
    }

    /// From now on faults are told there, also one that has begun.
    pub fn tell(&self, journal: &Journal) {
        // The first one stays.
        let _ = self.journal.set(journal.clone());
        let failure = self.pending.lock().failure.clone();
        if let Some(failure) = failure {
            self.fault(&failure);
        }
    }

    pub fn put(&self, row: Row, value: Option<Arc<str>>) {
        let mut pending = self.pending.lock();
        pending.insert(row, value);
        // A removal may have taken back the last change.
        let is_written = pending.is_written();
        drop(pending);
        if is_written {
            self.written.notify_all();
        } else {
            self.more.notify_one();
        }
    }

    /// Closes the file, as after a fault.
    #[cfg(test)]
    pub fn forget(&self) {
        self.close();
    }

    /// Whether the last attempt has failed.
    #[cfg(test)]
    pub fn is_failing(&self) -> bool {
        self.pending.lock().failure.is_some()
    }

    /// How many changes wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.pending.lock().changes.len()
    }

    /// What is kept of a scope on the disk.
    pub fn read(&self, scope: &str) -> Result<Vec<(String, String)>, Trouble> {
        let read = |database: &Database| guarded(|| read(database, scope));
        let first = match self.database() {
            Some(database) => read(&database),
            None => Err(Trouble::Gone),
        };
        match first {
            Ok(found) => Ok(found),
            // It may have had a fault that is over.
            Err(_) => {
                self.close();
                let database = self.opened()?;
                read(&database)
            }
        }
    }

    /// Waits until all changes so far are on the disk, or an attempt to write them has failed, at most five seconds.
    pub fn flush(&self) -> Result<(), Unwritten> {
        let unwritten = |why: String| Unwritten { path: self.path.clone(), why };
        let until = Instant::now() + FLUSH;
        let mut pending = self.pending.lock();
        if pending.is_written() {
            return Ok(());
        }
        // An attempt that is under way may have been begun before the last changes came.
        let mine = pending.begun + 1;
        pending.urgent = true;
        self.more.notify_one();
        loop {
            if pending.is_written() {
                return Ok(());
            }
            if pending.over >= mine {
                return pending.failure.clone().map_or(Ok(()), |why| Err(unwritten(why)));
            }
            if self.written.wait_until(&mut pending, until).timed_out() {
                let why = pending.failure.clone();
                return Err(unwritten(why.unwrap_or_else(|| format!("the disk has not answered for {FLUSH:?}"))));
            }
        }
    }

    /// No more changes come.
    pub fn end(&self) {
        self.pending.lock().closed = true;
        self.more.notify_one();
    }

    /// Writes the changes that wait. Returns when the database is closed and no change waits, or the disk does not take the last ones.
    pub fn write_all(&self) {
        let mut pending = self.pending.lock();
        loop {
            while pending.changes.is_empty() {
                if pending.closed {
                    return;
                }
                // Whether a fault is over is found by writing, also where what was to be written is not wanted any more.
                if pending.failure.is_none() {
                    self.more.wait(&mut pending);
                } else if self.more.wait_for(&mut pending, RETRY).timed_out() {
                    break;
                }
            }
            let changes = Arc::new(std::mem::take(&mut pending.changes));
            pending.under_way = Some(changes.clone());
            pending.urgent = false;
            pending.begun += 1;
            let outcome = parking_lot::MutexGuard::unlocked(&mut pending, || {
                let outcome = self.attempt(&changes);
                match &outcome {
                    Ok(()) => self.over(),
                    Err(trouble) => self.fault(&trouble.to_string()),
                }
                outcome
            });
            pending.under_way = None;
            pending.over += 1;
            pending.failure = outcome.err().map(|trouble| trouble.to_string());
            if pending.failure.is_some() {
                pending.put_back(&changes);
                self.written.notify_all();
                if pending.closed {
                    return;
                }
                // Further changes do not hurry it: each attempt opens the file anew.
                let again = Instant::now() + RETRY;
                while !pending.urgent && !pending.closed {
                    if self.more.wait_until(&mut pending, again).timed_out() {
                        break;
                    }
                }
            } else {
                self.written.notify_all();
            }
        }
    }

    fn attempt(&self, changes: &Changes) -> Result<(), Trouble> {
        let database = self.opened()?;
        // Also where the attempt fails: the file may have them then.
        self.rows(changes, |rows, (scope, key), value| {
            if value.is_some() {
                rows.add(scope, key)
            }
        });
        let written = guarded(|| write(&database, changes));
        if written.is_ok() {
            self.rows(changes, |rows, (scope, key), value| {
                if value.is_none() {
                    rows.remove(scope, key)
                }
            });
        } else {
            metrics::counter!("pomelo_state_errors_total").increment(1);
            // What was written before is found when it is opened anew.
            drop(database);
            self.close();
        }
        written
    }

    fn rows(&self, changes: &Changes, mut each: impl FnMut(&mut Rows, &Row, &Option<Arc<str>>)) {
        let mut pending = self.pending.lock();
        changes.iter().for_each(|(row, value)| each(&mut pending.rows, row, value));
    }

    fn database(&self) -> Option<Arc<Database>> {
        self.database.read().clone()
    }

    /// The database, opened again where it was closed after a fault.
    fn opened(&self) -> Result<Arc<Database>, Trouble> {
        if let Some(database) = self.database() {
            return Ok(database);
        }
        let mut database = self.database.write();
        if let Some(database) = &*database {
            return Ok(database.clone());
        }
        let (opened, rows) = file::open_again(&self.path)?;
        let opened = Arc::new(opened);
        *database = Some(opened.clone());
        self.pending.lock().rows = rows;
        Ok(opened)
    }

    fn close(&self) {
        let closed = self.database.write().take();
        // Closing writes too. What comes of it does not matter, because it is opened anew.
        let _ = guarded(|| {
            drop(closed);
            Ok(())
        });
    }

    fn fault(&self, why: &str) {
        let message = format!("{} cannot be written, and what is to be kept waits: {why}", self.path.display());
        match self.journal.get() {
            Some(journal) => journal.fault(at::STATE, None, message),
            None => tracing::error!("{message}"),
        }
    }

    fn over(&self) {
        if let Some(journal) = self.journal.get() {
            journal.fault_over(at::STATE, None, &format!("{} is written again", self.path.display()));
        }
    }
}

fn read(database: &Database, scope: &str) -> Result<Vec<(String, String)>, Trouble> {
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

fn write(database: &Database, changes: &Changes) -> Result<(), Trouble> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(ENTRIES)?;
        for ((scope, key), value) in changes {
            match value {
                Some(value) => drop(table.insert((scope.as_str(), key.as_str()), &**value)?),
                None => drop(table.remove((scope.as_str(), key.as_str()))?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}
