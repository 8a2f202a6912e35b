//! What changes in a directory of modules: the system's events, and looks at it again and again (`looks`), reduced to what matters here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{Config, ErrorKind, Event, EventHandler, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::looks::{Looks, Present, Seen};

/// A change in the directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A file appeared, changed or went, as the system says.
    File {
        path: PathBuf,
        /// Whether its writer closed or renamed it, so that it is complete.
        closed: bool,
    },
    /// What a look has found.
    Seen(Seen),
    /// Events were lost: everything may have changed.
    Anything,
}

/// A watched directory.
pub(super) struct Changes {
    directory: PathBuf,
    events: mpsc::Receiver<Change>,
    tell: Tell,
    /// The system's events; absent where they are not to be used, or not to be had.
    watcher: Option<Box<dyn Watcher + Send>>,
    /// Whether the system's events are to be used.
    by_events: bool,
    looks: Looks,
}

/// Where changes go.
#[derive(Clone)]
struct Tell {
    events: mpsc::Sender<Change>,
    /// Set when a change did not fit into the channel.
    lost: Arc<AtomicBool>,
}

impl Tell {
    fn tell(&self, change: Change) {
        if self.events.try_send(change).is_err() {
            // `next` then says that anything may have changed.
            self.lost.store(true, Ordering::Release);
        }
    }
}

/// The most changes that wait to be taken.
const CAPACITY: usize = 1024;

impl Changes {
    /// Begins to watch a directory: by looks, and unless `poll` is set by the system's events as well.
    pub fn watch(directory: &Path, poll: bool) -> io::Result<Self> {
        let (sender, events) = mpsc::channel(CAPACITY);
        let tell = Tell { events: sender, lost: Arc::default() };
        // The system's events come first, so that no change falls between the two.
        let watcher = if poll { None } else { by_events(directory, &tell, system)? };
        let looking = tell.clone();
        let looks = Looks::begin(directory, move |seen| looking.tell(Change::Seen(seen)))?;
        Ok(Changes { directory: directory.to_owned(), events, tell, watcher, by_events: !poll, looks })
    }

    /// The files that were there at the last look.
    pub fn present(&self) -> &Present {
        self.looks.present()
    }

    /// The next change.
    pub async fn next(&mut self) -> Change {
        if self.tell.lost.swap(false, Ordering::AcqRel) {
            self.watch_again();
            return Change::Anything;
        }
        match self.events.recv().await {
            Some(change) => {
                if change == Change::Seen(Seen::Replaced) {
                    self.watch_again();
                }
                change
            }
            // This has a sender itself.
            None => std::future::pending().await,
        }
    }

    /// Watches what has the directory's name now.
    fn watch_again(&mut self) {
        if !self.by_events {
            return;
        }
        self.watcher = by_events(&self.directory, &self.tell, system).unwrap_or_else(|error| {
            tracing::warn!(directory = %self.directory.display(), %error, "the directory is looked at once a second only");
            None
        });
    }
}

/// Waits for the system's events.
fn system(handler: impl EventHandler, directory: &Path) -> notify::Result<Box<dyn Watcher + Send>> {
    let mut watcher = RecommendedWatcher::new(handler, Config::default())?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(Box::new(watcher))
}

/// Watches by `system`. None if the system has no more of what that takes: the looks have to do then, because a host of many on one machine must not
/// fail for this.
fn by_events(
    directory: &Path,
    tell: &Tell,
    system: impl FnOnce(Box<dyn FnMut(notify::Result<Event>) + Send>, &Path) -> notify::Result<Box<dyn Watcher + Send>>,
) -> io::Result<Option<Box<dyn Watcher + Send>>> {
    let told = tell.clone();
    let handler = Box::new(move |event| reduce(event).into_iter().for_each(|change| told.tell(change)));
    let error = match system(handler, directory) {
        Ok(watcher) => return Ok(Some(watcher)),
        Err(error) => error,
    };
    let Some(limit) = exhausted(&error) else { return Err(io::Error::other(error)) };
    tracing::warn!(
        directory = %directory.display(), %error,
        "the directory is looked at once a second only, because {limit} is reached; a larger one, set by `sysctl`, makes it faster"
    );
    Ok(None)
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

    fn nowhere() -> Tell {
        Tell { events: mpsc::channel(1).0, lost: Arc::default() }
    }

    #[test]
    fn where_the_system_has_no_more_watches_the_looks_have_to_do() {
        let full = |_, _: &Path| Err(notify::Error::io(Errno::EMFILE.into()));
        assert!(by_events(Path::new("/"), &nowhere(), full).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_directory_that_was_replaced_is_watched_again() {
        let dir = tempfile::tempdir().unwrap();
        let modules = dir.path().join("modules");
        std::fs::create_dir(&modules).unwrap();
        let mut changes = Changes::watch(&modules, false).unwrap();
        std::fs::rename(&modules, dir.path().join("old")).unwrap();
        std::fs::create_dir(&modules).unwrap();
        let next = async |changes: &mut Changes| {
            tokio::time::timeout(std::time::Duration::from_secs(60), changes.next()).await.expect("it is told")
        };
        while next(&mut changes).await != Change::Seen(Seen::Replaced) {}
        std::fs::write(modules.join("a.part"), "new").unwrap();
        std::fs::rename(modules.join("a.part"), modules.join("a.wasm")).unwrap();
        // A look would not know that it is closed.
        while next(&mut changes).await != (Change::File { path: modules.join("a.wasm"), closed: true }) {}
    }

    #[test]
    fn only_a_limit_that_is_reached_makes_it_poll() {
        let io = |errno: Errno| notify::Error::io(errno.into());
        assert!(exhausted(&io(Errno::EMFILE)).unwrap().contains("fs.inotify.max_user_instances"));
        assert_eq!(exhausted(&io(Errno::ENOSPC)), Some("fs.inotify.max_user_watches"));
        assert_eq!(exhausted(&notify::Error::new(ErrorKind::MaxFilesWatch)), Some("fs.inotify.max_user_watches"));
        assert_eq!(exhausted(&io(Errno::EACCES)), None);
        let gone = |_, _: &Path| Err(notify::Error::io(Errno::EACCES.into()));
        assert!(by_events(Path::new("/"), &nowhere(), gone).is_err());
    }
}
