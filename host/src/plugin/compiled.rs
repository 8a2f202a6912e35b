//! From a file's bytes to compiled code and a descriptor. Nothing of the file runs here but, in a file without the descriptor's section,
//! `describe` with every import trapping.

use std::sync::Arc;

use wasmtime::component::{Component, Linker};

use super::engine::Engine;
use super::instance::limited_store;
use super::{Descriptor, DescriptorError, InspectError, Inspection, Limits, bindings};

/// A compiled file.
pub struct Compiled {
    pub(super) component: Component,
    pub(super) inspection: Inspection,
    pub(super) descriptor: Descriptor,
}

/// Why a file cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is no admin module.
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
    Thread(#[from] tokio::task::JoinError),
}

impl Compiled {
    /// Compiles a file, on a thread where that holds up nobody. Some ten milliseconds of CPU time for each 100 kB, or 0.1 from the cache.
    ///
    /// # Errors
    /// [`LoadError`] says why the file is refused.
    pub async fn new(engine: &Engine, bytes: Arc<[u8]>) -> Result<Self, LoadError> {
        let compile = {
            let engine = engine.clone();
            move || -> Result<_, LoadError> {
                let inspection = Inspection::new(&bytes)?;
                let component = Component::from_binary(engine.wasmtime(), &bytes).map_err(LoadError::Compile)?;
                Ok((inspection, component))
            }
        };
        let (inspection, component) = tokio::task::spawn_blocking(compile).await??;
        let descriptor = match &inspection.descriptor {
            Some(text) => Descriptor::parse(text)?,
            None => Descriptor::parse(&describe(engine, &component).await.map_err(LoadError::Describe)?)?,
        };
        Ok(Compiled { component, inspection, descriptor })
    }

    /// What was read off the file.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// What the module says of itself.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

/// Asks a component for its descriptor, with every import trapping and the default limits.
async fn describe(engine: &Engine, component: &Component) -> wasmtime::Result<String> {
    let limits = Limits::default();
    let mut linker = Linker::new(engine.wasmtime());
    linker.define_unknown_imports_as_traps(component)?;
    let pre = linker.instantiate_pre(component)?;
    let exports = bindings::exports::pomelo::admin::descriptor::GuestIndices::new(&pre)?;
    let mut store = limited_store(engine, &limits);
    let clock = store.data().cpu.clone();
    let described = clock.measure(async {
        let instance = pre.instantiate_async(&mut store).await?;
        exports.load(&mut store, &instance)?.call_describe(&mut store).await
    });
    tokio::time::timeout(limits.wall, described).await.map_err(|_| wasmtime::Error::msg("it did not end in time"))?
}
