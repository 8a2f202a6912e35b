//! Messages of the topics `monitor` and `client`: request, response, notify, command.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::trace::Trace;

/// Why a payload is no message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The payload is not an object of the right form.
    #[error("malformed message: {0}")]
    Json(serde_json::Error),
    /// The payload is JSON, but no object.
    #[error("malformed message: an object is expected")]
    NotObject,
    /// The payload has neither `reqId`, `respId`, `moduleId` nor `command`.
    #[error("a message needs `reqId`, `respId`, `moduleId` or `command`")]
    Empty,
    /// `reqId` or `respId` is neither a number nor a string, or longer than 64 bytes.
    #[error("`reqId` and `respId` must be numbers or strings of at most 64 bytes")]
    Id,
    /// A request or notify without `moduleId`.
    #[error("`moduleId` is missing")]
    NoModule,
}

/// Not by `#[from]`, because that would make it a source, and the message above contains it already.
impl From<serde_json::Error> for WireError {
    fn from(why: serde_json::Error) -> Self {
        WireError::Json(why)
    }
}

/// A request's id as its sender wrote it, a JSON number or string: the answer repeats it to the letter.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct ReqId(Box<RawValue>);

impl ReqId {
    /// Bytes that an id may have: it is kept for as long as the request is under way.
    const MAX: usize = 64;

    fn check(text: &RawValue) -> Result<&RawValue, WireError> {
        let first = text.get().as_bytes().first().copied().unwrap_or_default();
        if text.get().len() <= Self::MAX && (first == b'"' || first == b'-' || first.is_ascii_digit()) {
            Ok(text)
        } else {
            Err(WireError::Id)
        }
    }

    /// The number that an answer to one of our own requests carries; pomelo repeats some of them as a string.
    fn number(text: &RawValue) -> Option<u64> {
        text.get().trim_matches('"').parse().ok()
    }
}

/// A received message. What it borrows is the payload.
#[derive(Debug)]
pub enum Message<'a> {
    /// Wants an answer.
    Request {
        /// To be repeated in the answer.
        id: ReqId,
        /// The module that is meant.
        module: Cow<'a, str>,
        /// What is said to it; absent for `null`.
        body: Option<&'a RawValue>,
        /// In how many calls the sender's call was nested; 0 from peers that do not say.
        depth: u8,
        /// The trace that the sender's request belongs to; absent where it gives none in the right form.
        trace: Option<Trace>,
    },
    /// Answers a request of ours. `id` is absent where it can be none of ours.
    Response {
        /// The request that is answered.
        id: Option<u64>,
        /// The answer: pomelo's peers give theirs in `error` as well, see [`Message::parse`].
        outcome: Result<Box<RawValue>, Failure>,
    },
    /// Is not answered.
    Notify {
        /// The module that is meant.
        module: Cow<'a, str>,
        /// What is said to it.
        body: Option<&'a RawValue>,
    },
    /// Is for the console service itself.
    Command {
        /// To be repeated in the answer; absent where none is wanted.
        id: Option<ReqId>,
        /// The command's name, such as `list`.
        command: Cow<'a, str>,
        /// The module that the command is about.
        module: Option<Cow<'a, str>>,
        /// More that the command needs.
        body: Option<&'a RawValue>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow, default)]
    req_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    resp_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    module_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    command: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(default)]
    depth: u8,
    #[serde(borrow, default)]
    trace: Option<&'a RawValue>,
}

impl<'a> Message<'a> {
    /// Parses a payload. An object with `respId` is a response, else one with `command` a command, else one with `reqId` a request, else
    /// a notify.
    ///
    /// # Errors
    /// [`WireError`] says what is wrong with the payload.
    pub fn parse(payload: &'a RawValue) -> Result<Self, WireError> {
        // serde would take an array for a struct's members in order.
        if !payload.get().starts_with('{') {
            return Err(WireError::NotObject);
        }
        let fields: Fields<'a> = serde_json::from_str(payload.get())?;
        if let Some(id) = fields.resp_id {
            let id = ReqId::number(ReqId::check(id)?);
            return Ok(Message::Response { id, outcome: outcome(fields.error, fields.body)? });
        }
        let id = fields.req_id.map(ReqId::check).transpose()?.map(|id| ReqId(id.to_owned()));
        match (fields.command, fields.module_id, id) {
            (Some(command), module, id) => Ok(Message::Command { id, command, module, body: fields.body }),
            (None, Some(module), Some(id)) => {
                // A malformed trace counts as none, because no message is refused for it.
                let trace = fields.trace.and_then(|text| Trace::parse(text.get().trim_matches('"')));
                Ok(Message::Request { id, module, body: fields.body, depth: fields.depth, trace })
            }
            (None, Some(module), None) => Ok(Message::Notify { module, body: fields.body }),
            (None, None, Some(_)) => Err(WireError::NoModule),
            (None, None, None) => Err(WireError::Empty),
        }
    }
}

