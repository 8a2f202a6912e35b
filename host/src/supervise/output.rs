//! What a program writes, line by line. Long lines are cut.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufRead, AsyncRead, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Ring;
use crate::util::line_reader::{LineRead, read_line};
use crate::util::write_whole;

/// The longest line, bytes. A longer one is cut.
const MAX_LINE: usize = 8 * 1024;
/// Lines of standard error that are remembered.
const LAST_LINES: usize = 10;
/// The longest remembered line, bytes. A longer one is cut.
const LAST_LINE: usize = 512;
/// Lines that wait to be printed. A program that writes faster is blocked, as by any full pipe.
const WAITING_LINES: usize = 256;
/// How long to wait for the rest of the output after the program has ended. The wait is bounded because a descendant outside the group may keep the
/// pipe open.
const REST: Duration = Duration::from_millis(500);

/// Where the output of a program goes.
#[derive(Clone)]
pub enum Output {
    /// To this host's own output.
    Inherit,
    /// Line by line into a channel, such as that of [`print_lines`].
    Lines(LineSink),
    /// As `Lines`, and the ring keeps the newest lines.
    Kept(LineSink, Arc<Ring>),
}

/// Takes the lines of programs. A program is blocked while it is full.
pub type LineSink = mpsc::Sender<Line>;

/// A line that a program wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// [`super::Spec::id`] of the program.
    pub id: Arc<str>,
    /// Whether it was written to standard error.
    pub error: bool,
    /// The line without its end. Bytes that are not UTF-8 are replaced, and a line that is too long is cut.
    pub text: String,
}

/// Prints lines as `[id] text`, each to the stream of ours that corresponds to its own. Ends with the last sink.
///
/// A stream that is full is waited for, also a non-blocking one, and programs are blocked meanwhile. Where a stream cannot be written to, because its
/// reader has gone for example, its lines are lost and the programs go on.
pub fn print_lines() -> LineSink {
    // Locked, because a log line of this process must not come between the parts of a line.
    print_to(|line| write_whole(io::stdout().lock(), line), |line| write_whole(io::stderr().lock(), line))
}

fn print_to(
    out: impl Fn(&[u8]) -> io::Result<()> + Send + Sync + 'static,
    err: impl Fn(&[u8]) -> io::Result<()> + Send + Sync + 'static,
) -> LineSink {
    let (sink, mut lines) = mpsc::channel::<Line>(WAITING_LINES);
    let streams = Arc::new((out, err));
    tokio::spawn(async move {
        while let Some(Line { id, error, text }) = lines.recv().await {
            let (streams, line) = (streams.clone(), format!("[{id}] {text}\n"));
            // In a thread of its own, because a stream that is full blocks.
            let written = tokio::task::spawn_blocking(move || match error {
                true => streams.1(line.as_bytes()),
                false => streams.0(line.as_bytes()),
            });
            let _ = written.await;
        }
    });
    sink
}

impl Output {
    pub(super) fn stdio(&self) -> Stdio {
        match self {
            Output::Inherit => Stdio::inherit(),
            Output::Lines(_) | Output::Kept(..) => Stdio::piped(),
        }
    }
}

