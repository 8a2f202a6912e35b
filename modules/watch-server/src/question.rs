//! What the master's side asks a monitor's, and the failures that both have.

use std::collections::BTreeMap;

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The members of an object, not parsed.
pub type Members = BTreeMap<String, Box<RawValue>>;

/// From the master to a monitor.
#[derive(Serialize, Deserialize)]
pub struct Question<T> {
    pub comd: T,
    /// A server's id or `all`. A server of pomelo finds itself by it.
    #[serde(default)]
    pub context: Option<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<Box<RawValue>>,
}

/// The text that a command takes. `what` says in the failure what it is.
pub fn text(param: Option<&RawValue>, what: &str) -> Result<String> {
    let text = param.and_then(|param| serde_json::from_str::<String>(param.get()).ok());
    text.filter(|text| !text.is_empty()).ok_or_else(|| bad(&["`param` is ", what, "."]))
}

/// The failure for a message that lacks something; the parts of its sentence.
pub fn bad(message: &[&str]) -> Failure {
    Failure::new("bad-message", message.concat())
}

/// The failure for an unknown command.
pub fn unknown(comd: &str) -> Failure {
    const COMMANDS: &str = "servers, connections, logins, modules, status, config, proxy, handler, components, settings, cpu, memory, get, \
                            set, enable, disable or run";
    Failure::new("unknown-comd", ["There is no command ", comd, ": it is ", COMMANDS, "."].concat())
}
