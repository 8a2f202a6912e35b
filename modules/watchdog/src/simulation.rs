//! Tests of both sides against a model of the host, with every order of events that the host allows.
//!
//! The master's handlers run one after another on its *lane*. A monitor has a lane too, and `start` runs beside it. Each of the two is a thread that stops at
//! every call to the host, so that they interleave at these calls. Frames to the monitor stay in order, and may be delayed. A list of numbers, which proptest
//! makes and shrinks, decides what happens next. `PROPTEST_CASES=10000` tries more.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use pomelo_sdk::{Failure, Result};
use proptest::prelude::*;
use serde_json::{json, value::to_raw_value};

use crate::history::History;
use crate::protocol::{Answer, Batch, Event, Info, Infos, Known, Order, REVISIONS, Request, Table};
use crate::{master, monitor};

/// The id of the monitor under test, and of a server of pomelo 2.x.
const OURS: &str = "ours";
const PLAIN: &str = "plain";
/// What the master's side may keep: what the module wants, `store_kib`.
const STORE: usize = 1 << 20;
/// Stands in the place of a thread's number for the server of pomelo 2.x.
const PLAIN_ASKS: usize = usize::MAX;
/// The action that stands for the answer to the `subscribe` of the server of pomelo 2.x.
const ANSWER: &str = "the table";

/// What comes to the monitor.
enum Frame {
    Order(Order),
    Answer(usize, Result<Known>),
}

