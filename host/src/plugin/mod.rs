//! The module runtime: components, compiled once, called in warm instances under limits.
//!
//! The way of a call: [`Lease::call`] takes a permit of the module and one of the engine, the right to run, and an idle instance or a new one.
//! The guest then runs under a limit of CPU time and a deadline. What it asks of its host goes to the traits in [`capability`]. Its answer is
//! checked to be JSON. A trap, a passed limit or a missed deadline ends that call and drops that instance, and nothing else.
//!
//! | file | what is there |
//! |---|---|
//! | `engine` | wasmtime's configuration, the linker, and what all modules of a process share |
//! | `call_permits` | how many calls may be under way at the same time |
//! | `fair` | whose turn it is where callers wait |
//! | `inspect` | what a file imports, exports and says of itself, read without running it |
//! | `descriptor` | the descriptor's JSON |
//! | `grants` | what an operator granted, and the check of a file against it |
//! | `limits` | the limits of a module, with their defaults |
//! | `compiled` | a compiled file, and why a file cannot be loaded |
//! | `compiler/` | who compiles, and what that may cost |
//! | `compile`, `shelf` | from a file's bytes to code and descriptor, once for all hosts of an engine |
//! | `cpu` | the CPU time of a call |
//! | `guest` | runs a guest where it is polled, or in turns |
//! | `scheduler`, `share` | whose turn to compute it is, by what each file has used lately |
//! | `handler` | the callbacks that a module may have |
//! | `call`, `caller` | a call to be made, and who makes it |
//! | `message` | what a module sends to a module elsewhere |
//! | `module` | a callable version of a module, and its calls |
//! | `lease` | a call's part in a version |
//! | `pool` | the idle instances of a version |
//! | `instance`, `limited_store` | one live instance, and the wasmtime store that it runs in |
//! | `instance_state` | what a host function sees of the call that it serves |
//! | `profiling`, `sampling` | where the calls of a module spend their time |
//! | `breaker` | puts a handler aside, for those callers whose calls keep trapping it |
//! | `gathered` | the answers of several servers, within bounds |
//! | `rollback` | which traps of a new version bring the one before it back |
//! | `stats` | figures of a module id's handlers |
//! | `log_budget` | how much a module may log |
//! | `identity` | whose host this is |
//! | `context` | what a module id keeps over versions: store, options, grants, figures |
//! | `store`, `store_view` | the module's store, and what a call sees of it |
//! | `keeper` | where a store's durable keys go |
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
pub(crate) mod compiler;
mod context;
mod cpu;
mod descriptor;
mod engine;
mod fair;
mod gathered;
mod grants;
mod guest;
mod guest_log;
mod handler;
mod identity;
mod inspect;
mod instance;
mod instance_state;
mod interfaces;
mod keeper;
mod lease;
mod limited_store;
mod limits;
mod log_budget;
mod message;
mod module;
mod patience;
mod pool;
mod profiling;
mod rollback;
mod sampling;
mod scheduler;
mod share;
mod shelf;
mod stats;
mod store;
mod store_view;
mod ticks;

pub use breaker::AsideFor;
pub use call::Call;
pub use caller::{Caller, CallerRole, Progress, SendProgress};
pub use compiled::{Compiled, LoadError};
pub use compiler::{Compiler, Costly, TooLarge, Unfit};
pub use context::{Context, Neighbours};
pub use descriptor::{Descriptor, DescriptorError, IdDescriptor, Operations, TimerKind, WantedLimits};
pub use engine::{Engine, EngineError};
pub(crate) use fair::{QueueShare, QueueShares};
pub use gathered::{AnswerBounds, Gathered, within};
pub use grants::{Grants, Import, MissingGrants, NotGranted};
pub use handler::Handler;
pub use identity::{HostRole, Identity};
pub use inspect::{InspectError, Inspection};
pub use interfaces::NotOffered;
pub use keeper::Keeper;
pub use lease::Lease;
pub use limits::{CompileLimits, EngineLimits, Limits, MAX_DEPTH};
pub use message::ModuleMessage;
pub use module::{Figures, Module, PutAside};
pub use profiling::{ModulesInForce, profile};
pub use stats::{HandlerStats, Stats};
pub use store::{StagedChanges, Store, StoreUndo};
pub use store_view::StoreView;
