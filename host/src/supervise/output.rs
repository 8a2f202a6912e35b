//! What a program writes, line by line. Long lines are cut.

use std::collections::VecDeque;
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
use crate::util::outlet::{self, Outlet};

/// The longest line, bytes. A longer one is cut.
const MAX_LINE: usize = 8 * 1024;
/// Lines of standard error that are remembered.
const LAST_LINES: usize = 10;
/// The longest remembered line, bytes. A longer one is cut.
const LAST_LINE: usize = 512;
/// Lines that wait for the task that prints them, which never waits itself.
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
/// No program is held up by a stream of ours that nobody reads: lines that find no room are dropped there, and counted.
pub fn print_lines() -> LineSink {
    print_to(outlet::stdout().clone(), outlet::stderr().clone())
}

fn print_to(out: Outlet, err: Outlet) -> LineSink {
    let (sink, mut lines) = mpsc::channel::<Line>(WAITING_LINES);
    tokio::spawn(async move {
        while let Some(Line { id, error, text }) = lines.recv().await {
            let stream = if error { &err } else { &out };
            stream.line(format!("[{id}] {text}\n").as_bytes());
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
    use std::io::{self, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::util::write_whole;

    fn line(number: usize) -> Line {
        Line { id: "chat-1".into(), error: number % 2 == 1, text: number.to_string() }
    }

    #[tokio::test]
    async fn programs_go_on_where_nobody_reads_a_stream() {
        let (mut full, _reader) = UnixStream::pair().unwrap();
        full.set_nonblocking(true).unwrap();
        while full.write(&[b'-'; 4096]).is_ok() {}
        let blocks = move |line: &[u8]| write_whole(&full, line);
        let sink = print_to(Outlet::new(100, blocks), Outlet::new(100, |_| Err(io::ErrorKind::BrokenPipe.into())));
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
