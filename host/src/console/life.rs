//! The end of a host, for all who have to know of it.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the host lives, and what it still has to finish.
#[derive(Clone, Default)]
pub(super) struct Life {
    /// Cancelled when the host begins to shut down.
    pub shutdown: CancellationToken,
    /// Calls, timers, feeds and lanes. The end of the host waits for them.
    pub tasks: TaskTracker,
}
