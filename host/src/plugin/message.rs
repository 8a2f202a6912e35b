//! A message of a module to a module elsewhere.

use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;

use crate::budget::ModuleAccount;

/// A message of a module to a module elsewhere.
#[derive(Clone)]
pub struct ModuleMessage {
    /// The module that sends it. What is held for it until it has gone is charged to that account.
    pub from: ModuleAccount,
    /// The id of the module that it is for.
    pub module: String,
    /// The message.
    pub msg: Arc<RawValue>,
    /// In how many calls a request is nested.
    pub depth: u8,
    /// Until when there may be no room for it, and a request no answer.
    pub deadline: Instant,
}
