//! Compiled code on disk: a file for each component and each way to compile it. The hosts of a machine share it.
//!
//! What is read here runs as machine code. So the directory and its files must belong to this user, nobody else may write to them, and a file begins
//! with the SHA-256 of the rest, because a crash of the machine may leave half of one. A file is written elsewhere and then renamed, so that nobody
//! reads half of one meanwhile.
//!
//! Beside the code of a file there may be its lock, which whoever compiles it holds, and the note that it costs too much to compile.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Costly;
use crate::plugin::CompileLimits;

/// What a file begins with, before the digest.
const MAGIC: &[u8; 8] = b"pomelo\x01\n";
/// Bytes before the code.
const HEAD: usize = MAGIC.len() + 32;
/// The most bytes of all files, and the most files. Those that were not used for the longest time are removed.
const MOST: (u64, usize) = (256 << 20, 1024);
/// A file's time is set anew when it is used and this old.
const USED: Duration = Duration::from_secs(60 * 60);
/// For how long it is believed that a file costs too much to compile.
const REFUSED: Duration = Duration::from_secs(60 * 60);

/// The directory.
#[derive(Clone, Debug)]
pub struct Cache(PathBuf);

/// A note that a file costs too much to compile.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "beyond", rename_all = "lowercase")]
enum Note {
    Cpu { seconds: u64 },
    Memory { mib: u64 },
}

