//! The module runtime: components, compiled once, called in warm instances under limits.
//!
//! The way of a call: [`Lease::call`] takes a place in the module's and the engine's table of instances, an idle instance or a new one, and
//! the right to run; the guest runs under a CPU budget and a wall deadline; what it asks of its host goes to the traits in
//! [`capability`]; its answer is checked to be JSON. A trap, a passed limit or a missed deadline ends that call and drops that instance,
//! and nothing else.
//!
//! | file | what is there |
//! |---|---|
//! | `engine` | wasmtime's configuration, the linker, the places that all modules share |
//! | `inspect` | what a file imports, exports and says of itself, read without running it |
//! | `descriptor` | the descriptor's JSON |
//! | `grants` | what an operator granted, and the check of a file against it |
//! | `limits` | the limits of a module, with their defaults |
//! | `compiled` | from a file's bytes to code and descriptor |
//! | `cpu` | the CPU time of a call |
//! | `handler` | the callbacks that a module may have |
//! | `call`, `caller` | a call to be made, and who makes it |
//! | `module` | a callable version of a module, and its calls |
//! | `lease` | a call's part in a version |
//! | `instance` | one live instance |
//! | `profiling` | where the calls of a module spend their time |
//! | `breaker` | puts a handler aside that keeps trapping |
//! | `identity` | whose host this is |
//! | `context` | what a module id keeps over versions: store, options, grants, figures |
//! | `store` | the module's store |
//! | `keeper` | where a store's durable keys go |
//! | `state` | what a host function sees of the call it serves |
//! | `capability` | one file a capability |
//!
//! This part knows neither master nor monitor, no socket and no configuration file.

mod bindings;
mod breaker;
mod call;
mod call_permits;
mod caller;
pub mod capability;
mod compile;
mod compiled;
mod context;
mod cpu;
mod descriptor;
mod engine;
mod grants;
mod handler;
mod identity;
mod inspect;
mod instance;
mod instance_state;
mod keeper;
mod lease;
mod limited_store;
mod limits;
mod log_budget;
mod module;
mod pool;
mod profiling;
mod sampling;
mod shelf;
mod stats;
mod store;

pub use call::Call;
pub use caller::{Caller, CallerRole, Progress, SendProgress};
pub use compiled::{Compiled, LoadError};
pub use context::{Context, Neighbours};
pub use descriptor::{Descriptor, DescriptorError, IdDescriptor, Operations, TimerKind, WantedLimits};
pub use engine::{Engine, EngineError};
pub use grants::{Grants, NotGranted};
pub use handler::Handler;
pub use identity::{HostRole, Identity};
pub use inspect::{InspectError, Inspection};
pub use keeper::Keeper;
pub use lease::Lease;
pub use limits::{EngineLimits, Limits, MAX_DEPTH};
pub use module::{Figures, Module};
pub use profiling::{ModulesInForce, profile};
pub use stats::{HandlerStats, Stats};
pub use store::{StagedChanges, Store, StoreUndo, StoreView};
