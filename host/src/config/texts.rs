//! The texts of a configuration's files, as they were read: so that the monitors that a master starts read what is in force, and not what somebody is
//! just writing.
//!
//! The files of users and tokens are not among them, because a master follows these by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::util::private;

/// Digits of a digest that tell two sets of files apart.
const DIGITS: usize = 16;

/// The texts of a configuration's files.
#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Texts {
    /// By path below the configuration's directory: `servers.json`, `production/servers.json`.
    files: BTreeMap<String, String>,
}

impl Texts {
    pub(super) fn new(files: BTreeMap<String, String>) -> Self {
        Texts { files }
    }

    /// The text of a file; absent if there was none.
    pub(super) fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// What tells these texts from others: 16 digits in hexadecimal.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for (path, text) in &self.files {
            for part in [path, text] {
                digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
                digest.update(part);
            }
        }
        let mut digits = hex::encode(digest.finalize());
        digits.truncate(DIGITS);
        digits
    }

    /// Writes them into one file, which only its owner may read. Whoever reads it finds the old texts or the new ones, and never some of each.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            private::directory(directory)?;
        }
        let new = path.with_extension("new");
        // One that a process left that was killed may have been written by another user, or be half of it.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private::options().write(true).create_new(true).open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&new, path)
    }

    /// Reads what [`Texts::write`] has written.
    ///
    /// # Errors
    /// Where the file cannot be read, or is something else.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }
}

/// The digest alone, because texts may have secrets.
impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Texts").field(&self.digest()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn texts_are_kept_whole_and_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data").join("files.json");
        let texts = |text: &str| Texts::new([("servers.json".to_owned(), text.to_owned())].into());
        fs::create_dir_all(dir.path().join("data")).unwrap();
        fs::write(path.with_extension("new"), "half").unwrap();
        for text in ["{}", "{\"a\": []}"] {
            texts(text).write(&path).unwrap();
            assert_eq!(Texts::read(&path).unwrap(), texts(text));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(texts("a").digest(), texts("b").digest());
        assert_ne!(
            Texts::new([("ab".into(), String::new())].into()).digest(),
            Texts::new([("a".into(), "b".into())].into()).digest()
        );
        assert!(!format!("{:?}", texts("secret")).contains("secret"));
        fs::write(&path, "{").unwrap();
        assert!(Texts::read(&path).is_err());
    }
}
