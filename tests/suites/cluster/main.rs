//! Clusters of real processes: the finished program as master, monitors and command line, shell scripts as servers, npm's `socket.io-client` as a
//! foreign client. Each test has a configuration, ports and a modules' directory of its own; whatever it started ends with it.

mod access;
mod adding;
mod application;
mod apply;
mod clients;
mod command_line;
mod console;
mod conversation;
mod demo;
mod disk;
mod drain;
mod first_process;
mod fleet_surfaces;
mod from_master;
mod health;
mod journal;
mod lifecycle;
mod logs_kept;
mod loss;
mod machine;
mod modules;
mod modules_directory;
mod monitors;
mod observing;
mod page;
mod pipes;
mod plan;
mod scripts_and_profiles;
mod service_manager;
mod setting_up;
mod shell;
mod shows;
mod shutdown;
mod signed;
mod slow;
mod ssh;
#[path = "../../support/processes/mod.rs"]
mod support;
mod tls;
mod turns;
mod twenty;
mod two_starts;
mod versions;
mod watching;
