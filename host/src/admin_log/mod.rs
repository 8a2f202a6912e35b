//! The admin log: one line of JSON for each thing that a client asked of the master, allowed or refused, and for each login.
//!
//! Requests never wait for the disk: records go through a bounded queue (`queue`) to a thread of its own. If the disk cannot keep up, or fails for longer
//! than some records can wait, records are counted instead of kept. The next line that can be written says how many are missing, because an audit trail
//! must have no silent gaps. Strangers can cause refused registrations as often as they like. Only some of them are kept, so that they cannot push the rest
//! out; the others are counted in the same way.
//!
//! What was changed and what was refused must not be pushed out by what somebody looked at. So looks stand in a file of their own beside the other
//! ([`Options::looks`]), and whatever a user can cause without end is folded (`fold`) before it takes a place in the queue.
//! Bodies, passwords and tokens are never part of a record. This part knows no socket and no module.

mod fold;
mod queue;
mod record;

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use crate::journal::{Journal, at};
use crate::util::TokenBucket;
use crate::util::rotating::{Overflow, Rotating};
use fold::{Folds, Written};
use queue::Queue;

pub use record::{Kind, Record};

/// Refused registrations that are kept if they come all at once.
const REFUSALS: u32 = 128;
/// The time after which one more is kept. With about a kilobyte a line, the default files hold more than two weeks of them.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(10);
/// How often folded records are looked through for those that are to be told.
const LOOKED_THROUGH: Duration = Duration::from_secs(1);

/// Where the admin log is written, and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The file. Its directory is made if it is missing. Older files stand beside it as `FILE.1` (the youngest), `FILE.2`, ….
    pub file: PathBuf,
    /// Bytes after which a new file is begun, for the file of looks as well. Default 16 MiB.
    pub max_bytes: u64,
    /// How many older files are kept. Default 8.
    pub keep: u32,
    /// Records that may wait to be written. Default 8192.
    pub queue: usize,
}

impl Options {
    /// The defaults, with that file.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Options { file: file.into(), max_bytes: 16 * 1024 * 1024, keep: 8, queue: 8192 }
    }

    /// The file of what clients only looked at, beside the other: `admin-looks.log` beside `admin.log`. As many older ones of the same size are kept of it.
    pub fn looks(&self) -> PathBuf {
        let mut name = self.file.file_stem().map(OsStr::to_owned).unwrap_or_default();
        name.push("-looks");
        if let Some(extension) = self.file.extension() {
            name.push(".");
            name.push(extension);
        }
        self.file.with_file_name(name)
    }
}

/// Why the admin log cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("the admin log {} cannot be written: {why} (`[admin_log] file` in pomelo.toml names another place)", path.display())]
pub struct OpenError {
    path: PathBuf,
    why: io::Error,
}

/// The admin log. The default one writes only to the program's log.
#[derive(Default)]
pub struct AdminLog(Option<Writer>);

struct Writer {
    queue: Arc<Queue>,
    missing: Arc<Missing>,
    folds: Arc<Mutex<Folds>>,
    refusals: Mutex<TokenBucket>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Counts of records that are not kept, until a line says so.
#[derive(Default)]
struct Missing {
    /// Records that the disk could not take.
    lost: AtomicU64,
    /// Refused registrations that are not kept.
    refused: AtomicU64,
}

impl Missing {
    /// Appends the lines that say how many are missing, and counts from 0 again.
    fn tell(&self, text: &mut Vec<u8>) -> (u64, u64) {
        let told = (self.lost.swap(0, Ordering::Relaxed), self.refused.swap(0, Ordering::Relaxed));
        for (kind, records) in [("lost", told.0), ("refused", told.1)] {
            if records > 0 {
                record::missing_line(text, SystemTime::now(), kind, records);
            }
        }
        told
    }
}

impl AdminLog {
    /// Opens or creates the file, and starts the thread that writes to it. `journal` is told when the disk takes no records, and when it does again.
    ///
    /// # Errors
    /// If the file or its directory cannot be made or written.
    pub fn open(options: Options, journal: &Journal) -> Result<Self, OpenError> {
        let failed = |path: &PathBuf, why| OpenError { path: path.clone(), why };
        let open = |path: &PathBuf, at| {
            let file = Rotating::open(path, options.max_bytes, options.keep, Overflow::Grow);
            file.map(|file| Output::new(file, journal.clone(), at)).map_err(|why| failed(path, why))
        };
        let (changes, looks) = (open(&options.file, at::ADMIN_LOG)?, open(&options.looks(), at::ADMIN_LOOKS)?);
        let queue = Arc::new(Queue::new(options.queue));
        let (missing, folds) = (Arc::new(Missing::default()), Arc::new(Mutex::new(Folds::default())));
        let thread = Thread { queue: queue.clone(), changes, looks, missing: missing.clone(), folds: folds.clone() };
        let thread = std::thread::Builder::new().name("admin-log".into()).spawn(move || thread.run());
        let thread = Mutex::new(Some(thread.map_err(|why| failed(&options.file, why))?));
        let refusals = Mutex::new(TokenBucket::new(REFUSALS, REFUSAL_INTERVAL, Instant::now()));
        Ok(AdminLog(Some(Writer { queue, missing, folds, refusals, thread })))
    }