/// What waits for the master's handlers.
enum Job {
    Batch(Batch),
    Ask(usize, Request),
    Notify(&'static str, Request),
}

/// What the threads of the monitor are doing.
#[derive(Clone, Copy, PartialEq)]
enum ThreadState {
    /// Stopped at a call to the host, and could go on.
    Ready,
    /// Waits for the master's answer.
    Waits,
    /// Waits for the next order, or for the next attempt to start.
    Idle,
    Ended,
}

#[derive(Default)]
struct World {
    // The master.
    epoch: u32,
    rev: u64,
    table: BTreeMap<String, u64>,
    /// The table after each change of this epoch, by revision: an instance may have kept any of them.
    tables: BTreeMap<u64, BTreeMap<String, u64>>,
    /// How often a table was read.
    reads: usize,
    /// Whether our monitor is connected although its server is not in the table.
    absent: bool,
    jobs: VecDeque<Job>,
    members: BTreeMap<String, master::Member>,
    texts: BTreeMap<String, String>,
    store_limit: usize,
    changes: u64,
    history: History,
    // The network.
    frames: VecDeque<Frame>,
    plain_frames: VecDeque<Order>,
    // The monitors.
    view: BTreeMap<String, u64>,
    plain_view: BTreeMap<String, u64>,
    /// How often this process of the server of pomelo 2.x was told that all have started, and whether something that it was told may be lost.
    plain_overs: usize,
    plain_has_lost: bool,
    store: BTreeMap<String, String>,
    orders: VecDeque<Order>,
    answers: [Option<Result<Known>>; 2],
    states: [Option<ThreadState>; 2],
    has_started: bool,
    overs: usize,
    /// Whose turn it is: one of the two threads, or the scheduler.
    turn: Option<usize>,
    over: bool,
}

fn info(id: &str, number: u64) -> Info {
    to_raw_value(&json!({ "id": id, "n": number })).unwrap()
}

fn read(info: &Info) -> (String, u64) {
    let value: serde_json::Value = serde_json::from_str(info.get()).unwrap();
    (value["id"].as_str().unwrap().to_owned(), value["n"].as_u64().unwrap())
}

fn view(servers: &Infos) -> BTreeMap<String, u64> {
    let servers: BTreeMap<String, Info> = serde_json::from_str(servers.get()).unwrap();
    servers.values().map(read).collect()
}

/// Bytes of the master's store, as the host counts them.
fn stored(members: &BTreeMap<String, master::Member>) -> usize {
    members.iter().map(|(key, member)| key.len() + serde_json::to_string(member).unwrap().len() + 64).sum()
}

fn disconnected() -> Failure {
    Failure::new("disconnected", "The connection closed.")
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            epoch: 1,
            store_limit: STORE,
            states: [Some(ThreadState::Ready), Some(ThreadState::Idle)],
            ..Self::default()
        };
        for id in ["master", PLAIN, OURS] {
            world.join(id, "register");
        }
        world.plain_subscribes();
        world
    }

    fn plain_subscribes(&mut self) {
        self.jobs.push_back(Job::Ask(PLAIN_ASKS, Request::new("subscribe", PLAIN.into())));
    }

    /// The process of the server of pomelo 2.x is killed, and another one takes its place.
    fn restart_plain(&mut self) {
        self.plain_frames.clear();
        self.jobs.retain(|job| !matches!(job, Job::Ask(PLAIN_ASKS, _) | Job::Notify(PLAIN, _)));
        (self.plain_overs, self.plain_has_lost) = (0, false);
        self.plain_view.clear();
        self.leave(PLAIN);
        self.join(PLAIN, "register");
        self.plain_subscribes();
    }

    fn event(&mut self, event: &str, id: &str) {
        let since = self.rev;
        self.rev += 1;
        self.tables.insert(self.rev, self.table.clone());
        let server = self.table.get(id).map(|number| info(id, *number));
        // What a restarted master is told of our monitor's capabilities; it must do without as well.
        let told = id == OURS && self.changes.is_multiple_of(2);
        let capabilities = if told { vec![REVISIONS.to_owned()] } else { Vec::new() };
        let event = Event { event: event.into(), id: id.into(), server, rev: Some(self.rev), capabilities };
        // Events that come while others wait make one batch with them.
        if let Some(Job::Batch(batch)) = self.jobs.back_mut() {
            batch.rev = self.rev;
            batch.events.push(event);
        } else {
            let epoch = self.epoch.to_string();
            self.jobs.push_back(Job::Batch(Batch { since, rev: self.rev, epoch, exact: false, events: vec![event] }));
        }
    }

    fn join(&mut self, id: &str, event: &str) {
        self.changes += 1;
        self.absent &= id != OURS;
        self.table.insert(id.into(), self.changes);
        self.event(event, id);
    }

    fn leave(&mut self, id: &str) {
        if self.table.remove(id).is_some() {
            self.event("disconnect", id);
        }
    }

    /// Our server leaves the table, as one that drains does.
    fn withdraw(&mut self) {
        self.absent |= self.table.contains_key(OURS);
        self.leave(OURS);
    }

    /// Whether our monitor is connected.
    fn is_connected(&self) -> bool {
        self.absent || self.table.contains_key(OURS)
    }

    /// Something happens to a server.
    fn change(&mut self, choice: u8) {
        let other = ["a", "b", "c"][usize::from(choice) % 3];
        match choice % 17 {
            0..=5 => self.join(other, "register"),
            6..=9 => self.leave(other),
            10 => {
                self.leave(other);
                self.join(other, "reconnect");
            }
            11 => {
                self.break_link();
                self.leave(OURS);
                self.absent = false;
            }
            12 if !self.table.contains_key(OURS) => self.join(OURS, "reconnect"),
            13 => {
                self.plain_has_lost = true;
                self.plain_frames.clear();
                self.leave(PLAIN);
                self.join(PLAIN, "reconnect");
            }
            14 => self.restart_master(),
            15 => self.withdraw(),
            16 => self.restart_plain(),
            _ => self.join(other, "register"),
        }
    }

    fn break_link(&mut self) {
        self.frames.clear();
        for asker in 0..2 {
            if self.states[asker] == Some(ThreadState::Waits) && self.answers[asker].is_none() {
                self.answers[asker] = Some(Err(disconnected()));
            }
        }
        self.jobs.retain(|job| matches!(job, Job::Batch(_) | Job::Ask(PLAIN_ASKS, _) | Job::Notify(PLAIN, _)));
    }

    fn restart_master(&mut self) {
        self.break_link();
        self.plain_has_lost = true;
        self.plain_frames.clear();
        self.jobs.clear();
        self.members.clear();
        self.texts.clear();
        self.epoch += 1;
        self.tables.clear();
        self.rev = 0;
        for (id, number) in std::mem::take(&mut self.table) {
            self.table.insert(id.clone(), number);
            self.event("reconnect", &id);
        }
    }

    fn receive_plain(&mut self, order: &Order) {
        match order.action.as_str() {
            "addServer" => {
                let (id, number) = read(order.server.as_ref().unwrap());
                self.plain_view.insert(id, number);
            }
            "removeServer" => drop(self.plain_view.remove(order.id.as_ref().unwrap())),
            "replaceServer" => {
                self.plain_view = view(order.servers.as_ref().unwrap());
            }
            "startOver" => self.plain_overs += 1,
            ANSWER => {
                self.plain_view = view(order.servers.as_ref().unwrap());
                self.jobs.push_back(Job::Notify(PLAIN, Request::new("record", PLAIN.into())));
            }
            other => panic!("{other} is not known to a server of pomelo 2.x"),
        }
    }
}

