//! Where the fleet is kept, as the fleet sees it.

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use crate::failure::Failure;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shelf {
    /// Servers, by id.
    Servers,
    /// Jobs, by number.
    Jobs,
}

/// Keeps records, each as JSON, when the process ends. An engine that serves several masters would implement it as well.
pub trait Store: Send + Sync + 'static {
    /// All keys and values of a shelf, as they were at the beginning. It is asked once for each shelf.
    fn load(&self, shelf: Shelf) -> Vec<(String, String)>;
    /// Keeps a value, or removes the key. Does not wait for the disk.
    fn put(&self, shelf: Shelf, key: &str, value: Option<String>);
    /// Waits until all that was put is on the disk.
    ///
    /// # Errors
    /// `failed` if it cannot be written.
    fn written(&self) -> BoxFuture<'static, Result<(), Failure>>;
}

/// Keeps nothing, for a host without a data directory.
#[derive(Debug, Default)]
pub struct Forgetful;

impl Store for Forgetful {
    fn load(&self, _: Shelf) -> Vec<(String, String)> {
        Vec::new()
    }

    fn put(&self, _: Shelf, _: &str, _: Option<String>) {}

    fn written(&self) -> BoxFuture<'static, Result<(), Failure>> {
        ready(Ok(())).boxed()
    }
}
