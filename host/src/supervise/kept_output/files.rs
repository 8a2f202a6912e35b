//! The files of a server's output, from the oldest to the newest or the other way round.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::FILE;
use super::line::parse;
use crate::util::rotating::numbered;

/// Files that are looked for; as many as `[logs] keep` may be, and the present one.
const MAX_FILES: u32 = 1001;
/// Bytes that are read at a time from the end of a file.
const CHUNK: u64 = 64 << 10;
/// The longest line that is understood, bytes.
const MAX_LINE: u64 = 64 << 10;

/// The files that there are, opened. Those that are renamed meanwhile are still the same.
pub(super) struct Files(Vec<OneFile>);

pub(super) struct OneFile {
    file: File,
    /// Bytes when it was opened.
    len: u64,
    /// When it was last written to, milliseconds since 1970.
    pub(super) modified: u64,
}

impl Files {
    /// Opens all files of a directory. There need be none.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE);
        let (mut files, mut seen) = (Vec::new(), Vec::new());
        // The newest first: what is renamed meanwhile is found twice, and nothing is missed.
        for number in 0..MAX_FILES {
            let path = if number == 0 { path.clone() } else { numbered(&path, number) };
            let file = match File::open(&path) {
                Ok(file) => file,
                // While files are renamed, the present one can be away for a moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            let metadata = file.metadata()?;
            if !metadata.is_file() || seen.contains(&metadata.ino()) {
                continue;
            }
            seen.push(metadata.ino());
            let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let modified = modified.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
            files.push(OneFile { file, len: metadata.len(), modified });
        }
        files.reverse();
        Ok(Files(files))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of the last line; 0 if there is none.
    pub(super) fn last(&self) -> io::Result<u64> {
        for file in self.0.iter().rev() {
            let mut last = None;
            file.backwards(|line| {
                last = parse(line).map(|line| line.n);
                last.is_none()
            })?;
            if let Some(last) = last {
                return Ok(last);
            }
        }
        Ok(0)
    }

    /// The files from the newest to the oldest.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &OneFile> {
        self.0.iter().rev()
    }

    /// The files that may have lines after number `since`, the oldest first.
    pub(super) fn after(&self, since: u64) -> io::Result<impl Iterator<Item = &OneFile>> {
        let mut first = 0;
        for (index, file) in self.0.iter().enumerate().skip(1) {
            match file.first()? {
                Some(n) if n <= since.saturating_add(1) => first = index,
                _ => {}
            }
        }
        Ok(self.0.iter().skip(first))
    }
}

impl OneFile {
    /// The number of the first line.
    fn first(&self) -> io::Result<Option<u64>> {
        let mut first = None;
        self.forwards(0, |line| {
            first = parse(line).map(|line| line.n);
            first.is_none()
        })?;
        Ok(first)
    }

    /// Hands on the whole lines from the last to the first, until `each` says that it is enough. Returns whether it went through all.
    pub(super) fn backwards(&self, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<bool> {
        let (mut position, mut rest) = (self.len, Vec::new());
        // The last line has an end, unless it is being written.
        let mut is_whole = false;
        while position > 0 {
            let from = position.saturating_sub(CHUNK);
            let mut chunk = vec![0; usize::try_from(position - from).unwrap_or(0)];
            self.file.read_exact_at(&mut chunk, from)?;
            chunk.append(&mut rest);
            position = from;
            let mut end = chunk.len();
            while let Some(newline) = chunk[..end].iter().rposition(|byte| *byte == b'\n') {
                if is_whole && !each(&chunk[newline + 1..end]) {
                    return Ok(false);
                }
                (is_whole, end) = (true, newline);
            }
            chunk.truncate(end);
            // A line that is longer than any of ours is not kept in memory.
            if chunk.len() as u64 > MAX_LINE {
                chunk.clear();
            }
            rest = chunk;
        }
        Ok(!is_whole || each(&rest))
    }

    /// Hands on the whole lines from the first after `position` on, until `each` says that it is enough. Returns whether it went through all.
    fn forwards(&self, position: u64, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<bool> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(position))?;
        let mut reader = BufReader::with_capacity(CHUNK as usize, file.take(self.len - position.min(self.len)));
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(true);
            }
            if line.pop_if(|last| *last == b'\n').is_some() && !each(&line) {
                return Ok(false);
            }
        }
    }

    /// As [`OneFile::forwards`], from the first line after number `since` on.
    pub(super) fn after(&self, since: u64, each: impl FnMut(&[u8]) -> bool) -> io::Result<bool> {
        // Lines before `low` have numbers up to `since`. Where `low` is no beginning of a line, half a line is passed over, because it is not understood.
        let (mut low, mut high) = (0, self.len);
        while high - low > CHUNK {
            let middle = low + (high - low) / 2;
            let (mut number, mut begun) = (None, false);
            self.forwards(middle, |line| {
                // The first one is the end of a line that begins before.
                if std::mem::replace(&mut begun, true) {
                    number = parse(line).map(|line| line.n);
                }
                number.is_none()
            })?;
            match number {
                Some(number) if number <= since => low = middle,
                _ => high = middle,
            }
        }
        let mut each = each;
        self.forwards(low, |line| match parse(line) {
            Some(parsed) if parsed.n <= since => true,
            _ => each(line),
        })
    }
}
