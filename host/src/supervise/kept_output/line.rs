//! The form of a line in the file: `2026-01-31T12:00:00.000Z NUMBER out|err|host TEXT`.

use std::borrow::Cow;
use std::io::Write;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::supervise::KeptLine;

/// Appends a line with its end.
pub(super) fn append(text: &mut Vec<u8>, line: &KeptLine) {
    let time = i64::try_from(line.time).ok().and_then(DateTime::<Utc>::from_timestamp_millis).unwrap_or_default();
    let stream = match (line.host, line.error) {
        (true, _) => "host",
        (false, true) => "err",
        (false, false) => "out",
    };
    let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    // Writing to memory does not fail.
    let _ = writeln!(text, "{time} {} {stream} {}", line.n, line.text);
}

/// A line of a file, whose text is not copied yet.
pub(super) struct Parsed<'a> {
    pub(super) n: u64,
    pub(super) time: u64,
    stream: &'a str,
    pub(super) text: Cow<'a, str>,
}

impl Parsed<'_> {
    pub(super) fn kept(self) -> KeptLine {
        let (error, host) = (self.stream == "err", self.stream == "host");
        KeptLine { n: self.n, time: self.time, error, host, text: self.text.into_owned() }
    }
}

/// Reads a line without its end; absent if it is none of ours, because a disk or a person has spoilt it.
pub(super) fn parse(line: &[u8]) -> Option<Parsed<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let mut word = || std::str::from_utf8(parts.next()?).ok();
    let (time, n, stream) = (word()?, word()?, word()?);
    let text = String::from_utf8_lossy(parts.next()?);
    let time = DateTime::parse_from_rfc3339(time).ok()?.timestamp_millis();
    if !["out", "err", "host"].contains(&stream) {
        return None;
    }
    Some(Parsed { n: n.parse().ok()?, time: time.try_into().ok()?, stream, text })
}
