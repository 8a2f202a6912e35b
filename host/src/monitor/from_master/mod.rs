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
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::console::Console;
use crate::exchange::Exchange;
use crate::failure::code;
use crate::util::{Backoff, lasting};
use crate::versions::digest_of;
use crate::wire::{FileVersion, MAX_OFFERS, ModulesRequest, Offer, Offers, Running, check_name, shown};

use directory::Directory;

/// How often the names of local files are looked at, and whether what is in force does well.
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
}

/// What the master has said last, and over which connection.
#[derive(Clone)]
struct Offered {
    exchange: Exchange,
    offers: Arc<Offers>,
}

/// What is known of the files, by name.
#[derive(Default)]
struct Files {
    /// The digests of those that are in the directory.
    present: BTreeMap<String, String>,
    /// Why a version that is offered is refused: its digest, and the reason.
    refused: BTreeMap<String, (String, String)>,
    /// What went wrong, and is tried again.
    troubles: BTreeMap<String, String>,
    /// Those of which there are local files.
    local: BTreeSet<String>,
}

/// Why a version is not in the directory.
enum Unfetched {
    /// It is not what was offered, or may not be taken.
    Refused(String),
    /// It may be there at the next try.
    Trouble(String),
    /// Something else is offered by now, or there is a local file.
    Superseded,
}

impl FromMaster {
    /// Nothing is taken yet.
    ///
    /// # Errors
    /// If the directory cannot be made or read.
    pub fn new(options: Options) -> std::io::Result<Self> {
        let directory = Directory::open(options.directory.clone(), options.shared.clone())?;
        // What local files have the place of must not be installed beside them.
        for name in directory.names()? {
            if options.has_local(&name) {
                directory.remove(&name)?;
            }
        }
        Ok(FromMaster { options, directory, offered: watch::Sender::new(None) })
    }

    /// The directory, which is to be followed.
    pub fn directory(&self) -> &Path {
        &self.options.directory
    }

    /// The master says what this host is to run.
    pub(super) fn offered(&self, exchange: &Exchange, body: Option<&RawValue>) -> Result<(), serde_json::Error> {
        let mut offers: Offers = serde_json::from_str(body.map_or("null", RawValue::get))?;
        offers.files.truncate(MAX_OFFERS);
        offers.files.retain(|offer| match check(offer) {
            Ok(()) => true,
            Err(why) => {
                tracing::warn!(name = shown(&offer.name), why, "the master offers a module that cannot be taken");
                false
            }
        });
        self.offered.send_replace(Some(Offered { exchange: exchange.clone(), offers: Arc::new(offers) }));
        Ok(())
    }

