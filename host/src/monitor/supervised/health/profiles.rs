//! The CPU profiles that are taken before a restart: files in the folder `profiles` of the server's data directory, of which the newest few are kept.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use tempfile::NamedTempFile;

use crate::failure::{Failure, code};
use crate::util::private;

/// The folder.
const FOLDER: &str = "profiles";
/// Profiles of one server that are kept.
const KEPT: usize = 5;

/// Keeps a profile of that process in the folder of a data directory, and removes the oldest where there are more than five. The new file.
///
/// # Errors
/// `failed` where the file cannot be written.
pub(super) async fn save(dir: PathBuf, pid: u32, profile: Box<RawValue>) -> Result<PathBuf, Failure> {
    let folder = dir.join(FOLDER);
    let kept = folder.clone();
    let done = tokio::task::spawn_blocking(move || keep(&folder, pid, Utc::now(), profile.get())).await;
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(code::FAILED, format!("the profile cannot be kept in {}: {why}", kept.display()))
    };
    done.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

fn keep(folder: &Path, pid: u32, now: DateTime<Utc>, profile: &str) -> io::Result<PathBuf> {
    private::directory(folder)?;
    // The names are in the order of time. No colon, which some systems refuse.
    let path = folder.join(format!("{}-{pid}.json", now.format("%Y-%m-%dT%H-%M-%S%.3fZ")));
    // A file of another name first, so that nobody finds half a profile.
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(profile.as_bytes())?;
    file.persist(&path).map_err(|error| error.error)?;
    let mut names: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    names.sort_unstable();
    for old in names.iter().rev().skip(KEPT) {
        // What cannot be removed now is tried with the next profile.
        if let Err(error) = fs::remove_file(old) {
            tracing::warn!(file = %old.display(), %error, "an old profile cannot be removed");
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_newest_profiles_are_kept_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(FOLDER);
        let begun = DateTime::UNIX_EPOCH;
        let paths: Vec<PathBuf> = (0..8)
            .map(|turn| {
                keep(&folder, 100 - turn, begun + Duration::from_secs(turn.into()), &format!("{turn}")).unwrap()
            })
            .collect();
        fs::write(folder.join("notes.txt"), "").unwrap();
        keep(&folder, 7, begun + Duration::from_millis(7500), "new").unwrap();
        assert!(folder.join("notes.txt").exists());
        let left: Vec<bool> = paths.iter().map(|path| path.exists()).collect();
        assert_eq!(left, [false, false, false, false, true, true, true, true]);
        assert_eq!(fs::read_to_string(folder.join("1970-01-01T00-00-07.500Z-7.json")).unwrap(), "new");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), KEPT + 1);
    }
}
