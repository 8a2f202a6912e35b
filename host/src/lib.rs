//! A WASM plugin host for cluster administration: pomelo's admin framework made anew.

pub mod client;
pub mod console;
pub mod failure;
pub mod plugin;
pub mod transport;
pub mod wire;
