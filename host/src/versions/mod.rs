//! The versions of module files that have been good, kept on disk by their digests, so that a host that starts beside a broken file has one to run, and an
//! operator one to go back to.
//!
//! `DIR/NAME/DIGEST.wasm` is a version of `NAME.wasm` that has outlived its first seconds in force, and was put there when it came in force for the last time
//! (the file's time). `DIR/NAME/DIGEST.rolled-back.wasm` is one that an operator has gone back from, `DIR/NAME/DIGEST.taken-back.wasm` one that a host has taken
//! back; the file's time is when. There is no index: what is there is what is known, and hosts of one machine may share a directory. A file whose bytes do
//! not have its digest is none.
//!
//! This part knows files and digests. It does not know what a module is, which version is in force, or why one is to be kept.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::util::private;
use crate::util::regular::{self, Unread};

/// How many good versions of a file are kept, where nothing else is configured.
pub const KEPT: usize = 5;
/// The most files of which versions are kept. The one that has not changed for the longest time goes first.
const MAX_NAMES: usize = 512;

/// How many versions are kept that were rolled back, and as many that were taken back: one may be wanted while another one joins it.
const BAD: usize = 2;
/// Characters of a Sha-256 in hexadecimal.
const DIGEST: usize = 64;

/// What is known of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has outlived its first seconds in force.
    Good,
    /// An operator has gone back from it.
    RolledBack,
    /// A host has taken it back, because it trapped in its first seconds.
    TakenBack,
}

impl State {
    const ALL: [State; 3] = [State::RolledBack, State::TakenBack, State::Good];

    /// The end of the files' names. That of good ones is the end of all.
    const fn ending(self) -> &'static str {
        match self {
            State::Good => ".wasm",
            State::RolledBack => ".rolled-back.wasm",
            State::TakenBack => ".taken-back.wasm",
        }
    }
}

/// A version that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// Sha-256 of the file, in hexadecimal.
    pub digest: String,
    /// Size of the file, bytes.
    pub size: u64,
    /// When it came in force last, or was rolled back or taken back, seconds since 1970.
    pub since: u64,
    /// What is known of it.
    pub state: State,
}

/// Why a version cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The disk does not do as it should.
    #[error("{}: {why}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// The file is not what it was.
    #[error("{}: its digest is {is}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// The digest that its bytes have.
        is: String,
    },
}

/// A directory of versions.
#[derive(Clone, Debug)]
pub struct Versions {
    directory: PathBuf,
    keep: usize,
    max_file: u64,
}

