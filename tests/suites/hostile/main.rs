//! Hostile modules in the modules' directory of a real master. The collection is in `tests/fixtures/hostile`.
//!
//! Each test looks at what a module must not do: slow another module's calls down for good, take the host's memory, keep the cluster from
//! starting, or have a peer cut that did nothing wrong. `neighbour.rs` is the other module's user. `docs/security.md` has the table of all of them.

mod compile;
mod cpu;
#[path = "../../support/hostile.rs"]
mod hostile;
mod memory;
mod neighbour;
mod pressure;
#[path = "../../support/shapes.rs"]
mod shapes;
#[path = "../../support/processes/mod.rs"]
mod support;
#[path = "../../support/target.rs"]
mod target;

use std::path::PathBuf;
use std::time::Duration;

use neighbour::Neighbour;
use target::Target;

/// A component of `target/modules/fixtures`.
fn built(name: &str) -> PathBuf {
    let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/modules/fixtures")).join(name);
    assert!(file.exists(), "{} is not built: run modules/build.sh", file.display());
    file
}

/// Without a hostile module, all that is looked at beside one holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_among_friends() {
    let target = Target::start("");
    let neighbour = Neighbour::of(&target).await;
    let seen = neighbour.asks_during(tokio::time::sleep(Duration::from_secs(1))).await;
    assert!(seen.answered > 0);
    target.held();
}
