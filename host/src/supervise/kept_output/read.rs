//! Which lines somebody wants, and those lines.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::FILE;
use super::files::Files;
use super::line::{Parsed, parse};
use crate::failure::{Failure, code};
use crate::supervise::KeptLine;

/// Lines that are read if the query does not say.
const LINES: usize = 100;
/// The most lines in one answer.
const MAX_LINES: usize = 10_000;
/// The most bytes of one answer, fewer than a module may be given.
const MAX_ANSWER: usize = 512 << 10;
/// About how many bytes a line takes in an answer beside its text.
const ABOUT_A_LINE: usize = 80;
/// Bytes that are looked through for one answer.
const MAX_SEARCHED: usize = 64 << 20;
/// Bytes of a pattern, and of what it is compiled to.
const PATTERN: (usize, usize) = (1024, 1 << 20);
/// How often the file is looked at while somebody waits for a line.
const LOOK: Duration = Duration::from_millis(200);

/// Which lines are wanted. All members are optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Query {
    /// At most so many, at most 10,000. Default 100.
    pub lines: Option<usize>,
    /// The first lines after that number. Without it, the newest lines.
    pub since: Option<u64>,
    /// Only lines of that time or later, milliseconds since 1970-01-01 00:00 UTC.
    pub from: Option<u64>,
    /// Only lines that match this regular expression, of at most 1024 bytes. What is no regular expression is looked for as it stands.
    pub grep: Option<String>,
    /// At most so many bytes in one answer, 512 KiB at most. Default 512 KiB.
    pub bytes: Option<usize>,
    /// How long to wait for a line if there is none, milliseconds.
    pub wait: u64,
}

/// Some lines of a server's output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Read {
    /// In their order.
    pub lines: Vec<KeptLine>,
    /// The number of the last line there is; 0 if there is none.
    pub last: u64,
    /// The number of the last line that was looked at. Reading goes on after it.
    pub end: u64,
    /// The time of that line.
    #[serde(rename = "endTime")]
    pub end_time: u64,
    /// Whether there are lines that were not looked at, because the answer is bounded: after `end` for a query with `since`, otherwise older ones.
    pub more: bool,
}

/// Why lines cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The pattern is too long.
    #[error("a pattern has at most {} bytes, or one that is simpler to look for", PATTERN.0)]
    Pattern,
    /// The server has no file.
    #[error("there is no output of this server")]
    NoFile,
    /// A file cannot be read.
    #[error("the output cannot be read: {0}")]
    File(#[from] io::Error),
}

impl Query {
    /// Reads a query from JSON.
    ///
    /// # Errors
    /// `bad-message`, with what is wrong.
    pub fn parse(json: &str) -> Result<Self, Failure> {
        let malformed = |error| Failure::new(code::BAD_MESSAGE, format!("malformed query: {error}"));
        serde_json::from_str(json).map_err(malformed)
    }

    fn pattern(&self) -> Result<Option<Regex>, QueryError> {
        let Some(pattern) = &self.grep else { return Ok(None) };
        if pattern.len() > PATTERN.0 {
            return Err(QueryError::Pattern);
        }
        let compiled = |pattern: &str| RegexBuilder::new(pattern).size_limit(PATTERN.1).build();
        match compiled(pattern) {
            Err(regex::Error::Syntax(_)) => {
                compiled(&regex::escape(pattern)).map_err(|_| QueryError::Pattern).map(Some)
            }
            compiled => compiled.map_err(|_| QueryError::Pattern).map(Some),
        }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        let code = match error {
            QueryError::Pattern => code::BAD_MESSAGE,
            QueryError::NoFile => code::NOT_AVAILABLE,
            QueryError::File(_) => code::FAILED,
        };
        Failure::new(code, error.to_string())
    }
}

/// What is still to be found, and what was found.
struct Search {
    pattern: Option<Regex>,
    from: u64,
    lines: usize,
    room: usize,
    to_search: usize,
    found: Vec<KeptLine>,
}

/// Whether a search goes on.
enum Step {
    /// The line was looked at.
    Seen,
    /// There is no room for the line.
    Full,
}

