//! What commands print: answers to standard output, notes to standard error.
//!
//! Every command prints through this file, because `println!` panics where the stream cannot be written to. A stream that another process has made
//! non-blocking is waited for, so that nothing is lost. Lines of the log go the same way.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use crate::util::write_whole;

/// Standard output cannot be written to: the disk is full, for example.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written to")]
pub(super) struct Unprinted(#[from] io::Error);

/// Prints a line to standard output. Waits as long as its reader does not read.
///
/// # Errors
/// Where not all of it could be written.
pub(super) fn line(text: impl Display) -> Result<(), Unprinted> {
    all(&format!("{text}\n"))
}

/// Prints a text to standard output, as [`line`] does, without an end of line.
pub(super) fn all(text: &str) -> Result<(), Unprinted> {
    Ok(write_whole(io::stdout(), text.as_bytes())?)
}

/// Prints a line to standard error. One that cannot be printed is lost, because there is nowhere else to say so.
pub(super) fn note(text: impl Display) {
    let _ = StandardError.write_all(format!("{text}\n").as_bytes());
}

/// Prints the text of `--help` or `--version`, with styles on a terminal.
pub(super) fn help(said: &clap::Error) -> Result<(), Unprinted> {
    if io::stdout().is_terminal() {
        return Ok(said.print()?);
    }
    all(&said.render().to_string())
}

/// Standard error as a writer that waits where the stream is non-blocking. Not buffered.
pub(super) struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Locked for the whole text, because a pipe takes a long line in parts, and another thread's line would come between them.
        write_whole(io::stderr().lock(), bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a5_a_stream_that_is_full_is_an_error_with_its_cause() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = anyhow::Error::from(Unprinted(write_whole(&full, b"text").unwrap_err()));
        assert!(format!("{error:#}").starts_with("standard output cannot be written to: No space left"), "{error:#}");
    }
}