    /// Keeps the directory as the master says, until `stop`.
    pub(super) async fn follow(self: Arc<Self>, console: Console, stop: CancellationToken) {
        let (mut offered, mut changes) = (self.offered.subscribe(), console.changes());
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        // When the directory is looked at again although nothing else is offered.
        let mut due = Instant::now();
        let (mut seen, mut told) = (None, None);
        let present = self.blocking(|options, directory| directory.digests(options.max_file)).await;
        let mut files = Files { present: present.unwrap_or_default(), ..Files::default() };
        while !stop.is_cancelled() {
            lasting::step("what takes modules from the master", async {
                let Some(now) = offered.borrow_and_update().clone() else {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        // The sender is part of this.
                        _ = offered.changed() => {}
                    }
                    return;
                };
                changes.mark_unchanged();
                if seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, &now.offers)) || Instant::now() >= due {
                    // What is begun is ended, because what is known of the directory must be true of it.
                    let done = self.take_over(&now, &mut files, &console, &mut offered).await;
                    seen = Some(now.offers.clone());
                    due = Instant::now()
                        + match (done, &self.options.local) {
                            (true, Some(_)) => LOOK,
                            (true, None) => RETRY.1,
                            (false, _) => backoff.next_wait(),
                        };
                    if done {
                        backoff.reset();
                    }
                }
                self.report(&now, &files, &console, &mut told).await;
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = offered.changed() => {}
                    // The console service lives as long as this.
                    _ = changes.changed() => tokio::time::sleep(TOGETHER).await,
                    () = tokio::time::sleep_until(due.into()) => {}
                    // A handler is put aside without a change of the files.
                    () = tokio::time::sleep(LOOK) => {}
                }
            })
            .await;
        }
    }

    /// Does something with files on a thread that may wait.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Options, &Directory) -> T + Send + 'static,
    ) -> Option<T> {
        let (options, directory) = (self.options.clone(), self.directory.clone());
        // The thread only ends with the runtime.
        tokio::task::spawn_blocking(move || work(&options, &directory)).await.ok()
    }

    /// Makes the directory what is offered. Whether all of it is there that can be.
    async fn take_over(
        &self,
        now: &Offered,
        files: &mut Files,
        console: &Console,
        offered: &mut watch::Receiver<Option<Offered>>,
    ) -> bool {
        let names: Vec<String> = now.offers.files.iter().map(|offer| offer.name.clone()).collect();
        let looking = self.blocking(move |options, directory| {
            let local = names.into_iter().filter(|name| options.has_local(name)).collect();
            (local, directory.names())
        });
        if let Some((local, present)) = looking.await {
            files.local = local;
            // Somebody may have removed what is to be there.
            if let Ok(present) = present {
                files.present.retain(|name, _| present.contains(name));
            }
        }
        let is_offered = |name: &String| now.offers.files.iter().any(|offer| offer.name == *name);
        let gone: Vec<String> = files.present.keys().filter(|name| !is_offered(name)).cloned().collect();
        files.refused.retain(|name, _| is_offered(name));
        files.troubles.clear();
        // A local file takes the place of the one that is in force, and until then that one stays.
        let in_force = console.files();
        let ours = |name: &String| in_force.iter().any(|status| status.name == *name && status.from_master);
        let replaced = files.present.keys().filter(|name| files.local.contains(*name) && !ours(name)).cloned();
        for name in gone.into_iter().chain(replaced.collect::<Vec<_>>()) {
            self.remove(name, files).await;
        }
        for offer in &now.offers.files {
            let (name, Some(version)) = (&offer.name, &offer.version) else { continue };
            let is_refused = files.refused.get(name).is_some_and(|(digest, _)| *digest == version.digest);
            if files.local.contains(name) || files.present.get(name) == Some(&version.digest) || is_refused {
                continue;
            }
            files.refused.remove(name);
            match self.fetch(now, name, version, offered).await {
                Ok(()) => drop(files.present.insert(name.clone(), version.digest.clone())),
                Err(Unfetched::Superseded) => break,
                Err(Unfetched::Refused(why)) => {
                    tracing::error!(name, why, "what the master offers is refused");
                    files.refused.insert(name.clone(), (version.digest.clone(), why));
                }
                Err(Unfetched::Trouble(why)) => {
                    tracing::warn!(name, why, "what the master offers is not there yet");
                    // A version that is not known is there: the one before, or this one, which was written and not synced.
                    files.present.insert(name.clone(), String::new());
                    files.troubles.insert(name.clone(), why);
                }
            }
        }
        files.troubles.is_empty()
    }

    async fn remove(&self, name: String, files: &mut Files) {
        let asked = name.clone();
        match self.blocking(move |_, directory| directory.remove(&asked)).await {
            Some(Err(error)) => {
                tracing::warn!(name, %error, "a file of the master's cannot be removed");
                files.troubles.insert(name, format!("its file cannot be removed: {error}"));
            }
            _ => drop(files.present.remove(&name)),
        }
    }

    /// Puts a version that is offered into the directory. Fetching ends when something else is offered.
    async fn fetch(
        &self,
        now: &Offered,
        name: &str,
        version: &FileVersion,
        offered: &mut watch::Receiver<Option<Offered>>,
    ) -> Result<(), Unfetched> {
        if version.size > self.options.max_file {
            let (has, most) = (version.size.div_ceil(1 << 20), self.options.max_file >> 20);
            return Err(Unfetched::Refused(format!(
                "the master's file has {has} MiB, and this host takes {most}: raise `file_mib` under [modules] in pomelo.toml"
            )));
        }
        let (bytes, alone) = tokio::select! {
            _ = offered.changed() => {
                offered.mark_changed();
                return Err(Unfetched::Superseded);
            }
            bytes = self.bytes(now, version) => bytes?,
        };
        let (name, version) = (name.to_owned(), version.clone());
        let writing = self.blocking(move |options, directory| {
            // Others that need it wait until it is there.
            let _alone = alone;
            if digest_of(&bytes) != version.digest {
                return Err(Unfetched::Refused("what the master has sent has another digest than it said".into()));
            }
            // It may have come while this was fetched.
            if options.has_local(&name) {
                return Err(Unfetched::Superseded);
            }
            let written = directory.write(&name, &version.digest, &bytes);
            written.map_err(|error| Unfetched::Trouble(format!("it cannot be written: {error}")))
        });
        writing.await.unwrap_or_else(|| Err(Unfetched::Trouble("this host is shutting down".into())))
    }

    /// The bytes of a version: those that another host of this data directory has fetched, or else from the master. The file that comes with them keeps others
    /// from fetching them as well.
    async fn bytes(&self, now: &Offered, version: &FileVersion) -> Result<(Vec<u8>, Option<File>), Unfetched> {
        let shared = || self.directory.shared(&version.digest, self.options.max_file);
        if let Some(bytes) = shared().await {
            return Ok((bytes, None));
        }
        let alone = self.directory.alone().await;
        if let Some(bytes) = shared().await {
            return Ok((bytes, alone));
        }
        match fetch::from_master(&now.exchange, version).await {
            Ok(bytes) => Ok((bytes, alone)),
            Err(failure) if failure.code == code::BAD_ANSWER => Err(Unfetched::Refused(failure.message)),
            Err(failure) => {
                Err(Unfetched::Trouble(format!("it cannot be fetched from the master: {}", failure.message)))
            }
        }
    }

    /// Tells the master what became of what it has offered, unless it knows.
    async fn report(&self, now: &Offered, files: &Files, console: &Console, told: &mut Option<(u64, Vec<Running>)>) {
        let of_host = console.files();
        let running = |offer: &Offer| {
            let name = &offer.name;
            let status = of_host.iter().find(|status| status.name == *name);
            let in_force = status.and_then(|status| Some((status.version.as_ref()?, status.from_master)));
            let (digest, from_master) = in_force.map(|(version, own)| (version.digest.clone(), own)).unzip();
            let offered = offer.version.as_ref().map(|version| version.digest.clone());
            // What was refused before says nothing of what is offered now.
            let by_host = status.and_then(|status| status.refused.as_ref()).filter(|_| offered.is_some());
            let by_host = by_host.filter(|refused| refused.digest == offered);
            let (by_host, passing) = match by_host {
                Some(refused) if refused.passing => (None, Some(&refused.why)),
                refused => (refused.map(|refused| &refused.why), None),
            };
            let unfetched = files.refused.get(name).filter(|(digest, _)| Some(digest) == offered.as_ref());
            let refused = by_host.or(unfetched.map(|(_, why)| why)).filter(|_| digest != offered).cloned();
            let is_local = files.local.contains(name);
            let waits = || status.and_then(|status| status.refused.as_ref()).map(|refused| &refused.why);
            let trouble = match is_local {
                // The version before is in force, or none, because the local file is no good.
                true => waits().map(|why| format!("a local file has its place, and is refused: {why}")),
                false => files.troubles.get(name).or(passing).cloned(),
            };
            let local = is_local && from_master == Some(false);
            // What keeps trapping is no version to go on with, although it is in force.
            let aside = status.and_then(|status| status.put_aside.clone()).filter(|_| !local && digest == offered);
            let refused = refused.or(aside);
            Running { name: name.clone(), digest, offered, refused, trouble: trouble.filter(|_| !local), local }
        };
        let runs: Vec<Running> = now.offers.files.iter().map(running).collect();
        let report = (now.exchange.peer().id(), runs);
        if told.as_ref() == Some(&report) {
            return;
        }
        match fetch::asked(&now.exchange, &ModulesRequest::Runs(report.1.clone())).await {
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

/// Whether what is offered can be a file of the directory.
fn check(offer: &Offer) -> Result<(), String> {
    is_file_name(&offer.name)?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match &offer.version {
        Some(version) if version.digest.len() != 64 || !version.digest.bytes().all(is_digit) => {
            Err("its digest is no Sha-256 in hexadecimal".into())
        }
        _ => Ok(()),
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
        let offer =
            |digest: &str| Offer { name: "echo".into(), version: Some(FileVersion { digest: digest.into(), size: 1 }) };
        assert_eq!(check(&offer(&digest_of(b"x"))), Ok(()));
        for bad in ["", "../../local/echo", "/srv/plugin", &"A".repeat(64), &"a".repeat(63)] {
            assert!(check(&offer(bad)).is_err(), "{bad}");
        }
        for bad in ["", "..", "../a", "a/b", ".hidden", "a\\b", "a\0b", " a"] {
            assert!(is_file_name(bad).is_err(), "{bad}");
        }
    }
}
