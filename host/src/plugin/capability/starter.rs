//! `starter`: the master's starter of configured servers.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::unavailable::not_available;
use crate::failure::{Failure, code};
use crate::plugin::bindings::pomelo::admin::{starter::Host, types};
use crate::plugin::instance_state::InstanceState;
use crate::wire::Info;

/// What came of each server, by id.
pub type Outcomes = Vec<(String, Result<(), Failure>)>;

/// What the interface `starter` acts on.
pub trait Starter: Send + Sync + 'static {
    /// Starts a configured server that is not running. Answers when its process runs.
    fn start(&self, id: String) -> BoxFuture<'_, Result<(), Failure>>;
    /// Adds servers to the configured ones and starts them, after all have been checked.
    fn add(&self, servers: Vec<Info>) -> BoxFuture<'_, Result<Outcomes, Failure>>;
    /// Keeps servers down, or no longer does. Ids that the starter does not know are ignored.
    fn hold(&self, ids: Vec<String>, down: bool) -> BoxFuture<'_, Result<(), Failure>>;
    /// Ids of the servers that are to run: configured or added, and not kept down.
    fn servers(&self) -> Vec<String>;
}

impl InstanceState {
    fn starter(&self) -> Result<Arc<dyn Starter>, Failure> {
        let starter = self.call()?.context.services.starter.clone();
        starter.ok_or_else(|| not_available("starter", "this host starts no servers"))
    }
}

impl Host for InstanceState {
    async fn start(&mut self, id: String) -> Result<(), types::Failure> {
        let starter = self.starter()?;
        Ok(self.wait(starter.start(id)).await?)
    }

    async fn add(&mut self, servers: String) -> Result<Vec<(String, Result<(), types::Failure>)>, types::Failure> {
        let starter = self.starter()?;
        let malformed = |error| Failure::new(code::BAD_MESSAGE, format!("malformed servers: {error}"));
        let servers = serde_json::from_str(&servers).map_err(malformed)?;
        let outcomes = self.wait(starter.add(servers)).await?;
        Ok(outcomes.into_iter().map(|(id, outcome)| (id, outcome.map_err(Into::into))).collect())
    }

    async fn hold(&mut self, ids: Vec<String>, down: bool) -> Result<(), types::Failure> {
        let starter = self.starter()?;
        Ok(self.wait(starter.hold(ids, down)).await?)
    }
}
