//! `master.json`, `servers.json`, `crons.json` and `pomelo.toml` while a master runs: whether they differ from what is in force.
//!
//! The files are looked at once a second, and at once when somebody says so. Nothing is applied, and no file is ever written: the difference is told
//! once a change, and whoever applies it says what is in force from then on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Plan, Running};
use crate::journal::{Event, Journal, kind};
use crate::util::lasting;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long whoever has the files looked at waits for that.
const LOOKING: Duration = Duration::from_secs(10);
/// How many can wait for that at a time. More get what is known.
const MAX_LOOKING: usize = 16;

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
pub type Difference = Option<Arc<ConfigDifference>>;

/// The configuration that is in force, and how the files differ from it. Clones mean the same.
#[derive(Clone)]
pub struct InForce {
    config: watch::Sender<Arc<Config>>,
    difference: watch::Receiver<Difference>,
    looks: mpsc::Sender<oneshot::Sender<()>>,
}

impl InForce {
    /// The configuration that is in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// How the files differed when they were looked at last.
    pub fn difference(&self) -> Difference {
        self.difference.borrow().clone()
    }

    /// Looks at the files now, and says how they differ.
    pub async fn look(&self) -> Difference {
        let (looked, done) = oneshot::channel();
        if self.looks.try_send(looked).is_ok() {
            // Where the files are followed no longer, what is known is all that there is.
            let _ = tokio::time::timeout(LOOKING, done).await;
        }
        self.difference()
    }

    /// From now on that configuration is in force. The difference is told anew when the files are looked at the next time.
    pub fn set(&self, config: Config) {
        self.config.send_replace(Arc::new(config));
    }
}

/// The files of a configuration, under observation.
pub struct ConfigFiles {
    paths: Vec<PathBuf>,
    seen: Look,
    load: Load,
    in_force: watch::Sender<Arc<Config>>,
    difference: watch::Sender<Difference>,
    /// Those who want the files looked at. It is open as long as the files are followed.
    looks: (mpsc::Sender<oneshot::Sender<()>>, mpsc::Receiver<oneshot::Sender<()>>),
    /// How the servers' processes were begun, and the revision of that which was compared.
    running: (Arc<dyn Running>, u64),
    journal: Journal,
    /// What the last event said.
    said: Option<String>,
}

impl ConfigFiles {
    /// Begins to observe files at these paths ([`Config::paths`]), of which `config` is in force, under which `running` has begun processes. Events go to
    /// `journal`.
    pub fn new(paths: Vec<PathBuf>, load: Load, config: Config, running: Arc<dyn Running>, journal: Journal) -> Self {
        // Nothing has been seen yet, so that a change since the configuration was read is found in the first round.
        let seen = Vec::new();
        let (in_force, difference) = (watch::Sender::new(Arc::new(config)), watch::Sender::new(None));
        let (running, looks) = ((running, 0), mpsc::channel(MAX_LOOKING));
        ConfigFiles { paths, seen, load, in_force, difference, looks, running, journal, said: None }
    }

    /// What is in force, and the difference, as it is and will be.
    pub fn in_force(&self) -> InForce {
        InForce { config: self.in_force.clone(), difference: self.difference.subscribe(), looks: self.looks.0.clone() }
    }

    /// Follows the files until `stop`.
    pub async fn follow(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            lasting::step("what follows the configuration's files", self.round(&stop)).await;
        }
    }

    async fn round(&mut self, stop: &CancellationToken) {
        let now = self.look().await;
        // A file that is still being written is read in a later round.
        if now == self.seen || self.settled(&now).await {
            if now != self.seen || self.running.0.revision() != self.running.1 {
                self.seen = now;
                self.compare().await;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                Some(looked) = self.looks.1.recv() => self.look_for(looked).await,
                () = tokio::time::sleep(LOOK) => {}
            }
        } else if let Ok(looked) = self.looks.1.try_recv() {
            // Files that change all the time are looked at all the same.
            self.look_for(looked).await;
        }
    }

    /// Looks for all who wait for that.
    async fn look_for(&mut self, first: oneshot::Sender<()>) {
        let mut all = vec![first];
        while let Ok(looked) = self.looks.1.try_recv() {
            all.push(looked);
        }
        self.compare().await;
        for looked in all {
            // Who does not wait any longer is not told.
            let _ = looked.send(());
        }
    }

    /// Reads the files, and tells how they differ.
    async fn compare(&mut self) {
        self.running.1 = self.running.0.revision();
        let load = self.load.clone();
        let loaded = tokio::task::spawn_blocking(move || load()).await.unwrap_or_else(|error| Err(error.to_string()));
        let difference = match loaded {
            Err(faults) => Some(ConfigDifference::Faults(faults)),
            Ok(files) => {
                let plan = Plan::between(&self.in_force.borrow(), &files, &*self.running.0);
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
    use crate::config::NoneRuns;

    #[tokio::test]
    async fn a_difference_is_told_once_and_is_over_when_the_files_are_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("master.json"), "{}").unwrap();
        let path = dir.path().to_owned();
        let load: Load = Arc::new(move || Config::load(&path, "development").map_err(|faults| faults.to_string()));
        let journal = Journal::new(100);
        let paths = Config::paths(dir.path(), "development");
        let files = ConfigFiles::new(paths, load.clone(), load().unwrap(), Arc::new(NoneRuns), journal.clone());
        let in_force = files.in_force();
        let mut difference = in_force.difference.clone();
        let stop = CancellationToken::new();
        let following = tokio::spawn(files.follow(stop.clone()));

        std::fs::write(at("servers.json"), r#"{"chat": [{"id": "chat-1"}]}"#).unwrap();
        let newest = difference.wait_for(Option::is_some).await.unwrap().clone();
        let Some(ConfigDifference::Differs { files, plan }) = newest.as_deref() else { panic!("{newest:?}") };
        assert_eq!(plan.new[0].id, "chat-1");
        in_force.set((**files).clone());
        assert!(in_force.look().await.is_none());
        assert_eq!(in_force.config().servers[0].id, "chat-1");

        std::fs::write(at("servers.json"), r#"{"chat": [{"id": 7}]}"#).unwrap();
        let faulty = in_force.look().await;
        assert!(
            matches!(faulty.as_deref(), Some(ConfigDifference::Faults(faults)) if faults.contains("servers.json")),
            "{faulty:?}"
        );
        stop.cancel();
        following.await.unwrap();
        assert!(in_force.look().await.is_some(), "nobody looks any more, and what is known is told");
        let said: Vec<_> = journal.page(0).events.into_iter().map(|event| event.message.clone()).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].contains("1 server is new") && said[1].contains("what runs again"), "{said:?}");
        assert!(said[2].contains("cannot be taken") && said[2].contains("servers.json"), "{said:?}");
    }
}
