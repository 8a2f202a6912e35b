//! What commands print: answers to standard output, notes to standard error.
//!
//! Every command prints through this file, because `println!` panics where the stream cannot be written to. A stream that another process has made
//! non-blocking is waited for, so that nothing is lost. Lines of the log go the same way.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

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
    Ok(write_all(io::stdout().as_fd(), text.as_bytes())?)
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
        let _whole = io::stderr().lock();
        write_all(io::stderr().as_fd(), bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(stream: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(stream, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => room(stream)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until a stream can be written to, or has an error that the next attempt to write will tell.
fn room(stream: BorrowedFd<'_>) -> io::Result<()> {
    match poll(&mut [PollFd::new(stream, PollFlags::POLLOUT)], PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a5_a_stream_that_is_non_blocking_is_waited_for_and_loses_nothing() {
        let (stream, mut reader) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        // More than the system keeps for a reader that does not read yet.
        let text: String = (0..200_000).map(|number| format!("{number}\n")).collect();
        let read = std::thread::spawn(move || {
            let mut read = String::new();
            reader.read_to_string(&mut read).unwrap();
            read
        });
        write_all(stream.as_fd(), text.as_bytes()).unwrap();
        drop(stream);
        assert!(read.join().unwrap() == text);
    }

    #[test]
    fn a5_a_stream_that_is_full_is_an_error_with_its_cause() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = anyhow::Error::from(Unprinted(write_all(full.as_fd(), b"text").unwrap_err()));
        assert!(format!("{error:#}").starts_with("standard output cannot be written to: No space left"), "{error:#}");
    }
}
