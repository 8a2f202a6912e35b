//! `master.json` and `servers.json`: the servers of the cluster.
//!
//! `server` says what a server is, `read` reads the files; `values` knows the members that are more than texts (ports, hosts, CPUs, ids), `counted`
//! what `clusterCount` and `++` stand for, and `taken` which ids and addresses are in use.

mod counted;
mod read;
mod server;
mod taken;
mod values;

pub(super) use read::{PRIVATE, ServerDefaults, cpu_mark, master, servers};
pub use server::{Master, Server};
pub(super) use taken::Taken;
