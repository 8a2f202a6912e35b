//! The frame decoder of pomelo-admin's wire. Any bytes in any pieces are packets or are refused. How they are cut into pieces changes neither. The
//! decoder takes no more room than the bytes that have come justify.
//!
//! An input is the limit (two bytes, the lower first), how many sizes of pieces follow (one byte, its lower half), the sizes, and the stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::mqtt::codec::{OVERHEAD, Packet, Received, decode, length, put_publish};
use crate::mqtt::read;
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes that are read at a time, and bytes of room that may be kept after a large packet.
const KEPT: usize = 64 << 10;

/// A stream that comes in pieces and checks how much room is offered for each.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    limit: usize,
    /// Bytes that have been handed over and are not yet known to be a packet.
    held: &'a std::cell::Cell<usize>,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let held = self.held.get();
        assert!(held < self.limit + OVERHEAD + 5, "{held} bytes are kept of a packet that may have {}", self.limit);
        assert!(room.remaining() <= KEPT + 2 * held, "room for {} bytes when {held} have come", room.remaining());
        let size = self.sizes.next().map_or(usize::MAX, |&size| usize::from(size.max(1)));
        let (piece, rest) = self.bytes.split_at(size.min(self.bytes.len()).min(room.remaining()));
        room.put_slice(piece);
        self.held.set(held + piece.len());
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}

/// Reads the bytes.
pub fn run(input: &[u8]) {
    let Some((&[low, high, count], rest)) = input.split_first_chunk() else { return };
    let limit = usize::from(u16::from_le_bytes([low, high]));
    let Some((sizes, bytes)) = rest.split_at_checked(usize::from(count & 15)) else { return };
    let held = std::cell::Cell::new(0);
    let pieces = Pieces { bytes, sizes: sizes.iter().cycle(), limit, held: &held };
    let mut whole = bytes;
    let refused = read(pieces, limit, |packet, measured| {
        held.set(held.get() - packet.len());
        assert_eq!(length(whole, limit), Ok(Some(measured)), "in pieces it is what it is as a whole");
        assert!(measured.header <= 5 && measured.total <= limit + OVERHEAD + measured.header);
        assert_eq!(packet, &whole[..measured.total]);
        whole = &whole[measured.total..];
        if let Ok(Packet::Publish { topic, payload }) = decode(packet, measured)
            && let Ok(payload) = Received::read(payload)
        {
            again(topic, payload.text().get());
        }
    });
    match length(whole, limit) {
        Err(bad) => assert_eq!(refused, Some(bad)),
        Ok(measured) => {
            assert_eq!(refused, None);
            assert!(measured.is_none_or(|measured| measured.total > whole.len()), "a packet was left out");
        }
    }
}

/// What was read is sent in both forms, and read as it was.
fn again(topic: &str, text: &str) {
    for quoted in [false, true] {
        // A text that is a JSON string itself would be taken for a quoted one.
        if !quoted && text.starts_with('"') {
            continue;
        }
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        put_publish(&mut out, &mut scratch, topic, text, quoted).unwrap();
        let measured = length(&out, usize::MAX / 2).unwrap().unwrap();
        let Ok(Packet::Publish { topic: read, payload }) = decode(&out, measured) else { panic!("no packet") };
        assert_eq!((read, Received::read(payload).unwrap().text().get()), (topic, text));
    }
}
