//! A way to talk with a program, beside signals.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::failure::Failure;

/// What a supervisor is told of its program, and tells it, other than by signals.
pub trait Contact: Send + Sync + 'static {
    /// A process is about to be started: what was said to and by the one before counts no more.
    fn starting(&self);
    /// Waits until the program, as the process `pid`, is ready. Absent: [`super::Policy::ready_delay`] is waited for. Dropped where the program
    /// ends first.
    fn ready(&self, pid: u32) -> Option<BoxFuture<'static, ()>>;
    /// A program that is not ready by then is ended, and its policy says what comes next. It does not count where the delay decides.
    fn ready_deadline(&self) -> Duration;
    /// Asks the program to end within that time. Absent: it is asked by a signal, as it is where this fails.
    fn ask_to_end(&self, deadline: Duration) -> Option<BoxFuture<'static, Result<(), Failure>>>;
}
