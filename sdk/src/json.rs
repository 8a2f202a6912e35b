//! Between Rust values and the JSON text of the contract.

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned};

use crate::bindings::types;
use crate::failure::{Failure, Result, from_host};

/// A value as JSON text. Fails with `not-json` for what JSON cannot hold, such as a map whose keys are not strings.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| mismatch("not-json", "The value cannot be written as JSON", &error))
}

/// The value of JSON text; a failure has `code` and a message that begins with `what`.
pub(crate) fn decode<'a, T: Deserialize<'a>>(text: &'a str, code: &str, what: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| mismatch(code, what, &error))
}

/// The value of JSON text with which another server answered.
pub(crate) fn answer<T: DeserializeOwned>(result: Result<String, types::Failure>) -> Result<T> {
    decode(
        &result.map_err(from_host)?,
        "bad-answer",
        "The answer is not of the expected form",
    )
}

/// Out of line, since it is the same for every type.
#[cold]
fn mismatch(code: &str, what: &str, error: &serde_json::Error) -> Failure {
    let mut message = String::from(what);
    message.push_str(": ");
    message.push_str(&error.to_string());
    Failure::new(code, message)
}
