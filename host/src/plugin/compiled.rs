//! A compiled file, and why a file cannot be loaded.

use wasmtime::component::Component;

use super::compiler::CodeShare;
use super::{Costly, Descriptor, DescriptorError, InspectError, Inspection, NotOffered, Unfit};
use crate::failure::Failure;

/// A compiled file.
pub struct Compiled {
    pub(super) component: Component,
    pub(super) inspection: Inspection,
    pub(super) descriptor: Descriptor,
    /// Its part in the code that a host may hold.
    pub(super) _code: CodeShare,
}

/// Why a file cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not an admin module.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// Its descriptor is refused.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// It has too much of something for a compiler.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// It costs too much to compile.
    #[error(transparent)]
    Costly(#[from] Costly),
    /// The compiler refuses it.
    #[error("{0}")]
    Refused(String),
    /// The compiler could not do its work, whatever the file is.
    #[error("it could not be compiled, by no fault of its own: {0}; that is tried again")]
    Compiler(String),
    /// It does not compile, or asks for what the linker does not have.
    #[error("it does not compile: {0:#}")]
    Compile(wasmtime::Error),
    /// It imports what no grant could allow.
    #[error(transparent)]
    NotOffered(#[from] NotOffered),
    /// `describe` failed.
    #[error("it has no section `pomelo:descriptor`, and `describe` failed: {0}")]
    Describe(Failure),
    /// The compiling thread ended.
    #[error("it could not be compiled: {0}")]
    Thread(tokio::task::JoinError),
}

impl LoadError {
    /// Whether the same file may load the next time, because this machine could not compile it.
    pub fn is_passing(&self) -> bool {
        matches!(self, LoadError::Compiler(_) | LoadError::Thread(_) | LoadError::Costly(Costly::AllCode { .. }))
    }
}

impl Compiled {
    /// What was read off the file.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// What the module says of itself.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}