/// The world, and the signal that the turn has changed.
struct Stage {
    world: Mutex<World>,
    moved: Condvar,
}

impl Stage {
    /// Runs the master's next job. It runs whole, because the master's handlers do not wait.
    fn work(&self) {
        let Some(job) = self.world().jobs.pop_front() else {
            return;
        };
        let host = Master(self);
        match job {
            Job::Batch(batch) => master::changed(&host, batch).unwrap(),
            Job::Ask(PLAIN_ASKS, request) => {
                let Ok(Answer::Plain(servers)) = master::handle(&host, PLAIN, &request) else {
                    return;
                };
                // The answer is a frame as well. It is modelled as an order.
                let servers = Some(to_raw_value(&servers).unwrap());
                self.world().plain_frames.push_back(Order { servers, ..Order::new(ANSWER) });
            }
            Job::Ask(asker, request) => {
                let answer = master::handle(&host, OURS, &request).map(|answer| match answer {
                    Answer::Known(known) => known,
                    answer => panic!("{answer:?}"),
                });
                self.world().frames.push_back(Frame::Answer(asker, answer));
            }
            Job::Notify(caller, request) => drop(master::handle(&host, caller, &request).unwrap()),
        }
    }

    fn deliver(&self) {
        let mut world = self.world();
        match world.frames.pop_front() {
            Some(Frame::Order(order)) => world.orders.push_back(order),
            Some(Frame::Answer(asker, answer)) => world.answers[asker] = Some(answer),
            None => {}
        }
    }

    fn deliver_plain(&self) {
        let mut world = self.world();
        if let Some(order) = world.plain_frames.pop_front() {
            world.receive_plain(&order);
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Lets a thread go on to its next call, if it can.
    fn step(&self, thread: usize) -> bool {
        let world = self.world();
        let can = match world.states[thread] {
            Some(ThreadState::Ready) => true,
            Some(ThreadState::Waits) => world.answers[thread].is_some(),
            Some(ThreadState::Idle) if thread == 1 => !world.orders.is_empty(),
            Some(ThreadState::Idle) => world.table.contains_key(OURS),
            _ => false,
        };
        if can {
            self.let_go(world, thread);
        }
        can
    }

    fn let_go(&self, mut world: MutexGuard<'_, World>, thread: usize) {
        world.turn = Some(thread);
        self.moved.notify_all();
        drop(self.moved.wait_while(world, |world| world.turn.is_some()).unwrap());
    }

    /// Called by a thread: stops until the scheduler lets it go on.
    fn pause(&self, thread: usize, state: ThreadState) -> MutexGuard<'_, World> {
        let mut world = self.world();
        world.states[thread] = Some(state);
        if world.turn == Some(thread) {
            world.turn = None;
            self.moved.notify_all();
        }
        self.moved.wait_while(world, |world| world.turn != Some(thread) && !world.over).unwrap()
    }

    /// Runs everything that is under way to its end.
    fn settle(&self) {
        loop {
            self.work();
            self.deliver();
            self.deliver_plain();
            let moved = self.step(0) | self.step(1);
            let world = self.world();
            if !moved && world.jobs.is_empty() && world.frames.is_empty() && world.plain_frames.is_empty() {
                return;
            }
        }
    }
}

struct Master<'a>(&'a Stage);

