//! The master that is attacked, and what must hold of it meanwhile.

use std::net::SocketAddr;

use crate::support::{Cluster, Done, SETTINGS, two_chats};
use procfs::process::Process;

/// Resident memory that a master may reach under any attack, MiB.
pub const MAX_RSS_MIB: u64 = 300;

/// A master with two chat servers, in processes of their own.
pub struct Target {
    pub cluster: Cluster,
}

impl Target {
    /// A cluster that runs. `settings` is further text of pomelo.toml.
    pub fn start(settings: &str) -> Target {
        let cluster = Cluster::start(two_chats(), &format!("{SETTINGS}{settings}"));
        cluster.wait_for(&["chat-1", "chat-2"]);
        Target { cluster }
    }

    /// The master's port.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.cluster.port).into()
    }

    /// The most memory that the master's process has had resident, MiB.
    pub fn peak_mib(&self) -> u64 {
        let pid = self.cluster.hosts[0].pid().cast_signed();
        let status = Process::new(pid).and_then(|process| process.status()).unwrap();
        status.vmhwm.unwrap() >> 10
    }

    /// Level 1 stops a server. The command has a deadline of its own, so that it cannot hang.
    pub fn stop(&self, id: &str) -> Done {
        self.cluster.ask(&["stop", id])
    }

    /// Fails if the master's memory was ever above what an attack may take.
    pub fn held(&self) {
        let peak = self.peak_mib();
        assert!(peak < MAX_RSS_MIB, "the master has had {peak} MiB resident");
    }
}
