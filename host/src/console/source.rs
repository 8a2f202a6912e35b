//! A file that may become a version of a module, and where it came from.

use std::path::PathBuf;
use std::sync::Arc;

use crate::plugin::Grants;

/// Where a version came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Carried inside the program.
    BuiltIn,
    /// A file.
    File(PathBuf),
}

/// A file to be installed.
#[derive(Clone)]
pub struct Source {
    /// The file's name without its ending: versions of one name replace each other.
    pub name: String,
    /// Where it came from.
    pub origin: Origin,
    /// The file.
    pub bytes: Arc<[u8]>,
    /// What is granted to it beside what the configuration grants. Only built-in modules have such grants.
    pub grants: Grants,
}