impl master::Host for Master<'_> {
    fn id(&self) -> String {
        "master".to_owned()
    }

    fn table(&self, from: u64) -> Result<Rc<Table>> {
        let mut world = self.0.world();
        world.reads += 1;
        let now = (world.rev, world.table.clone());
        let mut kept = world.tables.range(from.min(world.rev)..).map(|(rev, table)| (*rev, table.clone()));
        // Any of them, in an order that depends on nothing but what has happened.
        let (rev, table) = kept.clone().cycle().nth(world.reads * 31 % kept.by_ref().count().max(1)).unwrap_or(now);
        let servers: BTreeMap<String, Info> =
            table.iter().map(|(id, number)| (id.clone(), info(id, *number))).collect();
        let table = json!({ "rev": rev, "epoch": world.epoch.to_string(), "servers": servers });
        Ok(Rc::new(serde_json::from_str(&table.to_string())?))
    }

    fn few(&self) -> usize {
        2
    }

    fn short(&self, _: &Table) -> usize {
        usize::MAX
    }

    fn rev(&self) -> Result<u64> {
        Ok(self.0.world().rev)
    }

    fn server(&self, id: &str) -> Result<Option<Info>> {
        Ok(self.0.world().table.get(id).map(|number| info(id, *number)))
    }

    fn configured(&self) -> Result<Vec<String>> {
        Ok(vec![OURS.into()])
    }

    fn tell(&self, ids: &[&str], order: &Order) -> Result {
        let text = serde_json::to_string(order)?;
        let mut world = self.0.world();
        for id in ids {
            let order = serde_json::from_str(&text)?;
            match *id {
                OURS if world.is_connected() => world.frames.push_back(Frame::Order(order)),
                PLAIN => world.plain_frames.push_back(order),
                _ => {}
            }
        }
        Ok(())
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.0.world().changes)
    }

    fn members(&self, _prefix: &str) -> Result<Vec<(String, master::Member)>> {
        Ok(self.0.world().members.clone().into_iter().collect())
    }

    fn member(&self, key: &str) -> Result<Option<master::Member>> {
        Ok(self.0.world().members.get(key).cloned())
    }

    fn set_member(&self, key: &str, member: &master::Member) -> Result {
        let mut world = self.0.world();
        let mut members = world.members.clone();
        members.insert(key.into(), member.clone());
        if stored(&members) > world.store_limit {
            return Err(Failure::new("store-full", "The module's store is full."));
        }
        world.members = members;
        Ok(())
    }

    fn delete(&self, key: &str) {
        self.0.world().members.remove(key);
    }

    fn text(&self, key: &str) -> Option<String> {
        self.0.world().texts.get(key).cloned()
    }

    fn set_text(&self, key: &str, text: &str) -> Result {
        self.0.world().texts.insert(key.into(), text.into());
        Ok(())
    }

    fn history<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        let mut world = self.0.world();
        // What an instance keeps is lost with it.
        if world.reads.is_multiple_of(7) {
            world.history = History::default();
        }
        look(&mut world.history)
    }
}

/// The monitor's host, as its thread of this number sees it.
struct Monitor<'a>(&'a Stage, usize);

impl Monitor<'_> {
    fn call(&self) -> MutexGuard<'_, World> {
        self.0.pause(self.1, ThreadState::Ready)
    }
}

impl monitor::Host for Monitor<'_> {
    fn ask(&self, request: &Request) -> Result<Known> {
        let mut world = self.call();
        if !world.is_connected() {
            return Err(disconnected());
        }
        let text = serde_json::to_string(request)?;
        world.jobs.push_back(Job::Ask(self.1, serde_json::from_str(&text)?));
        drop(world);
        let mut world = self.0.pause(self.1, ThreadState::Waits);
        world.answers[self.1].take().unwrap_or_else(|| Err(disconnected()))
    }

    fn notify(&self, request: &Request) -> Result {
        let text = serde_json::to_string(request)?;
        self.call().jobs.push_back(Job::Notify(OURS, serde_json::from_str(&text)?));
        Ok(())
    }

    fn id(&self) -> String {
        OURS.into()
    }

    fn add(&self, servers: &[Info]) -> Result {
        self.call().view.extend(servers.iter().map(read));
        Ok(())
    }

    fn remove(&self, ids: &[String]) -> Result {
        self.call().view.retain(|id, _| !ids.contains(id));
        Ok(())
    }

    fn replace(&self, servers: &Infos) -> Result {
        self.call().view = view(servers);
        Ok(())
    }

    fn start_over(&self) -> Result {
        self.call().overs += 1;
        Ok(())
    }

    fn read(&self, key: &str) -> Option<String> {
        self.call().store.get(key).cloned()
    }

    fn swap(&self, key: &str, expected: Option<&str>, new: Option<&str>) -> Result<bool> {
        let mut world = self.call();
        let is = world.store.get(key).map(String::as_str) == expected;
        if is {
            set(&mut world.store, key, new);
        }
        Ok(is)
    }

    fn write(&self, key: &str, text: Option<&str>) -> Result {
        set(&mut self.call().store, key, text);
        Ok(())
    }
}

