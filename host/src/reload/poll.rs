//! Looks at a directory of modules again and again, where the system's events are not to be used.
//!
//! A look is a list of the directory and what each module file looks like from outside. No file is opened: many hosts look at one directory, and
//! that must cost next to nothing. Links are followed, so that a link whose target is replaced is a change.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::is_module;

/// How often the directory is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at a directory for as long as it is kept.
pub(super) struct Poll(AbortHandle);

/// What a file looks like from outside: length, the times of the last changes of its content and of its inode, and which inode of which device it is.
type Look = (u64, (i64, i64), (i64, i64), (u64, u64));

impl Poll {
    /// Begins to look at a directory, and calls `changed` with each module file that has appeared, changed or gone since the last look.
    ///
    /// # Errors
    /// Where the directory cannot be listed now. Later it is tried again.
    pub fn begin(directory: &Path, mut changed: impl FnMut(PathBuf) + Send + 'static) -> io::Result<Self> {
        let directory = directory.to_owned();
        let mut seen = look(&directory)?;
        let looking = async move {
            let mut failed = false;
            loop {
                tokio::time::sleep(LOOK).await;
                let at = directory.clone();
                // A network's file system may take its time.
                let now =
                    tokio::task::spawn_blocking(move || look(&at)).await.unwrap_or_else(|error| Err(error.into()));
                match now {
                    Ok(now) => {
                        differences(&seen, &now).into_iter().for_each(&mut changed);
                        (seen, failed) = (now, false);
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut failed, true) {
                            tracing::warn!(directory = %directory.display(), %error, "the modules' directory cannot be looked at");
                        }
                    }
                }
            }
        };
        Ok(Poll(tokio::spawn(looking).abort_handle()))
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn look(directory: &Path) -> io::Result<HashMap<PathBuf, Look>> {
    let mut seen = HashMap::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if !is_module(&path) {
            continue;
        }
        // One that has gone since the directory was listed is not there.
        if let Ok(file) = std::fs::metadata(&path) {
            let look = (
                file.len(),
                (file.mtime(), file.mtime_nsec()),
                (file.ctime(), file.ctime_nsec()),
                (file.dev(), file.ino()),
            );
            seen.insert(path, look);
        }
    }
    Ok(seen)
}

/// The files that are not the same in both.
fn differences(before: &HashMap<PathBuf, Look>, after: &HashMap<PathBuf, Look>) -> Vec<PathBuf> {
    let gone = before.keys().filter(|path| !after.contains_key(*path));
    let other = after.iter().filter(|(path, look)| before.get(*path) != Some(*look)).map(|(path, _)| path);
    gone.chain(other).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_appears_changes_or_goes_is_told_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("kept.wasm"), "as it was").unwrap();
        fs::write(at("target"), "1").unwrap();
        std::os::unix::fs::symlink(at("target"), at("link.wasm")).unwrap();
        let (told, mut changes) = mpsc::unbounded_channel();
        let poll = Poll::begin(dir.path(), move |path| drop(told.send(path))).unwrap();
        let mut next = async || timeout(Duration::from_secs(60), changes.recv()).await.expect("it is told").unwrap();
        fs::write(at("notes.txt"), "not a module").unwrap();
        // Files are made elsewhere, because a look may come between the making and the writing of one.
        fs::write(at("new.part"), "1").unwrap();
        fs::rename(at("new.part"), at("new.wasm")).unwrap();
        assert_eq!(next().await, at("new.wasm"));
        // Of the same length, by another file in its place.
        fs::write(at("new.part"), "2").unwrap();
        fs::rename(at("new.part"), at("new.wasm")).unwrap();
        assert_eq!(next().await, at("new.wasm"));
        fs::remove_file(at("new.wasm")).unwrap();
        assert_eq!(next().await, at("new.wasm"));
        fs::write(at("other"), "2").unwrap();
        fs::rename(at("other"), at("target")).unwrap();
        assert_eq!(next().await, at("link.wasm"), "what a link means has changed");
        drop(poll);
        assert!(timeout(Duration::from_secs(60), changes.recv()).await.unwrap().is_none(), "it has stopped");
    }

    #[test]
    fn a_directory_that_cannot_be_listed_is_an_error() {
        assert!(look(Path::new("/nowhere/at/all")).is_err());
    }
}
