//! For tests: a store in memory, and a world of processes that an actuator acts on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending};
use parking_lot::Mutex;

use super::job::{Actuator, Jobs, Kind, Limits, Messages, NotEnded, Request, Times};
use super::{Due, End, Fleet, Happening, Input, Named, Place, Shelf, Store, Wanted};
use crate::failure::{Failure, code};
use crate::journal::Journal;

/// Keeps in memory. Clones are the same store, so that a fleet can be loaded once more.
#[derive(Clone, Default)]
pub struct Memory {
    kept: Arc<Mutex<BTreeMap<(&'static str, String), String>>>,
    /// Whether nothing can be written.
    pub broken: Arc<Mutex<bool>>,
    /// How many bytes of values were ever put.
    pub put_bytes: Arc<Mutex<usize>>,
}

fn shelf_name(shelf: Shelf) -> &'static str {
    match shelf {
        Shelf::Servers => "servers",
        Shelf::Jobs => "jobs",
    }
}

impl Memory {
    pub fn keys(&self, shelf: Shelf) -> Vec<String> {
        self.load(shelf).into_iter().map(|(key, _)| key).collect()
    }
}

impl Store for Memory {
    fn load(&self, shelf: Shelf) -> Vec<(String, String)> {
        let kept = self.kept.lock();
        let those = kept.iter().filter(|((on, _), _)| *on == shelf_name(shelf));
        those.map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }

    fn put(&self, shelf: Shelf, key: &str, value: Option<String>) {
        let key = (shelf_name(shelf), key.to_owned());
        *self.put_bytes.lock() += value.as_ref().map_or(0, String::len);
        match value {
            Some(value) => self.kept.lock().insert(key, value),
            None => self.kept.lock().remove(&key),
        };
    }

    fn written(&self) -> BoxFuture<'static, Result<(), Failure>> {
        let broken = *self.broken.lock();
        async move {
            tokio::task::yield_now().await;
            if broken { Err(Failure::new(code::FAILED, "the disk is full")) } else { Ok(()) }
        }
        .boxed()
    }
}

/// What a server does that is not as servers should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    #[default]
    Good,
    /// It is started and is never ready.
    Silent,
    /// It is started and ends with a failure.
    Dies,
    /// It cannot be started.
    NotStarted,
    /// It refuses to end, unless it is killed.
    Refuses,
    /// It never ends, unless it is killed.
    Hangs,
}

#[derive(Clone, Debug, Default)]
struct Process {
    up: bool,
    present: bool,
    draining: bool,
    /// Its connection is lost.
    lost: bool,
    /// Grows with each start and end, so that what an earlier process does late counts for nothing.
    life: u64,
}

#[derive(Default)]
struct Inner {
    processes: BTreeMap<String, Process>,
    manners: BTreeMap<String, Manner>,
    /// The most servers that were away at once.
    most_away: usize,
    launched: BTreeMap<String, u64>,
    asked_by: BTreeSet<String>,
}

/// The processes, which outlive a master or not. Clones are the same world.
#[derive(Clone, Default)]
pub struct World(Arc<Mutex<Inner>>);

impl World {
    pub fn behaves(&self, id: &str, manner: Manner) {
        self.0.lock().manners.insert(id.into(), manner);
    }

    fn manner(&self, id: &str) -> Manner {
        self.0.lock().manners.get(id).copied().unwrap_or_default()
    }

    pub fn is_up(&self, id: &str) -> bool {
        self.0.lock().processes.get(id).is_some_and(|process| process.up)
    }

    pub fn is_lost(&self, id: &str) -> bool {
        self.0.lock().processes.get(id).is_some_and(|process| process.lost)
    }

    pub fn launches(&self, id: &str) -> u64 {
        self.0.lock().launched.get(id).copied().unwrap_or_default()
    }

    /// The modules that servers were asked through.
    pub fn asked_by(&self) -> BTreeSet<String> {
        self.0.lock().asked_by.clone()
    }

    /// The most servers that were away at once since this was called last.
    pub fn take_most_away(&self) -> usize {
        std::mem::take(&mut self.0.lock().most_away)
    }

    fn with<T>(&self, id: &str, act: impl FnOnce(&mut Process) -> T) -> T {
        let mut inner = self.0.lock();
        let done = act(inner.processes.entry(id.to_owned()).or_default());
        let away = inner.processes.values().filter(|process| !process.present).count();
        inner.most_away = inner.most_away.max(away);
        done
    }

    fn begin(&self, id: &str) -> u64 {
        self.with(id, |process| {
            *process = Process { up: true, life: process.life + 1, ..Process::default() };
            process.life
        })
    }

    /// Ends a process, if it is still the one of that life. Returns whether it was.
    fn end(&self, id: &str, life: Option<u64>) -> bool {
        self.with(id, |process| {
            let is = process.up && life.is_none_or(|life| process.life == life);
            if is {
                *process = Process { life: process.life + 1, ..Process::default() };
            }
            is
        })
    }

    fn present(&self, id: &str, life: u64) -> bool {
        self.with(id, |process| {
            let is = process.up && process.life == life && !process.lost && !process.draining;
            process.present |= is;
            is
        })
    }

