//! Tasks that are to last as long as the host does, whatever goes wrong in them.

use std::any::Any;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
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

/// One step of a loop that has a state of its own. A step that panics is logged and counted, and there is nothing of it, after a pause. The loop goes on
/// with its state as the step has left it.
pub async fn step<T>(what: &'static str, step: impl Future<Output = T>) -> Option<T> {
    match AssertUnwindSafe(step).catch_unwind().await {
        Ok(done) => Some(done),
        Err(panic) => {
            said(what, &message_of(&*panic));
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

/// What a panic has said.
pub fn message_of(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}

/// Logs and counts that a task has panicked, which is a fault of this program.
pub fn panicked(what: &'static str, error: &JoinError) {
    said(what, error);
}

/// The same for one that has said why.
pub fn said(what: &'static str, error: &dyn Display) {
    metrics::counter!("pomelo_tasks_panicked_total", "task" => what).increment(1);
    tracing::error!(%error, "a fault of this program in {what}; all else goes on");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_that_panics_is_none_and_the_loop_keeps_its_state() {
        let mut done = Vec::new();
        for number in 0..4 {
            let did = step("a test", async {
                assert!(number % 2 == 0, "odd ones panic");
                done.push(number);
                number
            });
            assert_eq!(did.await, (number % 2 == 0).then_some(number));
        }
        assert_eq!(done, [0, 2]);
    }

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