/// What a response says. Pomelo's own monitors give many answers as the first argument of a callback, so that they arrive in `error`, with no
/// `body`: 1 for yes, 0 and -1 for no, objects such as `{serverId, body}`. A failure there is a text, or an object with a `message`.
fn outcome(
    error: Option<&RawValue>,
    body: Option<&RawValue>,
) -> Result<Result<Box<RawValue>, Failure>, serde_json::Error> {
    /// Other members are passed over.
    #[derive(Deserialize)]
    struct Said {
        message: Option<IgnoredAny>,
    }
    let Some(error) = error else {
        return Ok(Ok(body.map_or_else(|| null().to_owned(), RawValue::to_owned)));
    };
    let text = error.get();
    let answers = body.is_none()
        && match text.as_bytes().first() {
            Some(b'{') => serde_json::from_str::<Said>(text)?.message.is_none(),
            Some(b'"') => false,
            // A server that fails to take over what it is told of another answers 0.
            _ => !matches!(text, "0" | "-1" | "false"),
        };
    Ok(if answers { Ok(error.to_owned()) } else { Err(serde_json::from_str(text)?) })
}

/// A request to be sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// Of our own making, unique among those under way to this peer.
    pub req_id: u64,
    /// The module that is meant.
    pub module_id: &'a str,
    /// What is said to it; left out where it is added afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<&'a RawValue>,
    /// In how many calls this one is nested; left out for 0, so that other peers see pomelo's format.
    #[serde(skip_serializing_if = "is_zero")]
    pub depth: u8,
    /// The trace that it belongs to; left out for peers that did not state the capability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
}

/// A notify to be sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Notify<'a> {
    /// The module that is meant.
    pub module_id: &'a str,
    /// What is said to it.
    pub body: &'a RawValue,
}

/// A command to be sent; without `req_id` where no answer is wanted.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Command<'a> {
    /// Of our own making.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub req_id: Option<u64>,
    /// The command's name, such as `list`.
    pub command: &'a str,
    /// The module that the command is about.
    pub module_id: Option<&'a str>,
    /// More that the command needs.
    pub body: &'a RawValue,
}

/// A response to be sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response<'a> {
    /// The request's id as it came.
    pub resp_id: &'a ReqId,
    /// What failed, or null.
    pub error: Option<&'a Failure>,
    /// The answer, or null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<&'a RawValue>,
}

impl<'a> Response<'a> {
    /// The response that tells an outcome.
    pub fn new(id: &'a ReqId, outcome: &'a Result<Box<RawValue>, Failure>) -> Self {
        match outcome {
            Ok(body) => Response { resp_id: id, error: None, body: Some(body) },
            Err(failure) => Response { resp_id: id, error: Some(failure), body: None },
        }
    }
}

/// A response as pomelo's own monitors give many of theirs: the answer where others have an error.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseInError<'a> {
    /// The request's id as it came.
    pub resp_id: &'a ReqId,
    /// The answer.
    pub error: &'a RawValue,
}

fn is_zero(depth: &u8) -> bool {
    *depth == 0
}

/// JSON text of a value that is made of maps with string keys, lists and plain values only, as all messages here are.
///
/// # Panics
/// Never for such values: serde_json fails only on maps with other keys and on `Serialize` implementations that fail themselves.
pub fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("plain data always has a JSON form")
}

