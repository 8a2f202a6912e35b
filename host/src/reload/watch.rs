//! The system's events about a directory, reduced to what matters here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{Config, ErrorKind, Event, EventHandler, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::poll::Poll;

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
    _watching: Watching,
}

/// By which means a directory is watched.
enum Watching {
    /// The system tells of changes.
    Events(#[expect(dead_code, reason = "it is kept, not used")] Box<dyn Watcher + Send>),
    /// This process looks.
    Poll(#[expect(dead_code, reason = "it is kept, not used")] Poll),
}

/// The most changes that wait to be taken.
const CAPACITY: usize = 1024;

impl Changes {
    pub fn watch(directory: &Path, poll: bool) -> io::Result<Self> {
        let (sender, events) = mpsc::channel(CAPACITY);
        let lost = Arc::new(AtomicBool::new(false));
        let tell = {
            let lost = lost.clone();
            move |change| {
                if sender.try_send(change).is_err() {
                    // `next` then says that anything may have changed.
                    lost.store(true, Ordering::Release);
                }
            }
        };
        let watching = if poll { polling(directory, tell) } else { by_events(directory, tell, system) }?;
        Ok(Changes { events, lost, _watching: watching })
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

/// Looks at the directory again and again.
fn polling(directory: &Path, tell: impl Fn(Change) + Send + 'static) -> io::Result<Watching> {
    // Nothing says whether the writer has closed the file.
    Poll::begin(directory, move |path| tell(Change::File { path, closed: false })).map(Watching::Poll)
}

/// Waits for the system's events.
fn system(handler: impl EventHandler, directory: &Path) -> notify::Result<Box<dyn Watcher + Send>> {
    let mut watcher = RecommendedWatcher::new(handler, Config::default())?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(Box::new(watcher))
}

/// Watches by `system`. If the system has no more of what that takes, looks at the directory again and again instead, because a host of many on one
/// machine must not fail for this.
fn by_events<T: Fn(Change) + Clone + Send + 'static>(
    directory: &Path,
    tell: T,
    system: impl FnOnce(Box<dyn FnMut(notify::Result<Event>) + Send>, &Path) -> notify::Result<Box<dyn Watcher + Send>>,
) -> io::Result<Watching> {
    let told = tell.clone();
    let error = match system(Box::new(move |event| reduce(event).into_iter().for_each(&told)), directory) {
        Ok(watcher) => return Ok(Watching::Events(watcher)),
        Err(error) => error,
    };
    let Some(limit) = exhausted(&error) else { return Err(io::Error::other(error)) };
    tracing::warn!(
        directory = %directory.display(), %error,
        "the directory is looked at once a second, because {limit} is reached; a larger one, set by `sysctl`, spares that"
    );
    polling(directory, tell)
}

/// The limit that is reached, if the error says that one is.
fn exhausted(error: &notify::Error) -> Option<&'static str> {
    match &error.kind {
        ErrorKind::MaxFilesWatch => Some("fs.inotify.max_user_watches"),
        ErrorKind::Io(error) => match error.raw_os_error().map(Errno::from_raw)? {
            Errno::EMFILE => Some("fs.inotify.max_user_instances (or the process's limit of open files)"),
            Errno::ENFILE => Some("fs.file-max"),
            Errno::ENOSPC => Some("fs.inotify.max_user_watches"),
            _ => None,
        },
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_the_system_has_no_more_watches_the_directory_is_polled() {
        let dir = tempfile::tempdir().unwrap();
        let (sent, mut changes) = mpsc::unbounded_channel();
        let full = |_, _: &Path| Err(notify::Error::io(Errno::EMFILE.into()));
        let watching = by_events(dir.path(), move |change| drop(sent.send(change)), full).expect("it is polled");
        std::fs::write(dir.path().join("a.wasm"), "new").unwrap();
        let change =
            tokio::time::timeout(std::time::Duration::from_secs(60), changes.recv()).await.expect("it is told");
        assert_eq!(change, Some(Change::File { path: dir.path().join("a.wasm"), closed: false }));
        drop(watching);
    }

    #[test]
    fn only_a_limit_that_is_reached_makes_it_poll() {
        let io = |errno: Errno| notify::Error::io(errno.into());
        assert!(exhausted(&io(Errno::EMFILE)).unwrap().contains("fs.inotify.max_user_instances"));
        assert_eq!(exhausted(&io(Errno::ENOSPC)), Some("fs.inotify.max_user_watches"));
        assert_eq!(exhausted(&notify::Error::new(ErrorKind::MaxFilesWatch)), Some("fs.inotify.max_user_watches"));
        assert_eq!(exhausted(&io(Errno::EACCES)), None);
        let gone = |_, _: &Path| Err(notify::Error::io(Errno::EACCES.into()));
        assert!(by_events(Path::new("/"), |_| {}, gone).is_err());
    }
}
