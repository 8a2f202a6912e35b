//! `application`: the served application's view of the cluster.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::unavailable::{not_available, unavailable};
use crate::failure::{Failure, code};
use crate::plugin::bindings::pomelo::admin::{application::Host, types};
use crate::plugin::instance_state::InstanceState;
use crate::wire::Info;

/// What the interface `application` acts on. Views are maps from server id to [`Info`].
///
/// Every function answers when the change is visible to the application (for a file: when it has been replaced).
pub trait Application: Send + Sync + 'static {
    /// Adds servers, or replaces those of the same id. Each must have an `id`.
    fn add_servers(&self, servers: Vec<Info>) -> BoxFuture<'_, Result<(), Failure>>;
    /// Removes servers by id. Ids that are not there are ignored.
    fn remove_servers(&self, ids: Vec<String>) -> BoxFuture<'_, Result<(), Failure>>;
    /// Replaces the whole view.
    fn replace_servers(&self, servers: Map<String, Value>) -> BoxFuture<'_, Result<(), Failure>>;
    /// The view as it is.
    fn servers(&self) -> Map<String, Value>;
    /// All configured servers have started.
    fn start_over(&self) -> BoxFuture<'_, Result<(), Failure>>;
    /// Names of the functions that the application itself offers now.
    fn offers(&self) -> Vec<String> {
        Vec::new()
    }
    /// Calls one of them.
    #[allow(clippy::boxed_local, reason = "those that offer functions keep the arguments")]
    fn call(&self, name: String, _args: Box<RawValue>) -> BoxFuture<'_, Result<Box<RawValue>, Failure>> {
        unavailable("application", &format!("the application does not offer `{name}`"))
    }
    /// Adds crons, or replaces those of the same id. Where one is refused, none is added.
    fn add_crons(&self, _crons: Vec<Map<String, Value>>) -> BoxFuture<'_, Result<(), Failure>> {
        unavailable("application", "the application has no crons")
    }
    /// Removes crons by id. Answers with the ids that were there.
    fn remove_crons(&self, _ids: Vec<String>) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        unavailable("application", "the application has no crons")
    }
    /// The crons: JSON as the interface says.
    fn crons(&self) -> Vec<Value> {
        Vec::new()
    }
}

impl InstanceState {
    fn application(&self) -> Result<Arc<dyn Application>, Failure> {
        let application = self.call()?.context.services.application.clone();
        application.ok_or_else(|| not_available("application", "this host serves no application"))
    }
}

/// How many times its text a tree of JSON takes: an empty array has two bytes and a comma, and a node of the tree 32.
const TREE: usize = 12;

impl InstanceState {
    /// What a guest handed over. It is charged to the module.
    fn parse<T: serde::de::DeserializeOwned>(&mut self, text: &str, what: &str) -> Result<T, Failure> {
        self.holds(text.len().saturating_mul(TREE))?;
        serde_json::from_str(text)
            .map_err(|error| Failure::new(code::BAD_MESSAGE, format!("malformed {what}: {error}")))
    }
}

/// Bytes of names that a guest handed over.
fn names(names: &[String]) -> usize {
    names.iter().map(|name| name.len() + size_of::<String>()).sum()
}

impl Host for InstanceState {
    async fn add_servers(&mut self, servers: String) -> Result<(), types::Failure> {
        let application = self.application()?;
        let servers = self.parse(&servers, "servers")?;
        Ok(self.wait(application.add_servers(servers)).await?)
    }

    async fn remove_servers(&mut self, ids: Vec<String>) -> Result<(), types::Failure> {
        let application = self.application()?;
        self.holds(names(&ids))?;
        Ok(self.wait(application.remove_servers(ids)).await?)
    }

    async fn replace_servers(&mut self, servers: String) -> Result<(), types::Failure> {
        let application = self.application()?;
        let servers = self.parse(&servers, "servers")?;
        Ok(self.wait(application.replace_servers(servers)).await?)
    }

    fn servers(&mut self) -> Result<String, types::Failure> {
        Ok(Value::Object(self.application()?.servers()).to_string())
    }

    async fn start_over(&mut self) -> Result<(), types::Failure> {
        let application = self.application()?;
        Ok(self.wait(application.start_over()).await?)
    }

    fn offers(&mut self) -> Vec<String> {
        self.application().map(|application| application.offers()).unwrap_or_default()
    }

    async fn call(&mut self, name: String, args: String) -> Result<String, types::Failure> {
        let application = self.application()?;
        let args = self.json(args)?;
        self.holds(args.get().len() + name.len())?;
        let (_, deadline) = self.nested(Duration::MAX)?;
        let late = || Failure::new(code::TIMEOUT, format!("the application did not answer `{name}` in time"));
        let called = tokio::time::timeout_at(deadline.into(), application.call(name.clone(), args));
        let answer = self.wait(called).await.map_err(|_| late())??;
        Ok(Box::<str>::from(answer).into())
    }

    async fn add_crons(&mut self, crons: String) -> Result<(), types::Failure> {
        let application = self.application()?;
        let crons = self.parse(&crons, "crons")?;
        Ok(self.wait(application.add_crons(crons)).await?)
    }

    async fn remove_crons(&mut self, ids: Vec<String>) -> Result<Vec<String>, types::Failure> {
        let application = self.application()?;
        self.holds(names(&ids))?;
        Ok(self.wait(application.remove_crons(ids)).await?)
    }

    fn crons(&mut self) -> Result<String, types::Failure> {
        Ok(Value::Array(self.application()?.crons()).to_string())
    }
}
