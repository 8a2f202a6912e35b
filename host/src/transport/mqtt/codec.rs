//! Packets and bytes. We read the lengths ourselves, because they decide how much is buffered. `mqtt-proto` reads the rest.

use mqtt_proto::v3::{Connect, Header, PacketType};
use mqtt_proto::{Protocol, QoS};
use serde_json::value::RawValue;

/// Bytes that a packet may have beyond its payload: the fixed header, and the topic.
pub const OVERHEAD: usize = 128;
/// The largest remaining length that MQTT's four bytes can say.
const MAX_REMAINING: usize = 268_435_455;
/// CONNACK, accepted.
pub const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];
/// CONNACK, unacceptable protocol version.
pub const WRONG_PROTOCOL: [u8; 4] = [0x20, 2, 0, 1];
/// CONNACK, not authorized.
pub const NOT_AUTHORIZED: [u8; 4] = [0x20, 2, 0, 5];
/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xc0, 0];
/// PINGRESP.
pub const PINGRESP: [u8; 2] = [0xd0, 0];
/// DISCONNECT.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// Why bytes are no packet that is accepted here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// The fixed header is none of MQTT's, or its flags are not.
    #[error("the packet's first byte {0:#04x} is none that is taken here")]
    Header(u8),
    /// The remaining length has more than four bytes.
    #[error("the packet's length is malformed")]
    Length,
    /// More than the peer may send now.
    #[error("a packet of {length} bytes is above the limit of {limit}")]
    Size {
        /// The remaining length that the packet states.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The packet's content does not fit its header.
    #[error("a malformed {0} packet")]
    Content(&'static str),
    /// CONNECT names another protocol.
    #[error("it speaks neither MQTT 3.1.1 nor 3.1")]
    Protocol,
    /// The payload is not JSON in UTF-8.
    #[error("the payload is no JSON: {0}")]
    Payload(String),
}

/// A packet of pomelo-admin's wire.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A client introduces itself.
    Connect {
        /// Seconds within which the client promises to send something; 0 for no promise.
        keep_alive: u16,
    },
    /// The server's answer: 0 for yes.
    Connack(u8),
    /// A frame.
    Publish {
        /// The frame's topic.
        topic: &'a str,
        /// JSON text, not parsed yet.
        payload: &'a [u8],
    },
    /// Are you there?
    Pingreq,
    /// I am.
    Pingresp,
    /// The sender leaves.
    Disconnect,
}

/// How long a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// The fixed header's bytes.
    pub header: usize,
    /// All bytes, the fixed header's among them.
    pub total: usize,
}

/// The length of the packet that begins here; absent until enough bytes have come. A packet is refused by its first bytes, before more of it is
/// buffered.
///
/// # Errors
/// [`Bad`] if the packet is not accepted here, or its payload could be above `limit` bytes.
pub fn length(received: &[u8], limit: usize) -> Result<Option<Length>, Bad> {
    let Some((&first, rest)) = received.split_first() else { return Ok(None) };
    kind(first)?;
    let mut remaining = 0;
    for (index, &byte) in rest.iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            if remaining > limit.saturating_add(OVERHEAD) {
                return Err(Bad::Size { length: remaining, limit });
            }
            return Ok(Some(Length { header: index + 2, total: index + 2 + remaining }));
        }
    }
    if rest.len() < 4 { Ok(None) } else { Err(Bad::Length) }
}

/// The type that a first byte says, if it is a type of this wire.
fn kind(first: u8) -> Result<PacketType, Bad> {
    let header = Header::new_with(first, 0, 0).map_err(|_| Bad::Header(first))?;
    let known = matches!(
        header.typ,
        PacketType::Connect
            | PacketType::Connack
            | PacketType::Publish
            | PacketType::Pingreq
            | PacketType::Pingresp
            | PacketType::Disconnect
    );
    if known && header.qos == QoS::Level0 { Ok(header.typ) } else { Err(Bad::Header(first)) }
}

/// Reads one whole packet, as [`length`] has measured it.
///
/// # Errors
/// [`Bad`].
pub fn decode(packet: &[u8], length: Length) -> Result<Packet<'_>, Bad> {
    let (Some(&first), Some(content)) = (packet.first(), packet.get(length.header..length.total)) else {
        return Err(Bad::Length);
    };
    let empty = |packet, name| if content.is_empty() { Ok(packet) } else { Err(Bad::Content(name)) };
    match kind(first)? {
        PacketType::Connect => connect(content),
        PacketType::Connack => match content {
            &[_, code] => Ok(Packet::Connack(code)),
            _ => Err(Bad::Content("CONNACK")),
        },
        PacketType::Publish => publish(content),
        PacketType::Pingreq => empty(Packet::Pingreq, "PINGREQ"),
        PacketType::Pingresp => empty(Packet::Pingresp, "PINGRESP"),
        _ => empty(Packet::Disconnect, "DISCONNECT"),
    }
}

