//! What a host says to an application that drains, and asks it meanwhile.
//!
//! This part knows the functions and their forms. It does not know when a drain begins or is over.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Reach, functions, own};
use crate::failure::{Failure, code};
use crate::wire::{null, raw};

/// The function that says how many connections an application has.
const CONNECTIONS: &str = "connections";

type Answered<T> = BoxFuture<'static, Result<T, Failure>>;

/// Tells the application that it drains and how long it may take. It has `at_most` to answer. The call is on its way when this returns. Absent if the
/// application offers no function for that.
pub(in crate::monitor) fn tell_drain(reach: &dyn Reach, deadline: Duration, at_most: Duration) -> Option<Answered<()>> {
    let told = || reach.call(own::DRAIN, &functions::Within::of(deadline), at_most);
    reach.has(own::DRAIN).then(|| told().map(|answer| answer.map(drop)).boxed())
}

/// Tells the application that its drain is taken back. As [`tell_drain`] otherwise.
pub(in crate::monitor) fn tell_undrain(reach: &dyn Reach, at_most: Duration) -> Option<Answered<()>> {
    let told = || reach.call(own::UNDRAIN, null(), at_most);
    reach.has(own::UNDRAIN).then(|| told().map(|answer| answer.map(drop)).boxed())
}

/// Asks the application how many connections it has. Absent if it offers no function for that.
pub(in crate::monitor) fn connections(reach: &dyn Reach, at_most: Duration) -> Option<Answered<u64>> {
    let asked = || reach.call(CONNECTIONS, &raw(&serde_json::json!({})), at_most);
    reach.has(CONNECTIONS).then(|| asked().map(|answer| count(&answer?)).boxed())
}

/// The number in an answer to `connections`.
fn count(answer: &RawValue) -> Result<u64, Failure> {
    /// As pomelo's servers answer, or the bare number.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Answer {
        Number(u64),
        Pomelos {
            #[serde(rename = "totalConnCount")]
            total: u64,
        },
    }
    match serde_json::from_str(answer.get()) {
        Ok(Answer::Number(total) | Answer::Pomelos { total }) => Ok(total),
        Err(_) => {
            let what = "the answer to `connections` is neither a number nor an object with the number `totalConnCount`";
            Err(Failure::new(code::BAD_ANSWER, what))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn connections_are_a_number_or_pomelos_object() {
        let read = |answer| count(&raw(&answer)).map_err(|failure| failure.code.into_owned());
        assert_eq!(read(json!(0)), Ok(0));
        assert_eq!(read(json!(12)), Ok(12));
        assert_eq!(read(json!({"totalConnCount": 3, "loginedCount": 1, "loginedList": []})), Ok(3));
        for bad in [json!(null), json!(-1), json!("3"), json!([]), json!({}), json!({"totalConnCount": "3"})] {
            assert_eq!(read(bad.clone()), Err(code::BAD_ANSWER.to_owned()), "{bad}");
        }
    }
}
