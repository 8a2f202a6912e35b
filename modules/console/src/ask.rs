//! Asks the monitors, and says what their failures mean.

use std::collections::BTreeMap;

use pomelo_sdk::prelude::*;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::message::Message;

/// Why each of some servers failed.
pub type Reasons = BTreeMap<String, String>;

const NO_SUCH_SERVER: &str = "There is no such server.";

/// Passes a signal on. It is no failure if there are no targets.
pub fn ask<T: DeserializeOwned>(
    agent: &Agent,
    targets: &[impl AsRef<str>],
    message: &Message,
    timeout: u64,
) -> Result<Vec<(String, Result<T>)>> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    // A tenth of the time is left for the answer, because this call's own deadline must not come first.
    let left = agent.time_left() * 9 / 10;
    agent.cluster().request_many(targets, message, Duration::from_millis(timeout).min(left))
}

/// Passes on a signal that servers of pomelo 2.x follow without an answer. They are notified, and count as having followed it. Others are asked.
pub fn command(
    agent: &Agent,
    targets: &[String],
    message: &Message,
    timeout: u64,
) -> Result<Vec<(String, Result<IgnoredAny>)>> {
    #[derive(Deserialize)]
    struct Info {
        #[serde(rename = "serverType")]
        server_type: String,
    }
    let table = agent.cluster().servers::<Info>()?;
    let (mut asked, mut notified) = (Vec::new(), Vec::new());
    for target in targets {
        let is_meant = |(id, info): &(&String, &Info)| {
            *id == target || target.strip_prefix("type:") == Some(info.server_type.as_str())
        };
        let (ours, pomelos): (Vec<_>, Vec<_>) =
            table.servers.iter().filter(is_meant).partition(|(id, _)| table.capabilities.contains_key(*id));
        if pomelos.is_empty() {
            asked.push(target.clone());
        } else {
            asked.extend(ours.into_iter().map(|(id, _)| id.clone()));
            notified.extend(pomelos.into_iter().map(|(id, _)| id.clone()));
        }
    }
    if !notified.is_empty() {
        agent.cluster().notify(&notified, message)?;
    }
    let mut outcomes = ask(agent, &asked, message, timeout)?;
    outcomes.extend(notified.into_iter().map(|id| (id, Ok(IgnoredAny))));
    Ok(outcomes)
}

/// The ids, each once. A target that would name several servers is no id, and stands among the failures.
pub fn single(ids: Vec<String>) -> (Vec<String>, Reasons) {
    let (mut ids, several): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| id != "*" && !id.starts_with("type:"));
    ids.sort_unstable();
    ids.dedup();
    let failed = several.into_iter().map(|id| (id, NO_SUCH_SERVER.to_owned())).collect();
    (ids, failed)
}

/// Whether a failure says that nobody is connected under the id.
pub fn is_unknown(failure: &Failure) -> bool {
    failure.code() == "not-found"
}

pub fn reason(failure: &Failure) -> String {
    let message = if is_unknown(failure) { NO_SUCH_SERVER } else { failure.message() };
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_apart_and_taken_once() {
        let ids = ["b", "a", "b", "a@10.0.0.1:3050", "type:a", "*"].map(String::from).to_vec();
        let (ids, failed) = single(ids);
        assert_eq!(ids, ["a", "a@10.0.0.1:3050", "b"]);
        assert_eq!(failed.into_keys().collect::<Vec<_>>(), ["*", "type:a"]);
    }
}
