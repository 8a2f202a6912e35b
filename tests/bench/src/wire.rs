//! The two wires, as a peer of a master needs them: frames are cut out of what has come, and appended to what is to be sent.
//!
//! Both carry events, a topic and JSON. pomelo's wire is MQTT's framing, in which everything is a PUBLISH; the other is Socket.IO over a WebSocket. Nothing here
//! reads or writes a socket, and nothing looks into the JSON.

use anyhow::{Result, bail};

/// The largest frame that is taken from a master.
const LARGEST: usize = 64 << 20;

/// Which wire a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// pomelo-admin's.
    Pomelo,
    /// Socket.IO over a WebSocket.
    SocketIo,
}

/// How long a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// The bytes before its content.
    pub header: usize,
    /// All bytes.
    pub total: usize,
}

/// What a frame says.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The connection is open. Socket.IO's peer joins now.
    Open,
    /// The peer may register now.
    Ready,
    /// To be answered with a pong.
    Ping,
    /// A payload under a topic. On pomelo's wire it may be JSON text within a JSON string.
    Event { topic: &'a [u8], payload: &'a [u8] },
    /// The master ends the connection.
    Ended,
    /// Needs no attention.
    Other,
}

impl Wire {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Wire::Pomelo => "pomelo's wire",
            Wire::SocketIo => "Socket.IO",
        }
    }

    /// The length of the frame that begins here; absent until enough of it has come.
    ///
    /// # Errors
    /// If these bytes are no frame.
    pub fn length(self, received: &[u8]) -> Result<Option<Length>> {
        let length = match self {
            Wire::Pomelo => pomelo_length(received)?,
            Wire::SocketIo => socket_io_length(received)?,
        };
        if length.is_some_and(|length| length.total > LARGEST) {
            bail!("a frame of {length:?} bytes");
        }
        Ok(length)
    }

    /// Reads a frame as [`Wire::length`] has measured it.
    pub fn frame(self, frame: &[u8], length: Length) -> Frame<'_> {
        let content = &frame[length.header..];
        match (self, frame[0]) {
            (Wire::Pomelo, 0x20) => match content {
                [_, 0] => Frame::Ready,
                _ => Frame::Ended,
            },
            (Wire::Pomelo, 0x30) => {
                event(content).map_or(Frame::Ended, |(topic, payload)| Frame::Event { topic, payload })
            }
            (Wire::Pomelo, 0xe0) => Frame::Ended,
            (Wire::Pomelo, _) => Frame::Other,
            (Wire::SocketIo, b'H') if frame.starts_with(b"HTTP/1.1 101") => Frame::Other,
            (Wire::SocketIo, 0x81) => socket_io_text(content),
            (Wire::SocketIo, 0x8a) => Frame::Other,
            (Wire::SocketIo, _) => Frame::Ended,
        }
    }

    /// The topic and how many bytes lie before the payload, of a frame of which only the beginning has come; absent for what carries no event.
    pub fn begins(self, frame: &[u8], length: Length) -> Option<(&[u8], usize)> {
        let content = frame.get(length.header..)?;
        let (topic, before) = match (self, *frame.first()?) {
            (Wire::Pomelo, 0x30) => {
                let size = usize::from(u16::from_be_bytes(*content.first_chunk()?));
                (content.get(2..2 + size)?, 2 + size)
            }
            (Wire::SocketIo, 0x81) => {
                let text = content.strip_prefix(b"42[\"")?;
                let size = memchr::memchr(b'"', text)?;
                (&text[..size], size + 6)
            }
            _ => return None,
        };
        Some((topic, length.header + before))
    }

    /// Appends what a peer says first.
    pub fn put_hello(self, out: &mut Vec<u8>) {
        match self {
            // MQTT 3.1.1, a clean session, no keep-alive, and pomelo's kind of name.
            Wire::Pomelo => out.extend_from_slice(b"\x10\x16\0\x04MQTT\x04\x02\0\0\0\x0aMQTT_ADMIN"),
            Wire::SocketIo => out.extend_from_slice(
                b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: cG9tZWxvLWJlbmNoLS0tLQ==\r\n\r\n",
            ),
        }
    }

    /// Appends what follows [`Frame::Open`].
    pub fn put_join(self, out: &mut Vec<u8>) {
        if self == Wire::SocketIo {
            put_text(out, &[b"40"]);
        }
    }

    /// Appends an answer to [`Frame::Ping`].
    pub fn put_pong(self, out: &mut Vec<u8>) {
        if self == Wire::SocketIo {
            put_text(out, &[b"3"]);
        }
    }

    /// Appends what shows that this side is there, where it is this side that has to.
    pub fn put_ping(self, out: &mut Vec<u8>) {
        if self == Wire::Pomelo {
            out.extend_from_slice(&[0xc0, 0]);
        }
    }

    /// Appends an event. On pomelo's wire requests and answers are `quoted`, as JSON text within a JSON string.
    pub fn put_event(self, out: &mut Vec<u8>, topic: &str, json: &str, quoted: bool) {
        match self {
            Wire::SocketIo => put_text(out, &[b"42[\"", topic.as_bytes(), b"\",", json.as_bytes(), b"]"]),
            Wire::Pomelo => {
                // What is written here has no control characters, so that nothing else needs an escape.
                let escapes = if quoted { 2 + memchr::memchr2_iter(b'"', b'\\', json.as_bytes()).count() } else { 0 };
                out.push(0x30);
                let mut rest = 2 + topic.len() + json.len() + escapes;
                loop {
                    // A byte has seven bits of the length. Its highest bit says whether there are more.
                    let bits = u8::try_from(rest & 0x7f).unwrap_or_default();
                    rest >>= 7;
                    out.push(if rest > 0 { bits | 0x80 } else { bits });
                    if rest == 0 {
                        break;
                    }
                }
                out.extend_from_slice(&u16::try_from(topic.len()).unwrap_or_default().to_be_bytes());
                out.extend_from_slice(topic.as_bytes());
                if quoted {
                    put_quoted(out, json.as_bytes());
                } else {
                    out.extend_from_slice(json.as_bytes());
                }
            }
        }
    }
}

