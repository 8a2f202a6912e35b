//! What becomes of a command whose output is not read to its end: `pomelo list | head -1`.

use anyhow::Context as _;
use nix::sys::signal::{SigHandler, Signal, signal};

/// Lets a broken pipe end this process, without a word and with 141 for a shell, as it ends other tools. Rust's runtime ignores the signal, and
/// printing would panic. Hosts go on without their output; they must not call this.
///
/// Only pipes are meant: Rust's library writes to sockets with `MSG_NOSIGNAL`, so that a master that is lost remains an error that is said.
pub(super) fn ends_quietly() -> anyhow::Result<()> {
    // SAFETY: what must be proven of a signal's action is that the code it runs may run at any moment. The default action runs none of this
    // process's code. Nothing depends on the action before, for this is called before there are threads, files or children.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.context("SIGPIPE cannot be handled")?;
    Ok(())
}
