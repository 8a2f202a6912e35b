//! Servers that are not as they are wanted, while no job owns them.
//!
//! A server that joins although it is wanted down is ended again, and one that is to be started by this master is started. Each is a job, so that one can
//! see who did it. A server that cannot be brought where it is wanted is tried again after longer and longer waits.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::fleet::Due;
use crate::fleet::job::{Jobs, Kind, Request};
use crate::util::Backoff;

/// The first wait before a server is tried again, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A server that was as it was wanted for this long begins with the first wait again.
const FORGIVEN: Duration = Duration::from_secs(120);
/// Who asks for these jobs.
const BY: &str = "the master, because the server is not as it is wanted";

/// How often a server was tried, and when it may be tried again.
struct Tried {
    backoff: Backoff,
    next: Instant,
}

/// Keeps servers as they are wanted, as long as the fleet is there.
pub(super) async fn drive(jobs: Jobs) {
    let mut changed = jobs.fleet().changed();
    let mut tried: HashMap<(String, Due), Tried> = HashMap::new();
    loop {
        changed.mark_unchanged();
        let now = Instant::now();
        tried.retain(|_, tried| tried.next + FORGIVEN > now);
        let mut wait: Option<Instant> = None;
        for (due, kind) in [(Due::Start, Kind::Start), (Due::End, Kind::Stop)] {
            let mut ids = Vec::new();
            for (id, _) in jobs.fleet().due().into_iter().filter(|(_, is)| *is == due) {
                let entry = tried
                    .entry((id.clone(), due))
                    .or_insert_with(|| Tried { backoff: Backoff::new(WAITS.0, WAITS.1), next: now });
                if entry.next <= now {
                    entry.next = now + entry.backoff.next_wait();
                    ids.push(id);
                } else {
                    wait = Some(wait.map_or(entry.next, |wait| wait.min(entry.next)));
                }
            }
            if ids.is_empty() {
                continue;
            }
            if let Err(failure) = jobs.submit_again(Request::new(kind, ids, BY)).await {
                tracing::warn!(%failure, "servers that are not as they are wanted stay so for now");
            }
        }
        let wait = wait.unwrap_or(now + FORGIVEN);
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(wait) => {}
        }
    }
}
