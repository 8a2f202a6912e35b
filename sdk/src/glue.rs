//! What the code of `#[module]` calls. No part of the SDK's interface.

#![allow(missing_docs)]

use serde::{Deserialize, Serialize};

pub use crate::bindings::{client_handler, descriptor, lifecycle, master_handler, monitor_handler, server_events};
use crate::failure::{Failure, Result, to_host};
use crate::{Agent, json, logger};

pub type HostFailure = crate::bindings::types::Failure;

/// Which callback of which module is called, for messages.
pub struct Callback {
    pub module: &'static str,
    pub name: &'static str,
}

/// A call from the host: gives the callback its agent, and hands back the JSON text of its answer.
#[inline]
pub fn answer<T: Serialize, E: Into<Failure>>(
    call: impl FnOnce(&Agent) -> Result<Result<T, E>>,
) -> Result<String, HostFailure> {
    logger::install();
    call(&Agent::new()).and_then(|result| json::encode(&result.map_err(Into::into)?)).map_err(to_host)
}

/// A call from the host that has no answer.
#[inline]
pub fn outcome<E: Into<Failure>>(call: impl FnOnce(&Agent) -> Result<Result<(), E>>) -> Result<(), HostFailure> {
    logger::install();
    call(&Agent::new()).and_then(|result| result.map_err(Into::into)).map_err(to_host)
}

/// The message of a callback that needs one.
pub fn message<'a, T: Deserialize<'a>>(text: Option<&'a str>, callback: &Callback) -> Result<T> {
    let Some(text) = text else {
        return Err(bad_message(callback, "a message is wanted, and there is none"));
    };
    serde_json::from_str(text).map_err(|error| bad_message(callback, &error.to_string()))
}

/// The message of a callback whose message may be absent. JSON's `null` counts as absent.
pub fn optional_message<'a, T: Deserialize<'a>>(text: Option<&'a str>, callback: &Callback) -> Result<Option<T>> {
    text.map_or(Ok(None), |text| message(Some(text), callback))
}

#[cold]
fn bad_message(callback: &Callback, reason: &str) -> Failure {
    let parts = ["Module ", callback.module, ", ", callback.name, ": ", reason, "."];
    Failure::new("bad-message", parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLBACK: Callback = Callback { module: "m", name: "client_handler" };

    #[test]
    fn a_message_that_does_not_parse_is_named() {
        let failure = message::<u8>(Some("\"x\""), &CALLBACK).unwrap_err();
        assert_eq!(failure.code(), "bad-message");
        assert_eq!(
            failure.message(),
            "Module m, client_handler: invalid type: string \"x\", expected u8 at line 1 column 3."
        );
    }

    #[test]
    fn an_absent_message_is_refused_only_where_one_is_wanted() {
        assert_eq!(message::<serde_json::Value>(None, &CALLBACK).unwrap_err().code(), "bad-message");
        assert_eq!(optional_message::<u8>(None, &CALLBACK).unwrap(), None);
        assert_eq!(optional_message::<u8>(Some("null"), &CALLBACK).unwrap(), None);
        assert_eq!(optional_message::<u8>(Some("7"), &CALLBACK).unwrap(), Some(7));
    }
}
