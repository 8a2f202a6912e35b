//! Lines of bounded length from a stream.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineRead {
    /// A whole line. The last one of a stream need not have an end.
    Whole,
    /// A line of more bytes than the limit. The buffer has its beginning; the rest was read and thrown away.
    Longer,
    /// The end of the stream: there is no line any more.
    End,
}

/// Reads the next line into a buffer: at most `limit` bytes of it, without its `\n`. What was in the buffer before is removed.
///
/// Do not drop it while it waits, unless nothing more is read from the stream, because half a line would be lost.
///
/// # Errors
/// Those of the stream. The buffer then has what was read of the line.
pub async fn read_line(
    stream: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    limit: usize,
) -> io::Result<LineRead> {
    line.clear();
    let mut read = LineRead::End;
    loop {
        let chunk = stream.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(read);
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = limit - line.len();
        if part.len() > room {
            read = LineRead::Longer;
        } else if read == LineRead::End {
            read = LineRead::Whole;
        }
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        stream.consume(used);
        if end.is_some() {
            return Ok(read);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    #[tokio::test]
    async fn lines_are_bounded_and_the_one_behind_a_long_one_is_whole() {
        const LIMIT: usize = 5000;
        let text = format!("one\r\n\n{}\n{}\nlast", "x".repeat(LIMIT), "y".repeat(3 * LIMIT));
        // Whatever the sizes are in which the text comes.
        for capacity in [1, 7, 1000, LIMIT, 1 << 20] {
            let mut stream = BufReader::with_capacity(capacity, text.as_bytes());
            let mut line = Vec::new();
            let mut next = async || {
                let read = read_line(&mut stream, &mut line, LIMIT).await.unwrap();
                (read, line.clone())
            };
            assert_eq!(next().await, (LineRead::Whole, b"one\r".to_vec()));
            assert_eq!(next().await, (LineRead::Whole, Vec::new()));
            assert_eq!(next().await, (LineRead::Whole, vec![b'x'; LIMIT]));
            assert_eq!(next().await, (LineRead::Longer, vec![b'y'; LIMIT]));
            assert_eq!(next().await, (LineRead::Whole, b"last".to_vec()));
            assert_eq!(next().await, (LineRead::End, Vec::new()));
        }
    }

    #[tokio::test]
    async fn an_error_leaves_what_was_read_before_it() {
        let mut stream = BufReader::new(breaking());
        let mut line = Vec::new();
        assert!(read_line(&mut stream, &mut line, 10).await.is_err());
        assert_eq!(line, b"half");
    }

    /// A stream that breaks in the middle of a line.
    fn breaking() -> impl tokio::io::AsyncRead + Unpin {
        use std::pin::Pin;
        use std::task::{Context, Poll};

        struct Breaks(bool);
        impl tokio::io::AsyncRead for Breaks {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                buffer: &mut tokio::io::ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                if std::mem::replace(&mut self.0, true) {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
                buffer.put_slice(b"half");
                Poll::Ready(Ok(()))
            }
        }
        Breaks(false)
    }
}
