//! Every server's view of the cluster becomes the master's table: W1 to W5 with a real master, real monitors, real sockets and the real watchdog.

mod burst;
#[path = "../../support/fleet/mod.rs"]
mod fleet;
mod interleavings;
mod messages;
#[path = "../../support/tcp_table.rs"]
#[expect(dead_code, reason = "this suite asks only whether a connection waits to be accepted")]
mod tcp_table;

use std::time::{Duration, Instant};

/// Waits until `holds` is `Ok`. The deadline only keeps a failing test from hanging.
async fn settles(what: &str, mut holds: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(why) = holds() {
        assert!(Instant::now() < deadline, "{what}: {why}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
