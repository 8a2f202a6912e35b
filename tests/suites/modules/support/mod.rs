//! A cluster in this process, over real sockets; built components; and waits with a generous deadline.

mod clients;
mod cluster;
mod fake_application;
#[path = "../../../support/figures.rs"]
mod figures;
mod files;
mod hand;
mod logged;

use std::time::{Duration, Instant};

pub use clients::{Ask, code_of};
pub use cluster::{Cluster, Plan, Server, engine, follow, grants, settings_of};
pub use fake_application::{FakeApplication, info};
pub use files::{described, fixture, module, outside, renewed, sha256, without_descriptor};
pub use hand::Hand;
pub use logged::lines_logged;

/// How long something that has to happen may take. It only keeps a failing test from hanging.
pub const GENEROUS: Duration = Duration::from_secs(30);

/// Looks again and again until there is what is looked for.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < GENEROUS, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for something that has to happen.
pub async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(GENEROUS, wait).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}
