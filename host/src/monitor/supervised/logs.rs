//! The application's log directory: the names of its files, and their last lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, code};
use crate::wire::shown;

/// The most names in one answer.
const MAX_NAMES: usize = 1000;
/// The most lines in one answer.
const MAX_LINES: usize = 10_000;
/// The most bytes that are read from the end of a file, fewer than a module may be given in one answer.
const MAX_BYTES: u64 = 512 * 1024;
/// Bytes that are read at a time.
const CHUNK: u64 = 64 * 1024;

/// A directory of log files. It need not exist.
#[derive(Clone, Debug)]
pub(super) struct Logs(pub PathBuf);

impl Logs {
    /// The sorted names of the files, at most 1000.
    pub async fn names(&self) -> Result<Vec<String>, Failure> {
        let dir = self.0.clone();
        blocking(move || {
            let dir = opened(&dir)?;
            let mut names: Vec<String> = fs::read_dir(&dir)
                .map_err(|error| failed(&dir, &error))?
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter(|name| resolve(&dir, name).is_ok_and(|path| path.is_file()))
                .take(MAX_NAMES)
                .collect();
            names.sort_unstable();
            Ok(names)
        })
        .await
    }

    /// The last lines of a file: at most 10,000, and at most the last 512 KiB.
    pub async fn tail(&self, name: String, lines: usize) -> Result<Vec<String>, Failure> {
        let dir = self.0.clone();
        blocking(move || {
            let dir = opened(&dir)?;
            let path = resolve(&dir, &name)?;
            // `path` is resolved, so a link in it was put there meanwhile and must not be followed. Opening must not block, because the file may be a
            // pipe.
            let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
            let file = OpenOptions::new().read(true).custom_flags(flags).open(&path);
            let mut file = file.map_err(|error| failed(&path, &error))?;
            let metadata = file.metadata().map_err(|error| failed(&path, &error))?;
            if !metadata.is_file() {
                return Err(refused(&name, "it is no file"));
            }
            tail(&mut file, metadata.len(), lines.min(MAX_LINES)).map_err(|error| failed(&path, &error))
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Failure::new(code::FAILED, "the log directory could not be read")))
}

/// The directory's path with all links resolved.
fn opened(dir: &Path) -> Result<PathBuf, Failure> {
    dir.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let what = format!("there is no log directory {}: `logs` in servers.json names another", dir.display());
            Failure::new(code::NOT_FOUND, what)
        }
        _ => failed(dir, &error),
    })
}

/// The path of the file of that name with all links resolved. It must be in the directory.
fn resolve(dir: &Path, name: &str) -> Result<PathBuf, Failure> {
    if name.is_empty() || name == "." || name == ".." || name.len() > 255 || name.contains(['/', '\\', '\0']) {
        return Err(refused(name, "it is no plain file name"));
    }
    let path = dir.join(name).canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(code::NOT_FOUND, format!("there is no log file \"{}\"", shown(name))),
        _ => failed(dir, &error),
    })?;
    if path.starts_with(dir) { Ok(path) } else { Err(refused(name, "it leads out of the log directory")) }
}

fn refused(name: &str, why: &str) -> Failure {
    Failure::new(code::BAD_MESSAGE, format!("\"{}\" is no log file: {why}", shown(name)))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(code::FAILED, format!("{} cannot be read: {error}", path.display()))
}

/// Reads backwards until there are enough lines.
fn tail(file: &mut File, size: u64, lines: usize) -> io::Result<Vec<String>> {
    let end_of_range = size;
    let (mut begin, mut text) = (end_of_range, Vec::new());
    // One line end more than `lines` is needed: the one before the first line.
    while begin > 0 && end_of_range - begin < MAX_BYTES && text.iter().filter(|byte| **byte == b'\n').count() <= lines {
        let step = CHUNK.min(begin).min(MAX_BYTES - (end_of_range - begin));
        begin -= step;
        file.seek(SeekFrom::Start(begin))?;
        let mut chunk = Vec::new();
        file.by_ref().take(step).read_to_end(&mut chunk)?;
        chunk.append(&mut text);
        text = chunk;
    }
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    if text.is_empty() || lines == 0 {
        return Ok(Vec::new());
    }
    let mut found: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    // The first line is incomplete if reading did not reach the beginning of the file.
    let cut = usize::from(begin > 0 && found.len() > 1);
    found.drain(..cut.max(found.len().saturating_sub(lines)));
    Ok(found.into_iter().map(|line| String::from_utf8_lossy(line).trim_end_matches('\r').to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn p_names_that_would_leave_the_directory_are_refused() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("logs");
        let logs = Logs(dir.clone());
        assert_eq!(logs.names().await.unwrap_err().code, code::NOT_FOUND);
        fs::create_dir(&dir).unwrap();
        fs::write(outer.path().join("secret"), "secret\n").unwrap();
        fs::write(dir.join("a.log"), "one\ntwo\n").unwrap();
        fs::create_dir(dir.join("old")).unwrap();
        symlink("../secret", dir.join("out.log")).unwrap();
        symlink("/etc/passwd", dir.join("passwd.log")).unwrap();
        symlink("a.log", dir.join("current.log")).unwrap();
        nix::unistd::mkfifo(&dir.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(logs.names().await.unwrap(), ["a.log", "current.log"]);
        for name in ["", ".", "..", "../secret", "old/../a.log", "/etc/passwd", "a\0", "..\\x", &"x".repeat(256)] {
            assert_eq!(logs.tail(name.into(), 9).await.unwrap_err().code, code::BAD_MESSAGE, "{name}");
        }
        for name in ["out.log", "passwd.log", "old", "pipe"] {
            assert_eq!(logs.tail(name.into(), 9).await.unwrap_err().code, code::BAD_MESSAGE, "{name}");
        }
        assert_eq!(logs.tail("none.log".into(), 9).await.unwrap_err().code, code::NOT_FOUND);
        assert_eq!(logs.tail("current.log".into(), 1).await.unwrap(), ["two"]);
    }

    #[tokio::test]
    async fn p_the_end_of_a_file_is_read_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs(dir.path().to_owned());
        let check = async |text: &str, lines: usize, expected: &[&str]| {
            fs::write(dir.path().join("log"), text).unwrap();
            assert_eq!(logs.tail("log".into(), lines).await.unwrap(), expected);
        };
        check("", 5, &[]).await;
        check("\n", 5, &[]).await;
        check("a\nb\nc", 2, &["b", "c"]).await;
        check("a\r\n\nc\n", 5, &["a", "", "c"]).await;
        check("a\nb\n", 0, &[]).await;
        let line = "x".repeat(1023);
        let long = format!("{line}\n").repeat(2000);
        fs::write(dir.path().join("log"), &long).unwrap();
        assert_eq!(logs.tail("log".into(), 300).await.unwrap(), vec![line.clone(); 300]);
        let all = logs.tail("log".into(), usize::MAX).await.unwrap();
        assert!((500..=512).contains(&all.len()) && all.iter().all(|read| *read == line), "{}", all.len());
    }
}
