//! The master that is attacked, and what must hold of it meanwhile.

// Each of the test programs that share this file uses a part of it.
#![allow(dead_code)]

use std::net::SocketAddr;

use parking_lot::{Mutex, MutexGuard};
use procfs::process::Process;

use crate::support::{Cluster, Done, SETTINGS, two_chats};

/// Resident memory that a master may reach under any attack, of peers or of modules, MiB.
pub const MAX_RSS_MIB: u64 = 300;

/// A master with two chat servers, in processes of their own. There is one at a time, because what is looked at is what one attacker takes.
pub struct Target {
    pub cluster: Cluster,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Target {
    /// A cluster that runs. `settings` is further text of pomelo.toml.
    pub fn start(settings: &str) -> Target {
        Target::of(|| Cluster::start(two_chats(), &format!("{SETTINGS}{settings}")))
    }

    /// A cluster of two chat servers that is started when no other is attacked.
    pub fn of(start: impl FnOnce() -> Cluster) -> Target {
        let alone = ALONE.lock();
        let cluster = start();
        cluster.wait_for(&["chat-1", "chat-2"]);
        Target { cluster, _alone: alone }
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
        let begun = std::time::Instant::now();
        let done = self.cluster.ask(&["stop", id]);
        println!("`stop` took {:?}", begun.elapsed());
        done
    }

    /// Fails if the master's memory was ever above what an attack may take.
    pub fn held(&self) {
        let peak = self.peak_mib();
        println!("the master has had {peak} MiB resident");
        assert!(peak < MAX_RSS_MIB, "the master has had {peak} MiB resident");
    }
}
