//! Lines for a stream whose reader may stop reading: a terminal after Ctrl-S, or a pipe that nobody reads.
//!
//! Whoever has a line never waits. A thread of its own writes the lines, and waits for the reader. Lines that find no room are dropped and counted. A
//! line says how many are missing, at their place, when the reader reads again.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::write_whole;

/// Bytes that wait for a stream at most.
const ROOM: usize = 1 << 20;

/// A stream's lines. Clones are the same stream.
#[derive(Clone)]
pub struct Outlet(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    /// Told when there is a line, and when one was written.
    changed: Condvar,
    room: usize,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that were dropped since the last line that says so.
    dropped: u64,
    /// Whether the thread writes a line.
    writing: bool,
}

impl Outlet {
    /// Starts a thread that writes each line with `write`, which may block. Lines that cannot be written are lost. At most `room` bytes wait.
    pub fn new(room: usize, write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> Self {
        let shared = Arc::new(Shared { waiting: Mutex::default(), changed: Condvar::new(), room });
        let writer = shared.clone();
        let started = thread::Builder::new().name("outlet".into()).spawn(move || writer.write_all(write));
        if let Err(error) = started {
            // Nothing is lost but words: lines wait until there is no room, and are counted from then on.
            tracing::error!(%error, "no thread can be started that prints");
        }
        Outlet(shared)
    }

    /// Takes a line with its end. Never blocks.
    pub fn line(&self, line: &[u8]) {
        let mut waiting = self.0.waiting.lock();
        if waiting.bytes + line.len() > self.0.room {
            waiting.dropped += 1;
            metrics::counter!("pomelo_output_lines_dropped_total", "at" => "print").increment(1);
            return;
        }
        if waiting.dropped > 0 {
            waiting.tell_dropped();
        }
        waiting.push(line.to_vec());
        self.0.changed.notify_all();
    }

    /// How many lines were dropped since the last one that says so.
    fn dropped(&self) -> u64 {
        self.0.waiting.lock().dropped
    }

    /// Waits until all lines are written, at most for that time. Returns whether they are. Blocks the thread.
    pub fn flush(&self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        let mut waiting = self.0.waiting.lock();
        while waiting.writing || !waiting.lines.is_empty() {
            if self.0.changed.wait_until(&mut waiting, until).timed_out() {
                return false;
            }
        }
        true
    }
}

impl Waiting {
    fn push(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    fn tell_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        self.push(format!("pomelo: {dropped} lines are missing here, because nobody read them\n").into_bytes());
    }
}

impl Shared {
    fn write_all(&self, mut write: impl FnMut(&[u8]) -> io::Result<()>) {
        let mut waiting = self.waiting.lock();
        loop {
            let Some(line) = waiting.lines.pop_front() else {
                if waiting.dropped > 0 {
                    waiting.tell_dropped();
                } else {
                    self.changed.wait(&mut waiting);
                }
                continue;
            };
            waiting.writing = true;
            // It is not counted as written while it waits for the reader, so that no more than `room` is ever held.
            parking_lot::MutexGuard::unlocked(&mut waiting, || {
                // A stream that cannot be written to, for example because its reader has gone, is nothing to stop for.
                let _ = write(&line);
            });
            waiting.bytes -= line.len();
            waiting.writing = false;
            self.changed.notify_all();
        }
    }
}

static STDOUT: OnceLock<Outlet> = OnceLock::new();
static STDERR: OnceLock<Outlet> = OnceLock::new();

/// This process's standard output.
pub fn stdout() -> &'static Outlet {
    STDOUT.get_or_init(|| Outlet::new(ROOM, |line| write_whole(io::stdout(), line)))
}

/// This process's standard error.
pub fn stderr() -> &'static Outlet {
    STDERR.get_or_init(|| Outlet::new(ROOM, |line| write_whole(io::stderr(), line)))
}

/// A sentence for each of the two streams of which lines are dropped now, because nobody reads it.
pub fn unread() -> Vec<String> {
    let streams = [("standard output", &STDOUT), ("standard error", &STDERR)].into_iter();
    let dropped = streams.filter_map(|(name, stream)| Some((name, stream.get()?.dropped())));
    let unread = dropped.filter(|(_, dropped)| *dropped > 0);
    unread.map(|(name, dropped)| format!("nobody reads {name}, and {dropped} lines of it are dropped so far")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A stream that is full already, what was written to fill it, and its reader.
    fn full() -> (UnixStream, usize, UnixStream) {
        let (mut stream, reader) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut filled = 0;
        while let Ok(written) = stream.write(&[b'-'; 4096]) {
            filled += written;
        }
        (stream, filled, reader)
    }

    #[test]
    fn a_stream_that_is_full_gets_every_line_that_fits_and_one_that_counts_the_others() {
        let (stream, filled, reader) = full();
        // Room for ten lines of seven bytes.
        let outlet = Outlet::new(70, move |line| write_whole(&stream, line));
        for number in 0..30 {
            outlet.line(format!("line {}\n", number % 10).as_bytes());
        }
        assert!(!outlet.flush(Duration::ZERO), "nobody reads");
        let mut lines = BufReader::new(reader).lines();
        let mut next = || lines.next().unwrap().unwrap();
        let first = next();
        assert_eq!(&first[filled..], "line 0");
        (1..10).for_each(|number| assert_eq!(next(), format!("line {number}")));
        assert_eq!(next(), "pomelo: 20 lines are missing here, because nobody read them");
        outlet.line(b"later\n");
        assert_eq!(next(), "later");
        assert!(outlet.flush(LONG), "everything is read");
    }

    #[test]
    fn a_stream_that_cannot_be_written_to_holds_nobody_up() {
        let outlet = Outlet::new(1000, |_| Err(io::ErrorKind::BrokenPipe.into()));
        for _ in 0..1000 {
            outlet.line(b"words for nobody\n");
        }
        assert!(outlet.flush(LONG));
    }
}
