//! Modules that send faster than anybody reads.

use std::fs;
use std::time::Duration;

use pomelo_host::client::{AdminClient, Options};
use serde_json::{Value, json};

use crate::built;
use crate::neighbour::Neighbour;
use crate::support::{Stopped, eventually, parent};
use crate::target::Target;

/// A target with the module under two names: as it is, and as a file and id of its own.
struct Scene {
    target: Target,
    neighbour: Neighbour,
    client: AdminClient,
}

const GRANTS: &str =
    "[module.flooder]\ngrants = [\"cluster\", \"uplink\"]\n[module.another]\ngrants = [\"cluster\", \"uplink\"]\n";
/// What a module sends is looked at, and not how long it computes: it may take its time on a slow machine.
const PATIENT: &str = "[module.flooder.limits]\ncpu_ms = 60000\nwall_ms = 120000\n";
/// Whoever waits for room gives up soon.
const IMPATIENT: &str = "[module.flooder.limits]\nwall_ms = 3000\n";

impl Scene {
    async fn of(settings: &str) -> Scene {
        let target = Target::start(&format!("{GRANTS}{settings}"));
        let neighbour = Neighbour::of(&target).await;
        let module = fs::read(built("hostile-pressure.wasm")).unwrap();
        fs::write(target.cluster.path("modules/flooder.wasm"), &module).unwrap();
        fs::write(target.cluster.path("modules/another.wasm"), renamed(module, b"flooder", b"another")).unwrap();
        for id in ["flooder", "another"] {
            let there = || target.cluster.request(id, &json!({"do": "notify", "server": "chat-1", "times": 1})).ok();
            eventually("the module is there", || there().filter(|answer| answer["sent"] == 1));
            // On the monitors as well.
            let there = || target.cluster.request(id, &json!({"do": "up", "server": "chat-1", "times": 1})).ok();
            eventually("the module is on the monitor", || there().filter(|answer| answer["sent"] == 1));
        }
        // Longer than a call of the module may take.
        let request_time = Duration::from_secs(120);
        let options = Options { port: target.cluster.port, request_time, ..Options::default() };
        let client = AdminClient::connect(options).await.unwrap();
        Scene { target, neighbour, client }
    }

    /// What the module could send.
    async fn sends(&self, id: &str, what: &str, times: u32) -> Value {
        let answer = self.client.request(id, json!({"do": what, "server": "chat-1", "times": times})).await;
        serde_json::from_str(answer.unwrap_or_else(|why| panic!("{what}: {why}")).get()).unwrap()
    }

    /// Sends so many times in one call. Another module's requests are answered meanwhile, and nobody is cut.
    async fn floods(&self, what: &str, times: u32) {
        let seen = self.neighbour.asks_during(async {
            assert_eq!(self.sends("flooder", what, times).await, json!({"sent": times}), "{what}");
        });
        assert!(seen.await.answered > 0);
        self.nobody_left(what);
        self.target.held();
    }

    /// The servers are those that have joined at first, and none has lost its connection.
    fn nobody_left(&self, what: &str) {
        let events = self.target.cluster.done(&["events"]);
        let lost = events
            .lines()
            .filter(|line| line.contains("disconnect") || line.contains("lost") || line.contains("does not keep up"));
        assert_eq!(lost.collect::<Vec<_>>(), Vec::<&str>::new(), "{what}");
        self.target.cluster.wait_for(&["chat-1", "chat-2"]);
    }
}

/// A component in which one id has the place of another of the same length.
fn renamed(module: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut renamed = module;
    let places: Vec<_> =
        renamed.windows(from.len()).enumerate().filter(|(_, word)| *word == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        renamed[at..at + to.len()].copy_from_slice(to);
    }
    renamed
}

#[tokio::test(flavor = "multi_thread")]
async fn notifies_without_pause_wait_for_the_monitor() {
    Scene::of(PATIENT).await.floods("notify", 60_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notifies_of_a_monitors_module_wait_for_the_master() {
    Scene::of(PATIENT).await.floods("up", 60_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_without_pause_waits_for_the_client() {
    Scene::of(PATIENT).await.floods("progress", 60_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_nobody_answers_fill_the_places_of_their_module_alone() {
    let scene = Scene::of(IMPATIENT).await;
    let silent = Stopped::new(parent(scene.target.cluster.pid("chat-1")));
    let mut sent = 0;
    // As many as all modules together could have had under way.
    let refused = loop {
        let answer = scene.sends("flooder", "tell", 1000).await;
        sent += answer["sent"].as_u64().unwrap();
        if answer["code"] != Value::Null || sent > 5000 {
            break answer;
        }
    };
    assert!(
        refused["code"] == "busy" && refused["why"].as_str().unwrap().contains("flooder"),
        "{sent} and then {refused}"
    );
    assert!(sent < 1000, "{sent}");
    // Another module has its own.
    assert_eq!(scene.sends("another", "tell", 10).await, json!({"sent": 10}));
    drop(silent);
    scene.target.held();
}
