//! Which version of each file a monitor is to run: the one that all are to run, or while a new one is rolled out in waves, that.
//!
//! A wave is the servers that are to run the new version by then. It has passed when all of them that are connected have run it for the wave's time. If none
//! of them has been connected for so long, others are chosen. A version that all were to run before needs no waves. A server that refuses it, takes it back or
//! puts a handler of it aside ends the rollout: nobody is to run that version any more. Knows no sockets and no bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::versions::short;
use crate::wire::{FileVersion, MAX_OFFERS, Offer, Offers, Running};

/// How many servers run a new version first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wave {
    /// So many.
    Servers(usize),
    /// So many of a hundred, rounded up.
    Percent(usize),
    /// All of a type.
    Type(String),
}

impl std::str::FromStr for Wave {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0).ok_or(());
        match (text.strip_prefix("type:"), text.strip_suffix('%')) {
            (Some(server_type), _) if !server_type.is_empty() => Ok(Wave::Type(server_type.to_owned())),
            (Some(_), _) => Err(()),
            (None, Some(percent)) => number(percent).and_then(|percent| match percent {
                1..=100 => Ok(Wave::Percent(percent)),
                _ => Err(()),
            }),
            (None, None) => number(text).map(Wave::Servers),
        }
    }
}

/// How a new version reaches the monitors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The waves before all others; none where all are offered a new version at once.
    pub waves: Vec<Wave>,
    /// How long all servers of a wave must have run the version.
    pub wave_time: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { waves: Vec::new(), wave_time: Duration::from_secs(15) }
    }
}

/// A server whose monitor takes modules.
#[derive(Clone, Copy)]
pub struct Taker<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its type.
    pub server_type: &'a str,
    /// What it runs, as it has said, by the files' names.
    pub runs: &'a BTreeMap<String, Running>,
}

/// What has come of looking at files and servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// All are to run that version, or none any more.
    Settled {
        /// The file's name without the ending.
        name: String,
        /// The version.
        version: Option<FileVersion>,
    },
    /// A version is rolled out.
    Begun {
        /// The file's name without the ending.
        name: String,
        /// The version.
        version: FileVersion,
    },
    /// A rollout has reached the servers of a wave.
    Reached {
        /// The file's name without the ending.
        name: String,
        /// The version.
        version: FileVersion,
        /// Which wave it is, from 1.
        wave: usize,
        /// How many servers it has beside those of the waves before.
        servers: usize,
    },
    /// A rollout is over, because a server does not run the version that it was offered.
    Failed {
        /// The file's name without the ending.
        name: String,
        /// The version.
        version: FileVersion,
        /// The first such server.
        server: String,
        /// Why it does not.
        why: String,
    },
}

impl Change {
    /// The name of the file.
    pub fn name(&self) -> &str {
        match self {
            Change::Settled { name, .. }
            | Change::Begun { name, .. }
            | Change::Reached { name, .. }
            | Change::Failed { name, .. } => name,
        }
    }
}

/// How far a rollout is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Sha-256 of the version, in hexadecimal.
    pub digest: String,
    /// How many waves have begun.
    pub wave: usize,
    /// How many there are, with the last one that has all servers.
    pub waves: usize,
    /// How many servers are to run it by now.
    pub reached: usize,
}

/// What is for whom.
#[derive(Default)]
pub struct Rollouts {
    options: Options,
    files: BTreeMap<String, File>,
    /// Grows whenever a server may be offered something else than before.
    revision: u64,
}

/// What is to be known of a file when the process begins anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct File {
    /// What all are to run that no rollout has reached.
    settled: Option<FileVersion>,
    /// The digests of what all were to run before, the newest first: none of them needs a rollout.
    before: Vec<String>,
    next: Option<Next>,
    /// The digest of a version that nobody is to run, because its rollout has failed.
    failed: Option<String>,
    /// Whether the master has no version of it in force, so that everybody goes on with what it has.
    #[serde(skip)]
    held: bool,
}

/// A version that is rolled out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Next {
    version: FileVersion,
    /// The servers that are to run it.
    reached: BTreeSet<String>,
    /// How many waves have begun.
    wave: usize,
    /// Since when all of them that are connected run it.
    #[serde(skip)]
    passing: Option<Instant>,
    /// Since when none of them is connected.
    #[serde(skip)]
    away: Option<Instant>,
}

/// How many versions are remembered that all were to run.
const BEFORE: usize = 8;

impl Rollouts {
    /// `files` is what was kept last ([`Rollouts::file`]), by name.
    pub fn new(options: Options, files: BTreeMap<String, File>) -> Self {
        Rollouts { options, files, revision: 0 }
    }

    /// What is to be kept of a file; absent for one that is gone.
    pub fn file(&self, name: &str) -> Option<&File> {
        self.files.get(name)
    }

