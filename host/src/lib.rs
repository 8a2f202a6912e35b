//! A WASM plugin host for cluster administration: pomelo's admin framework made anew.

pub mod auth;
pub mod config;
pub mod demo;
pub mod failure;
pub mod master;
pub mod monitor;
pub mod plugin;
pub mod supervise;
pub mod transport;
pub mod wire;
