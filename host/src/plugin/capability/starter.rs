//! `starter`: the master's starter of configured servers.

use futures_util::future::BoxFuture;

use crate::failure::Failure;

/// What the interface `starter` acts on.
pub trait Starter: Send + Sync + 'static {
    /// Starts a configured server that is not running; answers when its process runs.
    fn start(&self, id: String) -> BoxFuture<'_, Result<(), Failure>>;
}
