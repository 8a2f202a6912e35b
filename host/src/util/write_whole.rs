//! Writes to streams that other processes share, such as standard output.
//!
//! Another process that has the stream may make it non-blocking. A write is refused then while the stream is full, and `println!` panics or the text is
//! lost. What is written here waits instead.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Writes all bytes, without a buffer. Blocks as long as the stream's reader does not read.
///
/// # Errors
/// Where the stream cannot be written to, for example because its reader has gone or the disk is full. Some of the bytes may have been written.
pub fn write_whole(stream: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    let stream = stream.as_fd();
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
        write_whole(&stream, text.as_bytes()).unwrap();
        drop(stream);
        assert!(read.join().unwrap() == text);
    }

    #[test]
    fn a_full_stream_whose_reader_goes_is_an_error_and_not_waited_for() {
        let (stream, reader) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        let written = std::thread::spawn(move || write_whole(&stream, &vec![b'-'; 10_000_000]));
        drop(reader);
        assert_eq!(written.join().unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
