//! A call of a handler: everything that is known of it before it is made.

use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;

use super::{Caller, Context, Operations, StoreView};

/// A call to be made.
pub struct Call {
    /// The module id under which the call came.
    pub context: Arc<Context>,
    /// Who called.
    pub caller: Arc<Caller>,
    /// What clients may ask of the module; absent where it is no client that called.
    pub operations: Option<Arc<Operations>>,
    /// The message, absent when a timer fired.
    pub msg: Option<Box<RawValue>>,
    /// Whether the caller waits for the answer.
    pub wants_answer: bool,
    /// How many calls this one is nested in: 0 for a client's own call.
    pub depth: u8,
    /// When it must have been answered.
    pub deadline: Instant,
    /// The store that the call sees.
    pub store: StoreView,
}

impl Call {
    /// Whether the caller may ask the module for an operation. Who is no client may.
    pub fn permits(&self, operation: &str) -> bool {
        self.operations.as_ref().is_none_or(|operations| operations.permit(&self.caller, operation))
    }
}
