//! Modules in running hosts: real components, a master and monitors in this process, clients over real sockets.
//!
//! The components are built by `modules/build.sh`; `POMELO_TEST_MODULES` names another directory than `target/modules`.

mod commands;
mod descriptor;
mod from_master;
mod limits;
mod nesting;
mod options;
mod order;
mod permission;
mod profiler;
mod recorded;
mod reload;
mod reload_under_load;
mod roles;
mod scripts;
mod start;
mod support;
mod system_monitor;
mod time_report;
mod timers;
mod watch_server;
