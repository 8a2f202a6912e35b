//! The text of an event, and of the packets that our client writes.

use std::borrow::Cow;

use engineioxide_core::{Packet as EnginePacket, Str};
use serde::Deserialize;
use serde_json::value::RawValue;
use socketioxide_core::Value;
use socketioxide_core::packet::Packet;
use socketioxide_core::parser::Parse;
use socketioxide_parser_common::CommonParser;

/// The one namespace in use.
const NAMESPACE: &str = "/";

/// An event's name; borrowed unless it is written with escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Splits an event's data, the array `["name", payload]`, without building a tree of the payload.
///
/// # Errors
/// A sentence that says what the data have to be.
pub(super) fn event(data: &Value) -> Result<(Cow<'_, str>, &RawValue), &'static str> {
    const SHAPE: &str = "an event needs exactly one argument, which must be JSON";
    match data {
        Value::Str(text, None) => {
            let (Name(name), payload) = serde_json::from_str(text).map_err(|_| SHAPE)?;
            Ok((name, payload))
        }
        Value::Str(_, Some(_)) | Value::Bytes(_) => Err("binary data are not taken"),
    }
}

/// The length of an event's data, bytes.
pub(super) fn length(data: &Value) -> usize {
    match data {
        Value::Str(text, _) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
    }
}

/// The text of an event for a WebSocket. `topic` is one of ours and needs no escapes.
pub(super) fn write_event(topic: &str, payload: &RawValue) -> String {
    let mut data = String::with_capacity(topic.len() + payload.get().len() + 5);
    data.extend(["[\"", topic, "\",", payload.get(), "]"]);
    write(Packet::event(NAMESPACE, Value::Str(data.into(), None)))
}

/// The text of an acknowledgement for a WebSocket.
pub(super) fn write_ack(id: i64, payload: &RawValue) -> String {
    let mut data = String::with_capacity(payload.get().len() + 2);
    data.extend(["[", payload.get(), "]"]);
    write(Packet::ack(NAMESPACE, Value::Str(data.into(), None), id))
}

/// The text of a request to join the namespace.
pub(super) fn write_connect() -> String {
    write(Packet::connect(NAMESPACE, None))
}

/// The text that says that this side leaves.
pub(super) fn write_disconnect() -> String {
    write(Packet::disconnect(NAMESPACE))
}

fn write(packet: Packet) -> String {
    let text = match CommonParser.encode(packet) {
        Value::Str(text, _) => text,
        // The common parser writes text only.
        Value::Bytes(_) => Str::default(),
    };
    EnginePacket::Message(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_apart_without_a_tree() {
        let check = |text: &'static str, expected: Option<(&str, &str)>| {
            let data = Value::Str(text.into(), None);
            let found = event(&data).ok();
            let found = found.as_ref().map(|(name, payload)| (name.as_ref(), payload.get()));
            assert_eq!(found, expected, "{text}");
        };
        check(r#"["client",{"reqId": 1}]"#, Some(("client", r#"{"reqId": 1}"#)));
        check(r#"["a\"b",null]"#, Some(("a\"b", "null")));
        for wrong in [r#"["client"]"#, r#"["client",1,2]"#, "[]", r#"{"a":1}"#, "[1,2]", r#"["x",{]"#] {
            check(wrong, None);
        }
        let binary = Value::Str(r#"["client",{}]"#.into(), Some([bytes::Bytes::new()].into()));
        assert!(event(&binary).is_err());
    }

    #[test]
    fn packets_have_the_protocols_text() {
        let payload = RawValue::from_string(r#"{"a":1}"#.into()).unwrap();
        assert_eq!(write_event("client", &payload), r#"42["client",{"a":1}]"#);
        assert_eq!(write_ack(7, &payload), r#"437[{"a":1}]"#);
        assert_eq!((write_connect().as_str(), write_disconnect().as_str()), ("40", "41"));
    }
}
