//! What a host says of the files that it has in force, for whoever hands them on to other hosts or tells of them, and their bytes.

use std::sync::Arc;

use super::kept::blocking;
use super::registry::{FileRefusal, Registry};
use super::source::Origin;
use super::table::Unit;
use crate::failure::{Failure, code};
use crate::util::regular;
use crate::versions::{digest_of, short};
use crate::wire::FileVersion;

/// A file that is in force or was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Its name without the ending.
    pub name: String,
    /// The version in force; absent where none is.
    pub version: Option<FileVersion>,
    /// Whether that is in the directory of files that the master hands on.
    pub from_master: bool,
    /// Which of its handlers keeps trapping and is put aside for more than a single caller, as a sentence: the first of them.
    pub put_aside: Option<String>,
    /// The newest file of that name, where it was refused.
    pub refused: Option<Refused>,
}

/// A file that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why, as a sentence.
    pub why: String,
    /// Sha-256 of the file, in hexadecimal; absent where it was not read.
    pub digest: Option<String>,
    /// Whether the host is at fault and not the file, so that it is tried again.
    pub passing: bool,
}

impl Registry {
    /// The files that are in force or were refused, without the built-in modules, in the order of their names.
    pub fn files(&self) -> Vec<FileStatus> {
        let refused =
            |refusal: FileRefusal| Refused { why: refusal.why, digest: refusal.digest, passing: refusal.passing };
        // Both at one moment, because a file that is in neither for a moment is taken for one that is gone.
        let (units, mut refusals) = {
            let table = self.table.read();
            let own = table.units.values().filter(|unit| matches!(unit.origin, Origin::File(_)));
            (own.cloned().collect::<Vec<_>>(), self.whole_refusals())
        };
        let status = |unit: Arc<Unit>| {
            let module = unit.module();
            let (inspection, aside) = (module.inspection(), module.put_aside());
            // One caller alone can choose a message that traps it.
            let aside = aside.iter().find(|aside| aside.of.caller.is_none()).map(|aside| {
                format!("its {} keeps trapping and is put aside for {}", aside.handler.as_str(), aside.of)
            });
            FileStatus {
                name: unit.name.clone(),
                version: Some(FileVersion { digest: inspection.digest.clone(), size: inspection.size as u64 }),
                from_master: self.is_from_master(&unit.origin),
                put_aside: aside,
                refused: refusals.remove(&unit.name).map(refused),
            }
        };
        let mut files: Vec<FileStatus> = units.into_iter().map(status).collect();
        // A directory has a slash at its end, and no file's name has one.
        let others = refusals.into_iter().filter(|(name, _)| !name.ends_with('/'));
        files.extend(others.map(|(name, why)| FileStatus {
            name,
            version: None,
            from_master: false,
            put_aside: None,
            refused: Some(refused(why)),
        }));
        files.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        files
    }

    /// The bytes of a version of a file that is in force or was kept.
    ///
    /// # Errors
    /// `not-found` where this host has them no longer.
    pub async fn bytes_of(&self, name: &str, digest: &str) -> Result<Arc<[u8]>, Failure> {
        let unit = self.table.read().units.get(name).cloned();
        let unit = unit.filter(|unit| unit.module().inspection().digest == digest);
        if let Some(bytes) = unit.as_ref().and_then(|unit| unit.bytes.lock().clone()) {
            return Ok(bytes);
        }
        let path = unit.and_then(|unit| match &unit.origin {
            Origin::File(path) => Some(path.clone()),
            Origin::BuiltIn => None,
        });
        let versions = self.settings().versions.clone();
        let (asked, wanted) = (name.to_owned(), digest.to_owned());
        // Where nothing is kept on disk, the bytes of all that is in force are in memory.
        let found = blocking(move || {
            let versions = versions?;
            let kept = versions.of(&asked).ok().and_then(|kept| {
                let version = kept.into_iter().find(|version| version.digest == wanted)?;
                versions.read(&asked, &version).ok()
            });
            kept.or_else(|| {
                let bytes = regular::read(&path?, versions.max_file()).ok()?;
                (digest_of(&bytes) == wanted).then(|| bytes.into())
            })
        });
        let gone = || {
            let message = format!("version {} of {name}.wasm is not there any more", short(digest));
            Failure::new(code::NOT_FOUND, message)
        };
        found.await?.ok_or_else(gone)
    }
}
