//! A file of lines that is renamed when it has grown enough.
//!
//! The admin log and the output of programs are kept in such files. Nothing here knows what the lines say, nor which thread writes.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::private;

/// What is done with lines for which a new file is needed that cannot be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The present file grows beyond its size, because a file that is too long is better than a gap.
    Grow,
    /// The lines are refused, because the size on the disk is what counts.
    Refuse,
}

/// A file of lines, of bounded size, with a bounded number of older ones beside it. Only its owner may read it.
#[derive(Debug)]
pub struct Rotating {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines in the file.
    size: u64,
    max: u64,
    keep: u32,
    overflow: Overflow,
    /// The last attempt to begin a new file has failed.
    stuck: bool,
}

impl Rotating {
    /// Opens the file at its end, and makes it and its directory if they are missing. If a crash cut the last line short, ends that line. When the file
    /// would have more than `max` bytes, a new one is begun, and at most `keep` older ones stand beside it as `FILE.1` (the youngest), `FILE.2`, ….
    ///
    /// # Errors
    /// If the file or its directory cannot be made, read or written.
    pub fn open(path: &Path, max: u64, keep: u32, overflow: Overflow) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            private::directory(directory)?;
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
        Ok(Rotating { path: path.to_owned(), file, size, max, keep, overflow, stuck: false })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines: all of them, or none.
    ///
    /// # Errors
    /// If the disk is full, for example.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.size > 0 && self.size + lines.len() as u64 > self.max {
            match self.rotate() {
                Ok(()) => self.stuck = false,
                Err(error) if self.overflow == Overflow::Refuse => return Err(error),
                Err(error) if !self.stuck => {
                    self.stuck = true;
                    tracing::error!(file = %self.path.display(), %error, "no new file can be begun in the place of this one, which grows beyond its size until then");
                }
                Err(_) => {}
            }
        }
        if let Err(error) = self.file.write_all(lines) {
            // Half a line would spoil the one that follows. An error here is ignored, because nothing better can be done.
            let _ = self.file.set_len(self.size);
            return Err(error);
        }
        self.size += lines.len() as u64;
        Ok(())
    }

    /// Waits until the lines are on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Begins a new file, renames this one and the older ones, and puts the new one into its place. If that fails half way, nothing is lost: this file can
    /// still be written, and the next attempt goes on from there.
    fn rotate(&mut self) -> io::Result<()> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let file = begin(&new)?;
        file.set_len(0)?;
        // If it is not there, an attempt that failed has renamed it already.
        if self.keep > 0 && self.path.try_exists()? {
            // Only the files before the first free number are moved, so that what a failed attempt has moved is not moved again.
            let free = (1..self.keep).find(|number| !numbered(&self.path, *number).exists()).unwrap_or(self.keep);
            for number in (1..free).rev() {
                fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1))?;
            }
            fs::rename(&self.path, numbered(&self.path, 1))?;
        }
        fs::rename(&new, &self.path)?;
        (self.file, self.size) = (file, 0);
        Ok(())
    }
}

fn begin(path: &Path) -> io::Result<File> {
    let file = private::options().read(true).append(true).create(true).open(path)?;
    private::close_to_others(&file)?;
    Ok(file)
}

/// The name of an older file: `FILE.NUMBER`.
pub fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
