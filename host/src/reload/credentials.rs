//! `adminUser.json` and `adminServer.json` while a master runs: a change counts within a second or two.
//!
//! The files are looked at once a second, which works on every file system and costs next to nothing. A file that is gone or has a fault changes
//! nothing, and the log says why. This part does not know who is let in or disconnected after a change: the master decides.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::config::Credentials;
use crate::util::lasting;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What a file looks like from outside: length and time of its last change; absent where it is not there.
type Look = [Option<(u64, Option<SystemTime>)>; 4];

/// The files of one environment, under observation.
pub struct CredentialFiles {
    dir: PathBuf,
    environment: String,
    seen: Look,
}

impl CredentialFiles {
    /// Begins to observe the files of a configuration's directory. Call it before the files are read for the first time, so that no change is missed.
    pub fn new(dir: &Path, environment: &str) -> Self {
        let seen = Credentials::paths(dir, environment).map(|path| outside(std::fs::metadata(path)));
        CredentialFiles { dir: dir.to_owned(), environment: environment.to_owned(), seen }
    }

    /// Follows the files until `stop`, and calls `apply` with what they hold after each change. An error of `apply` says why it does not take them
    /// over.
    pub async fn follow(mut self, stop: CancellationToken, mut apply: impl FnMut(Credentials) -> Result<(), String>) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            lasting::step("what follows users and tokens", self.round(&mut apply)).await;
        }
    }

    async fn round(&mut self, apply: &mut impl FnMut(Credentials) -> Result<(), String>) {
        let now = self.look().await;
        // A file that is still being written is read in a later round.
        if now == self.seen || !self.settled(&now).await {
            return;
        }
        self.seen = now;
        let (dir, environment) = (self.dir.clone(), self.environment.clone());
        let loaded = tokio::task::spawn_blocking(move || Credentials::load(&dir, &environment)).await;
        let outcome = match loaded {
            Ok(Ok(credentials)) => apply(credentials),
            Ok(Err(faults)) => Err(faults.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(()) => tracing::info!("users and tokens were read again"),
            Err(why) => {
                tracing::error!(%why, "users and tokens have changed on disk, and the change is not taken over")
            }
        }
    }

    async fn look(&self) -> Look {
        let mut seen = [None; 4];
        for (seen, path) in seen.iter_mut().zip(Credentials::paths(&self.dir, &self.environment)) {
            *seen = outside(tokio::fs::metadata(path).await);
        }
        seen
    }

    async fn settled(&self, now: &Look) -> bool {
        tokio::time::sleep(LOOK / 10).await;
        self.look().await == *now
    }
}

fn outside(metadata: std::io::Result<std::fs::Metadata>) -> Option<(u64, Option<SystemTime>)> {
    metadata.ok().map(|metadata| (metadata.len(), metadata.modified().ok()))
}
