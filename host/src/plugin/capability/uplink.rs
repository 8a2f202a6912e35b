//! `uplink`: the monitor's way to its master.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use super::unavailable::not_available;
use crate::failure::Failure;
use crate::plugin::bindings::pomelo::admin::{types, uplink::Host};
use crate::plugin::instance_state::{InstanceState, no_room};
use crate::plugin::{AnswerBounds, ModuleMessage};

/// What the interface `uplink` acts on.
pub trait Uplink: Send + Sync + 'static {
    /// Asks the master. An answer that is out of bounds is a failure.
    fn request(&self, message: ModuleMessage, bounds: AnswerBounds) -> BoxFuture<'_, Result<Box<RawValue>, Failure>>;
    /// Sends a message that is not answered. Waits until there is room for it, and fails with `busy` where there is none until the message's deadline.
    fn notify(&self, message: ModuleMessage) -> BoxFuture<'_, Result<(), Failure>>;
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
        let msg = self.json(msg)?.into();
        let (depth, deadline) = self.nested(Duration::from_millis(deadline_ms.into()))?;
        let (bounds, from) = (self.answer_bounds[0], self.account().clone());
        let account = from.clone();
        let answer = uplink.request(ModuleMessage { from, module, msg, depth, deadline }, bounds);
        // An answer that has come waits until the guest may run again.
        let kept = async {
            let answer = answer.await?;
            let charge = account.charge(answer.get().len()).map_err(no_room)?;
            Ok::<_, Failure>((answer, charge))
        };
        let (answer, _charge) = self.wait(kept).await?;
        Ok(Box::<str>::from(answer).into())
    }

    async fn notify(&mut self, module: String, msg: String) -> Result<(), types::Failure> {
        let uplink = self.uplink(&module)?;
        let msg = self.json(msg)?.into();
        let message = ModuleMessage { from: self.account().clone(), module, msg, depth: 0, deadline: self.sent_by()? };
        Ok(self.wait_if_pending(uplink.notify(message)).await?)
    }
}
