//! Modules that make the host hold memory for them.

use std::fs;

use futures_util::future::join_all;
use pomelo_host::client::{AdminClient, Options};
use serde_json::json;

use crate::built;
use crate::neighbour::Neighbour;
use crate::support::{Stopped, eventually, parent};
use crate::target::Target;

/// Calls at the same time.
const CALLS: usize = 250;

/// A target with the module, whose settings these are, and a server whose monitor answers nothing.
struct Scene {
    target: Target,
    neighbour: Neighbour,
    client: AdminClient,
    _silent: Stopped,
}

impl Scene {
    async fn of(settings: &str) -> Scene {
        let target = Target::start(&format!("[module.hoarder]\ngrants = [\"cluster\"]\n{settings}"));
        let neighbour = Neighbour::of(&target).await;
        fs::copy(built("hostile-memory.wasm"), target.cluster.path("modules/hostile-memory.wasm")).unwrap();
        let options = Options { port: target.cluster.port, ..Options::default() };
        let client = AdminClient::connect(options).await.unwrap();
        let silent = Stopped::new(parent(target.cluster.pid("chat-1")));
        Scene { target, neighbour, client, _silent: silent }
    }

    /// Waits until the module has what it needs.
    fn there(&self) {
        // Any answer of the module's own: it does not know that wish.
        let there = || {
            self.target
                .cluster
                .request("hoarder", &json!({"do": "nothing"}))
                .is_err_and(|why| why.contains("(bad-message)"))
        };
        eventually("the module is there", || there().then_some(()));
    }

    /// Has the module do something in many calls at once, and returns the codes of their failures. Another module's requests are answered meanwhile.
    async fn all(&self, what: &str) -> Vec<String> {
        let wish = json!({"do": what, "server": "chat-1"});
        let mut codes = Vec::new();
        let calls = async { join_all((0..CALLS).map(|_| self.client.request("hoarder", &wish))).await };
        let seen = self.neighbour.asks_during(async {
            codes = calls
                .await
                .into_iter()
                .map(|answer| answer.map_or_else(|why| why.to_string(), |_| String::new()))
                .collect();
        });
        assert!(seen.await.answered > 0);
        self.target.held();
        codes
    }
}

/// How many say that.
fn count(said: &[String], word: &str) -> usize {
    said.iter().filter(|said| said.contains(word)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_with_much_memory_share_what_their_module_may_hold() {
    let scene = Scene::of("[module.hoarder.limits]\nwall_ms = 5000\n").await;
    scene.there();
    let said = scene.all("hold").await;
    // The others were told which limit kept them from it. Whoever had room waited for the server, until its own deadline or the end of the connection.
    let waited: usize = ["timeout", "disconnected", "unreachable", "not-found"]
        .map(|code| count(&said, &format!("({code})")))
        .iter()
        .sum();
    assert!(waited > 0 && count(&said, "module_mib") > 0, "{said:?}");
    assert_eq!(waited + count(&said, "module_mib"), CALLS, "{said:?}");
    // What they held is free again.
    let again = scene.client.request("hoarder", json!({"do": "hold", "server": "chat-1"})).await.unwrap_err();
    assert!(!again.to_string().contains("module_mib"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_and_messages_of_calls_that_wait_are_counted() {
    let scene = Scene::of("[module.hoarder.limits]\nwall_ms = 5000\n").await;
    scene.there();
    for what in ["targets", "send"] {
        let said = scene.all(what).await;
        assert!(count(&said, "module_mib") > 0, "{what}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_looked_at_before_they_are_kept() {
    let scene =
        Scene::of("options = { start = \"keys\" }\n[module.hoarder.limits]\ncpu_ms = 60000\nwall_ms = 120000\n").await;
    // `start` was refused a thousand keys of two megabytes, one after another, and nothing of them is left.
    scene.there();
    scene.target.held();
    scene.client.request("hoarder", json!({"do": "store"})).await.unwrap();
    // Larger ones are refused before they are copied. The handler is put aside after some of them.
    let said = scene.all("key").await;
    assert!(count(&said, "KiB at once") > 0, "{said:?}");
    // The others have found no room for such a key in their own memory, or in that of the module.
    assert_eq!(
        count(&said, "(memory-limit)") + count(&said, "(busy)") + count(&said, "(put-aside)"),
        CALLS,
        "{said:?}"
    );
}
