//! The fleet: what ought to run, what runs, and the jobs that make the one the other.
//!
//! | file | what is there |
//! |---|---|
//! | `state` | the state machine of one server, a pure function |
//! | `record` | what is known of one server |
//! | `table` | all servers, kept durably |
//! | `store` | where they are kept, as a trait |
//! | `job` | orders of operators, carried out server by server |
//!
//! Everything that happens to a server is an [`Input`]: an order, a join, an exit, a deadline. What a server is depends on nothing else. So every
//! surface that reads the fleet tells the same.
//!
//! This part knows no socket, no process and no module. How a server is started and ended is a trait ([`job::Actuator`]).

pub mod job;
mod record;
mod state;
mod store;
mod table;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

pub use record::{KEPT_EXITS, LastExit, Origin, ServerRecord, now};
pub use state::{Due, End, Input, Place, State, Wanted, due, next};
pub use store::{Forgetful, Shelf, Store};
pub use table::{Fleet, Happening, Named};
