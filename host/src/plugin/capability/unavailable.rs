//! The failure of functions that a host does not offer.

use futures_util::future::BoxFuture;

use crate::failure::{Failure, code};

/// The failure of a function that this host does not offer.
pub(super) fn not_available(interface: &str, why: &str) -> Failure {
    Failure::new(code::NOT_AVAILABLE, format!("`{interface}` is not available here: {why}"))
}

/// As [`not_available`], as the answer of a trait's function.
pub(super) fn unavailable<T: Send + 'static>(interface: &str, why: &str) -> BoxFuture<'static, Result<T, Failure>> {
    Box::pin(futures_util::future::ready(Err(not_available(interface, why))))
}
