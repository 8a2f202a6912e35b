//! The receiving half of a connection: collects bytes until a packet is whole.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::codec::{self, Bad, Length};

/// Bytes that are read at a time, and that the buffer of an idle connection keeps.
const CHUNK: usize = 4 << 10;
/// A buffer above this size, which a large packet has left behind, is given back.
const KEPT: usize = 64 << 10;

/// Why no packet comes.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The other side closed the connection.
    #[error("the connection was closed")]
    Eof,
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// What came is no packet that is accepted here.
    #[error(transparent)]
    Bad(#[from] Bad),
}

/// A stream, and the bytes of it that were received and not yet taken. The buffer grows only with what was received.
pub(super) struct Input<R> {
    stream: R,
    buffer: BytesMut,
    /// Bytes that are missing for a packet, as far as that is known.
    missing: usize,
}

impl<R: AsyncRead + Unpin> Input<R> {
    pub fn new(stream: R) -> Self {
        Input { stream, buffer: BytesMut::new(), missing: CHUNK }
    }

    /// The next packet, of at most `limit` bytes of payload. Dropping the future while it waits loses nothing.
    pub async fn packet(&mut self, limit: impl Fn() -> usize) -> Result<(BytesMut, Length), ReadError> {
        loop {
            if let Some(packet) = self.take(limit())? {
                return Ok(packet);
            }
            self.more().await?;
        }
    }

    /// The next packet, if it was received whole.
    pub fn take(&mut self, limit: usize) -> Result<Option<(BytesMut, Length)>, Bad> {
        self.missing = match codec::length(&self.buffer, limit)? {
            Some(length) if self.buffer.len() >= length.total => {
                return Ok(Some((self.buffer.split_to(length.total), length)));
            }
            Some(length) => length.total - self.buffer.len(),
            None => CHUNK,
        };
        Ok(None)
    }

    /// Waits until more has been received. Dropping the future while it waits loses nothing.
    pub async fn more(&mut self) -> Result<(), ReadError> {
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
            self.buffer = BytesMut::new();
        }
        self.buffer.reserve(self.missing.min(CHUNK.max(self.buffer.len())));
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(ReadError::Eof),
            _ => Ok(()),
        }
    }

    /// Bytes that were received and not yet taken.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// What comes of a stream: its packets, and why it was refused, if it was.
    fn whole(mut bytes: &[u8], limit: usize) -> (Vec<Vec<u8>>, Option<Bad>) {
        let mut packets = Vec::new();
        loop {
            match codec::length(bytes, limit) {
                Err(bad) => return (packets, Some(bad)),
                Ok(Some(length)) if length.total <= bytes.len() => {
                    let (packet, rest) = bytes.split_at(length.total);
                    packets.push(packet.to_vec());
                    bytes = rest;
                }
                Ok(_) => return (packets, None),
            }
        }
    }

    async fn in_pieces(bytes: &[u8], sizes: &[usize], limit: usize) -> (Vec<Vec<u8>>, Option<Bad>, usize) {
        let (reading, mut writing) = tokio::io::duplex(sizes[0]);
        let write = async {
            let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap_or(&1)));
                // A reader that has refused something reads no more.
                if writing.write_all(piece).await.is_err() {
                    return;
                }
                rest = after;
            }
            drop(writing);
        };
        let read = async {
            let (mut input, mut packets, mut room) = (Input::new(reading), Vec::new(), 0);
            loop {
                let packet = input.packet(|| limit).await;
                room = room.max(input.buffer.capacity());
                match packet {
                    Ok((packet, _)) => packets.push(packet.to_vec()),
                    Err(ReadError::Bad(bad)) => return (packets, Some(bad), room),
                    Err(_) => return (packets, None, room),
                }
            }
        };
        let (read, ()) = tokio::join!(read, write);
        read
    }

    /// Packets of all kinds, and bytes that are none.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let frame = ("[a-z]{0,9}", 0usize..20_000, any::<bool>()).prop_map(|(topic, length, quoted)| {
            let (mut out, mut scratch) = (Vec::new(), Vec::new());
            let payload = format!("{{\"body\":\"{}\"}}", "x".repeat(length));
            codec::put_publish(&mut out, &mut scratch, &topic, &payload, quoted).unwrap();
            out
        });
        let ping = Just(codec::PINGREQ.to_vec());
        let any = proptest::collection::vec(any::<u8>(), 0..40);
        proptest::collection::vec(prop_oneof![6 => frame, 3 => ping, 1 => any], 0..9).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn a_stream_in_any_pieces_is_what_it_is_as_a_whole(
            bytes in stream(),
            sizes in proptest::collection::vec(1usize..9000, 1..6),
            limit in prop_oneof![Just(300usize), Just(30_000)],
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let (packets, refused, room) = runtime.block_on(in_pieces(&bytes, &sizes, limit));
            prop_assert_eq!((packets, refused), whole(&bytes, limit));
            prop_assert!(room <= 2 * (limit + codec::OVERHEAD + 5) + KEPT, "room for {} bytes", room);
        }
    }
}
