//! Directories and files that nobody but this user may read, whatever the umask is.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The mode of files.
pub const FILE: u32 = 0o600;
/// The mode of directories.
pub const DIRECTORY: u32 = 0o700;

/// Makes a directory, and those above it that are missing, for this user alone. One that is there stays as it is, because its owner may have opened it
/// on purpose.
///
/// # Errors
/// As [`std::fs::create_dir_all`].
pub fn directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY).create(path)
}

/// How a file is opened that is made for this user alone where it is missing.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE);
    options
}

/// Takes from others what they may do with a file that is there already. A file of another user is left as it is.
///
/// # Errors
/// Where the file's metadata cannot be read or changed.
pub fn close_to_others(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.mode() & 0o077 == 0 || metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(metadata.mode() & 0o7700))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone_and_what_is_there_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let (outer, inner) = (dir.path().join("a"), dir.path().join("a/b"));
        directory(&inner).unwrap();
        directory(&inner).unwrap();
        assert_eq!((mode(&outer), mode(&inner)), (0o700, 0o700));
        let path = inner.join("file");
        let file = options().write(true).create(true).truncate(false).open(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        file.set_permissions(Permissions::from_mode(0o644)).unwrap();
        close_to_others(&file).unwrap();
        assert_eq!(mode(&path), 0o600);
        std::fs::set_permissions(&outer, Permissions::from_mode(0o755)).unwrap();
        directory(&inner).unwrap();
        assert_eq!(mode(&outer), 0o755, "who has opened it keeps it open");
    }
}