fn connect(content: &[u8]) -> Result<Packet<'_>, Bad> {
    use mqtt_proto::Error::{InvalidProtocol, UnexpectedProtocol};
    let mut read = 0;
    let connect = Connect::decode(content, &mut read).map_err(|error| match error {
        InvalidProtocol(..) | UnexpectedProtocol(_) => Bad::Protocol,
        _ => Bad::Content("CONNECT"),
    })?;
    if read != content.len() {
        return Err(Bad::Content("CONNECT"));
    }
    Ok(Packet::Connect { keep_alive: connect.keep_alive })
}

fn publish(content: &[u8]) -> Result<Packet<'_>, Bad> {
    const BAD: Bad = Bad::Content("PUBLISH");
    let (length, rest) = content.split_first_chunk().ok_or(BAD)?;
    let (topic, payload) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(BAD)?;
    Ok(Packet::Publish { topic: std::str::from_utf8(topic).map_err(|_| BAD)?, payload })
}

/// The JSON that a payload carries: the payload itself or, if it is a JSON string, the text in it.
#[derive(Debug)]
pub enum Received<'a> {
    /// The payload itself.
    Plain(&'a RawValue),
    /// The text in the payload, which was a JSON string.
    Quoted(Box<RawValue>),
}

impl<'a> Received<'a> {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`Bad::Payload`].
    pub fn read(payload: &'a [u8]) -> Result<Self, Bad> {
        let bad = |error: serde_json::Error| Bad::Payload(error.to_string());
        // Told by its first byte, because a text in a string would otherwise be gone over once more.
        if payload.trim_ascii_start().first() != Some(&b'"') {
            return serde_json::from_slice(payload).map(Received::Plain).map_err(bad);
        }
        let quoted: String = serde_json::from_slice(payload).map_err(bad)?;
        RawValue::from_string(quoted).map(Received::Quoted).map_err(bad)
    }

    /// The JSON text.
    pub fn text(&self) -> &RawValue {
        match self {
            Received::Plain(text) => text,
            Received::Quoted(text) => text,
        }
    }
}

/// Appends a CONNECT: MQTT 3.1.1, a clean session. `keep_alive`: within how many seconds the client promises to send something; 0: it promises nothing, as
/// pomelo's do. The client's name is cut to 64 bytes; pomelo's own has 24.
pub fn put_connect(out: &mut Vec<u8>, client: &str, keep_alive: u16) {
    let (name, level) = Protocol::V311.to_pair();
    let client = &client.as_bytes()[..client.len().min(64)];
    let text = |out: &mut Vec<u8>, text: &[u8]| {
        out.extend_from_slice(&u16::try_from(text.len()).unwrap_or_default().to_be_bytes());
        out.extend_from_slice(text);
    };
    out.extend_from_slice(&[0x10, u8::try_from(2 + name.len() + 4 + 2 + client.len()).unwrap_or_default()]);
    text(out, name);
    // Clean session.
    out.extend_from_slice(&[level, 2]);
    out.extend_from_slice(&keep_alive.to_be_bytes());
    text(out, client);
}

/// Appends a PUBLISH with QoS 0. With `quoted` the payload travels as a JSON string. `scratch` is a buffer that can be used again.
///
/// # Errors
/// [`Bad::Size`] for a packet that MQTT cannot carry. Nothing has been appended then.
pub fn put_publish(
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    topic: &str,
    payload: &str,
    quoted: bool,
) -> Result<(), Bad> {
    scratch.clear();
    let payload = if quoted {
        serde_json::to_writer(&mut *scratch, payload).map_err(|error| Bad::Payload(error.to_string()))?;
        &scratch[..]
    } else {
        payload.as_bytes()
    };
    put_head(out, topic, payload.len())?;
    out.extend_from_slice(payload);
    Ok(())
}

/// Appends what comes before the payload of a PUBLISH with QoS 0. The payload has so many bytes.
///
/// # Errors
/// As [`put_publish`].
pub fn put_head(out: &mut Vec<u8>, topic: &str, payload: usize) -> Result<(), Bad> {
    let length = 2 + topic.len() + payload;
    let (Ok(topic_length), true) = (u16::try_from(topic.len()), length <= MAX_REMAINING) else {
        return Err(Bad::Size { length, limit: MAX_REMAINING });
    };
    out.push(0x30);
    let mut rest = length;
    loop {
        // A byte has seven bits of the length. Its highest bit says whether there are more.
        let bits = u8::try_from(rest & 0x7f).unwrap_or_default();
        rest >>= 7;
        out.push(if rest > 0 { bits | 0x80 } else { bits });
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&topic_length.to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    Ok(())
}

/// Appends a text to a JSON string that has begun.
///
/// # Errors
/// [`Bad::Payload`] if the text cannot be written, which no text is.
pub fn put_in_string(out: &mut Vec<u8>, text: &str) -> Result<(), Bad> {
    // serde_json puts a quotation mark at both ends. The first one takes the place of the byte before it, which then comes back.
    let (before, at) = (out.pop().unwrap_or(b'"'), out.len());
    serde_json::to_writer(&mut *out, text).map_err(|error| Bad::Payload(error.to_string()))?;
    out.pop();
    out[at] = before;
    Ok(())
}

#[cfg(test)]
mod tests;
