//! Lines out, through a bounded outbox.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{OUTBOX_BYTES, OUTBOX_LINES};

/// Lines that wait to be written. Clones are the same outbox.
#[derive(Clone)]
pub(super) struct Outbox {
    lines: mpsc::Sender<String>,
    bytes: Arc<AtomicUsize>,
    /// Cancelled when the connection is to end.
    cut: CancellationToken,
}

impl Outbox {
    /// Makes an outbox and starts the task that writes its lines to `stream` until `cut` is cancelled. The task then still writes the lines that
    /// wait.
    pub(super) fn new(stream: impl AsyncWrite + Send + Unpin + 'static, cut: CancellationToken) -> Self {
        let (lines, waiting) = mpsc::channel(OUTBOX_LINES);
        let bytes = Arc::<AtomicUsize>::default();
        tokio::spawn(write(stream, waiting, bytes.clone(), cut.clone()));
        Outbox { lines, bytes, cut }
    }

    /// Puts in a line, without its line end. If there is no room, the connection is ended. False if the connection is ended or over.
    pub(super) fn send(&self, line: String) -> bool {
        let size = line.len();
        let full = self.bytes.fetch_add(size, Ordering::Relaxed) + size > OUTBOX_BYTES;
        if full || self.lines.try_send(line).is_err() {
            if !self.cut.is_cancelled() {
                tracing::warn!("a program does not read from its control socket, and is cut off");
                self.cut.cancel();
            }
            return false;
        }
        !self.cut.is_cancelled()
    }

    /// Ends the connection, after a moment in which the lines that wait are written.
    pub(super) fn close(&self) {
        self.cut.cancel();
    }
}

async fn write(
    stream: impl AsyncWrite + Unpin,
    mut waiting: mpsc::Receiver<String>,
    bytes: Arc<AtomicUsize>,
    cut: CancellationToken,
) {
    /// How long the waiting lines may take to be written when the connection ends.
    const LAST: std::time::Duration = std::time::Duration::from_millis(500);
    let with_end = |mut line: String| {
        line.push('\n');
        io::Cursor::new(line)
    };
    let mut stream = BufWriter::new(stream);
    // Declared outside of the future that is cancelled, because the cursor knows how much of the line is written.
    let mut line = io::Cursor::default();
    let written = cut.run_until_cancelled(async {
        while let Some(next) = waiting.recv().await {
            bytes.fetch_sub(next.len(), Ordering::Relaxed);
            line = with_end(next);
            stream.write_all_buf(&mut line).await?;
            if waiting.is_empty() {
                stream.flush().await?;
            }
        }
        io::Result::Ok(())
    });
    match written.await {
        Some(Ok(())) => {}
        Some(Err(_)) => cut.cancel(),
        None => {
            let rest = async {
                waiting.close();
                stream.write_all_buf(&mut line).await?;
                while let Some(next) = waiting.recv().await {
                    stream.write_all_buf(&mut with_end(next)).await?;
                }
                stream.flush().await
            };
            let _ = tokio::time::timeout(LAST, rest).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_line_that_is_under_way_at_the_end_is_written_to_its_end() {
        let (stream, mut other) = tokio::io::duplex(64);
        let outbox = Outbox::new(stream, CancellationToken::new());
        let long = "x".repeat(100_000);
        assert!(outbox.send(long.clone()) && outbox.send("last".into()));
        let mut begin = [0; 10];
        other.read_exact(&mut begin).await.unwrap();
        outbox.close();
        drop(outbox);
        let mut rest = String::new();
        other.read_to_string(&mut rest).await.unwrap();
        assert!(rest == format!("{}\nlast\n", &long[10..]), "{} bytes", rest.len());
    }

    #[tokio::test]
    async fn who_does_not_read_is_cut_off() {
        let (stream, _other) = tokio::io::duplex(64);
        let cut = CancellationToken::new();
        let outbox = Outbox::new(stream, cut.clone());
        let line = "x".repeat(1 << 20);
        let sent = (0..64).take_while(|_| outbox.send(line.clone())).count();
        assert!((15..=17).contains(&sent), "{sent}");
        assert!(cut.is_cancelled());
    }
}
