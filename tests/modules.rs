//! Modules in running hosts: real components, a master and monitors in this process, clients over real sockets.
//!
//! The components are built by `modules/build.sh`; `POMELO_TEST_MODULES` names another directory than `target/modules`.

#[path = "modules_suite/commands.rs"]
mod commands;
#[path = "modules_suite/descriptor.rs"]
mod descriptor;
#[path = "modules_suite/limits.rs"]
mod limits;
#[path = "modules_suite/nesting.rs"]
mod nesting;
#[path = "modules_suite/options.rs"]
mod options;
#[path = "modules_suite/order.rs"]
mod order;
#[path = "modules_suite/permission.rs"]
mod permission;
#[path = "modules_suite/profiler.rs"]
mod profiler;
#[path = "modules_suite/recorded.rs"]
mod recorded;
#[path = "modules_suite/reload.rs"]
mod reload;
#[path = "modules_suite/reload_under_load.rs"]
mod reload_under_load;
#[path = "modules_suite/roles.rs"]
mod roles;
#[path = "modules_suite/scripts.rs"]
mod scripts;
#[path = "modules_suite/start.rs"]
mod start;
#[path = "modules_suite/support/mod.rs"]
mod support;
#[path = "modules_suite/system_monitor.rs"]
mod system_monitor;
#[path = "modules_suite/time_report.rs"]
mod time_report;
#[path = "modules_suite/timers.rs"]
mod timers;
#[path = "modules_suite/watch_server.rs"]
mod watch_server;
