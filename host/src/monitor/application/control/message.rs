//! What a line says.
//!
//! | line | meaning |
//! |---|---|
//! | `{"hello": {"offers": [name…], "info": {…}, "ready": bool}}` | the program's first |
//! | `{"welcome": {"serverId": id, "serverType": type}}` | the host's answer to it |
//! | `{"id": any, "call": name, "args": any}` | a call; without `id` it is not answered |
//! | `{"id": any, "result": any}`, `{"id": any, "error": {"code", "message"}}` | the answer |
//! | `{"id": null, "error": {"code", "message"}}` | a line could not be read, or the connection is about to be closed |

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::super::Answer;
use super::{MAX_NAME, MAX_OFFERS};
use crate::failure::{Failure, code};
use crate::wire::{Info, null};

/// What the program says of itself.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Hello {
    /// Names of its functions.
    pub offers: Offers,
    /// Members to add to its server's `info`.
    pub info: Info,
    /// Whether it is ready to serve; it can say so later.
    pub ready: Option<bool>,
}

/// Names of functions, within [`MAX_OFFERS`] and [`MAX_NAME`].
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Offers(pub BTreeSet<String>);

impl<'de> Deserialize<'de> for Offers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let offers = BTreeSet::<String>::deserialize(deserializer)?;
        let fits = |name: &String| !name.is_empty() && name.len() <= MAX_NAME;
        if offers.len() > MAX_OFFERS || !offers.iter().all(fits) {
            let what = format!("`offers` are at most {MAX_OFFERS} names of 1 to {MAX_NAME} bytes");
            return Err(serde::de::Error::custom(what));
        }
        Ok(Offers(offers))
    }
}

/// A line.
pub(super) enum Message<'a> {
    Hello(Hello),
    /// The host's answer to `hello`. Programs need not read its members.
    Welcome,
    Call {
        id: Option<&'a RawValue>,
        name: Cow<'a, str>,
        args: &'a RawValue,
    },
    Answer {
        id: u64,
        outcome: Answer,
    },
    /// The other side could not read a line, or is about to close the connection.
    Refused(Failure),
}

/// Why a line cannot be read, and the id of the answer to it.
#[derive(Debug)]
pub(super) struct Malformed {
    pub id: Box<RawValue>,
    pub why: String,
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    hello: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    welcome: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    call: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Failure>,
}

/// Tells `null` from an absent member.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// Parses a line.
pub(super) fn parse(line: &[u8]) -> Result<Message<'_>, Malformed> {
    let malformed = |id: Option<&RawValue>, why: String| Malformed { id: id.unwrap_or(null()).to_owned(), why };
    let text = std::str::from_utf8(line).map_err(|error| malformed(None, format!("it is not UTF-8: {error}")))?;
    // Without this check serde would accept an array of the members in their order.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(malformed(None, "it is no message: a JSON object is expected".into()));
    }
    let members: Members<'_> =
        serde_json::from_str(text).map_err(|error| malformed(None, format!("it is no message: {error}")))?;
    let Members { hello, welcome, id, call, args, result, error } = members;
    if let Some(hello) = hello {
        return match serde_json::from_str(hello.get()) {
            Ok(hello) => Ok(Message::Hello(hello)),
            Err(error) => Err(malformed(id, format!("its `hello` is malformed: {error}"))),
        };
    }
    if welcome.is_some() {
        return Ok(Message::Welcome);
    }
    if let Some(name) = call {
        return Ok(Message::Call { id, name, args: args.unwrap_or(null()) });
    }
    let outcome = match (result, error) {
        (None, Some(failure)) if id.is_none() => return Ok(Message::Refused(failure)),
        (Some(result), None) => Ok(result.to_owned()),
        (None, Some(failure)) => Err(failure),
        (Some(_), Some(_)) => return Err(malformed(id, "it has both a `result` and an `error`".into())),
        (None, None) => {
            return Err(malformed(id, "it has none of `hello`, `call`, `result` and `error`".into()));
        }
    };
    match id.map(|id| serde_json::from_str(id.get())) {
        Some(Ok(id)) => Ok(Message::Answer { id, outcome }),
        _ => Err(malformed(None, "the `id` of an answer is that of a call, a number".into())),
    }
}

/// The text of a call.
pub(super) fn call(id: u64, name: &str, args: &RawValue) -> String {
    #[derive(Serialize)]
    struct Call<'a> {
        id: u64,
        call: &'a str,
        args: &'a RawValue,
    }
    text(&Call { id, call: name, args })
}

/// The text of an answer.
pub(super) fn answer(id: &RawValue, outcome: &Answer) -> String {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Answered<'a> {
        Result { id: &'a RawValue, result: &'a RawValue },
        Error { id: &'a RawValue, error: &'a Failure },
    }
    text(&match outcome {
        Ok(result) => Answered::Result { id, result },
        Err(error) => Answered::Error { id, error },
    })
}

/// The text of the answer to a malformed line.
pub(super) fn refusal(malformed: Malformed) -> String {
    let what = format!("this line is refused: {}", malformed.why);
    answer(&malformed.id, &Err(Failure::new(code::BAD_MESSAGE, what)))
}

/// The text of a hello.
pub(super) fn hello(hello: &Hello) -> String {
    text(&serde_json::json!({ "hello": hello }))
}

/// The text of a welcome.
pub(super) fn welcome(id: &str, server_type: &str) -> String {
    text(&serde_json::json!({ "welcome": { "serverId": id, "serverType": server_type } }))
}

fn text<T: Serialize>(value: &T) -> String {
    Box::<str>::from(crate::wire::raw(value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_lines_are_refused_with_the_reason() {
        let check = |line: &[u8], part: &str, id: &str| {
            let malformed = parse(line).err().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(line)));
            assert!(malformed.why.contains(part), "{}", malformed.why);
            assert_eq!(malformed.id.get(), id);
        };
        check(b"nonsense", "it is no message", "null");
        check(b"[]", "it is no message", "null");
        check(b"\xff", "not UTF-8", "null");
        check(br#"{"id":1}"#, "none of", "1");
        check(br#"{"id":"x","result":1,"error":{"code":"a","message":"b"}}"#, "both", "\"x\"");
        check(br#"{"id":"x","result":1}"#, "a number", "null");
        check(br#"{"hello":{"offers":"all"}}"#, "`hello` is malformed", "null");
        check(br#"{"hello":{"offers":[""]}}"#, "1 to 256 bytes", "null");
        check(br#"{"call":7}"#, "it is no message", "null");
    }

    #[test]
    fn calls_and_answers_are_read_and_written() {
        let Ok(Message::Call { id: Some(id), name, args }) = parse(br#"{"id":"a","call":"get","args":[1, 2]}"#) else {
            panic!("no call");
        };
        assert_eq!((id.get(), name.as_ref(), args.get()), ("\"a\"", "get", "[1, 2]"));
        let Ok(Message::Call { id: None, .. }) = parse(br#"{"call":"ready"}"#) else { panic!("no call") };
        let Ok(Message::Answer { id: 3, outcome: Ok(result) }) = parse(br#"{"id":3,"result":null}"#) else {
            panic!("no answer");
        };
        assert_eq!(answer(id, &Ok(result)), r#"{"id":"a","result":null}"#);
        let failed = Err(Failure::new("x", "y"));
        assert_eq!(answer(null(), &failed), r#"{"id":null,"error":{"code":"x","message":"y"}}"#);
        assert_eq!(call(1, "get", null()), r#"{"id":1,"call":"get","args":null}"#);
    }
}