fn set(store: &mut BTreeMap<String, String>, key: &str, text: Option<&str>) {
    match text {
        Some(text) => drop(store.insert(key.into(), text.into())),
        None => drop(store.remove(key)),
    }
}

/// The thread of `start`, which is tried again until it succeeds.
fn starter(stage: &Stage) {
    while !stage.pause(0, ThreadState::Idle).over {
        if monitor::start(&Monitor(stage, 0)).is_ok() {
            stage.world().has_started = true;
            drop(stage.pause(0, ThreadState::Ended));
            return;
        }
    }
}

/// The thread of the monitor's lane. An order that is `check` stands for the timer.
fn lane(stage: &Stage) {
    loop {
        let mut world = stage.pause(1, ThreadState::Idle);
        if world.over {
            return;
        }
        let Some(order) = world.orders.pop_front() else {
            continue;
        };
        drop(world);
        let host = Monitor(stage, 1);
        let _ = if order.action == "check" { monitor::check(&host) } else { monitor::obey(&host, order) };
    }
}

/// Lets all that come to pass, and whatever is under way then. Thereafter our server leaves the table, and `later` happens to the others.
fn play(choices: &[u8], later: &[u8]) -> World {
    let stage = Stage { world: Mutex::new(World::new()), moved: Condvar::new() };
    std::thread::scope(|scope| {
        scope.spawn(|| starter(&stage));
        scope.spawn(|| lane(&stage));
        // Both stop at their first pause.
        stage.let_go(stage.world(), 0);
        stage.let_go(stage.world(), 1);
        for choice in choices {
            match choice % 8 {
                0 => stage.work(),
                1 => stage.deliver(),
                2 => stage.deliver_plain(),
                3 | 4 => drop(stage.step(0)),
                5 | 6 => drop(stage.step(1)),
                _ => stage.world().change(choice / 8),
            }
        }
        if !stage.world().table.contains_key(OURS) {
            stage.world().join(OURS, "reconnect");
        }
        stage.settle();
        stage.world().orders.push_back(Order::new("check"));
        stage.settle();
        if !later.is_empty() {
            stage.world().withdraw();
            later.iter().for_each(|choice| stage.world().change(choice % 11));
            // Without the timer.
            stage.settle();
        }
        let mut world = stage.world();
        world.over = true;
        stage.moved.notify_all();
    });
    stage.world.into_inner().unwrap()
}

proptest! {
    #[test]
    fn every_view_equals_the_table_soon_after_the_last_change(choices in prop::collection::vec(any::<u8>(), 0..250)) {
        let world = play(&choices, &[]);
        prop_assert!(world.has_started);
        prop_assert_eq!(&world.view, &world.table, "the view of our monitor");
        let mut others = world.table.clone();
        others.remove("master");
        prop_assert_eq!(&world.plain_view, &others, "the view of pomelo's server");
        prop_assert_eq!(world.overs, 1);
        prop_assert!(world.plain_overs == 1 || world.plain_has_lost, "pomelo's server was told {} times", world.plain_overs);
    }

    #[test]
    fn the_view_of_a_server_that_is_not_in_the_table_is_kept_up_to_date(
        choices in prop::collection::vec(any::<u8>(), 0..100),
        later in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let world = play(&choices, &later);
        prop_assert!(!world.table.contains_key(OURS));
        prop_assert_eq!(&world.view, &world.table);
    }
}
