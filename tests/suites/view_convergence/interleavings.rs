//! W5: random interleavings of everything that can happen to members; at the end every view is the master's table.
//!
//! `VIEWS_SEED=n cargo test --test view_convergence` looks at one interleaving again; it fixes what happens and in which order, not the time that the
//! sockets take.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pomelo_host::master::{Master, Members};
use pomelo_host::wire::{Phase, PhaseName};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::fleet::{Fleet, MASTER, MemoryApplication, Node, View, Wire, seen};
use crate::settles;

/// A monitor and the wire between it and the master.
struct Wired {
    node: Node,
    wire: Wire,
}

struct Cluster {
    fleet: Fleet,
    master: Option<(Master, Arc<MemoryApplication>)>,
    address: SocketAddr,
    members: Vec<Wired>,
    /// Wires of monitors that have ended without the master noticing.
    frozen: Vec<Wire>,
    random: StdRng,
    ports: u16,
}

/// The ids that monitors take. They are few, so that several monitors take the same one.
const IDS: [&str; 6] = ["chat-1", "chat-2", "chat-3", "gate-1", "gate-2", "area-1"];

impl Cluster {
    async fn new(seed: u64) -> Self {
        let fleet = Fleet {
            grace: Duration::from_millis(30),
            event_window: Duration::from_millis(10),
            // Slaves are not told of changes: they ask, at each turn of the timer.
            ..Fleet::new(256).watchdog_interval(1.0)
        };
        let master = fleet.master(0).await;
        let address = master.0.address();
        let (members, frozen, random) = (Vec::new(), Vec::new(), StdRng::seed_from_u64(seed));
        Cluster { fleet, master: Some(master), address, members, frozen, random, ports: 4000 }
    }

    fn index(&mut self) -> Option<usize> {
        (!self.members.is_empty()).then(|| self.random.random_range(0..self.members.len()))
    }

    async fn join(&mut self, id: &str, port: u16) {
        let wire = Wire::to(self.address).await;
        let server_type = id.split('-').next().unwrap_or_default();
        let node = self.fleet.monitor(id, server_type, port, wire.address).await;
        self.members.push(Wired { node, wire });
    }

    async fn step(&mut self) {
        match self.random.random_range(0..100) {
            // A monitor joins. Where its id is taken it is a slave.
            0..30 => {
                let id = IDS[self.random.random_range(0..IDS.len())];
                self.ports += 1;
                self.join(id, self.ports).await;
            }
            // A monitor leaves and says so.
            30..45 => {
                let Some(index) = self.index() else { return };
                let Wired { node, wire } = self.members.swap_remove(index);
                node.monitor.shut_down(Duration::from_secs(1)).await;
                drop(wire);
            }
            // A monitor loses its connection, and comes back.
            45..65 => {
                let Some(index) = self.index() else { return };
                self.members[index].wire.cut();
            }
            // A monitor dies, and its connection breaks.
            65..75 => {
                let Some(index) = self.index() else { return };
                let Wired { node, wire } = self.members.swap_remove(index);
                drop(wire);
                node.monitor.shut_down(Duration::ZERO).await;
            }
            // A monitor dies and its connection stays half open. Another takes its place under the same address.
            75..83 => {
                let Some(index) = self.index() else { return };
                let Wired { node, wire } = self.members.swap_remove(index);
                wire.freeze();
                self.frozen.push(wire);
                node.monitor.shut_down(Duration::ZERO).await;
                self.join(&node.id, node.port).await;
            }
            // A program is restarted. Whether it is away for a while is chance.
            83..95 => {
                let Some(index) = self.index() else { return };
                if self.random.random() {
                    self.members[index].node.phase.send_replace(Phase::new(PhaseName::Starting));
                    self.pause().await;
                }
                let pid = self.random.random_range(1..1_000_000);
                self.members[index].node.phase.send_replace(Phase::running(pid));
            }
            // The master is restarted.
            _ => {
                if let Some((master, _)) = self.master.take() {
                    master.shut_down(Duration::ZERO).await;
                }
                self.pause().await;
                self.master = Some(self.fleet.master(self.address.port()).await);
                // The new master has never known the connections that the old one took for alive.
                self.frozen.clear();
            }
        }
    }

    /// Waits a few milliseconds. The wait is a part of the interleaving, not a condition.
    async fn pause(&mut self) {
        let micros = self.random.random_range(0..8_000);
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }

    /// Whether the master knows exactly the living, and every view is its table.
    fn is_settled(&self) -> Result<(), String> {
        let Some((master, own)) = &self.master else { return Err("there is no master".into()) };
        let table = table(master.members());
        let mut living: Vec<&str> = self.members.iter().map(|member| &*member.node.id).collect();
        living.push(MASTER);
        living.sort_unstable();
        living.dedup();
        let known: Vec<&str> = table.keys().map(|id| &**id).collect();
        if known != living {
            return Err(format!("the master knows {known:?}, and {living:?} live"));
        }
        let members = self.members.iter().map(|member| (&*member.node.id, member.node.port, &*member.node.application));
        for (id, port, application) in members.chain([(MASTER, 0, &**own)]) {
            application.view(|view| {
                if *view == table {
                    return Ok(());
                }
                Err(format!("{id} at port {port} has {}, and the master {}", short(view), short(&table)))
            })?;
        }
        Ok(())
    }

    async fn end(self) {
        let all = self.members.iter().map(|member| member.node.monitor.shut_down(Duration::ZERO));
        futures_util::future::join_all(all).await;
        if let Some((master, _)) = self.master {
            master.shut_down(Duration::ZERO).await;
        }
    }
}

fn table(members: &Members) -> View {
    members.snapshot().servers.iter().map(|(id, entry)| seen(id, &entry.info)).collect()
}

/// A view as a failing test shows it: id, port and process of each server.
fn short(view: &View) -> String {
    let server = |(id, info): (&Arc<str>, &Arc<str>)| {
        let info: serde_json::Value = serde_json::from_str(info).unwrap_or_default();
        format!("{id}:{}/{}", info["port"], info["pid"])
    };
    view.iter().map(server).collect::<Vec<_>>().join(" ")
}

async fn interleaving(seed: u64) {
    println!("VIEWS_SEED={seed}");
    let mut cluster = Cluster::new(seed).await;
    for round in 0..2 {
        for _ in 0..30 {
            cluster.step().await;
            cluster.pause().await;
        }
        settles(&format!("VIEWS_SEED={seed}, round {round}"), || cluster.is_settled()).await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn w5_whatever_happens_every_view_becomes_the_masters_table() {
    if let Some(seed) = std::env::var("VIEWS_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return interleaving(seed).await;
    }
    // Fixed ones, and one that nobody has seen before.
    let seeds = [1, 2, 3, rand::random()];
    futures_util::future::join_all(seeds.map(interleaving)).await;
}
