//! Looks into the JSON of messages without parsing it: whoever makes load must use little of the CPU that it shares with the master.
//!
//! What matters stands at the beginning of every message. On pomelo's wire quotes have backslashes before them, which are taken out of the beginning, so that both
//! wires look the same.

use memchr::memmem;

/// So many bytes of a message are looked at.
pub const HEAD: usize = 384;

/// The beginning of a message, without backslashes.
pub struct Head {
    bytes: [u8; HEAD],
    length: usize,
}

impl Head {
    /// Of a payload, of which at least [`HEAD`] bytes are there if it is longer.
    pub fn of(payload: &[u8]) -> Head {
        let mut head = Head { bytes: [0; HEAD], length: 0 };
        let payload = &payload[..payload.len().min(HEAD)];
        if payload.first() == Some(&b'"') {
            for &byte in payload[1..].iter().filter(|&&byte| byte != b'\\') {
                head.bytes[head.length] = byte;
                head.length += 1;
            }
        } else {
            head.bytes[..payload.len()].copy_from_slice(payload);
            head.length = payload.len();
        }
        head
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Whether something stands in it.
    pub fn has(&self, text: &str) -> bool {
        memmem::find(self.text(), text.as_bytes()).is_some()
    }

    /// What follows a member's name, such as `"rev":`, up to the next comma or bracket. Absent where the end has been cut off.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        let from = memmem::find(self.text(), name.as_bytes())? + name.len();
        let rest = &self.text()[from..];
        let end = rest.iter().position(|byte| matches!(byte, b',' | b'}' | b'{' | b'['))?;
        Some(&rest[..end])
    }

    /// A member that is a number, or a number in quotes.
    pub fn number(&self, name: &str) -> Option<u64> {
        digits(self.value(name)?.trim_ascii_start().strip_prefix(b"\"").unwrap_or(self.value(name)?))
            .map(|(number, _)| number)
    }

    /// Whether an answer says that the request has failed. pomelo's masters say so by anything but null.
    pub fn failed(&self) -> bool {
        self.value("\"error\":").is_none_or(|error| error != b"null") && self.has("\"error\":")
    }
}

/// The number at the beginning, and how many digits it has.
pub fn digits(text: &[u8]) -> Option<(u64, usize)> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number =
        text[..count].iter().fold(0u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
    (count > 0).then_some((number, count))
}

/// The JSON text of a payload: the payload itself or, if it is a JSON string, the text in it.
pub fn unquoted(payload: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if payload.first() == Some(&b'"')
        && let Ok(text) = serde_json::from_slice::<String>(payload)
    {
        return text.into_bytes().into();
    }
    payload.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_message_is_read_on_either_wire() {
        for payload in [
            &br#"{"respId":"7","error":null,"body":{"epoch":"ab","rev":12,"servers":{"#[..],
            br#""{\"respId\":7,\"error\":null,\"body\":{\"epoch\":\"ab\",\"rev\":12,\"servers\":{"#,
        ] {
            let head = Head::of(payload);
            assert_eq!((head.number("\"respId\":"), head.number("\"rev\":")), (Some(7), Some(12)));
            assert_eq!(head.value("\"epoch\":"), Some(&b"\"ab\""[..]));
            assert!(head.has("\"servers\":{") && !head.failed());
        }
        assert!(Head::of(br#"{"respId":7,"error":{"code":"busy"}}"#).failed());
        assert!(Head::of(br#"{"respId":7,"error":"no"}"#).failed());
        assert!(!Head::of(br#"{"respId":7,"body":1}"#).failed());
    }
}
