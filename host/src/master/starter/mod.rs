//! The starter: runs a monitor for every server of the cluster, and brings monitors back that died.
//!
//! | file | what is there |
//! |---|---|
//! | `monitors` | the monitors, each under a supervisor: start, end |
//! | `add` | servers that are added while the cluster runs |
//! | `command` | the command lines that monitors are run with, here and through `ssh` |
//! | `pomelo` | the command lines of servers of pomelo 2.x, which have no monitor of ours |
//! | `path` | paths as they stand on command lines |
//! | `place` | where a server is to run, and whether its ports are free there |
//! | `record` | what outlives the process: servers that are kept down, servers that were added |
//! | `joined` | what modules see: answers when a server has joined |
//!
//! A monitor runs in a process group of its own, its program in another. Asked to end, a monitor ends its program first; killed, its guard
//! and this starter's (see [`Guard`](crate::supervise::Guard)) leave nothing behind, and the same holds when the master itself is killed. A monitor on
//! another machine ends when its `ssh` does. A monitor that ends with code 0 was stopped on purpose and stays down, and so does one that ends with
//! [`GIVEN_UP`](crate::monitor::GIVEN_UP): its program is not to run again.
//!
//! Only a monitor that is proved dead is started again: here its process has ended, elsewhere the state in its data directory is open to a new one,
//! which ends at once otherwise and is tried again later.

mod add;
mod command;
mod joined;
mod monitors;
mod path;
mod place;
mod pomelo;
mod record;

#[cfg(test)]
mod tests;

pub(super) use joined::UntilJoined;
pub use monitors::{ServerStarter, Which};
pub use record::Record;
