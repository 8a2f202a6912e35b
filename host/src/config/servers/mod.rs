//! `master.json` and `servers.json`: the servers of the cluster.
//!
//! `server` has the types of the master and the servers. `read` reads the files. `values` reads the members that are more than texts (ports, hosts,
//! CPUs, ids), `health` reads what is checked while a program runs, `counted` reads `clusterCount` and `++`, and `taken` knows which ids and addresses are in use.

mod counted;
mod health;
mod read;
mod server;
mod taken;
mod values;

pub use health::{Check, Health, MAX_PROFILE_MS, Then};
pub(super) use read::{PRIVATE, ServerDefaults, cpu_mark, master, servers};
pub use server::{Master, Server};
pub(super) use taken::Taken;
