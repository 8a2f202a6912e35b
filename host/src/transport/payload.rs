//! The JSON text of a frame, of which a large part may be shared with frames to other peers.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::budget::SharedText;
use crate::wire::raw;

/// The JSON text of a frame.
#[derive(Clone, Debug)]
pub enum Payload {
    /// A text of its own.
    Own(Arc<RawValue>),
    /// A text that others are sent as well.
    Shared(Arc<SharedText>),
    /// An object of its own whose last member, `body`, is a text that others are sent as well.
    Around {
        /// An object with the other members, at least one.
        head: Box<RawValue>,
        /// The member's value.
        body: Arc<SharedText>,
    },
}

/// The pieces of a text, in order.
pub(super) enum Piece<'a> {
    /// A short one.
    Own(&'a str),
    /// One that others are sent as well.
    Shared(&'a Arc<SharedText>),
}

impl Payload {
    /// An object whose members are those of `head`, at least one, and `body`.
    pub fn around(head: &(impl Serialize + ?Sized), body: Arc<SharedText>) -> Self {
        Payload::Around { head: raw(head), body }
    }

    /// Bytes of the text.
    pub fn bytes(&self) -> usize {
        let length = |piece| match piece {
            Piece::Own(text) => text.len(),
            Piece::Shared(text) => text.text().get().len(),
        };
        self.pieces().into_iter().flatten().map(length).sum()
    }

    /// Bytes that are held for this frame alone.
    pub fn own_bytes(&self) -> usize {
        match self {
            Payload::Own(text) => text.get().len(),
            Payload::Shared(_) => 0,
            Payload::Around { head, .. } => head.get().len(),
        }
    }

    /// The text in pieces.
    pub(super) fn pieces(&self) -> [Option<Piece<'_>>; 4] {
        match self {
            Payload::Own(text) => [Some(Piece::Own(text.get())), None, None, None],
            Payload::Shared(text) => [Some(Piece::Shared(text)), None, None, None],
            Payload::Around { head, body } => {
                let before = head.get().strip_suffix('}').unwrap_or_default();
                [
                    Some(Piece::Own(before)),
                    Some(Piece::Own(",\"body\":")),
                    Some(Piece::Shared(body)),
                    Some(Piece::Own("}")),
                ]
            }
        }
    }

    /// The text in one piece; it is copied where a part of it is shared.
    pub fn text(&self) -> Cow<'_, RawValue> {
        match self {
            Payload::Own(text) => Cow::Borrowed(text),
            Payload::Shared(text) => Cow::Borrowed(text.text()),
            Payload::Around { .. } => Cow::Owned(raw(self)),
        }
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Payload::Own(text) => text.serialize(serializer),
            Payload::Shared(text) => text.text().serialize(serializer),
            Payload::Around { head, body } => {
                let mut object = serializer.serialize_map(None)?;
                let mut head = serde_json::Deserializer::from_str(head.get());
                for (name, value) in head.deserialize_map(Members).map_err(serde::ser::Error::custom)? {
                    object.serialize_entry(&name, value)?;
                }
                object.serialize_entry("body", body.text())?;
                object.end()
            }
        }
    }
}

/// Reads the members of an object in their order.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

impl From<Box<RawValue>> for Payload {
    fn from(text: Box<RawValue>) -> Self {
        Payload::Own(text.into())
    }
}

impl From<Arc<RawValue>> for Payload {
    fn from(text: Arc<RawValue>) -> Self {
        Payload::Own(text)
    }
}
