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
use crate::rollout::{Change, Options, Progress, Rollouts, Taker, told};
use crate::util::lasting;
use crate::versions::short;
use crate::wire::{FileVersion, MAX_OFFERS, ModulesRequest, OFFER, Offers, Running, null, raw, sentence, shown};

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
    offered: Option<(u64, Offers)>,
    runs: Vec<Running>,
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
        let version = |(name, text): (String, String)| Some((name, serde_json::from_str::<FileVersion>(&text).ok()?));
        let rollouts = Rollouts::new(options, kept.into_iter().filter_map(version).collect());
        let state = Mutex::new(State { rollouts, ..State::default() });
        Ok(Distribution {
            console,
            journal,
            keeper,
            parts: parts::Parts::new(max_frame),
            state,
            changed: Notify::new(),
        })
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
            runs: Vec::new(),
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
                    let known = runs.into_iter().filter(|running| rollouts.has(&running.name));
                    takes.runs = known.map(bounded).collect();
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
                    () = tokio::time::sleep(LOOK) => self.parts.give_back().await,
                }
            })
            .await;
        }
    }

    async fn look(&self) {
        let files = self.console.files();
        let changes = {
            let mut state = self.state.lock();
            state.begun = true;
            let of = files.iter().map(|file| (file.name.as_str(), file.version.as_ref())).collect();
            let mut changes = state.rollouts.observe(&of);
            changes.extend(state.step());
            state.offer(None);
            changes
        };
        for change in changes {
            self.tell(&change);
            if let Change::Failed { name, version, .. } = &change {
                self.go_back(name, &version.digest).await;
            }
        }
    }

    /// Tells of a change, and keeps what all are to run.
    fn tell(&self, change: &Change) {
        let taken = !self.state.lock().takers.is_empty();
        let (name, kind) = match change {
            Change::Settled { name, version } => {
                if let Some(keeper) = &self.keeper {
                    keeper.put(SCOPE, name, version.as_ref().map(|version| raw(version).get().into()));
                }
                (name, kind::ROLLOUT)
            }
            Change::Reached { name, .. } => (name, kind::ROLLOUT),
            Change::Failed { name, .. } => (name, kind::ROLLBACK),
        };
        let message = told(change);
        if matches!(change, Change::Failed { .. }) {
            tracing::error!("{message}");
            metrics::counter!("pomelo_rollouts_failed_total").increment(1);
        } else if taken {
            tracing::info!("{message}");
        }
        // Nobody is told of what concerns nobody.
        if taken {
            self.journal.record(Event::new(kind, message).module(name));
        }
    }

    /// Puts the version that all are to run back into the modules' directory, in the place of the one whose rollout has failed.
    async fn go_back(&self, name: &str, failed: &str) {
        let in_force = |file: &crate::console::FileStatus| {
            file.name == name && file.version.as_ref().is_some_and(|version| version.digest == failed)
        };
        if !self.console.files().iter().any(in_force) {
            return;
        }
        let settled = self.state.lock().rollouts.settled(name).map(|version| version.digest.clone());
        let Some(settled) = settled else { return };
        let message = match self.console.put_back(name, &settled).await {
            Ok(_) => format!("{name}.wasm is version {} again on the master as well", short(&settled)),
            Err(failure) => {
                format!("{name}.wasm stays version {} on the master alone: {}", short(failed), failure.message)
            }
        };
        tracing::warn!("{message}");
        self.journal.record(Event::new(kind::ROLLBACK, message).module(name));
    }

    /// What the monitors run, by file. Empty where no monitor takes modules.
    pub fn on_monitors(&self) -> BTreeMap<String, OnMonitors> {
        let state = self.state.lock();
        if state.takers.is_empty() {
            return BTreeMap::new();
        }
        let mut takers: Vec<&Takes> = state.takers.values().collect();
        takers.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        let of_file = |(name, rollout): (&str, Option<Progress>)| {
            let mut on = OnMonitors::of(takers.len(), rollout);
            for takes in &takers {
                let running = takes.runs.iter().find(|running| running.name == name);
                let offered =
                    takes.offered.iter().flat_map(|(_, offers)| &offers.files).find(|offer| offer.name == name);
                on.add(&takes.id, offered.and_then(|offer| offer.version.as_ref()), running);
            }
            (name.to_owned(), on)
        };
        state.rollouts.progress().map(of_file).collect()
    }
}

/// What a monitor says of a file, in a form that is safe to keep and to show.
fn bounded(running: Running) -> Running {
    Running {
        digest: running.digest.as_deref().map(shown),
        refused: running.refused.map(|why| sentence(&why)),
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

    /// Sends those that take modules what they are to run, if that is new to them: all of them, or one.
    fn offer(&mut self, connection: Option<u64>) {
        if !self.begun {
            return;
        }
        let State { rollouts, takers, .. } = self;
        for (of, takes) in takers.iter_mut().filter(|(of, _)| connection.is_none_or(|only| only == **of)) {
            if takes.offered.as_ref().is_some_and(|(revision, _)| *revision == rollouts.revision()) {
                continue;
            }
            let offers = rollouts.offers(&takes.id);
            if takes.offered.as_ref().is_none_or(|(_, before)| *before != offers) {
                tracing::debug!(connection = of, server = %takes.id, files = offers.files.len(), "modules are offered");
                // One that is leaving is told when it comes back.
                let _ = takes.exchange.command(OFFER, None, &raw(&offers));
            }
            takes.offered = Some((rollouts.revision(), offers));
        }
    }
}
