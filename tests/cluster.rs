//! Clusters of real processes: the finished program as master, monitors and command line, shell scripts as servers, npm's `socket.io-client` as a
//! foreign client. Each test has a configuration, ports and a modules' directory of its own; whatever it started ends with it.

#[path = "cluster/access.rs"]
mod access;
#[path = "cluster/adding.rs"]
mod adding;
#[path = "cluster/application.rs"]
mod application;
#[path = "cluster/clients.rs"]
mod clients;
#[path = "cluster/command_line.rs"]
mod command_line;
#[path = "cluster/console.rs"]
mod console;
#[path = "cluster/demo.rs"]
mod demo;
#[path = "cluster/journal.rs"]
mod journal;
#[path = "cluster/lifecycle.rs"]
mod lifecycle;
#[path = "cluster/loss.rs"]
mod loss;
#[path = "cluster/modules.rs"]
mod modules;
#[path = "cluster/monitors.rs"]
mod monitors;
#[path = "cluster/observing.rs"]
mod observing;
#[path = "cluster/page.rs"]
mod page;
#[path = "cluster/pipes.rs"]
mod pipes;
#[path = "cluster/scripts_and_profiles.rs"]
mod scripts_and_profiles;
#[path = "cluster/setting_up.rs"]
mod setting_up;
#[path = "cluster/shell.rs"]
mod shell;
#[path = "cluster/shutdown.rs"]
mod shutdown;
#[path = "cluster/ssh.rs"]
mod ssh;
#[path = "cluster/support.rs"]
mod support;
#[path = "cluster/twenty.rs"]
mod twenty;
#[path = "cluster/watching.rs"]
mod watching;
