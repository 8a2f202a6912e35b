//! Modules for monitors: what the master has in force of its modules' directory is offered to the monitors that take it, with its bytes.
//!
//! Which version is for whom says `rollout`. Here `parts` has the bytes, and `on_monitors` what is shown.
//!
//! A monitor takes modules where its registration states the capability `modules`. It is sent all that it is to run when it has registered, and when that
//! changes. Nothing is offered before the master has looked at all files that were there when it started, because what is not offered is taken away.
//! This part does not know what a module is, or how a version comes in force.

mod on_monitors;
mod parts;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::console::Console;
use crate::exchange::Exchange;
use crate::failure::{Failure, code};
use crate::journal::{Event, Journal, kind};
use crate::plugin::Keeper;
use crate::rollout::{Change, File, Options, Progress, Rollouts, Taker};
use crate::util::lasting;
use crate::versions::short;
use crate::wire::{MAX_OFFERS, ModulesRequest, OFFER, Offers, Running, null, raw, sentence, shown};

pub use on_monitors::{Offbeat, OnMonitors, UnderWay};

/// The keeper's scope for the versions that all are to run. No module id has a space.
const SCOPE: &str = "module versions";
/// How often rollouts are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// What comes within this time is looked at together.
const TOGETHER: Duration = Duration::from_millis(20);

/// What is handed on, and to whom.
pub(super) struct Distribution {
    console: Console,
    journal: Journal,
    keeper: Option<Arc<dyn Keeper>>,
    parts: parts::Parts,
    state: Mutex<State>,
    /// Told when something may have changed.
    changed: Notify,
}

#[derive(Default)]
struct State {
    rollouts: Rollouts,
    /// Whether all files that were there when the master started have been looked at.
    begun: bool,
    /// The monitors that take modules, by connection.
    takers: HashMap<u64, Takes>,
}

/// A monitor that takes modules.
struct Takes {
    id: String,
    server_type: String,
    exchange: Exchange,
    /// What it was offered last, and the revision of that.
    offered: Option<(u64, Arc<Offers>)>,
    /// What it runs, as it has said, by the files' names.
    runs: Arc<BTreeMap<String, Running>>,
}

impl Distribution {
    /// For what `console` has in force. The versions that all were to run are read from the keeper.
    ///
    /// # Errors
    /// `failed` where the keeper cannot read them.
    pub fn new(
        console: Console,
        journal: Journal,
        keeper: Option<Arc<dyn Keeper>>,
        options: Options,
        max_frame: usize,
    ) -> Result<Self, Failure> {
        let kept = keeper.as_ref().map_or(Ok(Vec::new()), |keeper| keeper.load(SCOPE))?;
        let file = |(name, text): (String, String)| Some((name, serde_json::from_str::<File>(&text).ok()?));
        let rollouts = Rollouts::new(options, kept.into_iter().filter_map(file).collect());
        let state = Mutex::new(State { rollouts, ..State::default() });
        let parts = parts::Parts::new(max_frame);
        Ok(Distribution { console, journal, keeper, parts, state, changed: Notify::new() })
    }

    /// Takes over how new versions reach the monitors.
    pub fn apply(&self, options: Options) {
        self.state.lock().rollouts.set_options(options);
        self.changed.notify_one();
    }

    /// A monitor that takes modules has registered.
    pub fn joined(&self, id: &str, server_type: &str, exchange: &Exchange) {
        let takes = Takes {
            id: id.to_owned(),
            server_type: server_type.to_owned(),
            exchange: exchange.clone(),
            offered: None,
            runs: Arc::default(),
        };
        let mut state = self.state.lock();
        state.takers.insert(exchange.peer().id(), takes);
        state.offer(Some(exchange.peer().id()));
    }

    /// A connection is over.
    pub fn left(&self, connection: u64) {
        self.state.lock().takers.remove(&connection);
    }

