//! How much of what was handed to the layers below has not reached the socket yet.
//!
//! socketioxide takes what it is given into a buffer that is bounded by a number of packets, and tells nobody how full it is. Therefore what goes into it
//! is counted here, and what comes out at the socket. Frames beyond a window wait in the peer's outbox, where their bytes are charged to the peer.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes that may be between the outbox and the socket, and one frame more.
const WINDOW: usize = 64 << 10;

/// What one peer has between its outbox and its socket.
#[derive(Debug, Default)]
pub(super) struct Flow {
    unsent: AtomicUsize,
    changed: Notify,
}

impl Flow {
    /// Bytes of payload were handed to the layers below.
    pub fn handed_on(&self, bytes: usize) {
        self.unsent.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Bytes were written to the socket. There are more of them than of payload, because of the framing.
    pub fn written(&self, bytes: usize) {
        let less = |unsent: usize| (unsent > 0).then(|| unsent.saturating_sub(bytes));
        if let Ok(unsent) = self.unsent.fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
            && unsent > WINDOW
            && unsent.saturating_sub(bytes) <= WINDOW
        {
            self.changed.notify_one();
        }
    }

    /// Whether less than the window is on its way.
    pub fn has_room(&self) -> bool {
        self.unsent.load(Ordering::Acquire) <= WINDOW
    }

    /// Waits until that may have changed, or [`Flow::look`] was called.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Wakes whoever waits for room.
    pub fn look(&self) {
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_reached_the_socket_makes_room() {
        let flow = Flow::default();
        flow.handed_on(WINDOW + 100);
        assert!(!flow.has_room());
        flow.written(50);
        assert!(!flow.has_room());
        flow.written(60);
        flow.changed().await;
        assert!(flow.has_room());
        // Framing does not make room in advance.
        flow.written(1 << 20);
        flow.handed_on(WINDOW + 1);
        assert!(!flow.has_room());
    }
}
