//! `kept-output`: what programs have written, as it is kept in files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::unavailable::not_available;
use crate::failure::Failure;
use crate::plugin::bindings::pomelo::admin::{kept_output::Host, types};
use crate::plugin::instance_state::InstanceState;

/// What the interface `kept-output` reads.
pub trait KeptOutput: Send + Sync + 'static {
    /// Lines of a server's output: query and answer are JSON as the interface says. Waits for a line no longer than `at_most`.
    fn read(&self, server_id: String, query: String, at_most: Duration) -> BoxFuture<'_, Result<Value, Failure>>;
}

impl InstanceState {
    fn kept_output(&self) -> Result<Arc<dyn KeptOutput>, Failure> {
        let kept = self.call()?.context.services.kept_output.clone();
        kept.ok_or_else(|| not_available("kept-output", "this host keeps no output"))
    }
}

impl Host for InstanceState {
    async fn read(&mut self, server_id: String, query: String) -> Result<String, types::Failure> {
        let kept = self.kept_output()?;
        let (_, deadline) = self.nested(Duration::MAX)?;
        self.holds(server_id.len() + query.len())?;
        let at_most = deadline.saturating_duration_since(Instant::now());
        Ok(self.wait(kept.read(server_id, query, at_most)).await?.to_string())
    }
}
