//! The admin log: one line of JSON for each thing that a client asked of the master, allowed or refused, and for each login.
//!
//! Requests never wait for the disk: records go through a bounded queue to a thread of its own. If the disk cannot keep up, or fails, records are counted
//! instead of kept. The next line that can be written says how many are missing, because an audit trail must have no silent gaps. Strangers can cause
//! refused registrations as often as they like. Only some of them are kept, so that they cannot push the rest out; the others are counted in the same way.
//! Bodies, passwords and tokens are never part of a record. This part knows no socket and no module.

mod record;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use crate::util::TokenBucket;
use crate::util::rotating::{Overflow, Rotating};

pub use record::{Kind, Record};

/// Refused registrations that are kept if they come all at once.
const REFUSALS: u32 = 128;
/// The time after which one more is kept. With about a kilobyte a line, the default files hold more than a day of them.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);

/// Where the admin log is written, and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The file. Its directory is made if it is missing. Older files stand beside it as `FILE.1` (the youngest), `FILE.2`, ….
    pub file: PathBuf,
    /// Bytes after which a new file is begun. Default 16 MiB.
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
    queue: SyncSender<Message>,
    missing: Arc<Missing>,
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

enum Message {
    Record(Record),
    End,
}

impl AdminLog {
    /// Opens or creates the file, and starts the thread that writes to it.
    ///
    /// # Errors
    /// If the file or its directory cannot be made or written.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let failed = |why| OpenError { path: options.file.clone(), why };
        let file = Rotating::open(&options.file, options.max_bytes, options.keep, Overflow::Grow).map_err(failed)?;
        let (queue, records) = sync_channel(options.queue.max(1));
        let missing = Arc::new(Missing::default());
        let counted = missing.clone();
        let thread = std::thread::Builder::new()
            .name("admin-log".into())
            .spawn(move || write(&records, file, &counted))
            .map_err(failed)?;
        let refusals = Mutex::new(TokenBucket::new(REFUSALS, REFUSAL_INTERVAL, Instant::now()));
        Ok(AdminLog(Some(Writer { queue, missing, refusals, thread: Mutex::new(Some(thread)) })))
    }

    /// Takes a record. Never blocks.
    pub fn take(&self, record: Record) {
        record.trace(self.0.is_some());
        let Some(writer) = &self.0 else { return };
        if writer.queue.try_send(Message::Record(record)).is_err() {
            count_lost(&writer.missing.lost, 1);
        }
    }

    /// [`AdminLog::take`] for a registration that was refused. Only some are kept, the others are counted.
    pub fn take_refusal(&self, record: Record) {
        if let Some(writer) = &self.0
            && !writer.refusals.lock().take(Instant::now())
        {
            writer.missing.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.take(record);
    }

    /// Writes the records that wait, and ends. Later records are lost.
    pub fn close(&self) {
        let Some(writer) = &self.0 else { return };
        let Some(thread) = writer.thread.lock().take() else { return };
        // Waits for room in the queue, which the thread makes, because it runs until it is told to end.
        let _ = writer.queue.send(Message::End);
        if thread.join().is_err() {
            tracing::error!("the admin log's thread has ended before its time");
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

/// Writes records until it is told to end. Records that wait together are written together.
fn write(records: &Receiver<Message>, mut file: Rotating, missing: &Missing) {
    let (mut text, mut failing) = (Vec::new(), false);
    loop {
        let mut message = records.recv().unwrap_or(Message::End);
        let (mut lines, mut over) = (0, false);
        let mut told = missing.tell(&mut text);
        loop {
            match message {
                Message::Record(record) => {
                    record.line(&mut text);
                    lines += 1;
                }
                Message::End => over = true,
            }
            if over || text.len() >= BATCH {
                break;
            }
            match records.try_recv() {
                Ok(next) => message = next,
                Err(_) => break,
            }
        }
        if over {
            // No later line could say how many are missing.
            let rest = missing.tell(&mut text);
            told = (told.0 + rest.0, told.1 + rest.1);
        }
        match file.append(&text) {
            Ok(()) if failing => {
                failing = false;
                tracing::info!(file = %file.path().display(), "the admin log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                missing.lost.fetch_add(told.0, Ordering::Relaxed);
                missing.refused.fetch_add(told.1, Ordering::Relaxed);
                count_lost(&missing.lost, lines);
                if !failing {
                    failing = true;
                    tracing::error!(file = %file.path().display(), %error, "the admin log cannot be written; records are counted until it can be");
                }
            }
        }
        text.clear();
        if over {
            if let Err(error) = file.sync() {
                tracing::error!(file = %file.path().display(), %error, "the end of the admin log may be missing on disk");
            }
            return;
        }
    }
}

impl std::fmt::Debug for AdminLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AdminLog").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests;
