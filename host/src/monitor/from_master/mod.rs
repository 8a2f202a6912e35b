//! Modules that the master hands on: a directory of this host alone is kept as the master says, and whoever follows that directory installs what is in it.
//!
//! | file | what is there |
//! |---|---|
//! | `directory` | the files, and those that all hosts of a machine share |
//! | `fetch` | bytes from the master, part by part |
//!
//! So a file from the master takes the same steps as a local one, and is there when the host starts before its master. A local file of the same name wins: what
//! the master offers under that name is left out as long as it is there. This part writes files. It does not know what becomes of them: the console
//! service says that, and so the master is told.

mod directory;
mod fetch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

use crate::console::{Console, Refused};
use crate::exchange::Exchange;
use crate::util::{Backoff, lasting};
use crate::versions::digest_of;
use crate::wire::{FileVersion, MAX_OFFERS, MODULES, ModulesRequest, Offer, Offers, Running, check_name, raw, shown};

use directory::Directory;

/// How often the names of local files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// What changes within this time is told together.
const TOGETHER: Duration = Duration::from_millis(50);
/// How long something that has failed waits for another try: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Where a host keeps what it takes from its master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The host's own directory.
    pub directory: PathBuf,
    /// What has been fetched, for all hosts of the data directory.
    pub shared: PathBuf,
    /// The directory of local files, which win; absent where there is none.
    pub local: Option<PathBuf>,
    /// The largest file, bytes.
    pub max_file: u64,
}

/// What a host takes from its master.
pub struct FromMaster {
    options: Options,
    directory: Directory,
    offered: watch::Sender<Option<Offered>>,
    /// What the files of the directory were when this began.
    present: OnceCell<BTreeMap<String, String>>,
}

/// What the master has said last, and over which connection.
#[derive(Clone)]
struct Offered {
    exchange: Exchange,
    offers: Arc<Offers>,
}

/// What the files are, by name.
#[derive(Default)]
struct Files {
    /// The digests of those that are in the directory.
    present: BTreeMap<String, String>,
    /// Those that cannot be fetched or written, and why.
    failed: BTreeMap<String, String>,
    /// Those that local files have the place of.
    local: BTreeSet<String>,
}

impl FromMaster {
    /// Nothing is taken yet. What local files have the place of is left out at once.
    ///
    /// # Errors
    /// If the directory cannot be made or read.
    pub fn new(options: Options) -> std::io::Result<Self> {
        let directory = Directory::open(options.directory.clone(), options.shared.clone())?;
        for name in directory.names()? {
            if options.has_local(&name) {
                directory.remove(&name)?;
            }
        }
        Ok(FromMaster { options, directory, offered: watch::Sender::new(None), present: OnceCell::new() })
    }

    /// The directory, which is to be followed.
    pub fn directory(&self) -> &Path {
        &self.options.directory
    }

    /// The master says what this host is to run.
    pub(super) fn offered(&self, exchange: &Exchange, body: Option<&RawValue>) -> Result<(), serde_json::Error> {
        let offers: Offers = serde_json::from_str(body.map_or("null", RawValue::get))?;
        self.offered.send_replace(Some(Offered { exchange: exchange.clone(), offers: Arc::new(offers) }));
        Ok(())
    }

