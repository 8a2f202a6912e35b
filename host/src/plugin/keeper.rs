//! Where durable keys of modules' stores are kept, as a store sees it.

use std::sync::Arc;

use crate::failure::Failure;

/// Keeps keys and values when the process ends. A scope is a module id.
pub trait Keeper: Send + Sync + 'static {
    /// What is kept for a scope.
    ///
    /// # Errors
    /// `failed` where it cannot be read. Nothing must be taken for empty then.
    fn load(&self, scope: &str) -> Result<Vec<(String, String)>, Failure>;
    /// Keeps a value, or removes the key. Does not wait for the disk: after a crash, changes of the last milliseconds may be lost. After an
    /// orderly end of the process, none is.
    fn put(&self, scope: &str, key: &str, value: Option<Arc<str>>);
}
