//! `uplink`: the monitor's way to its master.

use std::time::Instant;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use crate::failure::Failure;

/// What the interface `uplink` acts on.
pub trait Uplink: Send + Sync + 'static {
    /// Asks the master; `depth` says how many calls this one is nested in.
    fn request(
        &self,
        module: String,
        msg: Box<RawValue>,
        depth: u8,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Box<RawValue>, Failure>>;
    /// Sends a message that is not answered.
    fn notify(&self, module: String, msg: Box<RawValue>) -> Result<(), Failure>;
}
