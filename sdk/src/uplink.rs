//! [`Uplink`]: the monitor's way to its master.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use crate::bindings::uplink;
use crate::cluster::{millis, module_id};
use crate::failure::{Result, from_host};
use crate::json;

/// The monitor's way to its master. On the master every function fails with `not-available`.
///
/// Messages go to the module's own id unless [`module`](Uplink::module) names another.
#[derive(Clone, Copy, Debug)]
pub struct Uplink<'a> {
    module: Option<&'a str>,
}

impl<'a> Uplink<'a> {
    pub(crate) const fn new() -> Self {
        Self { module: None }
    }

    /// The same, with messages to another module. Needs the grant `uplink:ID`, or they fail with `forbidden`.
    pub fn module(self, id: &str) -> Uplink<'_> {
        Uplink { module: Some(id) }
    }

    /// Asks the master and waits for its answer, at most this long and never longer than this call may take.
    ///
    /// Fails as the master's handler does, or with `timeout`, `disconnected`, `busy`; with `bad-answer` where the answer is not of the
    /// expected form.
    pub fn request<T: DeserializeOwned>(&self, msg: &(impl Serialize + ?Sized), deadline: Duration) -> Result<T> {
        json::answer(uplink::request(&module_id(self.module), &json::encode(msg)?, millis(deadline)))
    }

    /// Sends a message that is not answered. Waits while the master has not taken enough of what this module has sent before. Fails with `busy` where it
    /// does not before the deadline of this call.
    pub fn notify(&self, msg: &(impl Serialize + ?Sized)) -> Result {
        uplink::notify(&module_id(self.module), &json::encode(msg)?).map_err(from_host)
    }
}