    /// The processes that the master has begun end with it.
    pub fn master_ended(&self) {
        let mut inner = self.0.lock();
        for (id, process) in &mut inner.processes {
            if !id.starts_with('t') {
                *process = Process { life: process.life + 1, ..Process::default() };
            } else {
                // It has to connect to the next one.
                (process.present, process.draining, process.lost) = (false, false, process.up);
            }
        }
    }
}

/// A master with its fleet and its jobs, without anything else. Servers whose id begins with `t` are theirs, and others are ours.
#[derive(Clone)]
pub struct Master {
    pub world: World,
    pub fleet: Arc<Fleet>,
    pub jobs: Jobs,
}

struct Hands {
    world: World,
    fleet: Arc<Fleet>,
}

pub const STOP: Duration = Duration::from_millis(100);
pub const DRAIN: Duration = Duration::from_millis(300);
const STEP: Duration = Duration::from_millis(20);

pub fn named(ids: &[&str]) -> Vec<Named> {
    let place = |id: &str| if id.starts_with('t') { Place::Theirs } else { Place::Ours };
    let one = |id: &&str| Named {
        id: (*id).into(),
        server_type: id.split('-').next().unwrap_or_default().into(),
        added: None,
        place: place(id),
    };
    ids.iter().map(one).collect()
}

impl Master {
    pub fn new(world: &World, store: &Memory, ids: &[&str], limits: Limits) -> Self {
        let fleet = Arc::new(Fleet::load(Arc::new(store.clone())));
        fleet.name(&named(ids));
        let hands = Hands { world: world.clone(), fleet: fleet.clone() };
        let jobs = Jobs::load(fleet.clone(), Arc::new(hands), Journal::default(), "master-1", limits);
        Master { world: world.clone(), fleet, jobs }
    }

    fn hands(&self) -> Hands {
        Hands { world: self.world.clone(), fleet: self.fleet.clone() }
    }

    /// A server that this master has not begun comes, as whoever started it wants.
    pub fn somebody_starts(&self, id: &str) {
        if self.world.is_up(id) {
            return;
        }
        let life = self.world.begin(id);
        let down = self.fleet.get(id).is_some_and(|record| record.wanted == Wanted::Down);
        if down && self.fleet.owner(id).is_none() {
            self.fleet.want(&[id.to_owned()], Wanted::Up, "whoever started it");
        }
        self.world.present(id, life);
        self.fleet.input(id, Some("t"), Input::Joined, Happening::default());
    }

    /// A server ends by itself.
    pub fn ends(&self, id: &str, end: End) {
        if !self.world.end(id, None) {
            return;
        }
        let ours = self.fleet.get(id).is_some_and(|record| record.place == Place::Ours);
        let input = if ours { Input::Exited(end) } else { Input::Left };
        self.fleet.input(id, None, input, Happening::why("it ended"));
        if ours && end == End::Again {
            let hands = self.hands();
            let id = id.to_owned();
            let life = self.world.with(&id, |process| process.life);
            tokio::spawn(async move {
                tokio::time::sleep(STEP * 5).await;
                // Its supervisor begins it once more, unless somebody has ended or begun it meanwhile.
                if hands.world.with(&id, |process| !process.up && process.life == life) {
                    hands.begin(&id);
                }
            });
        }
    }

    pub fn loses(&self, id: &str) {
        let lost = self.world.with(id, |process| {
            let is = process.up && process.present;
            if is {
                (process.lost, process.present) = (true, false);
            }
            is
        });
        if lost {
            self.fleet.input(id, None, Input::Lost, Happening::why("its connection was lost"));
        }
    }

    /// The servers whose connection was lost are back.
    pub fn all_are_back(&self, ids: &[&str]) {
        for id in ids {
            let back = self.world.with(id, |process| {
                let is = process.up && !process.draining && !process.present && (process.lost || id.starts_with('t'));
                if is {
                    (process.lost, process.present) = (false, true);
                }
                is
            });
            if back {
                self.fleet.input(id, Some("t"), Input::Joined, Happening::default());
            }
        }
    }

    /// Brings about what is due, until nothing is and no job is under way. Returns false if that does not come.
    pub async fn settles(&self) -> bool {
        for _ in 0..200 {
            let due = self.fleet.due();
            for (is, kind) in [(Due::Start, Kind::Start), (Due::End, Kind::Stop)] {
                let ids: Vec<String> = due.iter().filter(|(_, due)| *due == is).map(|(id, _)| id.clone()).collect();
                if !ids.is_empty() {
                    // Those that a job owns by now are tried again.
                    let _ = self.jobs.submit_again(Request::new(kind, ids, "the driver")).await;
                }
            }
            tokio::time::sleep(STEP * 10).await;
            if self.fleet.due().is_empty() && self.jobs.count_under_way() == 0 {
                return true;
            }
        }
        false
    }
}

impl Hands {
    fn clone_of(&self) -> Hands {
        Hands { world: self.world.clone(), fleet: self.fleet.clone() }
    }

