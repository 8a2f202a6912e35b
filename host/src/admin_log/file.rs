//! A file of lines that is renamed when it has grown enough.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::numbered;

/// A file of lines, of bounded size, with a bounded number of older ones beside it. Only its owner may read it.
pub(super) struct Rotating {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines in the file.
    size: u64,
    max: u64,
    keep: u32,
}

impl Rotating {
    /// Opens the file at its end. A last line that was cut short by a crash is ended.
    pub fn open(path: &Path, max: u64, keep: u32) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut file = begin(path)?;
        let mut size = file.seek(SeekFrom::End(0))?;
        if size > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok(Rotating { path: path.to_owned(), file, size, max, keep })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines: all of them, or none.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.size > 0 && self.size + lines.len() as u64 > self.max {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(lines) {
            // Half a line would spoil the one that follows. Where even this fails, the next line that is written begins anew.
            let _ = self.file.set_len(self.size);
            return Err(error);
        }
        self.size += lines.len() as u64;
        Ok(())
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Renames the file, and those before it, and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        for number in (1..self.keep).rev() {
            gone(fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1)))?;
        }
        if self.keep == 0 {
            gone(fs::remove_file(&self.path))?;
        } else {
            gone(fs::rename(&self.path, numbered(&self.path, 1)))?;
        }
        self.file = begin(&self.path)?;
        self.size = self.file.metadata()?.len();
        Ok(())
    }
}

fn begin(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}
