//! `application`: the served application's view of the cluster.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::not_available;
use crate::failure::{Failure, code};
use crate::plugin::bindings::pomelo::admin::{application::Host, types};
use crate::plugin::state::State;
use crate::wire::Info;

/// What the interface `application` acts on. Views are maps from server id to [`Info`].
///
/// Every function answers when the change is visible to the application (for a file: when it has been replaced).
pub trait Application: Send + Sync + 'static {
    /// Adds servers, or replaces those of the same id. Each must have an `id`.
    fn add_servers(&self, servers: Vec<Info>) -> BoxFuture<'_, Result<(), Failure>>;
    /// Removes servers by id; ids that are not there are passed over.
    fn remove_servers(&self, ids: Vec<String>) -> BoxFuture<'_, Result<(), Failure>>;
    /// Replaces the whole view.
    fn replace_servers(&self, servers: Map<String, Value>) -> BoxFuture<'_, Result<(), Failure>>;
    /// The view as it is.
    fn servers(&self) -> Map<String, Value>;
    /// All configured servers have started.
    fn start_over(&self) -> BoxFuture<'_, Result<(), Failure>>;
}

impl State {
    fn application(&self) -> Result<Arc<dyn Application>, Failure> {
        let application = self.call()?.context.services.application.clone();
        application.ok_or_else(|| not_available("application", "this host serves no application"))
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::new(code::BAD_MESSAGE, format!("malformed servers: {error}")))
}

impl Host for State {
    async fn add_servers(&mut self, servers: String) -> Result<(), types::Failure> {
        let application = self.application()?;
        let servers = parse(&servers)?;
        Ok(self.wait(application.add_servers(servers)).await?)
    }

    async fn remove_servers(&mut self, ids: Vec<String>) -> Result<(), types::Failure> {
        let application = self.application()?;
        Ok(self.wait(application.remove_servers(ids)).await?)
    }

    async fn replace_servers(&mut self, servers: String) -> Result<(), types::Failure> {
        let application = self.application()?;
        let servers = parse(&servers)?;
        Ok(self.wait(application.replace_servers(servers)).await?)
    }

    fn servers(&mut self) -> Result<String, types::Failure> {
        Ok(Value::Object(self.application()?.servers()).to_string())
    }

    async fn start_over(&mut self) -> Result<(), types::Failure> {
        let application = self.application()?;
        Ok(self.wait(application.start_over()).await?)
    }
}
