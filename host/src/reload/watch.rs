//! The system's events about a directory, reduced to what matters here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{Config, Event, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// A change in the directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A file appeared, changed or went.
    File {
        path: PathBuf,
        /// Whether its writer closed or renamed it, so that it is complete.
        closed: bool,
    },
    /// Events were lost: everything may have changed.
    Anything,
}

/// A watched directory.
pub(super) struct Changes {
    events: mpsc::Receiver<Change>,
    /// Set when a change did not fit into the channel.
    lost: Arc<AtomicBool>,
    /// Watches for as long as it is kept.
    _watcher: Box<dyn Watcher + Send>,
}

/// The most changes that wait to be taken.
const CAPACITY: usize = 1024;

impl Changes {
    pub fn watch(directory: &Path, poll: bool) -> io::Result<Self> {
        let (sender, events) = mpsc::channel(CAPACITY);
        let lost = Arc::new(AtomicBool::new(false));
        let handler = {
            let lost = lost.clone();
            move |event: notify::Result<Event>| {
                for change in reduce(event) {
                    if sender.try_send(change).is_err() {
                        // `next` then says that anything may have changed.
                        lost.store(true, Ordering::Release);
                    }
                }
            }
        };
        let mut watcher: Box<dyn Watcher + Send> = if poll {
            let config = Config::default().with_poll_interval(Duration::from_secs(1)).with_compare_contents(true);
            Box::new(PollWatcher::new(handler, config).map_err(io::Error::other)?)
        } else {
            Box::new(RecommendedWatcher::new(handler, Config::default()).map_err(io::Error::other)?)
        };
        watcher.watch(directory, RecursiveMode::NonRecursive).map_err(io::Error::other)?;
        Ok(Changes { events, lost, _watcher: watcher })
    }

    /// The next change.
    pub async fn next(&mut self) -> Change {
        if self.lost.swap(false, Ordering::AcqRel) {
            return Change::Anything;
        }
        match self.events.recv().await {
            Some(change) => change,
            // The watcher holds the other side for as long as this lives.
            None => std::future::pending().await,
        }
    }
}

fn reduce(event: notify::Result<Event>) -> Vec<Change> {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, "the modules' directory is no longer watched reliably");
            return vec![Change::Anything];
        }
    };
    if event.need_rescan() {
        return vec![Change::Anything];
    }
    let closed = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => true,
        // Reading a file is no change of it.
        EventKind::Access(_) => return Vec::new(),
        _ => false,
    };
    event.paths.into_iter().map(|path| Change::File { path, closed }).collect()
}