/// Sha-256 in hexadecimal.
pub fn digest_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What is shown of a digest where there is little room: its first eight characters.
pub fn short(digest: &str) -> &str {
    digest.get(..8).unwrap_or(digest)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> VersionError {
    let path = path.to_owned();
    move |why| VersionError::Io { path, why }
}

impl Versions {
    /// Keeps at most `keep` good versions of each file in `directory`, which is made when it is needed. Files of more than `max_file` bytes are not read.
    pub fn new(directory: PathBuf, keep: usize, max_file: u64) -> Self {
        Versions { directory, keep, max_file }
    }

    /// The largest file that is read, bytes.
    pub fn max_file(&self) -> u64 {
        self.max_file
    }

    /// The versions of a file that are kept, the newest first.
    ///
    /// # Errors
    /// If the directory cannot be read. That there is none is no error.
    pub fn of(&self, name: &str) -> Result<Vec<Version>, VersionError> {
        let directory = self.directory.join(name);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(at(&directory))?,
        };
        let version = |entry: fs::DirEntry| {
            let file = entry.file_name();
            let file = file.to_str()?;
            let with = |state: State| Some((file.strip_suffix(state.ending())?, state));
            let (digest, state) = State::ALL.into_iter().find_map(with)?;
            let found = entry.metadata().ok()?;
            let since = found.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let is_digest = digest.len() == DIGEST && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
            let version = Version { digest: digest.to_owned(), size: found.len(), since, state };
            is_digest.then_some((found.modified().ok()?, version))
        };
        let mut versions: Vec<_> = entries.filter_map(|entry| version(entry.ok()?)).collect();
        versions.sort_by(|(a, one), (b, other)| (b, &other.digest).cmp(&(a, &one.digest)));
        Ok(versions.into_iter().map(|(_, version)| version).collect())
    }

    /// The bytes of a version that is kept.
    ///
    /// # Errors
    /// If it cannot be read, or is not what it was.
    pub fn read(&self, name: &str, version: &Version) -> Result<Arc<[u8]>, VersionError> {
        let path = self.path(name, &version.digest, version.state);
        let bytes = regular::read(&path, self.max_file).map_err(|error: Unread| at(&path)(error.into()))?;
        match digest_of(&bytes) {
            is if is == version.digest => Ok(bytes.into()),
            is => Err(VersionError::Damaged { path, is }),
        }
    }

    /// Keeps a version that came in force, or was rolled back or taken back, at that time. What is known of it since then stays, and one that is good is not
    /// made bad by a host that takes it back. Versions beyond those that are to be kept are removed: of those that are not good, all but the last two of each kind.
    ///
    /// # Errors
    /// If it cannot be written. Nothing that was kept before is lost.
    pub fn keep(&self, name: &str, bytes: &[u8], since: SystemTime, state: State) -> Result<(), VersionError> {
        if self.keep == 0 {
            return Ok(());
        }
        let (directory, digest) = (self.directory.join(name), digest_of(bytes));
        private::directory(&directory).map_err(at(&directory))?;
        let known = self.of(name)?.into_iter().find(|kept| kept.digest == digest && kept.state != state);
        let seconds = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        match known {
            Some(known) if state == State::Good && known.since > seconds => return Ok(()),
            Some(known) if state == State::TakenBack && known.state == State::Good => return Ok(()),
            _ => {}
        }
        let path = self.path(name, &digest, state);
        let written = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&directory)?;
            file.write_all(bytes)?;
            file.as_file().set_modified(since)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        written().map_err(at(&path))?;
        // What was gone back from is good once it has been in force again, and the other way round.
        for other in State::ALL.into_iter().filter(|other| *other != state) {
            remove(&self.path(name, &digest, other))?;
        }
        let kept = self.of(name)?;
        for state in State::ALL {
            let most = if state == State::Good { self.keep } else { BAD };
            let old = kept.iter().filter(|kept| kept.state == state).skip(most);
            // The clock may have been set back.
            for old in old.filter(|kept| kept.digest != digest) {
                remove(&self.path(name, &old.digest, state))?;
            }
        }
        self.forget_names(name)
    }

    /// Whether the newest good version of a file is this one, so that it needs not be kept again.
    pub fn is_newest(&self, name: &str, digest: &str) -> bool {
        let newest = self.of(name).ok().and_then(|kept| kept.into_iter().find(|kept| kept.state == State::Good));
        newest.is_some_and(|newest| newest.digest == digest)
    }

    fn path(&self, name: &str, digest: &str, state: State) -> PathBuf {
        self.directory.join(name).join([digest, state.ending()].concat())
    }

    /// Removes all versions of the files that have not changed for the longest time, if there are too many, but not of `name`.
    fn forget_names(&self, name: &str) -> Result<(), VersionError> {
        let entries = fs::read_dir(&self.directory).map_err(at(&self.directory))?;
        let others = entries.flatten().filter(|entry| entry.file_name() != OsStr::new(name));
        let mut names: Vec<(SystemTime, PathBuf)> =
            others.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
        names.sort_unstable();
        let more = (names.len() + 1).saturating_sub(MAX_NAMES);
        for (_, path) in names.into_iter().take(more) {
            // Another host may remove it at the same time.
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::debug!(%error, path = %path.display(), "versions of a module that is gone are not removed");
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), VersionError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shown(versions: &Versions) -> Vec<(String, u64, State)> {
        let content = |version: &Version| String::from_utf8(versions.read("m", version).unwrap().to_vec()).unwrap();
        let of = versions.of("m").unwrap();
        of.iter().map(|version| (content(version), version.since, version.state)).collect()
    }

    #[test]
    fn the_newest_good_versions_and_the_last_that_was_gone_back_from_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().join("versions"), 2, 100);
        let keep = |text: &str, since: u64, state| {
            versions.keep("m", text.as_bytes(), UNIX_EPOCH + Duration::from_secs(since), state).unwrap();
        };
        use State::{Good, RolledBack, TakenBack};
        assert_eq!(versions.of("m").unwrap(), []);
        keep("a", 1, Good);
        keep("b", 2, Good);
        keep("c", 3, Good);
        let is = |text: &str, since, state| (text.to_owned(), since, state);
        assert_eq!(shown(&versions), [is("c", 3, Good), is("b", 2, Good)]);
        keep("b", 4, Good);
        keep("c", 4, RolledBack);
        keep("d", 5, RolledBack);
        keep("e", 6, TakenBack);
        let all = [is("e", 6, TakenBack), is("d", 5, RolledBack), is("c", 4, RolledBack), is("b", 4, Good)];
        let sorted = |mut all: Vec<(String, u64, State)>| {
            all.sort_by_key(|(text, since, _)| (*since, text.clone()));
            all
        };
        assert_eq!(sorted(shown(&versions)), sorted(all.to_vec()));
        // One that is good is not made bad by one host, and what was said of one since it came in force stays.
        keep("b", 9, TakenBack);
        keep("e", 5, Good);
        assert_eq!(sorted(shown(&versions)), sorted(all.to_vec()));
        assert!(versions.is_newest("m", &digest_of(b"b")) && !versions.is_newest("m", &digest_of(b"d")));
        keep("d", 7, Good);
        keep("e", 7, RolledBack);
        let all = [is("d", 7, Good), is("e", 7, RolledBack), is("b", 4, Good), is("c", 4, RolledBack)];
        assert_eq!(sorted(shown(&versions)), sorted(all.to_vec()));
        // Of two that came at once the one that is kept last stays.
        keep("x", 7, RolledBack);
        keep("y", 7, RolledBack);
        assert!(shown(&versions).contains(&is("y", 7, RolledBack)));
        assert_eq!(versions.of("another").unwrap(), []);
    }

    #[test]
    fn a_file_that_is_not_what_it_was_is_no_version() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().to_owned(), 2, 100);
        versions.keep("m", b"good", SystemTime::now(), State::Good).unwrap();
        let version = versions.of("m").unwrap().remove(0);
        fs::write(versions.path("m", &version.digest, State::Good), "bad").unwrap();
        assert!(matches!(versions.read("m", &version), Err(VersionError::Damaged { .. })));
        fs::write(versions.path("m", &version.digest, State::Good), "x".repeat(101)).unwrap();
        assert!(matches!(versions.read("m", &version), Err(VersionError::Io { .. })));
        fs::write(dir.path().join("m/other.wasm"), "x").unwrap();
        assert_eq!(versions.of("m").unwrap().len(), 1, "what has no digest for its name is none");
    }

    #[test]
    fn nothing_is_kept_where_none_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::new(dir.path().to_owned(), 0, 100);
        versions.keep("m", b"good", SystemTime::now(), State::Good).unwrap();
        assert_eq!(versions.of("m").unwrap(), []);
    }
}
