//! What signals say to a host: to end, or to look at its files again.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::exit::INTERRUPTED;
use super::print;
use crate::util::proc::ignores_hangup;

/// How long the terminal of a host that was sent SIGHUP may take to go: a shell tells its jobs before it ends itself.
const GOING: Duration = Duration::from_secs(1);

/// What signals say.
pub(super) struct Signals {
    /// Cancelled by SIGTERM and SIGINT, and by SIGHUP where it means that the terminal is gone.
    pub stop: CancellationToken,
    /// Told of SIGHUP otherwise: the host is to look at its files again.
    pub look_again: Arc<Notify>,
}

impl Signals {
    /// Receives them from now on. A second SIGTERM or SIGINT ends the process at once, and its guard ends the programs.
    ///
    /// SIGHUP never ends the process at once, because programs that end a session send it right after SIGTERM. If SIGHUP is ignored, as under `nohup`,
    /// it stays ignored.
    pub fn received() -> anyhow::Result<Self> {
        let signals = Signals { stop: CancellationToken::new(), look_again: Arc::default() };
        let mut terminate = signal(SignalKind::terminate()).context("signals cannot be received")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be received")?;
        if !ignores_hangup() {
            let mut hangup = signal(SignalKind::hangup()).context("signals cannot be received")?;
            let (stop, look_again) = (signals.stop.clone(), signals.look_again.clone());
            let had_terminal = has_terminal();
            tokio::spawn(async move {
                while hangup.recv().await.is_some() {
                    if had_terminal && !has_terminal() {
                        stop.cancel();
                        continue;
                    }
                    look_again.notify_one();
                    if had_terminal {
                        let stop = stop.clone();
                        tokio::spawn(async move {
                            tokio::time::sleep(GOING).await;
                            if !has_terminal() {
                                stop.cancel();
                            }
                        });
                    }
                }
            });
        }
        let stop = signals.stop.clone();
        tokio::spawn(async move {
            for turn in 0.. {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if turn > 0 {
                    print::note("pomelo: ended at once");
                    print::flush();
                    std::process::exit(INTERRUPTED.into());
                }
                stop.cancel();
            }
        });
        Ok(signals)
    }
}

/// Whether the process has a controlling terminal. One that was lost cannot be opened any more.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}
