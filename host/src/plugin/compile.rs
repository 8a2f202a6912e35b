//! From a file's bytes to compiled code and a descriptor. Nothing of the file runs here, with one exception: in a file without the
//! descriptor's section, `describe` runs, and traps if it calls an import that is not WASI's.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};

use super::instance::Trapped;
use super::interfaces::Interface;
use super::limited_store::limited_store;
use super::{Compiled, Descriptor, Engine, EngineLimits, InspectError, Inspection, Limits, LoadError, bindings, guest};
use crate::failure::{Failure, code};

impl Compiled {
    /// Compiles a file, unless this engine has compiled it already. That takes some ten milliseconds of CPU time for each 100 kB, or one
    /// with the cache on disk. When the future is dropped, a compiler process is killed.
    ///
    /// # Errors
    /// [`LoadError`] says why the file is refused.
    pub async fn new(engine: &Engine, bytes: Arc<[u8]>) -> Result<Arc<Self>, LoadError> {
        let digest = {
            let bytes = bytes.clone();
            tokio::task::spawn_blocking(move || Sha256::digest(&bytes).into()).await.map_err(LoadError::Thread)?
        };
        let slot = engine.shelf().slot(digest);
        let mut known = slot.lock().await;
        if let Some(compiled) = known.upgrade() {
            return Ok(compiled);
        }
        let inspection = inspect(bytes.clone(), Inspection::new).await?;
        // Before it is compiled, because that costs more.
        let descriptor = inspection.descriptor.as_deref().map(Descriptor::parse).transpose()?;
        let (component, code) = engine.compiler().component(engine.wasmtime(), &inspection.digest, bytes).await?;
        let descriptor = match descriptor {
            Some(descriptor) => descriptor,
            None => {
                // Nothing of a file runs that would be refused whatever is granted to it.
                inspection.imports.iter().try_for_each(|import| Interface::of(import).map(drop))?;
                Descriptor::parse(&describe(engine, &component).await.map_err(LoadError::Describe)?)?
            }
        };
        let compiled = Arc::new(Compiled { component, inspection, descriptor, _code: code });
        *known = Arc::downgrade(&compiled);
        Ok(compiled)
    }

    /// Compiles a script: a component with a `monitor-handler`. It needs no descriptor, and one that it exports is not read.
    ///
    /// # Errors
    /// [`LoadError`] says why it is refused.
    pub async fn script(engine: &Engine, bytes: Arc<[u8]>) -> Result<Arc<Self>, LoadError> {
        let inspection = inspect(bytes.clone(), Inspection::script).await?;
        let (component, code) = engine.compiler().component(engine.wasmtime(), &inspection.digest, bytes).await?;
        Ok(Arc::new(Compiled { component, inspection, descriptor: Descriptor::default(), _code: code }))
    }
}

/// Reads what stands in a file, on a thread that may wait.
async fn inspect(
    bytes: Arc<[u8]>,
    inspect: fn(&[u8]) -> Result<Inspection, InspectError>,
) -> Result<Inspection, LoadError> {
    Ok(tokio::task::spawn_blocking(move || inspect(&bytes)).await.map_err(LoadError::Thread)??)
}

/// Asks a component for its descriptor, under the default limits. It has of its imports those of WASI, which interpreters need to begin with. Every other
/// traps, because nothing is known yet of what the file may do.
async fn describe(engine: &Engine, component: &Component) -> Result<String, Failure> {
    let limits = Limits::default();
    let wall = limits.wall;
    let linked = || {
        let mut linker = Linker::new(engine.wasmtime());
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        // wasmtime's own traps for what is not defined would take the place of WASI, because they compare versions to the letter.
        let (kind, engine) = (component.component_type(), engine.wasmtime());
        for (interface, import) in kind.imports(engine).filter(|(name, _)| !name.starts_with("wasi:")) {
            let ComponentItem::ComponentInstance(instance) = import.ty else { continue };
            let mut within = linker.instance(interface)?;
            let functions =
                instance.exports(engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
            for (name, _) in functions {
                let why = format!("it calls `{name}` of `{interface}`, and may call nothing of its host yet");
                within.func_new(name, move |_, _, _, _| Err(wasmtime::Error::msg(why.clone())))?;
            }
        }
        let pre = linker.instantiate_pre(component)?;
        let exports = bindings::exports::pomelo::admin::descriptor::GuestIndices::new(&pre)?;
        wasmtime::Result::Ok((pre, exports))
    };
    let (pre, exports) = linked().map_err(|error: wasmtime::Error| Failure::new(code::FAILED, format!("{error:#}")))?;
    let room = engine.modules().open("describe", limits.sum()).instance(EngineLimits::INSTANCE);
    let charge = room.map_err(|over| Failure::new(code::MEMORY_LIMIT, over.to_string()))?;
    // Whose file this is, is not known yet.
    let share = engine.scheduler().share("", limits.weight);
    let mut store = limited_store(engine, &limits, charge, &Arc::default(), &share);
    let clock = store.data().cpu.clone();
    let describing = async move {
        let described: wasmtime::Result<String> = async {
            let instance = pre.instantiate_async(&mut store).await?;
            exports.load(&mut store, &instance)?.call_describe(&mut store).await
        }
        .await;
        described.map_err(|error| Trapped::new(error, store.data()).failure("`describe`", &limits))
    };
    let late = |_| Failure::new(code::TIMEOUT, format!("`describe` did not answer within {} ms", wall.as_millis()));
    tokio::time::timeout(wall, guest::run(engine.scheduler(), &clock, describing)).await.map_err(late)??
}
