//! What modules see of the link to the master.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use super::link::MasterLink;
use crate::exchange::Exchange;
use crate::failure::{Failure, code};
use crate::plugin::capability::Uplink;
use crate::plugin::{AnswerBounds, within};

/// What modules see of the link.
pub(super) struct LinkUplink(pub Arc<MasterLink>);

impl LinkUplink {
    fn current(&self) -> Result<Exchange, Failure> {
        let current = self.0.connection();
        current.ok_or_else(|| Failure::new(code::DISCONNECTED, "the monitor is not connected to its master"))
    }
}

impl Uplink for LinkUplink {
    fn request(
        &self,
        module: String,
        msg: Box<RawValue>,
        depth: u8,
        deadline: Instant,
        bounds: AnswerBounds,
    ) -> BoxFuture<'_, Result<Box<RawValue>, Failure>> {
        let sent = self.current().and_then(|exchange| exchange.send_bounded(&module, &msg, depth, bounds.each));
        Box::pin(async move { within(bounds.each, sent?.answer(deadline).await) })
    }

    fn notify(&self, module: String, msg: Box<RawValue>) -> Result<(), Failure> {
        self.current()?.notify(&module, &msg)
    }
}
