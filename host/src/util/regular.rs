//! Reads whole files that others have put somewhere: only files, and only up to a size. What else may have a file's name could hold up or end whoever
//! reads it: a named pipe waits for a writer, a device may have no end.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It cannot be opened or read now.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// There is something else under its name.
    #[error("it is {0}, not a file")]
    Other(&'static str),
    /// It is too large.
    #[error("it has {size} bytes; at most {most} are read")]
    Large {
        /// Its size.
        size: u64,
        /// The largest.
        most: u64,
    },
}

impl From<Unread> for io::Error {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Io(error) => error,
            Unread::Other(_) => io::Error::other(unread.to_string()),
            Unread::Large { .. } => io::Error::new(io::ErrorKind::FileTooLarge, unread),
        }
    }
}

/// Reads a file of at most `most` bytes. Links are followed. Does not wait for anybody but the disk.
///
/// # Errors
/// [`Unread`].
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, Unread> {
    // Looked at before it is opened as well, because opening some devices does something.
    check(&std::fs::metadata(path)?, most)?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    check(&found, most)?;
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        size if size > most => Err(Unread::Large { size, most }),
        _ => Ok(bytes),
    }
}

fn check(found: &Metadata, most: u64) -> Result<(), Unread> {
    if !found.is_file() {
        return Err(Unread::Other(kind(found)));
    }
    match found.len() {
        size if size > most => Err(Unread::Large { size, most }),
        _ => Ok(()),
    }
}

/// What something is, in words.
pub fn kind(found: &Metadata) -> &'static str {
    let kind = found.file_type();
    match () {
        () if kind.is_file() => "a file",
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_block_device() || kind.is_char_device() => "a device",
        () => "something else",
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn only_files_are_read_and_only_up_to_a_size() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "12345").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(read(&at("file"), 5).unwrap(), b"12345");
        assert_eq!(read(&at("link"), 5).unwrap(), b"12345");
        let why = |path: &Path, most| read(path, most).unwrap_err().to_string();
        assert_eq!(why(&at("file"), 4), "it has 5 bytes; at most 4 are read");
        assert_eq!(why(&at("pipe"), 5), "it is a named pipe, not a file");
        assert_eq!(why(&at("socket"), 5), "it is a socket, not a file");
        assert_eq!(why(dir.path(), 5), "it is a directory, not a file");
        assert_eq!(why(Path::new("/dev/zero"), 5), "it is a device, not a file");
        assert!(why(&at("loop"), 5).contains("symbolic links"));
        assert!(why(&at("none"), 5).starts_with("it cannot be read: "));
    }
}
