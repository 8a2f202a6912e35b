//! `cluster`: the master's way to its monitors.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use crate::failure::Failure;

/// Targets as a module wrote them: server ids, `type:NAME`, `*`, `ID@HOST:PORT`.
pub type Targets = Vec<String>;

/// What the interface `cluster` acts on.
pub trait Cluster: Send + Sync + 'static {
    /// The server table: JSON with `rev`, `epoch` and `servers`.
    fn servers(&self) -> Box<RawValue>;
    /// Ids of the servers that the configuration names, the master's own among them.
    fn configured(&self) -> Vec<String>;
    /// Asks all that the targets name; `depth` says how many calls these are nested in. One pair for each server, and one for each target
    /// that names nobody.
    fn request_many(
        &self,
        targets: Targets,
        module: String,
        msg: Arc<RawValue>,
        depth: u8,
        deadline: Instant,
    ) -> BoxFuture<'_, Vec<(String, Result<Box<RawValue>, Failure>)>>;
    /// Sends requests whose answers are collected, and whose failures are logged, in the background.
    fn tell(&self, targets: Targets, module: String, msg: Arc<RawValue>, depth: u8) -> Result<(), Failure>;
    /// Sends messages that are not answered.
    fn notify(&self, targets: Targets, module: String, msg: Arc<RawValue>) -> Result<(), Failure>;
}
