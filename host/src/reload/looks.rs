//! Looks at a directory of modules again and again.
//!
//! The system's events are faster and do not tell everything: that the directory has been replaced by another, that a link leads elsewhere, or that what a
//! link leads to was written. Network file systems send none, and a system has too few watches for many hosts. So each host looks as well.
//!
//! A look is a list of the directory and what each module file looks like from outside. No file is opened: many hosts look at one directory, and
//! that must cost next to nothing. Links are followed, so that a link whose target is replaced is a change. A directory that cannot be listed tells nothing
//! of its files: what was there last counts until it can be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::is_module;
use crate::util::regular;

/// How often the directory is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The most module files of a directory. There is no room for more of them in force.
pub(super) const MAX_FILES: usize = 256;
/// A directory that was changed this long ago has a later time if it is changed again.
const SETTLED: Duration = Duration::from_secs(2);

/// What a file looks like from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A file: its length, the times of the last changes of its content and of its inode, and which inode of which device it is.
    File(u64, (i64, i64), (i64, i64), (u64, u64)),
    /// Something under its name that is no file, in words.
    Other(&'static str),
    /// It cannot be looked at, in words.
    Hidden(String),
}

/// Looks at a path; none if nothing has that name.
pub(super) fn look(path: &Path) -> Option<Look> {
    match std::fs::metadata(path) {
        Ok(file) if file.is_file() => {
            let (content, inode) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
            Some(Look::File(file.len(), content, inode, (file.dev(), file.ino())))
        }
        Ok(other) => Some(Look::Other(regular::kind(&other))),
        Err(error) => match std::fs::symlink_metadata(path) {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => None,
            _ => Some(Look::Hidden(error.to_string())),
        },
    }
}

/// What a look has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A module file that has appeared, changed or gone since the last look, and what it looks like now.
    File(PathBuf, Option<Look>),
    /// There is another directory under the name than before.
    Replaced,
    /// What is wrong with the directory as a whole; none if that is over.
    Trouble(Option<String>),
}