fn pomelo_length(received: &[u8]) -> Result<Option<Length>> {
    let mut remaining = 0;
    for (index, &byte) in received.iter().skip(1).take(4).enumerate() {
        remaining |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some(Length { header: index + 2, total: index + 2 + remaining }));
        }
    }
    if received.len() > 4 { bail!("the length of a packet is malformed") } else { Ok(None) }
}

fn socket_io_length(received: &[u8]) -> Result<Option<Length>> {
    // The answer to the upgrade. No frame begins with this byte.
    if received.first() == Some(&b'H') {
        let end = memchr::memmem::find(received, b"\r\n\r\n");
        return Ok(end.map(|end| Length { header: end + 4, total: end + 4 }));
    }
    let &[first, second, ref rest @ ..] = received else { return Ok(None) };
    if first & 0x80 == 0 || second & 0x80 != 0 {
        bail!("a frame that is masked or in parts");
    }
    Ok(match second {
        126 => rest.first_chunk().map(|bytes| (4, usize::from(u16::from_be_bytes(*bytes)))),
        127 => match rest.first_chunk() {
            Some(bytes) => Some((10, usize::try_from(u64::from_be_bytes(*bytes))?)),
            None => None,
        },
        short => Some((2, usize::from(short))),
    }
    .map(|(header, content)| Length { header, total: header.saturating_add(content) }))
}

/// The topic and the payload of a PUBLISH.
fn event(content: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = content.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*size).into())
}

/// An Engine.IO packet in a text message.
fn socket_io_text(text: &[u8]) -> Frame<'_> {
    match text {
        [b'0', ..] => Frame::Open,
        [b'2', ..] => Frame::Ping,
        [b'4', b'0', ..] => Frame::Ready,
        [b'4', b'2', b'[', b'"', rest @ .., b']'] => match memchr::memmem::find(rest, b"\",") {
            Some(end) => Frame::Event { topic: &rest[..end], payload: &rest[end + 2..] },
            None => Frame::Other,
        },
        [b'1', ..] | [b'4', b'1' | b'4', ..] => Frame::Ended,
        _ => Frame::Other,
    }
}

/// Appends a text message. A client has to mask what it sends, by four bytes of its choice; with four zeroes the content stays as it is.
fn put_text(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(0x81);
    match u16::try_from(length) {
        Ok(short) if short < 126 => out.push(0x80 | short.to_be_bytes()[1]),
        Ok(middle) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        Err(_) => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn put_quoted(out: &mut Vec<u8>, json: &[u8]) {
    out.push(b'"');
    let mut from = 0;
    for at in memchr::memchr2_iter(b'"', b'\\', json) {
        out.extend_from_slice(&json[from..at]);
        out.push(b'\\');
        from = at;
    }
    out.extend_from_slice(&json[from..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_master_sends_is_cut_into_frames() {
        let check = |wire: Wire, bytes: &[u8], expected: Frame<'_>| {
            let length = wire.length(bytes).unwrap().unwrap();
            assert_eq!(length.total, bytes.len());
            assert_eq!(wire.frame(bytes, length), expected);
            for end in 0..length.header.min(bytes.len()) {
                assert_eq!(wire.length(&bytes[..end]).unwrap(), None, "{end}");
            }
        };
        check(Wire::Pomelo, &[0x20, 2, 0, 0], Frame::Ready);
        check(Wire::Pomelo, b"\x30\x05\0\x01c{}", Frame::Event { topic: b"c", payload: b"{}" });
        check(Wire::SocketIo, b"HTTP/1.1 101 Switching\r\n\r\n", Frame::Other);
        check(Wire::SocketIo, b"HTTP/1.1 503 Busy\r\n\r\n", Frame::Ended);
        check(Wire::SocketIo, b"\x81\x03\x30{}", Frame::Open);
        check(Wire::SocketIo, b"\x81\x01\x32", Frame::Ping);
        check(Wire::SocketIo, b"\x81\x0a42[\"c\",{}]", Frame::Event { topic: b"c", payload: b"{}" });
    }

    #[test]
    fn a_frame_that_has_begun_names_its_topic() {
        let check = |wire: Wire, bytes: &[u8]| {
            let length = wire.length(bytes).unwrap().unwrap();
            let (topic, at) = wire.begins(&bytes[..bytes.len() - 1], length).unwrap();
            assert_eq!((topic, &bytes[at..at + 2]), (&b"c"[..], &b"{}"[..]));
        };
        check(Wire::Pomelo, b"\x30\x05\0\x01c{}");
        check(Wire::SocketIo, b"\x81\x0a42[\"c\",{}]");
    }

    #[test]
    fn events_are_written_as_peers_of_either_wire_write_them() {
        let mut out = Vec::new();
        Wire::Pomelo.put_event(&mut out, "c", r#"{"a":1}"#, true);
        assert_eq!(out, b"\x30\x0e\0\x01c\"{\\\"a\\\":1}\"");
        out.clear();
        Wire::SocketIo.put_event(&mut out, "c", "{}", false);
        assert_eq!(out, b"\x81\x8a\x00\x00\x00\x0042[\"c\",{}]");
    }
}