impl Search {
    fn look(&mut self, line: Parsed<'_>) -> Step {
        if self.found.len() >= self.lines || self.to_search == 0 {
            return Step::Full;
        }
        let matches = self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&line.text));
        if line.time >= self.from && matches {
            // A control character takes six bytes in JSON, a quote two.
            let escaped =
                line.text.bytes().filter(|byte| byte.is_ascii_control() || matches!(byte, b'"' | b'\\')).count();
            let size = line.text.len() + 5 * escaped + ABOUT_A_LINE;
            if size > self.room && !self.found.is_empty() {
                return Step::Full;
            }
            self.room = self.room.saturating_sub(size);
            self.found.push(line.kept());
        }
        Step::Seen
    }

    fn searched(&mut self, line: &[u8]) {
        self.to_search = self.to_search.saturating_sub(line.len() + 1);
    }
}

/// Reads lines of the files in a server's data directory. Blocks the thread. A number in `since` that no line has yet is of files that are gone: then
/// all lines are new.
///
/// # Errors
/// [`QueryError`].
pub fn read(directory: &Path, query: &Query) -> Result<Read, QueryError> {
    let mut search = Search {
        pattern: query.pattern()?,
        from: query.from.unwrap_or(0),
        lines: query.lines.unwrap_or(LINES).min(MAX_LINES),
        room: query.bytes.unwrap_or(MAX_ANSWER).min(MAX_ANSWER),
        to_search: MAX_SEARCHED,
        found: Vec::new(),
    };
    let files = Files::open(directory)?;
    if files.is_empty() {
        return Err(QueryError::NoFile);
    }
    let last = files.last()?;
    let Some(since) = query.since else {
        let all = newest(&files, &mut search)?;
        search.found.reverse();
        let end_time = search.found.last().map_or(0, |line| line.time);
        // Whoever asked for so many lines knows that there may be older ones.
        let more = !all && search.found.len() < search.lines;
        return Ok(Read { lines: search.found, last, end: last, end_time, more });
    };
    let since = if since > last { 0 } else { since };
    let (mut end, mut end_time, mut all) = (since, 0, true);
    for file in files.after(since)? {
        if file.modified < search.from {
            continue;
        }
        all = file.after(since, |line| {
            search.searched(line);
            let Some(parsed) = parse(line) else { return true };
            let (n, time) = (parsed.n, parsed.time);
            match search.look(parsed) {
                Step::Seen => {
                    (end, end_time) = (n, time);
                    true
                }
                Step::Full => false,
            }
        })?;
        if !all {
            break;
        }
    }
    if all && end < last && end == since {
        // All of them are older than `from`.
        end = last;
    }
    Ok(Read { lines: search.found, last, end, end_time, more: !all })
}

/// Looks from the newest line on. Returns whether all lines were looked at.
fn newest(files: &Files, search: &mut Search) -> io::Result<bool> {
    for file in files.newest_first() {
        if file.modified < search.from {
            return Ok(true);
        }
        let all = file.backwards(|line| {
            search.searched(line);
            parse(line).is_none_or(|parsed| matches!(search.look(parsed), Step::Seen))
        })?;
        if !all {
            return Ok(false);
        }
    }
    Ok(true)
}

/// As [`read`], in a thread of its own. If the query has `since` and no line is there yet, waits for one, at most as long as it says and `at_most` allows.
///
/// # Errors
/// [`QueryError`].
pub async fn read_or_wait(directory: PathBuf, mut query: Query, at_most: Duration) -> Result<Read, QueryError> {
    let until = Instant::now() + Duration::from_millis(query.wait).min(at_most);
    loop {
        let before = written(&directory).await;
        let (asked, place) = (query.clone(), directory.clone());
        let read = tokio::task::spawn_blocking(move || read(&place, &asked)).await;
        let read = read.map_err(|_| io::Error::other("it could not be looked at"))??;
        if query.since.is_none() || !read.lines.is_empty() || read.more {
            return Ok(read);
        }
        query.since = Some(read.end);
        while written(&directory).await == before {
            if Instant::now() >= until {
                return Ok(read);
            }
            tokio::time::sleep_until((Instant::now() + LOOK).min(until)).await;
        }
    }
}

/// What changes when a line is written.
async fn written(directory: &Path) -> Option<(u64, std::time::SystemTime)> {
    let metadata = tokio::fs::metadata(directory.join(FILE)).await.ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}
