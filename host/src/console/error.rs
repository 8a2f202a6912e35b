//! Why a file was refused.

use super::registry::{MAX_CONTEXTS, MAX_UNITS, NoContext};
use super::settings::Untrusted;
use crate::failure::Failure;
use crate::plugin::{LoadError, NotGranted};
use crate::trust::SignatureError;

/// Why a file was refused. What ran before runs on.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The file itself.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its signature is none.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It is not signed as it has to be.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// What it imports.
    #[error(transparent)]
    NotGranted(#[from] NotGranted),
    /// Another file has the id.
    #[error(
        "it claims the module id `{id}`, which {other} answers to: remove one of the two, or give this one other ids"
    )]
    Conflict {
        /// The id.
        id: String,
        /// The other file.
        other: String,
    },
    /// The id is a built-in module's.
    #[error(
        "it claims the module id `{0}` of a built-in module: set `allow_replace_builtin = true` under [modules] in pomelo.toml if it shall take its place"
    )]
    BuiltIn(String),
    /// It would take only some of a built-in module's ids.
    #[error("it takes the place of a built-in module and lacks its module id `{0}`")]
    Partial(String),
    /// It cannot be instantiated.
    #[error("it cannot be instantiated: {0}")]
    Instantiate(Failure),
    /// `start` failed.
    #[error("`start` of module {id} failed: {failure}")]
    Start {
        /// The module id.
        id: String,
        /// What it failed with.
        failure: Failure,
    },
    /// It was there at the start of this host, and a host had taken it back before.
    #[error("it was taken back before this host started, because it trapped: drop it again to try it once more")]
    TakenBack,
    /// The table is full.
    #[error("this host keeps {MAX_CONTEXTS} module ids and {max} files at most", max = MAX_UNITS)]
    TooMany,
    /// What modules have stored cannot be read, and must not be taken for empty.
    #[error("{0}")]
    Unread(Failure),
}

impl InstallError {
    /// Whether the same file may be accepted the next time, although nothing has changed.
    pub fn is_passing(&self) -> bool {
        match self {
            // Ids are given back some time after their files have gone: when no version that had them is drained or may come back any more.
            InstallError::Start { .. } | InstallError::TooMany => true,
            InstallError::Load(error) => error.is_passing(),
            _ => false,
        }
    }

    /// Whether the file might be accepted under other settings.
    pub(super) fn is_of_settings(&self) -> bool {
        !matches!(
            self,
            InstallError::Load(_) | InstallError::TakenBack | InstallError::TooMany | InstallError::Unread(_)
        )
    }
}

impl From<NoContext> for InstallError {
    fn from(none: NoContext) -> Self {
        match none {
            NoContext::Full => InstallError::TooMany,
            NoContext::Unread(failure) => InstallError::Unread(failure),
        }
    }
}
