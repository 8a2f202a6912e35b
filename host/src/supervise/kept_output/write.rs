//! Takes lines and writes them in the background. Nobody waits for the disk: lines that it does not take are counted, and a line says how many. While it
//! takes none it is tried again once a second, so that the fault is over when the disk is well, and not only with the program's next line.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{FILE, files, line};
use crate::journal::{Journal, at};
use crate::supervise::KeptLine;
use crate::util::private;
use crate::util::rotating::{Overflow, Rotating};

/// Bytes that wait for the disk at most.
const WAITING: usize = 1 << 20;
/// How often a disk is tried that takes no lines.
const RETRY: Duration = Duration::from_secs(1);

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes after which a new file is begun. Default 16 MiB.
    pub max_bytes: u64,
    /// How many older files are kept. Default 4.
    pub keep: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { max_bytes: 16 << 20, keep: 4 }
    }
}

/// Why the output of a program cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file or its directory cannot be made or written.
    #[error("{} cannot be written: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: io::Error,
    },
    /// Another process writes to it.
    #[error("{} is written by another process (does this server run already?)", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
}

/// The file that the output of one program goes to. Clones are the same file.
#[derive(Clone)]
pub struct OutputFile(Arc<Shared>);

struct Shared {
    id: String,
    path: PathBuf,
    journal: Journal,
    state: Mutex<State>,
    /// Told when all that waited is written.
    idle: Condvar,
    last: u64,
    /// Locked, so that no other process renames the files.
    _directory: File,
}

struct State {
    /// Absent while the task writes to it.
    file: Option<Rotating>,
    pending: Vec<u8>,
    /// Lines in `pending`.
    lines: u64,
    /// Dropped lines that a line in `pending` tells of.
    told: u64,
    /// Dropped lines that no line tells of yet.
    dropped: u64,
    writing: bool,
    failing: bool,
    /// The last line that was dropped: its number, and when it came.
    missing: Option<KeptLine>,
}

impl OutputFile {
    /// Opens the file in a server's data directory; both are made if they are missing. `id` names the server in the log. `journal` is told when the disk
    /// takes no lines, and when it does again.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(directory: &Path, options: Options, id: &str, journal: Journal) -> Result<Self, OpenError> {
        let path = directory.join(FILE);
        let failed = |why| OpenError::File { path: path.clone(), why };
        private::directory(directory).map_err(failed)?;
        let locked = File::open(directory).map_err(failed)?;
        match locked.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(OpenError::InUse { path }),
            Err(std::fs::TryLockError::Error(why)) => return Err(failed(why)),
        }
        let file = Rotating::open(&path, options.max_bytes, options.keep, Overflow::Refuse).map_err(failed)?;
        let last = files::Files::open(directory).map_err(failed)?.last().map_err(failed)?;
        let state = State {
            file: Some(file),
            pending: Vec::new(),
            lines: 0,
            told: 0,
            dropped: 0,
            writing: false,
            failing: false,
            missing: None,
        };
        let (state, idle) = (Mutex::new(state), Condvar::new());
        let id = id.to_owned();
        Ok(OutputFile(Arc::new(Shared { id, path, journal, state, idle, last, _directory: locked })))
    }

    /// The number of the last line that was in the files when they were opened; 0 if there was none.
    pub(in crate::supervise) fn last(&self) -> u64 {
        self.0.last
    }

    /// Takes a line. Never waits for the disk.
    pub(in crate::supervise) fn take(&self, taken: &KeptLine) {
        let mut state = self.0.state.lock();
        if state.pending.len() + taken.text.len() > WAITING {
            state.drop_lines(1);
            state.missing = Some(KeptLine { text: String::new(), ..*taken });
            return;
        }
        // It has the number of the last line that is missing.
        state.tell_dropped(&KeptLine { n: taken.n - 1, text: String::new(), ..*taken });
        line::append(&mut state.pending, taken);
        state.lines += 1;
        // Where the lines are lost, this is the last of them.
        state.missing = Some(KeptLine { text: String::new(), ..*taken });
        drop(state);
        self.0.begin();
    }

    /// Waits until all lines are written, at most for that time. Returns whether they are. Blocks the thread.
    pub fn flush(&self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        let mut state = self.0.state.lock();
        while state.writing {
            if self.0.idle.wait_until(&mut state, until).timed_out() {
                return false;
            }
        }
        true
    }
}

impl State {
    /// Appends the line that says how many are missing, if any are.
    fn tell_dropped(&mut self, at: &KeptLine) {
        if self.dropped > 0 {
            let text = format!("pomelo: {} lines are missing here, because the disk did not take them", self.dropped);
            line::append(&mut self.pending, &KeptLine { error: false, host: true, text, ..*at });
            self.told += std::mem::take(&mut self.dropped);
        }
    }

    fn drop_lines(&mut self, lines: u64) {
        self.dropped += lines;
        metrics::counter!("pomelo_output_lines_dropped_total", "at" => "file").increment(lines);
    }
}

impl Shared {
    /// Writes what waits in the background, unless that is under way.
    fn begin(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state.lock().writing, true) {
            return;
        }
        let shared = self.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || shared.write())),
            Err(_) => shared.write(),
        }
    }

    /// Tries a disk again that took no lines. It is given the line that says how many are missing.
    fn try_again(self: &Arc<Self>) {
        {
            let mut state = self.state.lock();
            if !state.failing || !state.pending.is_empty() {
                return;
            }
            let Some(missing) = state.missing.clone() else { return };
            state.tell_dropped(&missing);
        }
        self.begin();
    }

    /// Writes what waits, until nothing waits.
    fn write(self: &Arc<Self>) {
        let mut state = self.state.lock();
        while !state.pending.is_empty() {
            let Some(mut file) = state.file.take() else { break };
            let pending = std::mem::take(&mut state.pending);
            let (lines, told) = (std::mem::take(&mut state.lines), std::mem::take(&mut state.told));
            let written = parking_lot::MutexGuard::unlocked(&mut state, || file.append(&pending));
            state.file = Some(file);
            let failed = written.is_err();
            if failed {
                state.drop_lines(lines);
                // These have been counted already.
                state.dropped += told;
            }
            state.failing = failed;
            let id = &self.id;
            match written {
                Ok(()) => self.journal.fault_over(at::OUTPUT, Some(id), &format!("the output of {id} is kept again")),
                Err(error) => {
                    let message = format!("the output of {id} is not kept: {}: {error}", self.path.display());
                    self.journal.fault(at::OUTPUT, Some(id), message);
                }
            }
        }
        state.writing = false;
        self.idle.notify_all();
        if state.failing
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let shared = Arc::downgrade(self);
            runtime.spawn(async move {
                tokio::time::sleep(RETRY).await;
                if let Some(shared) = shared.upgrade() {
                    shared.try_again();
                }
            });
        }
    }
}

impl std::fmt::Debug for OutputFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OutputFile").field(&self.0.path).finish()
    }
}