impl Cache {
    /// Uses a directory, which is made if it is not there. Nobody else than this user can look into it afterwards.
    ///
    /// # Errors
    /// If it cannot be made, or is not this user's.
    pub fn open(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let directory = fs::canonicalize(directory)?;
        let found = fs::metadata(&directory)?;
        if found.uid() != geteuid().as_raw() {
            let why = format!("{} belongs to user {}, not to this one", directory.display(), found.uid());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        if found.mode() & 0o077 != 0 {
            fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        }
        Ok(Cache(directory))
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// The name of a component's files, for the way in which an engine compiles.
    pub fn key(engine: &wasmtime::Engine, digest: &str) -> String {
        let mut way = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut way);
        format!("{digest}-{:016x}", way.finish())
    }

    /// The code under a key.
    pub fn read(&self, key: &str) -> Option<Vec<u8>> {
        let mut file = self.file(key, "code")?;
        let mut head = [0; HEAD];
        file.read_exact(&mut head).ok()?;
        let digest = head.strip_prefix(MAGIC)?;
        let mut code = Vec::new();
        file.read_to_end(&mut code).ok()?;
        if Sha256::digest(&code)[..] != *digest {
            tracing::debug!(key, "a compiled file is damaged, so that it is compiled anew");
            return None;
        }
        let now = SystemTime::now();
        let old = file.metadata().and_then(|file| file.modified()).map_or(true, |at| since(at, now) > USED);
        if old {
            // If it cannot be set, the file is removed earlier than it need be.
            let _ = file.set_modified(now);
        }
        Some(code)
    }

    /// Keeps the code under a key. If it cannot be kept, it is compiled again the next time.
    pub fn write(&self, key: &str, code: &[u8]) {
        let head = [&MAGIC[..], &Sha256::digest(code)[..]].concat();
        if let Err(error) = self.replace(key, "code", &[&head, code]) {
            tracing::debug!(key, %error, "compiled code cannot be kept");
        }
        self.trim(MOST);
    }

    /// Keeps in mind that a component costs too much to compile, for the other hosts of the machine.
    pub fn refuse(&self, key: &str, costly: Costly) {
        let note = match costly {
            Costly::Cpu(seconds) => Note::Cpu { seconds },
            Costly::Memory(mib) => Note::Memory { mib },
            Costly::Code { .. } | Costly::AllCode { .. } => return,
        };
        let Ok(note) = serde_json::to_vec(&note) else { return };
        if let Err(error) = self.replace(key, "refused", &[&note]) {
            tracing::debug!(key, %error, "it cannot be kept that a file costs too much to compile");
        }
    }

    /// Why a component is not to be compiled under these limits: it took more than they allow a short time ago.
    pub fn refusal(&self, key: &str, limits: &CompileLimits) -> Option<Costly> {
        let file = self.file(key, "refused")?;
        if since(file.metadata().ok()?.modified().ok()?, SystemTime::now()) > REFUSED {
            return None;
        }
        match serde_json::from_reader(file.take(1024)).ok()? {
            Note::Cpu { seconds } => (limits.seconds() <= seconds).then_some(Costly::Cpu(limits.seconds())),
            Note::Memory { mib } => (limits.mib() <= mib).then_some(Costly::Memory(limits.mib())),
        }
    }

    /// Waits until nobody else compiles a component. The lock is held until it is dropped, or the process ends.
    ///
    /// # Errors
    /// If it cannot be locked.
    pub fn lock(&self, key: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let file = options.custom_flags(flags(OFlags::NOFOLLOW)).open(self.path(key, "lock"))?;
        file.lock()?;
        Ok(file)
    }

    /// Removes the lock of a component that was compiled: nobody waits for it from now on, because its code is there.
    pub fn unlock(&self, key: &str, lock: File) {
        // One that is left behind is removed by age.
        let _ = fs::remove_file(self.path(key, "lock"));
        drop(lock);
    }

    fn path(&self, key: &str, ending: &str) -> PathBuf {
        self.0.join(format!("{key}.{ending}"))
    }

    /// Opens a file that nobody else can have written.
    fn file(&self, key: &str, ending: &str) -> Option<File> {
        let mut options = OpenOptions::new();
        // A pipe of that name must not hold up the host.
        options.read(true).custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK));
        let file = options.open(self.path(key, ending)).ok()?;
        let found = file.metadata().ok()?;
        (found.is_file() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0).then_some(file)
    }

    fn replace(&self, key: &str, ending: &str, parts: &[&[u8]]) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix("new-").tempfile_in(&self.0)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.persist(self.path(key, ending)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Removes the files that were not used for the longest time, until there are no more than `most` bytes and files.
    fn trim(&self, (bytes, files): (u64, usize)) {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut all: Vec<_> = entries
            .filter_map(|entry| {
                let found = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((found.modified().ok()?, found.len(), entry.path()))
            })
            .collect();
        all.sort();
        let (mut sum, mut count) = (all.iter().map(|(_, size, _)| size).sum::<u64>(), all.len());
        for (_, size, path) in all {
            if sum <= bytes && count <= files {
                break;
            }
            // Another host may have removed it already.
            let _ = fs::remove_file(path);
            (sum, count) = (sum.saturating_sub(size), count - 1);
        }
    }
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

/// The time from one moment to another; none, if the clock was set back.
fn since(then: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("modules")).unwrap();
        (dir, cache)
    }

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_is_not() {
        let (_dir, cache) = cache();
        assert_eq!(cache.read("a"), None);
        cache.write("a", b"code");
        assert_eq!(cache.read("a").unwrap(), b"code");
        let whole = fs::read(cache.path("a", "code")).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[..10], b"", &[&whole[..], b"!"].concat()] {
            fs::write(cache.path("a", "code"), damaged).unwrap();
            assert_eq!(cache.read("a"), None, "{} bytes", damaged.len());
        }
    }

    #[test]
    fn a_file_that_others_could_have_written_is_not_read() {
        let (_dir, cache) = cache();
        cache.write("a", b"code");
        fs::set_permissions(cache.path("a", "code"), Permissions::from_mode(0o666)).unwrap();
        assert_eq!(cache.read("a"), None);
        cache.write("b", b"code");
        std::os::unix::fs::symlink(cache.path("b", "code"), cache.path("c", "code")).unwrap();
        assert_eq!(cache.read("c"), None, "a link may lead anywhere");
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        mknodat(CWD, cache.path("d", "code"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(cache.read("d"), None);
    }

    #[test]
    fn nobody_else_can_look_into_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        Cache::open(dir.path()).unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_refusal_holds_for_limits_that_are_no_larger() {
        let (_dir, cache) = cache();
        let limits = |seconds, mib: usize| CompileLimits {
            cpu: Duration::from_secs(seconds),
            memory: mib << 20,
            ..CompileLimits::default()
        };
        cache.refuse("a", Costly::Cpu(10));
        assert_eq!(cache.refusal("a", &limits(10, 1)), Some(Costly::Cpu(10)));
        assert_eq!(cache.refusal("a", &limits(5, 1)), Some(Costly::Cpu(5)));
        assert_eq!(cache.refusal("a", &limits(11, 1)), None);
        cache.refuse("b", Costly::Memory(100));
        assert_eq!(cache.refusal("b", &limits(1000, 100)), Some(Costly::Memory(100)));
        assert_eq!(cache.refusal("b", &limits(1000, 101)), None);
        let past = SystemTime::now() - REFUSED - Duration::from_secs(1);
        File::options().write(true).open(cache.path("a", "refused")).unwrap().set_modified(past).unwrap();
        assert_eq!(cache.refusal("a", &limits(10, 1)), None, "it was long ago");
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_is_removed_first() {
        let (_dir, cache) = cache();
        for (name, ago) in [("old", 30), ("older", 60), ("new", 0)] {
            cache.write(name, &[0; 100]);
            let at = SystemTime::now() - Duration::from_secs(ago);
            File::options().write(true).open(cache.path(name, "code")).unwrap().set_modified(at).unwrap();
        }
        cache.trim((300, 10));
        assert!(cache.read("older").is_none() && cache.read("old").is_some() && cache.read("new").is_some());
        cache.trim((1000, 1));
        assert!(cache.read("old").is_none() && cache.read("new").is_some());
    }
}
