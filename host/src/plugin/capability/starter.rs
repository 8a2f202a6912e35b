//! `starter`: the master's starter of configured servers.

use futures_util::future::BoxFuture;

use super::not_available;
use crate::failure::Failure;
use crate::plugin::bindings::pomelo::admin::{starter::Host, types};
use crate::plugin::state::State;

/// What the interface `starter` acts on.
pub trait Starter: Send + Sync + 'static {
    /// Starts a configured server that is not running; answers when its process runs.
    fn start(&self, id: String) -> BoxFuture<'_, Result<(), Failure>>;
}

impl Host for State {
    async fn start(&mut self, id: String) -> Result<(), types::Failure> {
        let starter = self.call()?.context.services.starter.clone();
        let starter = starter.ok_or_else(|| not_available("starter", "this host starts no servers"))?;
        Ok(self.wait(starter.start(id)).await?)
    }
}
