//! Where durable keys of modules' stores are kept, as a store sees it.

use std::sync::Arc;

/// Keeps keys and values beyond the process. Scopes are module ids.
pub trait Keeper: Send + Sync + 'static {
    /// What is kept for a scope.
    fn load(&self, scope: &str) -> Vec<(String, String)>;
    /// Keeps a value, or forgets it. Does not wait for the disk: the change is there after a crash of the machine only if some milliseconds
    /// have passed, and always after an orderly end.
    fn put(&self, scope: &str, key: &str, value: Option<Arc<str>>);
}
