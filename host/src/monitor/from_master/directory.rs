//! The directory of one host, and the one that all hosts of a data directory share. Files are renamed into their places, so that no half of one is ever there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

use crate::util::{private, regular};
use crate::versions::digest_of;

/// The end of a module's file name.
const ENDING: &str = ".wasm";
/// The beginning of the names of files that are being written.
const PART: &str = ".part-";
/// How many files are shared at most, and how many bytes they have. What was fetched last stays.
const SHARED: (usize, u64) = (64, 512 << 20);
/// A file that was half written so long ago was left by a process that was killed.
const LEFT: Duration = Duration::from_secs(3600);
/// How long a host waits for another one that fetches. Then it fetches as well, because the other may be slow or stopped.
const ALONE: Duration = Duration::from_secs(30);
/// How often it looks whether the other one has done so.
const LOOK: Duration = Duration::from_millis(50);

/// Where files from the master are.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    own: PathBuf,
    shared: PathBuf,
}

impl Directory {
    /// Makes both directories where they are missing, and removes what a process that was killed has left half written.
    pub fn open(own: PathBuf, shared: PathBuf) -> io::Result<Self> {
        private::directory(&own)?;
        private::directory(&shared)?;
        for entry in fs::read_dir(&own)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PART) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Directory { own, shared })
    }

    /// The names of the files that are there, without their ending.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let name = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_suffix(ENDING).filter(|name| !name.starts_with('.')).map(str::to_owned)
        };
        Ok(fs::read_dir(&self.own)?.flatten().filter_map(name).collect())
    }

    /// The digest of each file that is there and can be read. One that cannot has no digest that is wanted, so that it is written anew.
    pub fn digests(&self, most: u64) -> BTreeMap<String, String> {
        let digest = |name: String| {
            let digest = regular::read(&self.path(&name), most).map(|bytes| digest_of(&bytes)).unwrap_or_default();
            (name, digest)
        };
        self.names().unwrap_or_default().into_iter().map(digest).collect()
    }

    /// Removes a file. That it is not there is no error.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a file, and shares it with the other hosts if that is possible.
    pub fn write(&self, name: &str, digest: &str, bytes: &[u8]) -> io::Result<()> {
        let shared = self.shared.join([digest, ENDING].concat());
        written(&self.own, bytes)?.persist(self.path(name))?;
        let share = || -> io::Result<()> {
            self.make_room(bytes.len() as u64)?;
            written(&self.shared, bytes)?.persist(&shared)?;
            Ok(())
        };
        if !shared.exists()
            && let Err(error) = share()
        {
            tracing::warn!(%error, directory = %self.shared.display(), "a module is not shared with other hosts");
        }
        Ok(())
    }

    /// The bytes of a version that another host has fetched.
    pub async fn shared(&self, digest: &str, most: u64) -> Option<Vec<u8>> {
        let (path, wanted) = (self.shared.join([digest, ENDING].concat()), digest.to_owned());
        let read = move || {
            let bytes = regular::read(&path, most).ok()?;
            if digest_of(&bytes) == wanted {
                return Some(bytes);
            }
            // Whoever needs it writes it anew.
            let _ = fs::remove_file(&path);
            None
        };
        // The thread only ends with the runtime.
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Waits until no other host of this data directory fetches, so that each version is fetched once. Others wait as long as this is held.
    pub async fn alone(&self) -> Option<File> {
        let path = self.shared.join(".lock");
        let open = move || private::options().write(true).create(true).truncate(false).open(path);
        // The thread only ends with the runtime.
        let file = tokio::task::spawn_blocking(open).await.ok()?.ok()?;
        let until = tokio::time::Instant::now() + ALONE;
        while file.try_lock().is_err() {
            if tokio::time::Instant::now() >= until {
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
        Some(file)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.own.join([name, ENDING].concat())
    }

    /// Removes shared files until there is room for one more: those that were written first go first.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.shared)?.flatten() {
            let (name, Ok(found)) = (entry.file_name(), entry.metadata()) else { continue };
            let changed = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let is_left = name.to_string_lossy().starts_with(PART) && changed.elapsed().is_ok_and(|ago| ago > LEFT);
            if is_left {
                // Another host may remove it at the same time.
                let _ = fs::remove_file(entry.path());
            } else if !name.to_string_lossy().starts_with('.') {
                files.push((changed, found.len(), entry.path()));
            }
        }
        files.sort_unstable();
        let (mut count, mut held) = (files.len(), files.iter().map(|(_, size, _)| size).sum::<u64>());
        for (_, size, path) in files {
            if count < SHARED.0 && held.saturating_add(bytes) <= SHARED.1 {
                break;
            }
            // Another host may remove it at the same time.
            let _ = fs::remove_file(path);
            (count, held) = (count - 1, held - size);
        }
        Ok(())
    }
}

fn written(directory: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::with_prefix_in(PART, directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(root: &Path) -> Directory {
        Directory::open(root.join("own"), root.join("shared")).unwrap()
    }

    #[tokio::test]
    async fn files_are_written_shared_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let files = directory(dir.path());
        let digest = digest_of(b"one");
        assert_eq!(files.shared(&digest, 100).await, None);
        files.write("a", &digest, b"one").unwrap();
        assert_eq!(files.digests(100), BTreeMap::from([("a".to_owned(), digest.clone())]));
        assert_eq!(files.shared(&digest, 100).await.unwrap(), b"one");
        // What is damaged is no version.
        fs::write(dir.path().join("shared").join(format!("{digest}.wasm")), "two").unwrap();
        assert_eq!(files.shared(&digest, 100).await, None);
        files.remove("a").unwrap();
        files.remove("a").unwrap();
        assert_eq!(files.names().unwrap(), [""; 0]);
        // What was half written is no file, and goes.
        fs::write(dir.path().join("own/.part-x"), "x").unwrap();
        directory(dir.path());
        assert!(!dir.path().join("own/.part-x").exists());
    }

    #[tokio::test]
    async fn one_host_fetches_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (directory(dir.path()), directory(dir.path()));
        let alone = one.alone().await.unwrap();
        let waiting = tokio::spawn(async move { other.alone().await.is_some() });
        tokio::time::sleep(LOOK * 3).await;
        assert!(!waiting.is_finished());
        drop(alone);
        assert!(waiting.await.unwrap());
    }

    #[test]
    fn what_is_shared_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let files = directory(dir.path());
        for number in 0..SHARED.0 + 3 {
            let bytes = number.to_string();
            files.write("a", &digest_of(bytes.as_bytes()), bytes.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path().join("shared")).unwrap().count(), SHARED.0);
    }
}
