//! Paths as they stand on command lines.

use std::path::Path;

use crate::failure::{Failure, code};

/// The absolute path, because a monitor does not always run in this host's directory. `what` names it in the failure.
///
/// # Errors
/// `not-available` where the path is not Unicode: the arguments of a [`Spec`](crate::supervise::Spec) are texts.
pub(super) fn absolute(path: &Path, what: &str) -> Result<String, Failure> {
    let text = std::path::absolute(path).ok().and_then(|path| path.into_os_string().into_string().ok());
    let unusable = || format!("no monitors can be started: the path of {what} is not Unicode");
    text.ok_or_else(|| Failure::new(code::NOT_AVAILABLE, unusable()))
}
