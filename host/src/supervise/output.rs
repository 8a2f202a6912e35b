//! What a program writes, line by line. Long lines are cut.

use std::collections::VecDeque;
use std::mem;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Ring;
use crate::util::line_reader::{LineRead, read_line};

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

/// Prints lines as `[id] text`, each to this host's standard output or standard error, as it was written. Ends with the last sink.
pub fn print_lines() -> LineSink {
    let (sink, mut lines) = mpsc::channel::<Line>(WAITING_LINES);
    tokio::spawn(async move {
        let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
        while let Some(Line { id, error, text }) = lines.recv().await {
            let line = format!("[{id}] {text}\n");
            // If nobody reads this host's output any more, lines are lost, because the programs must not stop.
            let _ = if error { err.write_all(line.as_bytes()).await } else { out.write_all(line.as_bytes()).await };
            let _ = if error { err.flush().await } else { out.flush().await };
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
    use super::*;

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
