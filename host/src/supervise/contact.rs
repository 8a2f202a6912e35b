//! How a supervisor talks with its program other than by signals.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::failure::Failure;

/// The way to a program other than by signals.
pub trait Contact: Send + Sync + 'static {
    /// Told before a new process is started, because whatever the earlier process said is then out of date.
    fn starting(&self);
    /// Waits until the program, the process `pid`, is ready. If this is absent, the program is ready after [`super::Policy::ready_delay`]. The future
    /// is dropped when the program ends.
    fn ready(&self, pid: u32) -> Option<BoxFuture<'static, ()>>;
    /// A program that is not ready after this time is ended and has failed. Not used if [`Contact::ready`] is absent.
    fn ready_timeout(&self) -> Duration;
    /// What has not happened as long as the program is not ready, in words to which `for 60 s` can be added: `nobody listened on 127.0.0.1:4050`.
    fn awaited(&self) -> String;
    /// Asks the program to end within that time. If this is absent or fails, the program is sent a signal.
    fn ask_to_end(&self, deadline: Duration) -> Option<BoxFuture<'static, Result<(), Failure>>>;
}
