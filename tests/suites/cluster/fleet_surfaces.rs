//! Every surface reads the fleet: what the command line, `/healthz` and `/metrics` say of a server that does not run, and how it comes back.

use serde_json::{Value, json};

use crate::observing::{get, metric};
use crate::support::*;

/// Fails for good until the file `repaired` is there.
const BROKEN: &str = "test -e repaired || { echo 'no such table' >&2; exit 1; }; \
                      trap 'exit 0' TERM; while :; do sleep 0.05; done";

fn cluster() -> Cluster {
    let servers = json!({"chat": [{"id": "chat-1", "script": GRACEFUL},
        {"id": "chat-2", "script": BROKEN, "restart": "never"}]});
    Cluster::start(servers, SETTINGS)
}

/// The fleet's record of a server.
fn record(cluster: &Cluster, id: &str) -> Option<Value> {
    let answer: Value = serde_json::from_str(&cluster.ask(&["list", "--json"]).out).ok()?;
    answer["servers"].as_array()?.iter().find(|server| server["id"] == id).cloned()
}

fn is(cluster: &Cluster, id: &str, state: &str) -> Value {
    eventually(&format!("{id} is {state}"), || record(cluster, id).filter(|server| server["state"] == state))
}

#[test]
fn a_server_that_fails_is_named_by_every_surface_and_comes_back_from_there() {
    let cluster = cluster();
    is(&cluster, "chat-1", "running");
    eventually("chat-2 has failed, and how it ended is known", || {
        record(&cluster, "chat-2").filter(|server| server["state"] == "failed" && server["exits"] != json!([]))
    });
    let master = format!("127.0.0.1:{}", cluster.port);

    // It has no figures, which is no failure of the command.
    let listed = cluster.done(&["list"]);
    let row = listed.lines().find(|line| line.starts_with("chat-2")).unwrap();
    assert!(row.contains("failed") && row.contains("code 1"), "{listed}");
    let failed = cluster.done(&["list", "--state", "failed", "--type", "chat"]);
    assert!(failed.contains("chat-2") && !failed.contains("chat-1") && !failed.contains("master"), "{failed}");
    let filtered: Value = serde_json::from_str(&cluster.done(&["list", "--json", "--state", "running"])).unwrap();
    assert_eq!(filtered["servers"].as_array().unwrap().len(), 1, "{filtered}");
    assert_eq!(cluster.ask(&["list", "--state", "sleeping"]).code, Some(2));
    let described = cluster.done(&["describe", "chat-2"]);
    for words in ["failed since", "up by ", "no such table", "code 1"] {
        assert!(described.contains(words), "{words} is not in {described}");
    }
    let nobody = cluster.ask(&["describe", "chat-9"]);
    assert_eq!(
        (nobody.code, nobody.err.contains("chat-9") && nobody.err.contains(&master)),
        (Some(1), true),
        "{nobody:?}"
    );

    let (status, health) = get(&master, "/healthz", "").unwrap();
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["status"]), (200, &json!("degraded")), "the master itself works: {health}");
    assert!(health["problems"][0].as_str().unwrap().starts_with("chat-2 is failed: "), "{health}");
    assert_eq!(health["servers"], json!({"failed": 1, "running": 1}));
    let (_, stranger) = get(&master, "/healthz", "X-Forwarded-For: 192.0.2.1\r\n").unwrap();
    assert!(!stranger.contains("chat-2") && stranger.contains("degraded"), "{stranger}");

    let (_, metrics) = get(&master, "/metrics", "").unwrap();
    let of = |name: &str, labels: &[&str]| metric(&metrics, name, labels);
    let (first, second) = (r#"id="chat-1""#, r#"id="chat-2""#);
    let up = [first, second].map(|id| of("pomelo_server_up", &[id, r#"type="chat""#]));
    assert_eq!(up, [Some(1.0), Some(0.0)], "{metrics}");
    assert_eq!(of("pomelo_server_wanted", &[second]), Some(1.0), "{metrics}");
    assert_eq!(of("pomelo_server_state", &[second, r#"state="failed""#]), Some(1.0), "{metrics}");
    assert_eq!(of("pomelo_server_state", &[second, r#"state="running""#]), None, "{metrics}");
    assert!(of("pomelo_server_ready_seconds", &[first]).is_some(), "{metrics}");
    let types = ["pomelo_servers_wanted", "pomelo_servers_running"].map(|name| of(name, &[r#"type="chat""#]));
    assert_eq!(types, [Some(2.0), Some(1.0)], "{metrics}");
    assert_eq!(of("pomelo_jobs_under_way", &[]), Some(0.0), "{metrics}");
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"] {
        assert!(of(name, &[]) > Some(0.0), "{name}: {metrics}");
    }

    // It still fails, and the answer says why. Then it is repaired.
    let again = cluster.ask(&["restart", "chat-2"]);
    assert_eq!((again.code, again.err.contains("chat-2")), (Some(1), true), "{again:?}");
    cluster.write("repaired", "");
    assert_eq!(cluster.done(&["restart", "chat-2"]), "restarted\n");
    is(&cluster, "chat-2", "running");
    let health: Value = serde_json::from_str(&get(&master, "/healthz", "").unwrap().1).unwrap();
    assert_eq!(health, json!({"status": "ok", "problems": [], "servers": {"running": 2}}));
}

#[test]
fn jobs_are_listed_shown_and_followed() {
    let cluster = Cluster::start(two_chats(), SETTINGS);
    cluster.wait_for(&["chat-1", "chat-2"]);
    let rolled = cluster.ask(&["restart", "--type", "chat", "--rolling", "--max-unavailable", "50%", "--continue"]);
    assert_eq!((rolled.code, rolled.out.as_str()), (Some(0), "restarted\n"), "{rolled:?}");
    // One line for each server, because there is no terminal.
    for id in ["chat-1: done", "chat-2: done"] {
        assert_eq!(rolled.err.matches(id).count(), 1, "{rolled:?}");
    }
    let jobs: Value = serde_json::from_str(&cluster.done(&["jobs", "--json"])).unwrap();
    let newest = &jobs[0];
    assert_eq!((&newest["kind"], &newest["state"]), (&json!("restart"), &json!("done")), "{jobs}");
    assert_eq!(newest["options"]["rolling"], true, "{jobs}");
    let id = newest["id"].to_string();
    let shown = cluster.done(&["jobs", &id]);
    assert!(shown.contains("2 of 2 servers") && shown.contains("chat-1"), "{shown}");
    assert!(cluster.done(&["jobs"]).contains("2/2"));

    // It goes on without the one who asked, and can be followed to its end.
    let begun = cluster.done(&["stop", "chat-1", "--no-wait", "--json"]);
    let begun: Value = serde_json::from_str(&begun).unwrap();
    let job = begun["job"].to_string();
    let followed = cluster.done(&["jobs", &job, "-f"]);
    assert!(followed.contains("done, 1 of 1 servers"), "{followed}");
    let stopped = is(&cluster, "chat-1", "stopped");
    assert_eq!((&stopped["wanted"], &stopped["wantedBy"]), (&json!("down"), &json!("admin")), "{stopped}");
    let drained = cluster.done(&["drain", "--type", "chat"]);
    assert_eq!(drained, "drained: chat-2\n");
    let undrained = cluster.ask(&["undrain", "chat-2"]);
    assert_eq!((undrained.code, undrained.err.contains("does not drain")), (Some(1), true), "{undrained:?}");

    let none = cluster.ask(&["jobs", "999"]);
    assert_eq!(none.code, Some(1), "{none:?}");
    for wrong in [&["jobs", "-f"][..], &["restart", "chat-1", "--min-ready", "1"], &["drain"]] {
        assert_eq!(cluster.ask(wrong).code, Some(2), "{wrong:?}");
    }
    // What ends the master too is answered before it does.
    let all = cluster.ask(&["stop", "--all"]);
    assert_eq!(all.code, Some(0), "{all:?}");
    assert!(all.out.starts_with("stopped: ") && all.out.contains("master"), "{all:?}");
}
