//! The scripts that are kept: in files of a directory, or in memory where the host has no data directory.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::content::MAX_SIZE;
use crate::failure::{Failure, code};
use crate::util::{private, regular};

/// Scripts that a host keeps.
pub const MAX_SCRIPTS: usize = 256;
/// Bytes of all scripts of a host.
pub const MAX_TOTAL: usize = 16 << 20;
/// Bytes of a name.
pub const MAX_NAME: usize = 64;

/// The scripts that are kept. Reading and writing files blocks, so that it must not be done on the executor's threads.
#[derive(Clone)]
pub(super) enum Saved {
    /// In this directory, which is made when it is needed. The lock is held while a script is written, because two writes at once could pass
    /// the bounds together.
    Files(PathBuf, Arc<Mutex<()>>),
    Memory(Arc<Mutex<BTreeMap<String, Vec<u8>>>>),
}

impl Saved {
    pub fn new(directory: Option<PathBuf>) -> Self {
        match directory {
            Some(directory) => Saved::Files(directory, Arc::default()),
            None => Saved::Memory(Arc::default()),
        }
    }

    /// The names, in order.
    pub fn names(&self) -> Result<Vec<String>, Failure> {
        Ok(self.sizes()?.into_keys().collect())
    }

    /// The content of one.
    pub fn get(&self, name: &str) -> Result<Vec<u8>, Failure> {
        check_name(name)?;
        let unknown = || Failure::new(code::NOT_FOUND, format!("there is no script `{name}` on this server"));
        match self {
            Saved::Memory(scripts) => scripts.lock().get(name).cloned().ok_or_else(unknown),
            Saved::Files(directory, _) => {
                match regular::read(&directory.join(name), MAX_SIZE as u64).map_err(io::Error::from) {
                    Ok(content) => Ok(content),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unknown()),
                    Err(error) => Err(failed("read", &directory.join(name), &error)),
                }
            }
        }
    }

    /// Keeps a script, and replaces the one of its name. After a failure the earlier one is still there.
    pub fn save(&self, name: &str, content: Vec<u8>) -> Result<(), Failure> {
        check_name(name)?;
        match self {
            Saved::Memory(scripts) => {
                let mut scripts = scripts.lock();
                let sizes = scripts.iter().map(|(name, content)| (name.clone(), content.len())).collect();
                check_room(&sizes, name, content.len())?;
                scripts.insert(name.to_owned(), content);
                Ok(())
            }
            Saved::Files(directory, writing) => {
                let _writing = writing.lock();
                check_room(&self.sizes()?, name, content.len())?;
                write(directory, name, &content).map_err(|error| failed("written", &directory.join(name), &error))
            }
        }
    }

    /// Sizes by names.
    fn sizes(&self) -> Result<BTreeMap<String, usize>, Failure> {
        match self {
            Saved::Memory(scripts) => {
                Ok(scripts.lock().iter().map(|(name, content)| (name.clone(), content.len())).collect())
            }
            Saved::Files(directory, _) => sizes(directory).map_err(|error| failed("read", directory, &error)),
        }
    }
}

fn sizes(directory: &Path) -> io::Result<BTreeMap<String, usize>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut sizes = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        // A file that an operator put there is a script too, if it has a script's name.
        let Some(name) = entry.file_name().to_str().filter(|name| check_name(name).is_ok()).map(str::to_owned) else {
            continue;
        };
        // The file may have been removed meanwhile.
        let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
        if metadata.is_file() && sizes.len() < MAX_SCRIPTS {
            sizes.insert(name, usize::try_from(metadata.len()).unwrap_or(usize::MAX));
        }
    }
    Ok(sizes)
}

fn write(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    private::directory(directory)?;
    // Its name begins with a dot, so that a file that a crash leaves behind does not count as a script.
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(directory.join(name))?;
    Ok(())
}

/// Checks that a name is a plain file name on every system, leads to no other directory, and is not hidden.
pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let good = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['.', '-']);
    if good {
        return Ok(());
    }
    let message = format!(
        "a script's name has 1 to {MAX_NAME} letters, digits, dots, dashes and underscores, and begins with neither dot nor dash: not {:?}",
        name.chars().take(MAX_NAME).collect::<String>()
    );
    Err(Failure::new(code::BAD_MESSAGE, message))
}

/// Checks that there is room for a script of that size, in the place of the one of its name.
fn check_room(sizes: &BTreeMap<String, usize>, name: &str, size: usize) -> Result<(), Failure> {
    let others = || sizes.iter().filter(|(other, _)| *other != name);
    let total = others().fold(size, |sum, (_, size)| sum.saturating_add(*size));
    if others().count() >= MAX_SCRIPTS || total > MAX_TOTAL {
        let message = format!(
            "this server keeps {MAX_SCRIPTS} scripts of {MAX_TOTAL} bytes at most: remove some from its `scripts` directory"
        );
        return Err(Failure::new(code::STORE_FULL, message));
    }
    Ok(())
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(code::FAILED, format!("{} cannot be {what}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_scripts_names_lead_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let saved = Saved::new(Some(directory.path().join("scripts")));
        let long = "x".repeat(MAX_NAME + 1);
        for name in ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "-rf", "a b", "a\0b", "ä", long.as_str()] {
            assert_eq!(saved.save(name, vec![1]).unwrap_err().code, code::BAD_MESSAGE, "{name:?}");
            assert_eq!(saved.get(name).unwrap_err().code, code::BAD_MESSAGE, "{name:?}");
        }
        assert!(!directory.path().join("x").exists());
        assert_eq!(saved.names().unwrap(), [""; 0], "no directory yet");
        saved.save("hello.wat", b"one".into()).unwrap();
        saved.save("hello.wat", b"two".into()).unwrap();
        assert_eq!(saved.get("hello.wat").unwrap(), b"two");
        assert_eq!(saved.get("other").unwrap_err().code, code::NOT_FOUND);
        assert_eq!(saved.names().unwrap(), ["hello.wat"]);
        let files = std::fs::read_dir(directory.path().join("scripts")).unwrap().count();
        assert_eq!(files, 1, "nothing is left behind");
    }

    #[test]
    fn what_is_no_file_is_no_script_and_not_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let directory = tempfile::tempdir().unwrap();
        mknodat(CWD, directory.path().join("pipe.wat"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let saved = Saved::new(Some(directory.path().into()));
        // On a thread of its own, because whoever opened the pipe would wait for a writer without end.
        let (told, got) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(saved.get("pipe.wat")));
        let failure = got.recv_timeout(std::time::Duration::from_secs(60)).expect("an answer").unwrap_err();
        assert!(failure.message.contains("it is a named pipe, not a file"), "{failure}");
    }

    #[test]
    fn p_scripts_their_number_and_size_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        for saved in [Saved::new(None), Saved::new(Some(directory.path().into()))] {
            for number in 0..MAX_SCRIPTS {
                saved.save(&format!("script-{number}"), vec![0]).unwrap();
            }
            assert_eq!(saved.save("one-more", vec![0]).unwrap_err().code, code::STORE_FULL);
            saved.save("script-0", vec![1]).unwrap();
            let large = vec![0; MAX_TOTAL];
            assert_eq!(saved.save("script-0", large).unwrap_err().code, code::STORE_FULL);
            assert_eq!(saved.get("script-0").unwrap(), [1], "what was refused has changed nothing");
        }
    }
}