    /// A request of a monitor's about modules.
    ///
    /// # Errors
    /// `bad-message`; `forbidden` for one that takes no modules; `not-found` for a file that is not offered any more.
    pub async fn asked(&self, connection: u64, body: Option<&RawValue>) -> Result<Box<RawValue>, Failure> {
        if !self.state.lock().takers.contains_key(&connection) {
            return Err(Failure::new(code::FORBIDDEN, "this monitor has not said that it takes modules"));
        }
        let bad = |error: &dyn std::fmt::Display| {
            Failure::new(code::BAD_MESSAGE, format!("a request about modules: {error}"))
        };
        let request = serde_json::from_str(body.unwrap_or(null()).get()).map_err(|error| bad(&error))?;
        match request {
            ModulesRequest::Get { digest, offset } => {
                let name = self.state.lock().rollouts.name_of(&digest).map(str::to_owned);
                let none = || Failure::new(code::NOT_FOUND, format!("no module is offered as {}", shown(&digest)));
                let part = self.parts.part(&self.console, &name.ok_or_else(none)?, &digest, offset).await?;
                metrics::counter!("pomelo_modules_handed_on_bytes_total").increment(part.data.len() as u64 / 4 * 3);
                Ok(raw(&part))
            }
            ModulesRequest::Runs(runs) if runs.len() > MAX_OFFERS => Err(bad(&"too many files")),
            ModulesRequest::Runs(runs) => {
                let mut state = self.state.lock();
                let State { rollouts, takers, .. } = &mut *state;
                // It may have left meanwhile.
                if let Some(takes) = takers.get_mut(&connection) {
                    let known = runs.into_iter().filter(|running| rollouts.has(&running.name)).map(bounded);
                    takes.runs = Arc::new(known.map(|running| (running.name.clone(), running)).collect());
                }
                drop(state);
                self.changed.notify_one();
                Ok(null().to_owned())
            }
        }
    }

    /// Offers what is in force until `stop`, from the time on at which all files that were there at first have been looked at.
    pub async fn follow(self: Arc<Self>, looked_at: CancellationToken, stop: CancellationToken) {
        if stop.run_until_cancelled(looked_at.cancelled()).await.is_none() {
            return;
        }
        let mut files = self.console.changes();
        while !stop.is_cancelled() {
            lasting::step("what hands modules on", async {
                files.mark_unchanged();
                self.look().await;
                tokio::select! {
                    () = stop.cancelled() => {}
                    // The console service lives as long as this.
                    _ = files.changed() => tokio::time::sleep(TOGETHER).await,
                    () = self.changed.notified() => tokio::time::sleep(TOGETHER).await,
                    () = tokio::time::sleep(LOOK) => self.parts.give_back(),
                }
            })
            .await;
        }
    }

    async fn look(&self) {
        let files = self.console.files();
        let (changes, kept, taken) = {
            let mut state = self.state.lock();
            state.begun = true;
            let of = files.iter().map(|file| (file.name.as_str(), file.version.as_ref())).collect();
            let mut changes = state.rollouts.observe(&of);
            changes.extend(state.step());
            state.offer(None);
            let kept = |change: &Change| state.rollouts.file(change.name()).map(raw);
            let kept: Vec<_> = changes.iter().map(kept).collect();
            (changes, kept, !state.takers.is_empty())
        };
        for (change, kept) in changes.iter().zip(kept) {
            if let Some(keeper) = &self.keeper {
                keeper.put(SCOPE, change.name(), kept.map(|kept| kept.get().into()));
            }
            self.tell(change, taken);
            if let Change::Failed { name, version, .. } = change {
                self.go_back(name, &version.digest).await;
            }
        }
    }

    /// Tells of a change; where no monitor takes modules, only of what goes wrong, because else it concerns nobody.
    fn tell(&self, change: &Change, taken: bool) {
        let (message, failed) = (change.to_string(), matches!(change, Change::Failed { .. }));
        if failed {
            tracing::error!("{message}");
            metrics::counter!("pomelo_rollouts_failed_total").increment(1);
        } else if taken {
            tracing::info!("{message}");
        }
        if failed || taken {
            let kind = if failed { kind::ROLLBACK } else { kind::ROLLOUT };
            self.journal.record(Event::new(kind, message).module(change.name()));
        }
    }

