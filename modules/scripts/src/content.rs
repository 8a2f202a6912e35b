//! The form of a script in JSON: text as it is, bytes in base64 behind a prefix that no text form begins with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pomelo_sdk::prelude::*;

const PREFIX: &str = "base64:";

/// The first bytes of a component. They are looked at because a component may happen to be UTF-8.
const MAGIC: &[u8] = b"\0asm";

pub fn to_text(content: Vec<u8>) -> String {
    if content.starts_with(MAGIC) {
        return in_base64(&content);
    }
    String::from_utf8(content).unwrap_or_else(|error| in_base64(error.as_bytes()))
}

fn in_base64(content: &[u8]) -> String {
    let mut text = String::from(PREFIX);
    STANDARD.encode_string(content, &mut text);
    text
}

pub fn from_text(text: &str) -> Result<Vec<u8>> {
    match text.strip_prefix(PREFIX) {
        None => Ok(text.as_bytes().to_vec()),
        Some(encoded) => STANDARD
            .decode(encoded.trim_ascii())
            .map_err(|_| Failure::new("bad-message", "What follows `base64:` is not base64 with padding.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_were() {
        for content in [&b"(component)"[..], b"\0asm\x0d\0\x01\0", b"\xff", b""] {
            assert_eq!(from_text(&to_text(content.to_vec())).unwrap(), content);
        }
        assert_eq!(to_text(b"(component)".to_vec()), "(component)");
        assert!(to_text(b"\0asm".to_vec()).starts_with(PREFIX));
        assert_eq!(from_text("base64:*").unwrap_err().code(), "bad-message");
    }
}
