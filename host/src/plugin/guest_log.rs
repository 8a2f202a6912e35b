//! What guests write to the log: the lines of `agent.log`, and those that they print.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::Context;
use super::log_budget::{LINES, LineFate};

/// Bytes that a logged line may have.
pub(super) const MAX_LINE: usize = 4096;
/// Bytes of what was printed last that a trap's failure carries.
const MAX_LAST_WORDS: usize = 512;
/// Bytes that a guest may print at a time.
const MAX_WRITE: usize = 64 << 10;

/// Logs a line of a module's, within its budget. Levels that are not known count as `info`.
pub(super) fn log(context: &Context, level: &str, mut message: Cow<'_, str>) {
    let module = context.id.as_str();
    match context.log_budget.take(Instant::now()) {
        LineFate::Logged => {}
        LineFate::LostAndTold => {
            return tracing::warn!(
                module,
                "the module logs more than {LINES} lines a second; some of them are left out"
            );
        }
        LineFate::Lost => return,
    }
    if message.len() > MAX_LINE {
        message = format!("{}…", &message[..message.floor_char_boundary(MAX_LINE)]).into();
    }
    match level {
        "error" => tracing::error!(target: "pomelo::module", module, "{message}"),
        "warn" => tracing::warn!(target: "pomelo::module", module, "{message}"),
        "debug" => tracing::debug!(target: "pomelo::module", module, "{message}"),
        "trace" => tracing::trace!(target: "pomelo::module", module, "{message}"),
        _ => tracing::info!(target: "pomelo::module", module, "{message}"),
    }
}

/// What an instance prints. Each of its lines is a line of the log, of the module id whose call it serves.
#[derive(Clone)]
pub(super) struct Printed(Arc<Mutex<Printing>>);

#[derive(Default)]
struct Printing {
    /// Absent between calls. What is printed then has no module to be logged for, and is a trap's last words at most.
    context: Option<Arc<Context>>,
    /// Unfinished lines, by [`Stream`].
    lines: [Vec<u8>; 2],
    /// What was printed last to standard error in this call.
    last_words: Vec<u8>,
}

/// Where a guest prints to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output, logged as `info`.
    Out,
    /// Standard error, logged as `warn`.
    Err,
}

impl Printing {
    fn print(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Err {
            self.last_words.extend_from_slice(&bytes[bytes.len().saturating_sub(MAX_LAST_WORDS)..]);
            let surplus = self.last_words.len().saturating_sub(MAX_LAST_WORDS);
            self.last_words.drain(..surplus);
        }
        let Some(context) = self.context.clone() else { return };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = &mut self.lines[stream as usize];
            // One byte more than a line has, so that it is seen that it is longer.
            let room = (MAX_LINE + 1).saturating_sub(line.len());
            line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end_line(&context, stream);
            }
        }
    }

    fn end_line(&mut self, context: &Context, stream: Stream) {
        let line = std::mem::take(&mut self.lines[stream as usize]);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        if !text.is_empty() {
            log(context, if stream == Stream::Err { "warn" } else { "info" }, text.into());
        }
    }
}

impl Printed {
    pub fn new() -> Self {
        Printed(Arc::default())
    }

    /// A call begins; its module id is that of the context.
    pub fn begin(&self, context: &Arc<Context>) {
        let mut printing = self.0.lock();
        printing.context = Some(context.clone());
        printing.last_words.clear();
    }

    /// A call has ended. Lines that it has not finished are logged as they are.
    pub fn end(&self) {
        let mut printing = self.0.lock();
        if let Some(context) = printing.context.take() {
            printing.end_line(&context, Stream::Out);
            printing.end_line(&context, Stream::Err);
        }
    }

    /// What the call has printed last to standard error, for the failure of a call that trapped.
    pub fn last_words(&self) -> Option<String> {
        let printing = self.0.lock();
        let text = String::from_utf8_lossy(&printing.last_words);
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// One of its streams, for WASI.
    pub fn stream(&self, stream: Stream) -> PrintedStream {
        PrintedStream { printed: self.clone(), stream }
    }
}

/// One of the streams to which an instance prints.
#[derive(Clone)]
pub(super) struct PrintedStream {
    printed: Printed,
    stream: Stream,
}

impl IsTerminal for PrintedStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for PrintedStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    /// For versions of WASI that this host does not offer.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }
}

#[async_trait]
impl Pollable for PrintedStream {
    async fn ready(&mut self) {}
}

impl OutputStream for PrintedStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > MAX_WRITE {
            return Err(StreamError::trap("more was printed at a time than was permitted"));
        }
        self.printed.0.lock().print(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_printed_the_end_is_kept_and_no_more() {
        let printed = Printed::new();
        let mut stream = printed.stream(Stream::Err);
        assert_eq!(printed.last_words(), None);
        for text in [vec![b'x'; MAX_WRITE], b"the reason\n".to_vec()] {
            stream.write(text.into()).unwrap();
        }
        let words = printed.last_words().unwrap();
        assert!(words.ends_with("xthe reason") && words.len() < MAX_LAST_WORDS, "{words}");
        assert!(printed.0.lock().last_words.capacity() <= 4 * MAX_LAST_WORDS);
        assert!(stream.write(vec![b'x'; MAX_WRITE + 1].into()).is_err());
        printed.stream(Stream::Out).write("a word".into()).unwrap();
        assert_eq!(printed.last_words().unwrap(), words, "only standard error counts");
    }
}
