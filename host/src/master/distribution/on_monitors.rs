//! What the monitors run that take modules from this master, as `modules` shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rollout::Progress;
use crate::wire::{FileVersion, Running};

/// How many monitors are named that do not run what they are to run.
const NAMED: usize = 20;

/// What the monitors that take modules run of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OnMonitors {
    /// How many monitors take modules.
    pub monitors: usize,
    /// How many run what they are to run.
    pub as_wanted: usize,
    /// How many run each version, by its digest.
    pub running: BTreeMap<String, usize>,
    /// Those that do not run what they are to run: the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Offbeat>,
    /// The version that is rolled out, while one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<UnderWay>,
}

/// A monitor that does not run what it is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offbeat {
    /// Its server.
    pub server: String,
    /// Why; absent where the version is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A rollout that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// Sha-256 of the version, in hexadecimal.
    pub digest: String,
    /// The wave that is under way, from 1.
    pub wave: usize,
    /// How many there are, with the last one that has all servers.
    pub waves: usize,
    /// How many servers are to run it by now.
    pub reached: usize,
}

impl From<Progress> for UnderWay {
    fn from(Progress { digest, wave, waves, reached }: Progress) -> Self {
        UnderWay { digest, wave, waves, reached }
    }
}

impl OnMonitors {
    /// Of so many monitors, before any was added.
    pub(super) fn of(monitors: usize, rollout: Option<Progress>) -> Self {
        let rollout = rollout.map(UnderWay::from);
        OnMonitors { monitors, as_wanted: 0, running: BTreeMap::new(), others: Vec::new(), rollout }
    }

    /// Adds a monitor: what it is to run, and what it has said that it runs.
    pub(super) fn add(&mut self, server: &str, wanted: Option<&FileVersion>, running: Option<&Running>) {
        let digest = running.and_then(|running| running.digest.as_ref());
        if let Some(digest) = digest {
            *self.running.entry(digest.clone()).or_default() += 1;
        }
        let of_this = running.filter(|running| running.offered.as_ref() == wanted.map(|wanted| &wanted.digest));
        let refused = of_this.and_then(|running| running.refused.as_ref());
        // Where the master has no version in force, everything is as wanted.
        if wanted.is_none_or(|wanted| digest == Some(&wanted.digest) && refused.is_none()) {
            self.as_wanted += 1;
        } else if self.others.len() < NAMED {
            let local = running.filter(|running| running.local).map(|_| "a local file has its place".to_owned());
            let said = refused.or(of_this.and_then(|running| running.trouble.as_ref())).cloned();
            let why = local.or(said);
            self.others.push(Offbeat { server: server.to_owned(), why });
        }
    }
}
