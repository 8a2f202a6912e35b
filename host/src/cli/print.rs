//! What commands print: answers to standard output, notes to standard error.
//!
//! Every command prints through this file, because `println!` panics where the stream cannot be written to. A stream that another process has made
//! non-blocking is waited for, so that nothing is lost. Lines of the log go the same way.
//!
//! What steers a terminal is escaped here, whoever has written it: no text of a server, a module or a peer moves the cursor, ends a line of
//! its own, or hides what it says. What is to be printed as it is says so: [`raw`] and [`clear`].
//!
//! A command waits for whoever reads it. A host must not: its lines go through [`outlet`], and are dropped where nobody reads them.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::util::visible::{escaped, escaped_lines};
use crate::util::{outlet, write_whole};

/// How long the end of a host waits until what it has said is read.
const END: Duration = Duration::from_secs(1);

/// Whether this process is a host.
static IS_HOST: AtomicBool = AtomicBool::new(false);

/// From now on nothing that is printed is waited for.
pub(super) fn as_host() {
    IS_HOST.store(true, Ordering::Relaxed);
}

fn is_host() -> bool {
    IS_HOST.load(Ordering::Relaxed)
}

/// Waits until what a host has printed is read, at most a second for each of the two streams. Commands wait at each line.
pub(super) fn flush() {
    if is_host() {
        outlet::stderr().flush(END);
        outlet::stdout().flush(END);
    }
}

/// Standard output cannot be written to: the disk is full, for example.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written to")]
pub(super) struct Unprinted(#[from] io::Error);

/// Prints a line to standard output. Waits as long as its reader does not read.
///
/// # Errors
/// Where not all of it could be written.
pub(super) fn line(text: impl Display) -> Result<(), Unprinted> {
    raw(&format!("{}\n", escaped(&text.to_string())))
}

/// Prints a text of several lines to standard output, as [`line()`] does.
pub(super) fn lines(text: impl Display) -> Result<(), Unprinted> {
    all(&format!("{text}\n"))
}

/// Prints JSON to standard output, as [`line()`] does. It means the same, and its strings have nothing that steers a terminal.
pub(super) fn json(text: impl Display) -> Result<(), Unprinted> {
    // Between two parts of it a peer may have put any blank.
    lines(text.to_string().replace('\r', " "))
}

/// Prints lines to standard output, as [`line()`] does, each with its end.
pub(super) fn all(text: &str) -> Result<(), Unprinted> {
    raw(&escaped_lines(text))
}

/// Clears the terminal and goes to its first line.
pub(super) fn clear() -> Result<(), Unprinted> {
    raw("\x1b[2J\x1b[H")
}

/// Prints a text to standard output as it is, with all that may steer the terminal.
pub(super) fn raw(text: &str) -> Result<(), Unprinted> {
    if is_host() {
        outlet::stdout().line(text.as_bytes());
        return Ok(());
    }
    Ok(write_whole(io::stdout(), text.as_bytes())?)
}

/// Prints a line to standard error. One that cannot be printed is lost, because there is nowhere else to say so.
pub(super) fn note(text: impl Display) {
    let _ = StandardError.write_all(format!("{}\n", escaped(&text.to_string())).as_bytes());
}

/// Prints a text of several lines to standard error, as [`note`] does.
pub(super) fn notes(text: impl Display) {
    let _ = StandardError.write_all(format!("{}\n", escaped_lines(&text.to_string())).as_bytes());
}

/// A text for a place that this file does not print to, such as a bar of progress: in one line, in which nothing steers.
pub(super) fn shown(text: &str) -> String {
    escaped(text).into_owned()
}

/// Prints the text of `--help` or `--version`, with styles on a terminal.
pub(super) fn help(said: &clap::Error) -> Result<(), Unprinted> {
    if io::stdout().is_terminal() {
        return Ok(said.print()?);
    }
    all(&said.render().to_string())
}

/// Standard error as a writer of whole lines, which waits where the stream is non-blocking. Not buffered, but for a host.
pub(super) struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if is_host() {
            outlet::stderr().line(bytes);
            return Ok(bytes.len());
        }
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
