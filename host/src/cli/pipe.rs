//! How a command ends whose reader has gone: `pomelo list | head -1`.

use anyhow::Context as _;
use nix::sys::signal::{SigHandler, Signal, signal};

/// Lets SIGPIPE end this process without a word, as it ends other tools; a shell sees code 141. Rust's runtime ignores the signal, so that every
/// command would have to tell a closed pipe from other errors. Hosts must not call this, because they go on without their output.
///
/// The connection to the master is not concerned: Rust's library writes to sockets with `MSG_NOSIGNAL`, and a lost master remains an error.
pub(super) fn ends_quietly() -> anyhow::Result<()> {
    // SAFETY: what must be proven of a signal's action is that the code it runs may run at any moment. The default action runs none of this
    // process's code. Nothing depends on the action before, for this is called before there are threads, files or children.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.context("SIGPIPE cannot be handled")?;
    Ok(())
}
