//! The receiving half of a connection: bytes until there is a packet.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::codec::{self, Bad, Length};

/// What is read at a time, and kept of a connection that is idle.
const CHUNK: usize = 4 << 10;
/// A buffer that a large packet has left behind is given back from this size on.
const KEPT: usize = 64 << 10;

/// Why no packet comes.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The other side closed the connection.
    #[error("the connection was closed")]
    Eof,
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// What came is no packet that is taken.
    #[error(transparent)]
    Bad(#[from] Bad),
}

/// Bytes that have come, and where more come from. The buffer grows with what has really been received.
pub(super) struct Input<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Input<R> {
    pub fn new(stream: R) -> Self {
        Input { stream, buffer: BytesMut::new() }
    }

    /// The next packet, of at most `limit` bytes of payload. Can be dropped while it waits: nothing is lost.
    pub async fn packet(&mut self, limit: impl Fn() -> usize) -> Result<(BytesMut, Length), Ended> {
        loop {
            let wanted = match codec::length(&self.buffer, limit())? {
                Some(length) if self.buffer.len() >= length.total => {
                    return Ok((self.buffer.split_to(length.total), length));
                }
                Some(length) => length.total - self.buffer.len(),
                None => CHUNK,
            };
            if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
                self.buffer = BytesMut::new();
            }
            self.buffer.reserve(wanted.min(CHUNK.max(self.buffer.len())));
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Ended::Eof);
            }
        }
    }
}
