//! What `wire` uses of the host's small tools.

#[path = "../../host/src/util/cut.rs"]
mod cutting;

pub use cutting::cut;