/// The module files that are there, as far as there is room for them.
#[derive(Clone, Default)]
pub(super) struct Present(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Present {
    /// All of them, in the order of their names.
    pub fn all(&self) -> Vec<PathBuf> {
        self.0.lock().iter().cloned().collect()
    }

    /// Whether a file is one of them.
    pub fn contains(&self, path: &Path) -> bool {
        self.0.lock().contains(path)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// A directory that is looked at.
struct Directory {
    path: PathBuf,
    present: Present,
    files: BTreeMap<PathBuf, Look>,
    /// Which directory it was, and when it was changed last, when its names were read last.
    listed: Option<((u64, u64), SystemTime)>,
    left_out: usize,
}

impl Directory {
    /// Looks at it. What has changed is returned.
    fn look(&mut self) -> io::Result<Vec<Seen>> {
        let found = std::fs::metadata(&self.path)?;
        let (which, changed) = ((found.dev(), found.ino()), changed(&found));
        let mut seen = Vec::new();
        if self.listed.is_some_and(|(before, _)| before != which) {
            seen.push(Seen::Replaced);
        }
        // Files that were there come first. Many new ones must not put out one that is in force.
        let mut now = BTreeMap::new();
        for path in self.files.keys() {
            now.extend(look(path).map(|look| (path.clone(), look)));
        }
        let settled = changed.elapsed().is_ok_and(|ago| ago > SETTLED);
        if !settled || self.listed != Some((which, changed)) || now.len() < self.files.len() {
            let (new, left_out) = self.list(&now)?;
            self.left_out = left_out;
            for path in new {
                now.extend(look(&path).map(|look| (path.clone(), look)));
            }
            self.listed = Some((which, changed));
        }
        let gone = self.files.keys().filter(|path| !now.contains_key(*path));
        seen.extend(gone.map(|path| Seen::File(path.clone(), None)));
        let other = now.iter().filter(|(path, look)| self.files.get(*path) != Some(look));
        seen.extend(other.map(|(path, look)| Seen::File(path.clone(), Some(look.clone()))));
        *self.present.0.lock() = now.keys().cloned().collect();
        self.files = now;
        Ok(seen)
    }

    /// The names that are not known yet, the first of them as far as there is room, and how many are left out.
    fn list(&self, known: &BTreeMap<PathBuf, Look>) -> io::Result<(BTreeSet<PathBuf>, usize)> {
        let room = MAX_FILES.saturating_sub(known.len());
        let (mut new, mut left_out) = (BTreeSet::new(), 0);
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            if !is_module(&path) || known.contains_key(&path) {
                continue;
            }
            new.insert(path);
            if new.len() > room {
                new.pop_last();
                left_out += 1;
            }
        }
        Ok((new, left_out))
    }

    /// What is wrong with it after a look.
    fn trouble(&self, looked: &io::Result<Vec<Seen>>) -> Option<String> {
        match looked {
            Err(error) => Some(format!("it cannot be read: {error}; what is in force stays")),
            Ok(_) if self.left_out > 0 => {
                Some(format!("it has {} .wasm files more than the {MAX_FILES} that are taken", self.left_out))
            }
            Ok(_) => None,
        }
    }
}

fn changed(directory: &Metadata) -> SystemTime {
    let seconds = u64::try_from(directory.ctime()).unwrap_or_default();
    UNIX_EPOCH + Duration::new(seconds, u32::try_from(directory.ctime_nsec()).unwrap_or_default())
}

/// Looks at a directory for as long as it is kept.
pub(super) struct Looks {
    looking: AbortHandle,
    present: Present,
}

impl Looks {
    /// Begins to look at a directory, and calls `told` with what has changed since the last look. What is there at first is not told.
    ///
    /// # Errors
    /// Where the directory cannot be listed now. Later it is tried again.
    pub fn begin(directory: &Path, mut told: impl FnMut(Seen) + Send + 'static) -> io::Result<Self> {
        let present = Present::default();
        let (path, files) = (directory.to_owned(), BTreeMap::new());
        let mut directory = Directory { path, present: present.clone(), files, listed: None, left_out: 0 };
        let first = directory.look();
        let mut trouble = directory.trouble(&first);
        first?;
        if trouble.is_some() {
            told(Seen::Trouble(trouble.clone()));
        }
        let looking = async move {
            loop {
                tokio::time::sleep(LOOK).await;
                // A network's file system may take its time.
                let look = tokio::task::spawn_blocking(move || {
                    let looked = directory.look();
                    (directory, looked)
                });
                let looked;
                (directory, looked) = match look.await {
                    Ok(both) => both,
                    // Only at the end of the runtime.
                    Err(_) => return,
                };
                let now = directory.trouble(&looked);
                if now != trouble {
                    told(Seen::Trouble(now.clone()));
                    trouble = now;
                }
                looked.into_iter().flatten().for_each(&mut told);
            }
        };
        Ok(Looks { looking: tokio::spawn(looking).abort_handle(), present })
    }

    /// The files that were there at the last look.
    pub fn present(&self) -> &Present {
        &self.present
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    /// What is told of a directory, waited for.
    struct Told(mpsc::UnboundedReceiver<Seen>);

    impl Told {
        fn of(directory: &Path) -> (Looks, Told) {
            let (told, changes) = mpsc::unbounded_channel();
            (Looks::begin(directory, move |seen| drop(told.send(seen))).unwrap(), Told(changes))
        }

        async fn next(&mut self) -> Seen {
            timeout(Duration::from_secs(60), self.0.recv()).await.expect("it is told").unwrap()
        }

        /// The next file, and whether it is there.
        async fn file(&mut self) -> (String, bool) {
            match self.next().await {
                Seen::File(path, look) => (path.file_name().unwrap().to_str().unwrap().to_owned(), look.is_some()),
                other => panic!("{other:?}"),
            }
        }
    }

    fn is(name: &str, there: bool) -> (String, bool) {
        (name.to_owned(), there)
    }

    #[tokio::test]
    async fn what_appears_changes_or_goes_is_told_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("kept.wasm"), "as it was").unwrap();
        fs::write(at("target"), "1").unwrap();
        symlink(at("target"), at("link.wasm")).unwrap();
        let (looks, mut told) = Told::of(dir.path());
        assert_eq!(looks.present().all(), [at("kept.wasm"), at("link.wasm")]);
        fs::write(at("notes.txt"), "not a module").unwrap();
        // Files are made elsewhere, because a look may come between the making and the writing of one.
        fs::write(at("new.part"), "1").unwrap();
        fs::rename(at("new.part"), at("new.wasm")).unwrap();
        assert_eq!(told.file().await, is("new.wasm", true));
        // Of the same length, by another file in its place.
        fs::write(at("new.part"), "2").unwrap();
        fs::rename(at("new.part"), at("new.wasm")).unwrap();
        assert_eq!(told.file().await, is("new.wasm", true));
        fs::remove_file(at("new.wasm")).unwrap();
        assert_eq!(told.file().await, is("new.wasm", false));
        fs::write(at("other"), "2").unwrap();
        fs::rename(at("other"), at("target")).unwrap();
        assert_eq!(told.file().await, is("link.wasm", true), "what a link means has changed");
        fs::remove_file(at("target")).unwrap();
        assert_eq!(told.file().await, is("link.wasm", true), "a link to nothing is still there");
        drop(looks);
        assert!(timeout(Duration::from_secs(60), told.0.recv()).await.unwrap().is_none(), "it has stopped");
    }

    #[tokio::test]
    async fn a_directory_that_is_replaced_is_another_one_and_one_that_is_missing_loses_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let (modules, new) = (dir.path().join("modules"), dir.path().join("new"));
        for made in [&modules, &new] {
            fs::create_dir(made).unwrap();
            fs::write(made.join("a.wasm"), made.to_str().unwrap()).unwrap();
        }
        let (looks, mut told) = Told::of(&modules);
        fs::rename(&modules, dir.path().join("old")).unwrap();
        let Seen::Trouble(Some(why)) = told.next().await else { panic!("it is not there") };
        assert!(why.contains("cannot be read"), "{why}");
        assert_eq!(looks.present().all().len(), 1, "what was there counts");
        fs::rename(&new, &modules).unwrap();
        assert_eq!(told.next().await, Seen::Trouble(None));
        assert_eq!(told.next().await, Seen::Replaced);
        assert_eq!(told.file().await, is("a.wasm", true));
    }

    #[tokio::test]
    async fn many_new_files_put_out_none_that_was_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("z.wasm"), "in force").unwrap();
        let (looks, mut told) = Told::of(dir.path());
        for number in 0..MAX_FILES + 9 {
            fs::write(dir.path().join(format!("{number:04}.part")), "").unwrap();
        }
        for number in 0..MAX_FILES + 9 {
            let name = |ending: &str| dir.path().join(format!("{number:04}.{ending}"));
            fs::rename(name("part"), name("wasm")).unwrap();
        }
        let trouble = loop {
            match told.next().await {
                Seen::Trouble(Some(why)) if why.starts_with("it has 10 ") => break why,
                Seen::Trouble(_) | Seen::File(_, Some(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(trouble.contains("more than the 256"), "{trouble}");
        let present = looks.present().all();
        assert_eq!(present.len(), MAX_FILES);
        assert!(present.contains(&dir.path().join("z.wasm")));
    }

    #[test]
    fn what_has_the_name_of_a_module_and_is_none_is_seen_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d.wasm")).unwrap();
        symlink(at("loop.wasm"), at("loop.wasm")).unwrap();
        symlink("/dev/null", at("null.wasm")).unwrap();
        assert_eq!(look(&at("d.wasm")), Some(Look::Other("a directory")));
        assert_eq!(look(&at("null.wasm")), Some(Look::Other("a device")));
        assert!(matches!(look(&at("loop.wasm")), Some(Look::Hidden(why)) if why.contains("symbolic links")));
        assert_eq!(look(&at("none.wasm")), None);
    }

    #[test]
    fn a_directory_that_cannot_be_listed_is_an_error() {
        assert!(Looks::begin(Path::new("/nowhere/at/all"), drop).is_err());
    }
}
