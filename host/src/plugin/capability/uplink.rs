//! `uplink`: the monitor's way to its master.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use super::unavailable::not_available;
use crate::failure::Failure;
use crate::plugin::AnswerBounds;
use crate::plugin::bindings::pomelo::admin::{types, uplink::Host};
use crate::plugin::instance_state::InstanceState;

/// What the interface `uplink` acts on.
pub trait Uplink: Send + Sync + 'static {
    /// Asks the master; `depth` says how many calls this one is nested in. An answer that is out of bounds is a failure.
    fn request(
        &self,
        module: String,
        msg: Box<RawValue>,
        depth: u8,
        deadline: Instant,
        bounds: AnswerBounds,
    ) -> BoxFuture<'_, Result<Box<RawValue>, Failure>>;
    /// Sends a message that is not answered.
    fn notify(&self, module: String, msg: Box<RawValue>) -> Result<(), Failure>;
}

impl InstanceState {
    fn uplink(&self, module: &str) -> Result<Arc<dyn Uplink>, Failure> {
        let uplink = self.call()?.context.services.uplink.clone();
        let uplink = uplink.ok_or_else(|| not_available("uplink", "only a monitor has it"))?;
        self.may_address("uplink", module)?;
        Ok(uplink)
    }
}

impl Host for InstanceState {
    async fn request(&mut self, module: String, msg: String, deadline_ms: u32) -> Result<String, types::Failure> {
        let uplink = self.uplink(&module)?;
        let msg = self.json(msg)?;
        let (depth, deadline) = self.nested(Duration::from_millis(deadline_ms.into()))?;
        let bounds = self.answer_bounds[0];
        let answer = self.wait(uplink.request(module, msg, depth, deadline, bounds)).await?;
        Ok(Box::<str>::from(answer).into())
    }

    fn notify(&mut self, module: String, msg: String) -> Result<(), types::Failure> {
        let uplink = self.uplink(&module)?;
        Ok(uplink.notify(module, self.json(msg)?)?)
    }
}