    /// Keeps the directory as the master says, until `stop`.
    pub(super) async fn follow(self: Arc<Self>, console: Console, stop: CancellationToken) {
        let (mut offered, mut changes) = (self.offered.subscribe(), console.changes());
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut files = Files { present: self.present().await, ..Files::default() };
        let mut told = None;
        while !stop.is_cancelled() {
            lasting::step("what takes modules from the master", async {
                let now = offered.borrow_and_update().clone();
                let Some(now) = now else {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        // The sender is part of this.
                        _ = offered.changed() => {}
                    }
                    return;
                };
                changes.mark_unchanged();
                // What is offered may have changed before all of it is there.
                let done = tokio::select! {
                    () = stop.cancelled() => return,
                    _ = offered.changed() => return,
                    () = self.take_over(&now, &mut files, &console) => files.failed.is_empty(),
                };
                if done {
                    backoff.reset();
                }
                self.report(&now, &files, &console, &mut told).await;
                let again = if done { LOOK } else { backoff.next_wait() };
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = offered.changed() => {}
                    // The console service lives as long as this.
                    _ = changes.changed() => tokio::time::sleep(TOGETHER).await,
                    () = tokio::time::sleep(again) => {}
                }
            })
            .await;
        }
    }

    /// The digests of the files that were there when this began.
    async fn present(&self) -> BTreeMap<String, String> {
        let read = || async {
            let (directory, most) = (self.directory.clone(), self.options.max_file);
            // The thread only ends with the runtime.
            tokio::task::spawn_blocking(move || directory.digests(most)).await.unwrap_or_default()
        };
        self.present.get_or_init(read).await.clone()
    }

    /// Makes the directory what is offered. What fails is kept, and is refused by the console service.
    async fn take_over(&self, now: &Offered, files: &mut Files, console: &Console) {
        let offers: BTreeMap<&str, &Offer> =
            now.offers.files.iter().take(MAX_OFFERS).map(|offer| (offer.name.as_str(), offer)).collect();
        for name in files.failed.keys().filter(|name| !offers.contains_key(name.as_str())).cloned().collect::<Vec<_>>()
        {
            files.failed.remove(&name);
            console.accept(&name);
        }
        for name in files.present.keys().filter(|name| !offers.contains_key(name.as_str())).cloned().collect::<Vec<_>>()
        {
            self.remove(&name, files);
        }
        files.local.clear();
        for (name, offer) in offers {
            if let Err(why) = is_file_name(name) {
                tracing::warn!(name = shown(name), why, "the master offers a module of a name that no file can have");
                continue;
            }
            if self.options.has_local(name) {
                files.local.insert(name.to_owned());
                if files.present.contains_key(name) {
                    self.remove(name, files);
                }
                continue;
            }
            let Some(version) = &offer.version else { continue };
            let outcome = match files.present.get(name) == Some(&version.digest) {
                true => Ok(()),
                false => self.fetch(now, name, version).await,
            };
            match outcome {
                Ok(()) => {
                    files.present.insert(name.to_owned(), version.digest.clone());
                    if files.failed.remove(name).is_some() {
                        console.accept(name);
                    }
                }
                Err(why) => {
                    console.refuse(name, why.clone());
                    files.failed.insert(name.to_owned(), why);
                }
            }
        }
    }

    fn remove(&self, name: &str, files: &mut Files) {
        match self.directory.remove(name) {
            Ok(()) => drop(files.present.remove(name)),
            Err(error) => drop(files.failed.insert(name.to_owned(), format!("its file cannot be removed: {error}"))),
        }
    }

    /// Puts a version that is offered into the directory.
    async fn fetch(&self, now: &Offered, name: &str, version: &FileVersion) -> Result<(), String> {
        if version.size > self.options.max_file {
            let (has, most) = (version.size.div_ceil(1 << 20), self.options.max_file >> 20);
            return Err(format!(
                "the master's file has {has} MiB, and this host takes {most}: raise `file_mib` under [modules] in pomelo.toml"
            ));
        }
        let bytes = self.bytes(now, version).await?;
        let (directory, name, version) = (self.directory.clone(), name.to_owned(), version.clone());
        let writing = tokio::task::spawn_blocking(move || {
            let is = digest_of(&bytes);
            if is != version.digest {
                return Err(format!("what the master has sent has another digest than it said: {is}"));
            }
            directory.write(&name, &is, &bytes).map_err(|error| format!("it cannot be written: {error}"))
        });
        writing.await.unwrap_or_else(|_| Err("this host is shutting down".into()))
    }

    /// The bytes of a version: those that another host of this data directory has fetched, or else from the master.
    async fn bytes(&self, now: &Offered, version: &FileVersion) -> Result<Vec<u8>, String> {
        let shared = || self.directory.shared(&version.digest, self.options.max_file);
        if let Some(bytes) = shared().await {
            return Ok(bytes);
        }
        let _alone = self.directory.alone().await;
        if let Some(bytes) = shared().await {
            return Ok(bytes);
        }
        let bytes = fetch::from_master(&now.exchange, version).await;
        bytes.map_err(|failure| format!("it cannot be fetched from the master: {}", failure.message))
    }

    /// Tells the master what became of what it has offered, unless it knows.
    async fn report(&self, now: &Offered, files: &Files, console: &Console, told: &mut Option<(u64, Vec<Running>)>) {
        let of_host = console.files();
        let running = |offer: &Offer| {
            let status = of_host.iter().find(|status| status.name == offer.name);
            let digest = status.and_then(|status| Some(status.version.as_ref()?.digest.clone()));
            let wanted = offer.version.as_ref().map(|version| &version.digest);
            let local = files.local.contains(&offer.name);
            // What was refused before says nothing of what is offered now.
            let of_this = |refused: &&Refused| wanted.is_some() && refused.digest.as_ref() == wanted;
            let refused = status.and_then(|status| status.refused.as_ref()).filter(of_this);
            let refused = refused.map(|refused| &refused.why).or_else(|| files.failed.get(&offer.name));
            let refused = refused.filter(|_| !local && digest.as_ref() != wanted).cloned();
            Running { name: offer.name.clone(), digest, refused, local }
        };
        let runs: Vec<Running> = now.offers.files.iter().take(MAX_OFFERS).map(running).collect();
        let report = (now.exchange.peer().id(), runs);
        if told.as_ref() == Some(&report) {
            return;
        }
        let body = raw(&ModulesRequest::Runs(report.1.clone()));
        match fetch::asked(&now.exchange, MODULES, &body).await {
            Ok(_) => *told = Some(report),
            Err(failure) => tracing::debug!(%failure, "the master could not be told what runs here"),
        }
    }
}

impl Options {
    fn has_local(&self, name: &str) -> bool {
        let Some(local) = &self.local else { return false };
        // A link to nothing is there as well.
        local.join(format!("{name}.wasm")).symlink_metadata().is_ok()
    }
}

/// Whether a name can be that of a file in a directory.
fn is_file_name(name: &str) -> Result<(), String> {
    check_name(name).map_err(|bad| bad.to_string())?;
    match name.starts_with('.') || name.contains(['/', '\\']) {
        true => Err("it begins with a point or has a slash".into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_the_master_leads_out_of_no_directory() {
        for good in ["echo", "a.b", "zeit-bericht", "日報"] {
            assert_eq!(is_file_name(good), Ok(()), "{good}");
        }
        for bad in ["", "..", "../a", "a/b", ".hidden", "a\\b", "a\0b", " a"] {
            assert!(is_file_name(bad).is_err(), "{bad}");
        }
    }
}