    /// Takes over how new versions reach the monitors. A rollout that is under way goes on by it.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// The files that the master has, by name, with the versions in force; no version where all have been refused. A file that is not among them is gone.
    pub fn observe(&mut self, files: &BTreeMap<&str, Option<&FileVersion>>) -> Vec<Change> {
        let mut changes = Vec::new();
        let gone = |name: &String| !files.contains_key(name.as_str());
        for name in self.files.keys().filter(|name| gone(name)).cloned().collect::<Vec<_>>() {
            self.files.remove(&name);
            self.revision += 1;
            changes.push(Change::Settled { name, version: None });
        }
        for (name, version) in files {
            if !self.files.contains_key(*name) && self.files.len() >= MAX_OFFERS {
                continue;
            }
            let file = self.files.entry((*name).to_owned()).or_default();
            if file.held != version.is_none() {
                file.held = version.is_none();
                self.revision += 1;
            }
            let Some(version) = *version else { continue };
            if file.failed.as_ref().is_some_and(|failed| *failed != version.digest) {
                file.failed = None;
            }
            let (name, version) = ((*name).to_owned(), version.clone());
            if file.settled.as_ref() == Some(&version) {
                if file.next.take().is_some() {
                    self.revision += 1;
                    changes.push(Change::Settled { name, version: Some(version) });
                }
            } else if file.failed.is_some() {
                // The master has it in force until it has gone back itself.
            } else if file.settled.is_none() || self.options.waves.is_empty() || file.before.contains(&version.digest) {
                file.settle(version.clone());
                self.revision += 1;
                changes.push(Change::Settled { name, version: Some(version) });
            } else if file.next.as_ref().is_none_or(|next| next.version != version) {
                file.next = Some(Next::new(version.clone()));
                self.revision += 1;
                changes.push(Change::Begun { name, version });
            }
        }
        changes
    }

    /// Looks at the servers: begins waves, and ends rollouts. Nothing begins or ends while there are none, because that would show nothing.
    pub fn step(&mut self, takers: &[Taker<'_>], now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        if takers.is_empty() {
            for next in self.files.values_mut().filter_map(|file| file.next.as_mut()) {
                (next.passing, next.away) = (None, None);
            }
            return changes;
        }
        let Options { waves, wave_time } = &self.options;
        for (name, file) in &mut self.files {
            let Some(next) = &mut file.next else { continue };
            let version = next.version.clone();
            if let Some((server, why)) = next.refusal(name, takers) {
                (file.failed, file.next) = (Some(version.digest.clone()), None);
                self.revision += 1;
                changes.push(Change::Failed { name: name.clone(), version, server, why });
                continue;
            }
            let again = next.are_gone(takers, now, *wave_time);
            if !again && !next.has_passed(name, takers, now, *wave_time) {
                continue;
            }
            let wave = next.wave + usize::from(!again);
            let mut of = wave.checked_sub(1).and_then(|wave| waves.get(wave));
            if again {
                // There may be fewer waves than when it began. Those who are away have shown nothing.
                of = of.or(waves.last());
            }
            match of {
                Some(of) => {
                    let before = next.reached.len();
                    next.reached.extend(of.servers(takers));
                    if next.reached.is_empty() || again && next.reached.len() == before {
                        // The first wave, and one that is away, are waited for, because the others are to see what comes of it.
                        continue;
                    }
                    next.wave = wave;
                    (next.passing, next.away) = (None, None);
                    self.revision += 1;
                    let servers = next.reached.len() - before;
                    changes.push(Change::Reached { name: name.clone(), version, wave: next.wave, servers });
                }
                // There are no waves any more.
                None if again => {}
                None => {
                    file.settle(version.clone());
                    self.revision += 1;
                    changes.push(Change::Settled { name: name.clone(), version: Some(version) });
                }
            }
        }
        changes
    }

    /// The version of a file that all are to run that no rollout has reached.
    pub fn settled(&self, name: &str) -> Option<&FileVersion> {
        self.files.get(name)?.settled.as_ref()
    }

    /// Which of the rollouts under way have reached a server. Two of whom the same is said are offered the same.
    pub fn reached(&self, server: &str) -> Vec<bool> {
        self.files.values().filter_map(|file| Some(file.next.as_ref()?.reached.contains(server))).collect()
    }

    /// Whether any file is rolled out in waves, so that it matters what servers run.
    pub fn are_under_way(&self) -> bool {
        self.files.values().any(|file| file.next.is_some())
    }

    /// A number that grows whenever a server may be offered something else than before.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What a server is to run.
    pub fn offers(&self, server: &str) -> Offers {
        let offer =
            |(name, file): (&String, &File)| Offer { name: name.clone(), version: file.version_for(server).cloned() };
        Offers { files: self.files.iter().map(offer).collect() }
    }

    /// Whether there is a file of that name.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The file that is offered under a digest, to whomever.
    pub fn name_of(&self, digest: &str) -> Option<&str> {
        let is = |version: &FileVersion| version.digest == digest;
        let has = |file: &File| {
            file.settled.as_ref().is_some_and(is) || file.next.as_ref().is_some_and(|next| is(&next.version))
        };
        self.files.iter().find(|(_, file)| has(file)).map(|(name, _)| name.as_str())
    }