    /// Takes a record. Never blocks.
    pub fn take(&self, record: Record) {
        record.trace(self.0.is_some());
        let Some(writer) = &self.0 else { return };
        let written = writer.folds.lock().take(record, Instant::now());
        written.into_iter().for_each(|written| writer.queue(written));
    }

    /// [`AdminLog::take`] for a registration that was refused. Only some are kept, the others are counted.
    pub fn take_refusal(&self, record: Record) {
        if let Some(writer) = &self.0
            && !writer.refusals.lock().take(Instant::now())
        {
            writer.missing.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        record.trace(self.0.is_some());
        if let Some(writer) = &self.0 {
            writer.queue(Written::alone(record));
        }
    }

    /// Writes the records that wait, and ends. Later records are lost.
    pub fn close(&self) {
        let Some(writer) = &self.0 else { return };
        let Some(thread) = writer.thread.lock().take() else { return };
        writer.queue.end();
        if thread.join().is_err() {
            tracing::error!("the admin log's thread has ended before its time");
        }
    }
}

impl Writer {
    fn queue(&self, written: Written) {
        if let Err(records) = self.queue.push(written) {
            count_lost(&self.missing.lost, records);
        }
    }
}

impl Drop for AdminLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn count_lost(lost: &AtomicU64, records: u64) {
    lost.fetch_add(records, Ordering::Relaxed);
    metrics::counter!("pomelo_admin_log_lost_total").increment(records);
}

/// Bytes that are gathered before they are written.
const BATCH: usize = 64 * 1024;

/// A file, and the lines that are gathered for it.
struct Output {
    file: Rotating,
    text: Vec<u8>,
    /// Records of which the lines tell.
    records: u64,
    /// Missing records of which the lines tell.
    told: (u64, u64),
    journal: Journal,
    at: &'static str,
}

/// What is in lines that could not be written.
struct Lost {
    records: u64,
    told: (u64, u64),
}

impl Output {
    fn new(file: Rotating, journal: Journal, at: &'static str) -> Self {
        Output { file, text: Vec::new(), records: 0, told: (0, 0), journal, at }
    }

    fn push(&mut self, written: &Written) {
        written.record.line(written.folded, &mut self.text);
        self.records += written.records();
    }

    /// Writes the lines. Where the disk does not take them they wait for the next attempt, as long as they are few. Returns how many records are lost
    /// because they could not be written and are too many.
    fn write(&mut self) -> Result<(), Lost> {
        if self.text.is_empty() {
            return Ok(());
        }
        let lost = match self.file.append(&self.text) {
            Ok(()) => {
                let over = format!("the admin log {} is written again", self.file.path().display());
                self.journal.fault_over(self.at, None, &over);
                None
            }
            Err(error) => {
                let file = self.file.path().display();
                let message =
                    format!("the admin log {file} cannot be written, and records are counted until it can be: {error}");
                self.journal.fault(self.at, None, message);
                if self.text.len() < BATCH {
                    return Ok(());
                }
                Some(Lost { records: self.records, told: self.told })
            }
        };
        self.text.clear();
        (self.records, self.told) = (0, (0, 0));
        lost.map_or(Ok(()), Err)
    }

    fn sync(&mut self) {
        if let Err(error) = self.file.sync() {
            tracing::error!(file = %self.file.path().display(), %error, "the end of the admin log may be missing on disk");
        }
    }
}

/// Writes records until it is told to end.
struct Thread {
    queue: Arc<Queue>,
    /// What was changed or refused, and logins.
    changes: Output,
    looks: Output,
    missing: Arc<Missing>,
    folds: Arc<Mutex<Folds>>,
}

impl Thread {
    /// Records that wait together are written together.
    fn run(mut self) {
        let (mut looked, mut batch) = (Instant::now(), Vec::new());
        loop {
            let over = self.queue.take(&mut batch, LOOKED_THROUGH);
            self.tell_missing();
            for written in batch.drain(..) {
                self.push(&written);
                if self.changes.text.len().max(self.looks.text.len()) >= BATCH {
                    self.write();
                }
            }
            let now = Instant::now();
            if over || now.duration_since(looked) >= LOOKED_THROUGH {
                looked = now;
                let folded = if over { self.folds.lock().all() } else { self.folds.lock().due(now) };
                folded.iter().for_each(|written| self.push(written));
            }
            if over {
                // No later line could say how many are missing.
                self.tell_missing();
            }
            self.write();
            if over {
                // Nobody tries again.
                let rest = self.changes.records + self.looks.records;
                if rest > 0 {
                    count_lost(&self.missing.lost, rest);
                }
                self.changes.sync();
                self.looks.sync();
                return;
            }
        }
    }

    fn write(&mut self) {
        for output in [&mut self.changes, &mut self.looks] {
            if let Err(Lost { records, told }) = output.write() {
                self.missing.lost.fetch_add(told.0, Ordering::Relaxed);
                self.missing.refused.fetch_add(told.1, Ordering::Relaxed);
                count_lost(&self.missing.lost, records);
            }
        }
    }

    fn tell_missing(&mut self) {
        let (lost, refused) = self.missing.tell(&mut self.changes.text);
        self.changes.told = (self.changes.told.0 + lost, self.changes.told.1 + refused);
    }

    fn push(&mut self, written: &Written) {
        if written.is_look() { self.looks.push(written) } else { self.changes.push(written) }
    }
}

impl std::fmt::Debug for AdminLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AdminLog").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests;
