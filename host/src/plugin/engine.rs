//! wasmtime's configuration, the linker, and what all modules of a process share: the compiler, the permits for calls, the compiled files, and the
//! number of idle instances.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::bindings;
use super::call_permits::CallPermits;
use super::compiler::{Cache, Compiling};
use super::instance_state::InstanceState;
use super::scheduler::Scheduler;
use super::shelf::Shelf;
use super::ticks::Ticks;
use super::{CompileLimits, Compiler, EngineLimits, MAX_DEPTH};
use crate::budget::ModulesBudget;

/// What runs the modules of a process. Clones are the same engine.
#[derive(Clone)]
pub struct Engine(Arc<SharedEngine>);

struct SharedEngine {
    wasmtime: wasmtime::Engine,
    linker: Linker<InstanceState>,
    ticks: Arc<Ticks>,
    scheduler: Arc<Scheduler>,
    compiling: Compiling,
    shelf: Shelf,
    permits: CallPermits,
    idle: AtomicUsize,
    max_idle: usize,
    limits: EngineLimits,
    modules: ModulesBudget,
}

/// Instances for serial calls, which take no permit.
const SERIAL: u32 = 256;

/// What one component may have of each. The engine reserves as much for every live instance, so that no module can use up what others need.
const CORE_INSTANCES: u32 = 64;
const TABLES: u32 = 8;
/// The most memories of one component. Interpreters of other languages are put together from parts with memories of their own: one of JavaScript has three. Half
/// as many are reserved for each live instance, because each takes more than 4 GiB of addresses, most components have one, and the instances of a module are few.
const MEMORIES: u32 = 4;

/// Places of instances that have ended, of which the engine keeps some memory resident for the next instance of the same module. Every version of a module is
/// another to it, so that reloads would fill one place after another: by default a hundred. The host keeps idle instances itself.
const UNUSED_SLOTS: u32 = 8;

/// Why no engine could be made.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine cannot be set up")]
pub struct EngineError(#[from] wasmtime::Error);

/// What decides how a component is compiled. It is the same in a host and in its compiler.
pub(super) fn code() -> Config {
    let mut config = Config::new();
    config.concurrency_support(false).epoch_interruption(true).async_stack_size(256 << 10).max_wasm_stack(128 << 10);
    config
}

impl Engine {
    /// An engine that compiles in this process, with the default limits, of which those of CPU time and memory cannot be enforced then. `cache` is the
    /// directory for compiled code; without it a module is compiled at every start of the process.
    ///
    /// # Errors
    /// [`EngineError`] where the limits cannot be had on this machine, or the directory cannot be used.
    pub fn new(limits: EngineLimits, cache: Option<&Path>) -> Result<Self, EngineError> {
        Engine::compiling(limits, cache, Compiler::InProcess, CompileLimits::default())
    }

    /// An engine whose modules are compiled by `compiler`, under limits of their own.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn compiling(
        limits: EngineLimits,
        cache: Option<&Path>,
        compiler: Compiler,
        compile: CompileLimits,
    ) -> Result<Self, EngineError> {
        let total = limits.total_instances.max(16);
        // Idle instances keep their stacks and memories, and as many may be idle as calls may be under way. Serial calls, one for each module,
        // come on top, because they take no permit.
        let live = total.saturating_mul(2).saturating_add(SERIAL);
        let mut pooling = PoolingAllocationConfig::new();
        pooling
            .total_stacks(live)
            .total_memories(live.saturating_mul(MEMORIES / 2))
            .total_component_instances(live)
            .total_core_instances(live.saturating_mul(CORE_INSTANCES))
            .total_tables(live.saturating_mul(TABLES))
            .table_elements(100_000)
            .max_memory_size(limits.max_memory)
            .max_component_instance_size(4 << 20)
            .max_core_instance_size(4 << 20)
            .max_core_instances_per_component(CORE_INSTANCES)
            .max_memories_per_component(MEMORIES)
            .max_tables_per_component(TABLES)
            .max_unused_warm_slots(UNUSED_SLOTS)
            .linear_memory_keep_resident(64 << 10)
            .table_keep_resident(8 << 10)
            .pagemap_scan(Enabled::Auto);
        let mut config = code();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
        let cache = cache.map(Cache::open).transpose().map_err(|error| EngineError(error.into()))?;
        let wasmtime = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&wasmtime);
        bindings::Module::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        let ticks = Ticks::begin(&wasmtime).map_err(|error| EngineError(error.into()))?;
        let inner = (total as usize / 4 / usize::from(MAX_DEPTH)).max(1);
        let outer = total as usize - inner * usize::from(MAX_DEPTH);
        Ok(Engine(Arc::new(SharedEngine {
            wasmtime,
            linker,
            ticks,
            scheduler: Scheduler::new(std::thread::available_parallelism().map_or(1, usize::from)),
            compiling: Compiling::new(compiler, compile, cache),
            shelf: Shelf::default(),
            permits: CallPermits::new(outer, inner),
            idle: AtomicUsize::new(0),
            max_idle: total as usize,
            modules: ModulesBudget::new(limits.modules),
            limits,
        })))
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.wasmtime
    }

    /// What is told when guests run.
    pub(super) fn ticks(&self) -> &Arc<Ticks> {
        &self.0.ticks
    }

    /// Whose guest runs next.
    pub(super) fn scheduler(&self) -> &Arc<Scheduler> {
        &self.0.scheduler
    }

    pub(super) fn linker(&self) -> &Linker<InstanceState> {
        &self.0.linker
    }

    pub(super) fn compiler(&self) -> &Compiling {
        &self.0.compiling
    }

    pub(super) fn shelf(&self) -> &Shelf {
        &self.0.shelf
    }

    pub(super) fn permits(&self) -> &CallPermits {
        &self.0.permits
    }

    /// The limits that the engine was made with.
    pub fn limits(&self) -> &EngineLimits {
        &self.0.limits
    }

    /// What the modules of the process may hold together.
    pub fn modules(&self) -> &ModulesBudget {
        &self.0.modules
    }

    /// Guests that wait for a turn to run, because others have turns or have used less.
    pub fn waiting_guests(&self) -> usize {
        self.0.scheduler.waiting()
    }

    /// Whether one more instance may stay idle. If so, it is counted.
    pub(super) fn keep_idle(&self) -> bool {
        let more = |idle: usize| (idle < self.0.max_idle).then_some(idle + 1);
        self.0.idle.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    /// Counts `count` instances less as idle.
    pub(super) fn not_idle(&self, count: usize) {
        self.0.idle.fetch_sub(count, Ordering::AcqRel);
    }
}
