//! The system's events about a directory, reduced to what matters here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{Config, ErrorKind, Event, EventHandler, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher};
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
        let watcher = match poll {
            true => polling(handler, directory),
            false => by_events(handler, directory, system),
        };
        let watcher = watcher.map_err(io::Error::other)?;
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

type Watching = notify::Result<Box<dyn Watcher + Send>>;

/// Looks at the directory again and again.
fn polling(handler: impl EventHandler, directory: &Path) -> Watching {
    let config = Config::default().with_poll_interval(Duration::from_secs(1)).with_compare_contents(true);
    let mut watcher = PollWatcher::new(handler, config)?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(Box::new(watcher))
}

/// Waits for the system's events.
fn system(handler: impl EventHandler, directory: &Path) -> Watching {
    let mut watcher = RecommendedWatcher::new(handler, Config::default())?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(Box::new(watcher))
}

/// Watches by `system`. If the system has no more of what that takes, looks at the directory again and again instead, because a host of many on one
/// machine must not fail for this.
fn by_events<H: EventHandler + Clone>(
    handler: H,
    directory: &Path,
    system: impl FnOnce(H, &Path) -> Watching,
) -> Watching {
    let error = match system(handler.clone(), directory) {
        Err(error) => error,
        watcher => return watcher,
    };
    let Some(limit) = exhausted(&error) else { return Err(error) };
    tracing::warn!(
        directory = %directory.display(), %error,
        "the directory is looked at once a second, because {limit} is reached; a larger one, set by `sysctl`, spares that"
    );
    polling(handler, directory)
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

    #[test]
    fn where_the_system_has_no_more_watches_the_directory_is_polled() {
        let dir = tempfile::tempdir().unwrap();
        let (sent, events) = std::sync::mpsc::channel();
        let full = |_, _: &Path| Err(notify::Error::io(Errno::EMFILE.into()));
        let watcher = by_events(sent, dir.path(), full).expect("it is polled");
        std::fs::write(dir.path().join("a.wasm"), "new").unwrap();
        let event = events.recv_timeout(Duration::from_secs(60)).expect("it is told").unwrap();
        assert_eq!(event.paths.iter().filter_map(|path| path.file_name()).next_back().unwrap(), "a.wasm");
        drop(watcher);
    }

    #[test]
    fn only_a_limit_that_is_reached_makes_it_poll() {
        let io = |errno: Errno| notify::Error::io(errno.into());
        assert!(exhausted(&io(Errno::EMFILE)).unwrap().contains("fs.inotify.max_user_instances"));
        assert_eq!(exhausted(&io(Errno::ENOSPC)), Some("fs.inotify.max_user_watches"));
        assert_eq!(exhausted(&notify::Error::new(ErrorKind::MaxFilesWatch)), Some("fs.inotify.max_user_watches"));
        assert_eq!(exhausted(&io(Errno::EACCES)), None);
        let gone = |_, _: &Path| Err(notify::Error::io(Errno::EACCES.into()));
        let (sent, _events) = std::sync::mpsc::channel();
        assert!(by_events(sent, Path::new("/"), gone).is_err());
    }
}
