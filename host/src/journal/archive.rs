//! Where events are kept beyond the process.

/// Keeps events by their numbers. It need not wait for the disk: after a crash, events of the last moments may be missing.
pub trait Archive: Send + Sync + 'static {
    /// The events that are kept, as JSON by number, in any order.
    fn load(&self) -> Vec<(u64, String)>;
    /// Keeps an event, or removes it.
    fn put(&self, number: u64, event: Option<String>);
    /// A number that no event had before the process began; absent if it was never set.
    fn reserved(&self) -> Option<u64>;
    /// Sets that number.
    fn reserve(&self, number: u64);
}
