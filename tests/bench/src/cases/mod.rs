//! What is measured: each case starts masters, makes load, and tells figures. A case that fails has told what it found until then.

mod fleets;
mod handlers;
mod logins;
mod reloads;
mod requests;
mod starts;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::master::{Home, Kind};

/// A case, which may have several rows in the table.
pub struct Case {
    /// For `--only`.
    pub name: &'static str,
    /// How often it is run at most; what takes long is run once.
    pub rounds: usize,
    /// Whether the original can be asked the same.
    pub original: bool,
    /// Whether the short form has it, and the original in it.
    pub in_short: bool,
    pub original_in_short: bool,
    pub run: fn(&mut Run<'_>) -> Result<()>,
}

/// All of them, the quick ones first.
pub const CASES: &[Case] = &[
    Case { name: "requests", rounds: 9, original: true, in_short: true, original_in_short: true, run: requests::run },
    Case { name: "start", rounds: 9, original: true, in_short: true, original_in_short: true, run: starts::run },
    Case { name: "handlers", rounds: 3, original: true, in_short: true, original_in_short: true, run: handlers::run },
    Case {
        name: "notify-all",
        rounds: 3,
        original: true,
        in_short: true,
        original_in_short: true,
        run: handlers::notify_all,
    },
    Case { name: "logins", rounds: 3, original: true, in_short: true, original_in_short: true, run: logins::run },
    Case { name: "reload", rounds: 3, original: false, in_short: true, original_in_short: false, run: reloads::run },
    Case { name: "plain", rounds: 2, original: true, in_short: true, original_in_short: false, run: fleets::plain },
    Case { name: "ours", rounds: 3, original: false, in_short: true, original_in_short: false, run: fleets::ours },
    Case {
        name: "handed-on",
        rounds: 3,
        original: false,
        in_short: true,
        original_in_short: false,
        run: fleets::handed_on,
    },
    Case {
        name: "5000",
        rounds: 1,
        original: false,
        in_short: false,
        original_in_short: false,
        run: fleets::five_thousand,
    },
    Case {
        name: "10000",
        rounds: 1,
        original: false,
        in_short: true,
        original_in_short: false,
        run: fleets::ten_thousand,
    },
];

/// A component of somebody else's, whose handler is called.
#[derive(Clone, Debug)]
pub struct Handler {
    /// For the table.
    pub name: String,
    /// Its module id.
    pub module: String,
    pub file: PathBuf,
}

impl std::str::FromStr for Handler {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '=').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(module), Some(file)) => Ok(Handler { name, module, file: file.into() }),
            _ => Err("NAME=MODULE=FILE is needed".into()),
        }
    }
}

/// One run of a case with one master.
pub struct Run<'a> {
    pub kind: &'a Kind,
    pub short: bool,
    /// How long a load lasts.
    pub time: Duration,
    /// Where components of the repository are.
    pub modules: &'a Path,
    /// Where this master keeps compiled code, over all cases.
    pub code: &'a Path,
    /// More handlers to call.
    pub handlers: &'a [Handler],
    pub found: Vec<Found>,
    /// What went wrong without ending the case.
    pub notes: Vec<String>,
}

/// A figure.
pub struct Found {
    pub case: String,
    pub figure: &'static str,
    pub unit: &'static str,
    pub value: f64,
}

impl Run<'_> {
    fn tell(&mut self, case: &str, figure: &'static str, unit: &'static str, value: f64) {
        self.found.push(Found { case: case.to_owned(), figure, unit, value });
    }

    /// The files of a master that so many servers are to join.
    fn home(&self, servers: usize) -> Result<Home> {
        Home::new(servers, self.code)
    }

    /// A component that the repository's modules/build.sh has made.
    fn module(&self, name: &str) -> Result<Vec<u8>> {
        let file: PathBuf = self.modules.join(name);
        std::fs::read(&file).with_context(|| format!("{}: modules/build.sh makes it", file.display()))
    }

    /// The fixture `probe`, of 175 kB, and a second version of it: that names a member of its answer in another way. What it is to be asked is
    /// [`reloads::LOOK`].
    fn probes(&self) -> Result<[Vec<u8>; 2]> {
        let first = self.module("fixtures/probe.wasm")?;
        let at = memchr::memmem::find(&first, b"optionscaller").context("the fixture `probe` has changed")?;
        let mut second = first.clone();
        second[at..][..b"option2".len()].copy_from_slice(b"option2");
        Ok([first, second])
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The middle one, and the largest.
fn median_and_worst(mut times: Vec<Duration>) -> Option<(Duration, Duration)> {
    times.sort_unstable();
    Some((*times.get(times.len() / 2)?, *times.last()?))
}