/// The JSON text `null`.
pub fn null() -> &'static RawValue {
    static NULL: LazyLock<Box<RawValue>> = LazyLock::new(|| raw(&()));
    &NULL
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn parse(text: &str) -> String {
        let payload = RawValue::from_string(text.to_owned()).unwrap();
        match Message::parse(&payload) {
            Ok(Message::Request { id, module, body, depth, .. }) => {
                format!("request {} {module} {} {depth}", id.0, body.map_or("-", |b| b.get()))
            }
            Ok(Message::Response { id, outcome }) => match outcome {
                Ok(body) => format!("response {id:?} {body}"),
                Err(failure) => format!("response {id:?} failed: {failure}"),
            },
            Ok(Message::Notify { module, body }) => {
                format!("notify {module} {}", body.map_or("-", |b| b.get()))
            }
            Ok(Message::Command { id, command, module, .. }) => {
                format!("command {} {command} {module:?}", id.is_some())
            }
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn messages_of_the_recorded_sessions_are_told_apart() {
        let check = |text, expected: &str| assert_eq!(parse(text), expected, "{text}");
        check(
            r#"{"reqId":22,"moduleId":"__console__","body":{"signal":"list"}}"#,
            r#"request 22 __console__ {"signal":"list"} 0"#,
        );
        check(r#"{"reqId":"80","moduleId":"m","body":null,"depth":2}"#, r#"request "80" m - 2"#);
        check(r#"{"respId":2,"error":null,"body":1}"#, "response Some(2) 1");
        check(r#"{"respId":"80","error":null}"#, "response Some(80) null");
        check(
            r#"{"respId":3,"error":"module timeReport is disable"}"#,
            "response Some(3) failed: module timeReport is disable (failed)",
        );
        check(r#"{"respId":3,"error":{"code":"busy","message":"later"}}"#, "response Some(3) failed: later (busy)");
        check(r#"{"respId":"x"}"#, "response None null");
        check(r#"{"respId":7,"error":1}"#, "response Some(7) 1");
        check(r#"{"respId":7,"error":0}"#, "response Some(7) failed: 0 (failed)");
        check(r#"{"respId":7,"error":-1}"#, "response Some(7) failed: -1 (failed)");
        check(r#"{"respId":7,"error":{"serverId":"a","body":{}}}"#, r#"response Some(7) {"serverId":"a","body":{}}"#);
        check(r#"{"respId":7,"error":{"message":"bad","stack":"at"}}"#, "response Some(7) failed: bad (failed)");
        check(r#"{"respId":7,"error":"chat-server-1"}"#, "response Some(7) failed: chat-server-1 (failed)");
        check(r#"{"respId":7}"#, "response Some(7) null");
        check(r#"{"moduleId":"nodeInfo"}"#, "notify nodeInfo -");
        check(
            r#"{"command":"disable","moduleId":"timeReport","body":{}}"#,
            r#"command false disable Some("timeReport")"#,
        );
        check(r#"{"reqId":1,"command":"list","moduleId":null}"#, "command true list None");
    }

    #[test]
    fn what_is_no_message_is_refused_with_a_reason() {
        let check = |text: &str, part: &str| {
            let said = parse(text);
            assert!(said.starts_with("error: ") && said.contains(part), "{text}: {said}");
        };
        check("null", "malformed");
        check("[1]", "malformed");
        check("{}", "needs `reqId`");
        check(r#"{"reqId":1}"#, "`moduleId` is missing");
        check(r#"{"reqId":{},"moduleId":"m"}"#, "numbers or strings");
        check(&format!(r#"{{"reqId":"{}","moduleId":"m"}}"#, "9".repeat(80)), "numbers or strings");
        check(r#"{"moduleId":5}"#, "malformed");
    }

    #[test]
    fn what_is_sent_has_pomelos_form() {
        let body = raw(&serde_json::json!({"signal": "list"}));
        let request = Request { req_id: 7, module_id: "__console__", body: Some(&body), depth: 0, trace: None };
        assert_eq!(raw(&request).get(), r#"{"reqId":7,"moduleId":"__console__","body":{"signal":"list"}}"#);
        let id = ReqId(raw("80"));
        let done = Ok(raw(&1));
        assert_eq!(raw(&Response::new(&id, &done)).get(), r#"{"respId":"80","error":null,"body":1}"#);
        let failed = Err(Failure::new("busy", "later"));
        assert_eq!(
            raw(&Response::new(&id, &failed)).get(),
            r#"{"respId":"80","error":{"code":"busy","message":"later"}}"#
        );
    }

    /// Any JSON, more often than not with members that messages have.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,70}".prop_map(Value::from),
            Just(json!("80")),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            const KNOWN: &[&str] =
                &["reqId", "respId", "moduleId", "command", "body", "error", "depth", "message", "code"];
            let name = prop_oneof![4 => proptest::sample::select(KNOWN).prop_map(str::to_owned), 1 => ".{0,9}"];
            prop_oneof![
                1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                4 => proptest::collection::btree_map(name, inner, 0..6).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_is_a_message_or_refused_and_its_answer_is_read_as_it_was_meant(value in json()) {
            let payload = raw(&value);
            let has = |name: &str| value.get(name).is_some_and(|member| !member.is_null());
            match Message::parse(&payload) {
                Ok(Message::Response { .. }) => prop_assert!(has("respId")),
                Ok(Message::Notify { .. }) => prop_assert!(has("moduleId") && !has("reqId") && !has("command")),
                Ok(Message::Command { id, .. }) => prop_assert!(has("command") && id.is_some() == has("reqId")),
                Ok(Message::Request { id, .. }) => {
                    for outcome in [Ok(raw(&value)), Err(Failure::new("busy", "later"))] {
                        let answer = raw(&Response::new(&id, &outcome));
                        let read = Message::parse(&answer);
                        let Ok(Message::Response { outcome: read, .. }) = read else {
                            return Err(TestCaseError::fail(format!("{answer}: {read:?}")));
                        };
                        prop_assert_eq!(read.map(|body| body.get().to_owned()), outcome.map(|body| body.get().to_owned()));
                    }
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }
}
