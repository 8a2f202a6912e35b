//! What modules see of the link to the master.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use super::link::MasterLink;
use crate::exchange::{Asked, Exchange, Notice};
use crate::failure::{Failure, code};
use crate::plugin::capability::Uplink;
use crate::plugin::{AnswerBounds, ModuleMessage, within};

/// What modules see of the link.
pub(super) struct LinkUplink(pub Arc<MasterLink>);

impl LinkUplink {
    fn current(&self) -> Result<Exchange, Failure> {
        let current = self.0.connection();
        current.ok_or_else(|| Failure::new(code::DISCONNECTED, "the monitor is not connected to its master"))
    }
}

impl Uplink for LinkUplink {
    fn request(&self, message: ModuleMessage, bounds: AnswerBounds) -> BoxFuture<'_, Result<Box<RawValue>, Failure>> {
        Box::pin(async move {
            let ModuleMessage { from, module, msg, depth, deadline } = message;
            let asked = Asked { module: &module, body: &msg, shared: None, depth, limit: bounds.each };
            let sent = self.current()?.send_for(&from, asked, deadline).await?;
            within(bounds.each, sent.answer(deadline).await)
        })
    }

    fn notify(&self, message: ModuleMessage) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let ModuleMessage { from, module, msg, depth: _, deadline } = message;
            self.current()?.notify_for(&from, &Notice::new(&module, &msg), deadline).await
        })
    }
}
