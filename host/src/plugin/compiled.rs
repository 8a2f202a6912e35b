//! From a file's bytes to compiled code and a descriptor. Nothing of the file runs here but, in a file without the descriptor's section,
//! `describe` with every import trapping.
//!
//! The hosts of one engine share code: a master and its own monitor, or a thousand monitors of a test, load the same files.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
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
    Thread(tokio::task::JoinError),
}

/// The compiled files that are in use, by their SHA-256.
#[derive(Default)]
pub(super) struct Shelf(Mutex<HashMap<[u8; 32], Place>>);

/// A file's place. It is locked while the file is compiled, so that nobody compiles it beside.
type Place = Arc<tokio::sync::Mutex<Weak<Compiled>>>;

impl Shelf {
    fn place(&self, digest: [u8; 32]) -> Place {
        let mut places = self.0.lock();
        let in_use =
            |place: &Place| Arc::strong_count(place) > 1 || place.try_lock().is_ok_and(|it| it.strong_count() > 0);
        places.retain(|_, place| in_use(place));
        places.entry(digest).or_default().clone()
    }
}

impl Compiled {
    /// Compiles a file, on a thread where that holds up nobody, or finds it compiled already by this engine. Some ten milliseconds of CPU time
    /// for each 100 kB, or 0.1 from the cache on disk.
    ///
    /// # Errors
    /// [`LoadError`] says why the file is refused.
    pub async fn new(engine: &Engine, bytes: Arc<[u8]>) -> Result<Arc<Self>, LoadError> {
        let digest = {
            let bytes = bytes.clone();
            tokio::task::spawn_blocking(move || Sha256::digest(&bytes).into()).await.map_err(LoadError::Thread)?
        };
        let place = engine.shelf().place(digest);
        let mut known = place.lock().await;
        if let Some(compiled) = known.upgrade() {
            return Ok(compiled);
        }
        let (inspection, component) = compile(engine, bytes, Inspection::new).await?;
        let descriptor = match &inspection.descriptor {
            Some(text) => Descriptor::parse(text)?,
            None => Descriptor::parse(&describe(engine, &component).await.map_err(LoadError::Describe)?)?,
        };
        let compiled = Arc::new(Compiled { component, inspection, descriptor });
        *known = Arc::downgrade(&compiled);
        Ok(compiled)
    }

    /// Compiles a script: a component with a `monitor-handler` that needs no descriptor, and has none here even if it exports one.
    ///
    /// # Errors
    /// [`LoadError`] says why it is refused.
    pub async fn script(engine: &Engine, bytes: Arc<[u8]>) -> Result<Arc<Self>, LoadError> {
        let (inspection, component) = compile(engine, bytes, Inspection::script).await?;
        Ok(Arc::new(Compiled { component, inspection, descriptor: Descriptor::default() }))
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

/// Reads and compiles a file on a thread of its own.
async fn compile(
    engine: &Engine,
    bytes: Arc<[u8]>,
    inspect: fn(&[u8]) -> Result<Inspection, InspectError>,
) -> Result<(Inspection, Component), LoadError> {
    let engine = engine.clone();
    let compile = move || {
        let inspection = inspect(&bytes)?;
        let component = Component::from_binary(engine.wasmtime(), &bytes).map_err(LoadError::Compile)?;
        Ok((inspection, component))
    };
    tokio::task::spawn_blocking(compile).await.map_err(LoadError::Thread)?
}

/// Asks a component for its descriptor, with every import trapping and the default limits.
async fn describe(engine: &Engine, component: &Component) -> wasmtime::Result<String> {
    let limits = Limits::default();
    let mut linker = Linker::new(engine.wasmtime());
    linker.define_unknown_imports_as_traps(component)?;
    let pre = linker.instantiate_pre(component)?;
    let exports = bindings::exports::pomelo::admin::descriptor::GuestIndices::new(&pre)?;
    let mut store = limited_store(engine, &limits, &Arc::default());
    let clock = store.data().cpu.clone();
    let described = clock.measure(async {
        let instance = pre.instantiate_async(&mut store).await?;
        exports.load(&mut store, &instance)?.call_describe(&mut store).await
    });
    tokio::time::timeout(limits.wall, described).await.map_err(|_| wasmtime::Error::msg("it did not end in time"))?
}
