//! `master.json`, `servers.json`, `crons.json` and `pomelo.toml` while a master runs: whether they differ from what is in force.
//!
//! The files are looked at once a second, and at once when somebody says so. Nothing is applied, and no file is ever written: the difference is told
//! once a change, and whoever applies it says what is in force from then on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Plan};
use crate::journal::{Event, Journal, kind};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What a file looks like from outside: length and time of its last change; absent where it is not there.
type Look = Vec<Option<(u64, Option<SystemTime>)>>;

/// Reads the configuration as this process did when it started: of the same directory and environment, with what its command line says instead. The
/// error has all faults.
pub type Load = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// How the files differ from what is in force.
#[derive(Clone, Debug)]
pub enum ConfigDifference {
    /// They can be read, and something differs.
    Differs {
        /// The newest files.
        files: Arc<Config>,
        /// What differs.
        plan: Plan,
    },
    /// They cannot be read: all faults, a line or more each.
    Faults(String),
}

/// The newest difference; absent while the files are what is in force.
pub type Difference = watch::Receiver<Option<Arc<ConfigDifference>>>;

/// Has the files looked at before the next round. Clones mean the same files.
#[derive(Clone, Default)]
pub struct LookAgain(Arc<Notify>);

impl LookAgain {
    /// Looks again, whether a file has changed from outside or not. Does not wait.
    pub fn now(&self) {
        self.0.notify_one();
    }
}

/// The files of a configuration, under observation.
pub struct ConfigFiles {
    paths: Vec<PathBuf>,
    seen: Look,
    load: Load,
    in_force: watch::Receiver<Arc<Config>>,
    difference: watch::Sender<Option<Arc<ConfigDifference>>>,
    again: LookAgain,
    journal: Journal,
    /// What the last event said.
    said: Option<String>,
}

impl ConfigFiles {
    /// Begins to observe files at these paths ([`Config::paths`]). `in_force` has the configuration that is in force; whoever applies the files sends
    /// it another. Events go to `journal`.
    pub fn new(paths: Vec<PathBuf>, load: Load, in_force: watch::Receiver<Arc<Config>>, journal: Journal) -> Self {
        // Nothing has been seen yet, so that a change since the configuration was read is found in the first round.
        let seen = Vec::new();
        let (difference, again) = (watch::Sender::new(None), LookAgain::default());
        ConfigFiles { paths, seen, load, in_force, difference, again, journal, said: None }
    }

    /// The difference, as it is and will be.
    pub fn difference(&self) -> Difference {
        self.difference.subscribe()
    }

    /// What has the files looked at again.
    pub fn look_again(&self) -> LookAgain {
        self.again.clone()
    }

    /// Follows the files until `stop`.
    pub async fn follow(mut self, stop: CancellationToken) {
        let mut in_force_is_kept = true;
        loop {
            let now = self.look().await;
            // A file that is still being written is read in a later round.
            if now == self.seen || self.settled(&now).await {
                if now != self.seen {
                    self.seen = now;
                    self.compare().await;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.again.0.notified() => self.compare().await,
                    changed = self.in_force.changed(), if in_force_is_kept => match changed {
                        Ok(()) => self.compare().await,
                        Err(_) => in_force_is_kept = false,
                    },
                    () = tokio::time::sleep(LOOK) => {}
                }
            } else if stop.is_cancelled() {
                return;
            }
        }
    }

    /// Reads the files, and tells how they differ.
    async fn compare(&mut self) {
        let load = self.load.clone();
        let loaded = tokio::task::spawn_blocking(move || load()).await.unwrap_or_else(|error| Err(error.to_string()));
        let difference = match loaded {
            Err(faults) => Some(ConfigDifference::Faults(faults)),
            Ok(files) => {
                let plan = Plan::between(&self.in_force.borrow_and_update(), &files);
                (!plan.is_empty()).then(|| ConfigDifference::Differs { files: Arc::new(files), plan })
            }
        };
        // The lines name what differs, but no values, so that equal lines mean that nothing new is to be said unless a value changed again.
        let (shown, message) = match &difference {
            None => (None, "the files of the configuration are what runs again".to_owned()),
            Some(ConfigDifference::Faults(faults)) => {
                (Some(faults.clone()), format!("the files of the configuration cannot be taken: {faults}"))
            }
            Some(ConfigDifference::Differs { plan, .. }) => {
                let message = format!("the files differ from what runs ({}): `pomelo plan` shows it", plan.summary());
                (Some(plan.to_string()), message)
            }
        };
        self.difference.send_replace(difference.map(Arc::new));
        if shown == self.said {
            return;
        }
        self.said = shown;
        tracing::info!("{message}");
        self.journal.record(Event::new(kind::FILES, message));
    }

    async fn look(&self) -> Look {
        let mut seen = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            let metadata = tokio::fs::metadata(path).await.ok();
            seen.push(metadata.map(|metadata| (metadata.len(), metadata.modified().ok())));
        }
        seen
    }

    async fn settled(&self, now: &Look) -> bool {
        tokio::time::sleep(LOOK / 10).await;
        self.look().await == *now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_difference_is_told_once_and_is_over_when_the_files_are_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("master.json"), "{}").unwrap();
        let path = dir.path().to_owned();
        let load: Load = Arc::new(move || Config::load(&path, "development").map_err(|faults| faults.to_string()));
        let in_force = watch::Sender::new(Arc::new(load().unwrap()));
        let journal = Journal::new(100);
        let paths = Config::paths(dir.path(), "development");
        let files = ConfigFiles::new(paths, load, in_force.subscribe(), journal.clone());
        let (mut difference, again) = (files.difference(), files.look_again());
        let stop = CancellationToken::new();
        let following = tokio::spawn(files.follow(stop.clone()));

        std::fs::write(at("servers.json"), r#"{"chat": [{"id": "chat-1"}]}"#).unwrap();
        let newest = difference.wait_for(Option::is_some).await.unwrap().clone();
        let Some(ConfigDifference::Differs { files, plan }) = newest.as_deref() else { panic!("{newest:?}") };
        assert_eq!(plan.new[0].id, "chat-1");
        in_force.send_replace(files.clone());
        difference.wait_for(Option::is_none).await.unwrap();

        std::fs::write(at("servers.json"), r#"{"chat": [{"id": 7}]}"#).unwrap();
        again.now();
        let faulty = |difference: &Option<Arc<ConfigDifference>>| matches!(difference.as_deref(), Some(ConfigDifference::Faults(faults)) if faults.contains("servers.json"));
        difference.wait_for(faulty).await.unwrap();
        stop.cancel();
        following.await.unwrap();
        let said: Vec<_> = journal.page(0).events.into_iter().map(|event| event.message.clone()).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].contains("1 server is new") && said[1].contains("what runs again"), "{said:?}");
        assert!(said[2].contains("cannot be taken") && said[2].contains("servers.json"), "{said:?}");
    }
}
