//! What is written to a socket in one go.

use std::sync::Arc;

use super::codec::{self, Bad};
use crate::budget::SharedText;
use crate::transport::Frame;
use crate::transport::payload::Piece;

/// Packets to be written in one go. Texts that several peers are sent are not copied into it.
#[derive(Debug, Default)]
pub(super) struct Batch {
    own: Vec<u8>,
    /// Before which of `own` each comes, and whether in the form that it has inside a string.
    shared: Vec<(usize, Arc<SharedText>, bool)>,
    /// A buffer that is used again for each frame.
    scratch: Vec<u8>,
}

impl Batch {
    /// Appends a packet without a payload.
    pub fn put(&mut self, packet: &[u8]) {
        self.own.extend_from_slice(packet);
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// [`Bad`] for one that MQTT cannot carry.
    pub fn put_frame(&mut self, frame: &Frame) -> Result<(), Bad> {
        let Batch { own, shared, scratch } = self;
        let (topic, quoted) = (frame.topic.as_str(), frame.quoted);
        let pieces = match frame.payload.pieces() {
            [Some(Piece::Own(text)), None, ..] => return codec::put_publish(own, scratch, topic, text, quoted),
            pieces => pieces,
        };
        scratch.clear();
        let mark = if quoted { &b"\""[..] } else { b"" };
        // A payload has one shared text.
        let mut text = None;
        scratch.extend_from_slice(mark);
        for piece in pieces.into_iter().flatten() {
            match piece {
                Piece::Own(own) if quoted => codec::put_in_string(scratch, own)?,
                Piece::Own(own) => scratch.extend_from_slice(own.as_bytes()),
                Piece::Shared(shared) => text = Some((scratch.len(), shared)),
            }
        }
        scratch.extend_from_slice(mark);
        let (before, after) = scratch.split_at(text.map_or(scratch.len(), |(at, _)| at));
        codec::put_head(own, topic, scratch.len() + text.map_or(0, |(_, text)| form(text, quoted).len()))?;
        own.extend_from_slice(before);
        shared.extend(text.map(|(_, text)| (own.len(), text.clone(), quoted)));
        own.extend_from_slice(after);
        Ok(())
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.own.len() + self.shared.iter().map(|(_, text, quoted)| form(text, *quoted).len()).sum::<usize>()
    }

    /// The bytes, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        let parts = self.shared.iter().flat_map(move |(at, text, quoted)| {
            let own = self.own.get(from..*at).unwrap_or_default();
            from = *at;
            [own, form(text, *quoted).as_bytes()]
        });
        let last = self.shared.last().map_or(0, |(at, ..)| *at);
        parts.chain([self.own.get(last..).unwrap_or_default()]).filter(|slice| !slice.is_empty())
    }

    /// Empties it, and keeps room for `kept` bytes at most.
    pub fn clear(&mut self, kept: usize) {
        self.own.clear();
        self.own.shrink_to(kept);
        self.scratch.clear();
        self.scratch.shrink_to(kept);
        self.shared = Vec::new();
    }
}

/// A text in the form in which it is written.
fn form(text: &SharedText, quoted: bool) -> &str {
    if quoted { text.quoted() } else { text.text().get() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Budget, Limits, SHARED_FROM};
    use crate::transport::Payload;
    use crate::transport::mqtt::codec::{Packet, Received, decode, length};
    use crate::wire::{Request, Topic, raw};

    #[test]
    fn frames_around_a_shared_text_are_written_as_if_it_were_their_own() {
        let account = Budget::new(Limits::default()).open([127, 0, 0, 1].into(), drop);
        let large = raw(&"\"a\n\u{1f600}".repeat(SHARED_FROM));
        let shared = account.share(&large, || large.clone().into()).unwrap();
        let head = Request { req_id: 7, module_id: "m", body: None, depth: 0, trace: None };
        let whole = raw(&Request { body: Some(&large), ..head });
        let payloads = [
            (Payload::around(&head, shared.clone()), whole),
            (Payload::Shared(shared), large),
            (raw(&"own").into(), raw(&"own")),
        ];
        for quoted in [true, false] {
            let mut batch = Batch::default();
            for (payload, _) in &payloads {
                let frame = Frame { topic: Topic::Client, payload: payload.clone(), quoted };
                batch.put_frame(&frame).unwrap();
            }
            let bytes = batch.slices().collect::<Vec<_>>().concat();
            assert_eq!(bytes.len(), batch.len());
            let mut rest = &bytes[..];
            for (payload, expected) in &payloads {
                assert_eq!(payload.text().get(), expected.get());
                assert_eq!(payload.bytes(), expected.get().len());
                let measured = length(rest, usize::MAX / 2).unwrap().unwrap();
                let Ok(Packet::Publish { topic: "client", payload }) = decode(rest, measured) else {
                    panic!("no frame")
                };
                let written = if quoted {
                    Received::read(payload).unwrap().text().get().to_owned()
                } else {
                    String::from_utf8(payload.to_vec()).unwrap()
                };
                assert_eq!(written, expected.get());
                rest = &rest[measured.total..];
            }
            assert!(rest.is_empty());
            batch.clear(0);
            assert_eq!((batch.len(), batch.slices().count()), (0, 0));
        }
    }
}
