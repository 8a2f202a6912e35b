//! A call's part in a version of a module.

use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;

use super::{Call, Handler, Module};
use crate::failure::Failure;

/// A part in a version of a module, for one call.
pub struct Lease(Arc<Module>);

impl Module {
    /// Takes part in this version, which is not drained before the lease is given back. Take it where it is certain that the version is still
    /// the one in force, such as under the lock of the table.
    pub fn lease(self: &Arc<Self>) -> Lease {
        self.call_begins();
        Lease(self.clone())
    }
}

impl Lease {
    /// The version.
    pub fn module(&self) -> &Arc<Module> {
        &self.0
    }

    /// Calls a handler and waits for its answer, `null` for those that have none.
    ///
    /// # Errors
    /// The handler's own failure, or the host's: a trap, a passed limit, no such handler.
    pub async fn call(self, handler: Handler, call: Call) -> Result<Box<RawValue>, Failure> {
        let arrived = Instant::now();
        let context = call.context.clone();
        let outcome = self.0.call_limited(handler, call).await;
        context.stats.ended(handler, arrived.elapsed(), outcome.as_ref().err());
        outcome
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.call_ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F: Future>(_: impl Fn(Lease, Handler, Call) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_call_that_waits_for_its_turn_holds_little() {
        // Thousands may wait, and a call is moved several times before it is begun. What a guest needs is boxed when it begins.
        let bytes = size(|lease: Lease, handler, call| lease.call(handler, call));
        assert!(bytes <= 3 << 10, "{bytes} bytes");
    }
}
