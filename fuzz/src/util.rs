//! What `wire` uses of the host's small tools.

#[path = "../../host/src/util/cut.rs"]
mod cutting;
#[path = "../../host/src/util/secret.rs"]
pub mod secret;
#[path = "../../host/src/util/visible.rs"]
pub mod visible;

pub use cutting::cut;
pub use secret::Secret;
