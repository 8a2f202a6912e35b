//! The starter: runs a monitor for every server of the cluster, and starts a monitor again that died.
//!
//! | file | what is there |
//! |---|---|
//! | `monitors` | the monitors, each under a supervisor: start, end |
//! | `known` | what is known of the servers: where they belong, how each is run and was begun |
//! | `add` | servers that are added while the cluster runs |
//! | `command` | the command lines that monitors are run with, here and through `ssh` |
//! | `pomelo` | the command lines of servers of pomelo 2.x, which have no monitor of ours |
//! | `path` | paths as they stand on command lines |
//! | `replace` | another configuration while it runs |
//! | `place` | where a server is to run, and whether its ports are free there |
//!
//! A monitor runs in a process group of its own, and its program in another. A monitor that is asked to end ends its program first. If a monitor or the
//! master is killed, their guards (see [`Guard`](crate::supervise::Guard)) kill what they ran. A monitor on another machine ends when its `ssh` does.
//!
//! What is wanted of a server, and what has become of it, is the fleet's ([`crate::fleet`]). This part begins and ends processes.
//!
//! A monitor that ends with code 0 was stopped on purpose, and stays down. So does a monitor that ends with
//! [`GIVEN_UP`](crate::monitor::GIVEN_UP), because its program is not to run again.
//!
//! Only a monitor that is proved dead is started again. On this machine its process has ended. On another machine the new monitor opens the state in the
//! data directory. If it cannot, the old one lives: the new one then ends at once with the code [`RUNS_ALREADY`](crate::monitor::RUNS_ALREADY), and is
//! started again later.
//!
//! `pomelo start --id` and `--type` are other starters beside the master's. A [yielding](ServerStarter::yielding) starter takes a server that runs already
//! for somebody else's, and leaves it alone for good. Otherwise it would bring the server back when somebody stops it.

mod add;
mod command;
mod known;
mod monitors;
mod path;
mod place;
mod pomelo;
mod replace;

#[cfg(test)]
mod tests;

pub(super) use known::OutputPlace;
pub use monitors::{ServerStarter, Which};
pub(super) use place::is_local;
