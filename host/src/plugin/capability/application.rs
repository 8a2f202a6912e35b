//! `application`: the served application's view of the cluster.

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use crate::failure::Failure;
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