    /// Puts the version that all are to run back into the modules' directory, in the place of the one whose rollout has failed.
    async fn go_back(&self, name: &str, failed: &str) {
        let settled = self.state.lock().rollouts.settled(name).map(|version| version.digest.clone());
        let Some(settled) = settled else { return };
        let message = match self.console.put_back(name, failed, &settled).await {
            Ok(_) => format!("{name}.wasm is version {} again on the master as well", short(&settled)),
            Err(failure) => {
                format!("{name}.wasm stays version {} on the master alone: {}", short(failed), failure.message)
            }
        };
        tracing::warn!("{message}");
        self.journal.record(Event::new(kind::ROLLBACK, message).module(name));
    }

    /// What the monitors run, by file. Empty where no monitor takes modules. It takes a while where they are many.
    pub fn on_monitors(&self) -> BTreeMap<String, OnMonitors> {
        // Copied, because nothing as large as a fleet is looked through while others wait for the lock.
        let (files, mut takers) = {
            let state = self.state.lock();
            let files: Vec<_> = state.rollouts.progress().map(|(name, rollout)| (name.to_owned(), rollout)).collect();
            let taker = |takes: &Takes| {
                let offered = takes.offered.as_ref().map(|(_, offers)| offers.clone()).unwrap_or_default();
                (takes.id.clone(), offered, takes.runs.clone())
            };
            (files, state.takers.values().map(taker).collect::<Vec<_>>())
        };
        if takers.is_empty() {
            return BTreeMap::new();
        }
        takers.sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
        let of_file = |(name, rollout): (String, Option<Progress>)| {
            let mut on = OnMonitors::of(takers.len(), rollout);
            for (id, offered, runs) in &takers {
                // In the order of their names, as they were offered.
                let at = offered.files.binary_search_by(|offer| offer.name.as_str().cmp(&name));
                let wanted = at.ok().and_then(|at| offered.files[at].version.as_ref());
                on.add(id, wanted, runs.get(&name));
            }
            (name, on)
        };
        files.into_iter().map(of_file).collect()
    }
}

/// What a monitor says of a file, in a form that is safe to keep and to show.
fn bounded(running: Running) -> Running {
    Running {
        digest: running.digest.as_deref().map(shown),
        offered: running.offered.as_deref().map(shown),
        refused: running.refused.map(|why| sentence(&why)),
        trouble: running.trouble.map(|why| sentence(&why)),
        ..running
    }
}

impl State {
    /// Looks at rollouts.
    fn step(&mut self) -> Vec<Change> {
        let State { rollouts, takers, .. } = self;
        if !rollouts.are_under_way() {
            return Vec::new();
        }
        let taker = |takes| {
            let Takes { id, server_type, runs, .. }: &Takes = takes;
            Taker { id, server_type, runs }
        };
        let takers: Vec<Taker<'_>> = takers.values().map(taker).collect();
        rollouts.step(&takers, Instant::now())
    }

    /// Sends those that take modules what they are to run, if that is new to them: all of them, or one. Those that are to run the same are sent one text.
    fn offer(&mut self, connection: Option<u64>) {
        if !self.begun {
            return;
        }
        let State { rollouts, takers, .. } = self;
        let mut lists: HashMap<Vec<bool>, (Arc<Offers>, Arc<RawValue>)> = HashMap::new();
        for (of, takes) in takers.iter_mut().filter(|(of, _)| connection.is_none_or(|only| only == **of)) {
            if takes.offered.as_ref().is_some_and(|(revision, _)| *revision == rollouts.revision()) {
                continue;
            }
            let list = || {
                let offers = rollouts.offers(&takes.id);
                let text = raw(&offers).into();
                (Arc::new(offers), text)
            };
            let (offers, text) = lists.entry(rollouts.reached(&takes.id)).or_insert_with(list);
            if takes.offered.as_ref().is_none_or(|(_, before)| before != offers) {
                tracing::debug!(connection = of, server = %takes.id, files = offers.files.len(), "modules are offered");
                // One that is leaving is told when it comes back.
                let _ = takes.exchange.command_for_many(OFFER, text);
            }
            takes.offered = Some((rollouts.revision(), offers.clone()));
        }
    }
}
