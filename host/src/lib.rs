//! A WASM plugin host for cluster administration: pomelo's admin framework made anew.

pub mod admin_log;
pub mod auth;
pub mod built_in;
pub mod cli;
pub mod client;
pub mod config;
pub mod console;
pub mod cron;
pub mod demo;
pub mod exchange;
pub mod failure;
pub mod fleet;
pub mod journal;
pub mod master;
pub mod monitor;
pub mod observe;
pub mod plugin;
pub mod profile;
pub mod reload;
pub mod scripts;
pub mod state_db;
pub mod supervise;
pub mod trace;
pub mod transport;
mod util;
pub mod web;
pub mod wire;
