//! A compiled file, and why a file cannot be loaded.

use wasmtime::component::Component;

use super::{Descriptor, DescriptorError, InspectError, Inspection};

/// A compiled file.
pub struct Compiled {
    pub(super) component: Component,
    pub(super) inspection: Inspection,
    pub(super) descriptor: Descriptor,
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
    /// It does not compile, or asks for what the linker does not have.
    #[error("it does not compile: {0:#}")]
    Compile(wasmtime::Error),
    /// `describe` failed.
    #[error("it has no section `pomelo:descriptor`, and `describe` failed: {0:#}")]
    Describe(wasmtime::Error),
    /// The compiling thread ended.
    #[error("it could not be compiled: {0}")]
    Thread(tokio::task::JoinError),
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
