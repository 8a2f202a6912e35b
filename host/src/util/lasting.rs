//! Tasks that are to last as long as the host does, whatever goes wrong in them.

use std::time::Duration;

use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

/// How long one that has panicked waits before it begins anew.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs what `make` gives in a task of its own. If it panics, that is logged and counted, and it begins anew. Ends when it ends in order. Dropping this ends it.
pub async fn lasting<F>(what: &'static str, make: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match AbortOnDropHandle::new(tokio::spawn(make())).await {
            Err(error) if error.is_panic() => panicked(what, &error),
            _ => return,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Logs and counts that a task has panicked, which is a fault of this program.
pub fn panicked(what: &'static str, error: &JoinError) {
    metrics::counter!("pomelo_tasks_panicked_total", "task" => what).increment(1);
    tracing::error!(%error, "{what} has ended by a fault of this program; all else goes on");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_panics_begins_anew_and_what_ends_has_ended() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = begun.clone();
        lasting("a test", move || {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            async move { assert!(number > 1, "the first two panic") }
        })
        .await;
        assert_eq!(begun.load(Ordering::Relaxed), 3);
    }
}