/// The readers of one process.
#[derive(Default)]
pub(super) struct Readers {
    tasks: Vec<JoinHandle<()>>,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl Readers {
    /// Reads a stream until its end.
    pub(super) fn read(
        &mut self,
        stream: impl AsyncRead + Send + Unpin + 'static,
        id: Arc<str>,
        error: bool,
        sink: LineSink,
        ring: Option<Arc<Ring>>,
    ) {
        let last = error.then(|| self.last.clone());
        self.tasks.push(tokio::spawn(async move {
            let mut stream = BufReader::with_capacity(MAX_LINE, stream);
            while let Some(text) = next_line(&mut stream).await {
                if let Some(last) = &last {
                    let mut last = last.lock();
                    if last.len() == LAST_LINES {
                        last.pop_front();
                    }
                    last.push_back(cut(text.clone(), LAST_LINE));
                }
                if let Some(ring) = &ring {
                    ring.push(error, &text);
                }
                // The stream is read even if nobody takes the lines, because the program would stop at a full pipe.
                let _ = sink.send(Line { id: id.clone(), error, text }).await;
            }
        }));
    }

    /// Waits for the rest of the output, at most for [`REST`], and returns the last lines of standard error.
    pub(super) async fn finish(&mut self) -> Vec<String> {
        let mut tasks = mem::take(&mut self.tasks);
        let all = futures_util::future::join_all(tasks.iter_mut());
        if tokio::time::timeout(REST, all).await.is_err() {
            tasks.iter().for_each(JoinHandle::abort);
        }
        self.last.lock().iter().cloned().collect()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The next line, cut to [`MAX_LINE`].
async fn next_line(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut line = Vec::new();
    // One byte more than the limit is read, because the line may end in `\r`, and because `cut` must see that the line is too long.
    match read_line(stream, &mut line, MAX_LINE + 1).await {
        Ok(LineRead::End) => return None,
        Err(_) if line.is_empty() => return None,
        Ok(LineRead::Longer) => {}
        Ok(LineRead::Whole) | Err(_) => drop(line.pop_if(|last| *last == b'\r')),
    }
    Some(cut(String::from_utf8_lossy(&line).into_owned(), MAX_LINE))
}

fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn to(stream: impl AsFd + Send + Sync + 'static) -> impl Fn(&[u8]) -> io::Result<()> + Send + Sync + 'static {
        move |line| write_whole(&stream, line)
    }

    fn line(number: usize) -> Line {
        Line { id: "chat-1".into(), error: number % 2 == 1, text: number.to_string() }
    }

    #[tokio::test]
    async fn a_non_blocking_stream_that_is_full_gets_every_line_once_it_is_read() {
        let (mut stream, mut reader) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut before = 0;
        while let Ok(written) = stream.write(&[b'-'; 4096]) {
            before += written;
        }
        let sink = print_to(to(stream.try_clone().unwrap()), to(stream));
        // One more than can wait, so that one is being written when nobody reads yet.
        for number in 0..=WAITING_LINES {
            sink.send(line(number)).await.unwrap();
        }
        drop(sink);
        let read = tokio::task::spawn_blocking(move || {
            let mut read = String::new();
            reader.read_to_string(&mut read).unwrap();
            read
        });
        let read = read.await.unwrap();
        let wanted: String = (0..=WAITING_LINES).map(|number| format!("[chat-1] {number}\n")).collect();
        assert!(read[before..] == wanted, "{}", &read[before..]);
    }

    #[tokio::test]
    async fn programs_go_on_where_a_stream_is_not_read_any_more_or_cannot_be_written_to() {
        let (gone, reader) = UnixStream::pair().unwrap();
        gone.set_nonblocking(true).unwrap();
        drop(reader);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let sink = print_to(to(gone), to(full));
        let all = async {
            // More than can wait.
            for number in 0..4 * WAITING_LINES {
                sink.send(line(number)).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all).await.expect("no program waits");
    }

    #[tokio::test]
    async fn lines_are_bounded_and_none_is_lost() {
        let long = "x".repeat(3 * MAX_LINE);
        let text = format!("one\r\n\n{long}\nlast without end");
        let mut stream = BufReader::with_capacity(100, text.as_bytes());
        assert_eq!(next_line(&mut stream).await.as_deref(), Some("one"));
        assert_eq!(next_line(&mut stream).await.as_deref(), Some(""));
        let cut = next_line(&mut stream).await.unwrap();
        assert_eq!((cut.len(), cut.ends_with("x…")), (MAX_LINE + '…'.len_utf8(), true));
        assert_eq!(next_line(&mut stream).await.as_deref(), Some("last without end"));
        assert_eq!(next_line(&mut stream).await, None);
    }
}