    fn begin(&self, id: &str) {
        let life = self.world.begin(id);
        self.fleet.input(id, None, Input::Launched, Happening::default());
        self.joins_soon(id, life);
    }

    fn joins_soon(&self, id: &str, life: u64) {
        let (hands, id, manner) = (self.clone_of(), id.to_owned(), self.world.manner(id));
        tokio::spawn(async move {
            tokio::time::sleep(STEP).await;
            match manner {
                Manner::Silent => {}
                Manner::Dies => {
                    if hands.world.end(&id, Some(life)) {
                        hands.fleet.input(&id, None, Input::Exited(End::Final), Happening::why("ended with code 7"));
                    }
                }
                _ => {
                    if hands.world.present(&id, life) {
                        hands.fleet.input(&id, None, Input::Joined, Happening::default());
                    }
                }
            }
        });
    }

    /// Does something to its end, even if whoever asked for it waits no longer.
    async fn whole<T: Send + 'static>(what: impl Future<Output = T> + Send + 'static) -> T {
        tokio::spawn(what).await.expect("what the world does does not panic")
    }
}

impl Actuator for Hands {
    fn launch(&self, id: String) -> BoxFuture<'_, Result<(), Failure>> {
        let hands = self.clone_of();
        async move {
            let ours = hands.fleet.get(&id).is_some_and(|record| record.place == Place::Ours);
            tokio::time::sleep(STEP).await;
            if !ours || hands.world.manner(&id) == Manner::NotStarted {
                return Err(Failure::new(code::NOT_AVAILABLE, format!("{id} cannot be started here")));
            }
            if hands.world.is_up(&id) {
                return Err(Failure::new(code::BUSY, format!("{id} cannot be started, because it still runs")));
            }
            *hands.world.0.lock().launched.entry(id.clone()).or_default() += 1;
            hands.begin(&id);
            Ok(())
        }
        .boxed()
    }

    fn end<'a>(&'a self, id: String, kill: bool, messages: &'a Messages) -> BoxFuture<'a, Result<(), NotEnded>> {
        self.world.0.lock().asked_by.insert(messages.module.clone());
        let (hands, manner) = (self.clone_of(), self.world.manner(&id));
        async move {
            match manner {
                Manner::Refuses if !kill => {
                    tokio::time::sleep(STEP).await;
                    let failure = Failure::new(code::FAILED, "not now");
                    return Err(NotEnded { failure, refused: true });
                }
                Manner::Hangs if !kill => return pending().await,
                _ => {}
            }
            if hands.world.is_lost(&id) && id.starts_with('t') {
                let failure = Failure::new(code::UNREACHABLE, "its connection is lost");
                return Err(NotEnded { failure, refused: false });
            }
            let asked = async move {
                tokio::time::sleep(if kill { STEP } else { STOP }).await;
                if hands.world.end(&id, None) {
                    let input = if id.starts_with('t') { Input::Left } else { Input::Exited(End::Clean) };
                    hands.fleet.input(&id, None, input, Happening::default());
                } else {
                    // Who waits to begin it once more learns that it is not to.
                    hands.world.with(&id, |process| process.life += 1);
                }
            };
            Hands::whole(asked).await;
            Ok(())
        }
        .boxed()
    }

    fn restart<'a>(&'a self, id: String, messages: &'a Messages) -> BoxFuture<'a, Result<bool, Failure>> {
        self.world.0.lock().asked_by.insert(messages.module.clone());
        let hands = self.clone_of();
        async move {
            if !self.world.is_up(&id) || self.world.is_lost(&id) {
                return Ok(false);
            }
            let asked = async move {
                tokio::time::sleep(STOP).await;
                let life = hands.world.with(&id, |process| {
                    let is = process.up && !process.lost;
                    if is {
                        *process = Process { up: true, life: process.life + 1, ..Process::default() };
                    }
                    is.then_some(process.life)
                });
                let Some(life) = life else { return false };
                hands.fleet.input(&id, None, Input::Absent, Happening::default());
                hands.joins_soon(&id, life);
                true
            };
            Ok(Hands::whole(asked).await)
        }
        .boxed()
    }

    fn drain<'a>(&'a self, id: String, _: &'a Messages) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let drains = self.world.with(&id, |process| {
                let is = process.up && !process.lost;
                if is {
                    (process.draining, process.present) = (true, false);
                }
                is
            });
            if drains {
                self.fleet.input(&id, None, Input::Absent, Happening::default());
                tokio::time::sleep(DRAIN).await;
            }
            Ok(())
        }
        .boxed()
    }

    fn undrain<'a>(&'a self, id: String, _: &'a Messages) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let back = self.world.with(&id, |process| {
                let is = process.up && process.draining && !process.lost;
                if is {
                    (process.draining, process.present) = (false, true);
                }
                is
            });
            if back {
                self.fleet.input(&id, None, Input::Joined, Happening::default());
            }
            Ok(())
        }
        .boxed()
    }

    fn is_present(&self, id: &str) -> bool {
        self.world.with(id, |process| process.present)
    }

    fn times(&self, _: &str) -> Times {
        Times { stop: STOP, drain: DRAIN, ready: Duration::from_secs(1) }
    }
}