    /// The names of all files of which there is a version for monitors, and how far their rollouts are.
    pub fn progress(&self) -> impl Iterator<Item = (&str, Option<Progress>)> {
        let waves = self.options.waves.len() + 1;
        let known = self.files.iter().filter(|(_, file)| file.settled.is_some() || file.next.is_some());
        known.map(move |(name, file)| {
            let progress = file.next.as_ref().map(|next| Progress {
                digest: next.version.digest.clone(),
                wave: next.wave,
                waves,
                reached: next.reached.len(),
            });
            (name.as_str(), progress)
        })
    }
}

impl File {
    /// From now on all are to run that version.
    fn settle(&mut self, version: FileVersion) {
        if let Some(settled) = self.settled.take() {
            self.before.insert(0, settled.digest);
        }
        self.before.retain(|digest| *digest != version.digest);
        self.before.truncate(BEFORE);
        (self.settled, self.next) = (Some(version), None);
    }

    fn version_for(&self, server: &str) -> Option<&FileVersion> {
        let next = self.next.as_ref().filter(|next| next.reached.contains(server)).map(|next| &next.version);
        next.or(self.settled.as_ref()).filter(|_| !self.held)
    }
}

impl Next {
    fn new(version: FileVersion) -> Self {
        Next { version, reached: BTreeSet::new(), wave: 0, passing: None, away: None }
    }

    /// The first server that does not run the version although it was offered it, and why.
    fn refusal(&self, name: &str, takers: &[Taker<'_>]) -> Option<(String, String)> {
        let mut reached = takers.iter().filter(|taker| self.reached.contains(taker.id));
        reached.find_map(|taker| {
            // What it says of another version, which it was offered before, says nothing of this one.
            let running =
                taker.runs.get(name).filter(|running| running.offered.as_ref() == Some(&self.version.digest))?;
            Some((taker.id.to_owned(), running.refused.clone()?))
        })
    }

    /// Whether none of the servers that it has reached has been connected for so long.
    fn are_gone(&mut self, takers: &[Taker<'_>], now: Instant, wave_time: Duration) -> bool {
        if self.reached.is_empty() || takers.iter().any(|taker| self.reached.contains(taker.id)) {
            self.away = None;
            return false;
        }
        now.duration_since(*self.away.get_or_insert(now)) >= wave_time
    }

    /// Whether all servers that it has reached and that are connected have run it for long enough.
    fn has_passed(&mut self, name: &str, takers: &[Taker<'_>], now: Instant, wave_time: Duration) -> bool {
        if self.reached.is_empty() {
            return true;
        }
        let runs = |taker: &Taker<'_>| {
            let digest = &self.version.digest;
            taker.runs.get(name).is_some_and(|running| running.local || running.digest.as_ref() == Some(digest))
        };
        let mut reached = takers.iter().filter(|taker| self.reached.contains(taker.id)).peekable();
        // A wave of which nobody is there has shown nothing.
        if reached.peek().is_none() || !reached.all(runs) {
            self.passing = None;
            return false;
        }
        now.duration_since(*self.passing.get_or_insert(now)) >= wave_time
    }
}

impl Wave {
    /// The servers that are to run the version by this wave.
    fn servers(&self, takers: &[Taker<'_>]) -> Vec<String> {
        let ids: BTreeSet<&str> = match self {
            Wave::Type(server_type) => {
                takers.iter().filter(|taker| taker.server_type == server_type).map(|taker| taker.id).collect()
            }
            _ => takers.iter().map(|taker| taker.id).collect(),
        };
        let most = match self {
            Wave::Type(_) => ids.len(),
            Wave::Servers(servers) => *servers,
            Wave::Percent(percent) => (ids.len() * percent).div_ceil(100),
        };
        ids.into_iter().take(most).map(str::to_owned).collect()
    }
}

/// As an event says it.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Settled { name, version: None } => {
                write!(f, "{name}.wasm is gone, and is taken from all monitors")
            }
            Change::Settled { name, version: Some(version) } => {
                write!(f, "{name}.wasm, version {}, is for all monitors", short(&version.digest))
            }
            Change::Begun { name, version } => {
                write!(f, "{name}.wasm, version {}, is rolled out in waves", short(&version.digest))
            }
            Change::Reached { name, version, wave, servers } => {
                write!(f, "{name}.wasm, version {}, wave {wave}: ", short(&version.digest))?;
                match servers {
                    0 => write!(f, "no server more is to run it"),
                    1 => write!(f, "1 server more is to run it"),
                    servers => write!(f, "{servers} servers more are to run it"),
                }
            }
            Change::Failed { name, version, server, why } => {
                let digest = short(&version.digest);
                write!(f, "{name}.wasm: the rollout of version {digest} is over, because {server} says: {why}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
