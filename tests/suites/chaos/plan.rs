//! What happens in a run: a pure function of the seed and of how long it takes.
//!
//! The plan knows the names of servers and nothing else. At most one thing is wrong with a server at a time, and a server that is stopped by level 1 has
//! nothing wrong, because how long `stop` takes must say nothing of a program that cannot end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::random::Random;

/// Servers that the master's starter runs.
pub const NEAR: [&str; 12] = [
    "chat-1", "chat-2", "chat-3", "chat-4", "chat-5", "chat-6", "chat-7", "chat-8", "gate-1", "gate-2", "gate-3",
    "gate-4",
];
/// Servers whose monitors reach the master by Socket.IO through a [`proxy`](crate::proxy).
pub const FAR: [&str; 5] = ["far-1", "far-2", "far-3", "far-4", "far-5"];
/// The same on pomelo-admin's wire.
pub const OLD: [&str; 3] = ["old-1", "old-2", "old-3"];

/// The twenty servers.
pub fn servers() -> impl Iterator<Item = &'static str> {
    NEAR.into_iter().chain(FAR).chain(OLD)
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// A server's program is killed.
    KillProgram(&'static str),
    /// A server's monitor is killed.
    KillMonitor(&'static str),
    /// A server's program stands still for so long.
    FreezeProgram(&'static str, Duration),
    /// A server's monitor stands still for so long.
    FreezeMonitor(&'static str, Duration),
    /// Something is wrong for so long with a monitor's connection to the master.
    Link(&'static str, Link, Duration),
    /// The master's data directory is full for so long.
    FullDisk(Duration),
    /// The clock of master and monitors jumps by so many seconds.
    Clock(i64),
    /// A module's file is replaced or removed.
    Module(File, Content),
    /// Peers do what they must not.
    Hostile(Role),
    /// Level 1 stops a server and starts it again.
    Stop(&'static str),
}

/// What is wrong with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It is closed, and none is taken meanwhile.
    Cut,
    /// All that is sent comes 300 ms later.
    Slow,
    /// So many bytes a second.
    Narrow(usize),
    /// Nothing is carried any more. Nobody is told.
    Silent,
    /// The master is told that nothing more comes, and the other direction stays.
    HalfClosed,
}

/// The modules of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// The module whose calls must not fail: its file is replaced by good ones, and by such as are refused.
    Echo,
    /// A module that comes, goes and traps.
    Ecko,
}

/// What is in a module's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The first version.
    First,
    /// The second.
    Second,
    /// The first half of a component.
    Half,
    /// Text.
    Foreign,
    /// A component whose `start` fails.
    BadStart,
    /// A component whose handlers trap.
    Traps,
    /// There is no file.
    Gone,
}

/// Who is hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Somebody who has not registered.
    Stranger,
    /// A user of level 2.
    User,
    /// Somebody who may register monitors.
    Monitor,
}

/// An action and when it begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Since the beginning.
    pub at: Duration,
    pub action: Action,
}

/// The time between two actions, milliseconds.
const PACE: (u64, u64) = (250, 950);
/// For how long something is wrong, milliseconds.
const WRONG: (u64, u64) = (300, 3000);
/// For how long a server is left alone after an action, so that it is itself again, milliseconds.
const RECOVERS: u64 = 6000;

/// The steps of a run.
pub fn steps(seed: u64, length: Duration) -> Vec<Step> {
    let mut random = Random(seed);
    let (mut steps, mut deck, mut busy) = (Vec::new(), Vec::new(), Busy::default());
    let mut at = 0;
    loop {
        at += random.between(PACE);
        let begins = Duration::from_millis(at);
        if begins >= length {
            return steps;
        }
        // Every kind of action has its turn before any has its second.
        if deck.is_empty() {
            deck = (0..KINDS).collect();
        }
        let kind = deck.swap_remove(random.below(deck.len()));
        if let Some(action) = action(kind, at, &mut random, &mut busy) {
            steps.push(Step { at: begins, action });
        }
    }
}

const KINDS: usize = 24;

/// An action of that kind; none where nobody is free for it.
fn action(kind: usize, at: u64, random: &mut Random, busy: &mut Busy) -> Option<Action> {
    let wrong = Duration::from_millis(random.between(WRONG));
    let disk_is_full = at < busy.disk_until;
    let mut one = |of: &[&'static str], random: &mut Random| busy.take(of, at, wrong, random);
    let everybody: Vec<_> = servers().collect();
    let distant: Vec<_> = FAR.into_iter().chain(OLD).collect();
    Some(match kind {
        0 | 1 => Action::KillProgram(one(&everybody, random)?),
        2 | 3 => Action::KillMonitor(one(&everybody, random)?),
        4 => Action::FreezeProgram(one(&everybody, random)?, wrong),
        5 | 6 => Action::FreezeMonitor(one(&everybody, random)?, wrong),
        7..=11 => {
            let links = [
                Link::Cut,
                Link::Slow,
                Link::Narrow(random.between((500, 20_000)) as usize),
                Link::Silent,
                Link::HalfClosed,
            ];
            Action::Link(one(&distant, random)?, links[kind - 7], wrong)
        }
        12 => {
            // Orders must not fail, and the disk is needed for them.
            busy.disk_until = at + millis(wrong) + RECOVERS;
            Action::FullDisk(wrong)
        }
        13 => Action::Clock([3600, -3600, 86_400, -90, 1][random.below(5)]),
        14..=16 => {
            let contents = [Content::First, Content::Second, Content::Half, Content::Foreign, Content::BadStart];
            Action::Module(File::Echo, contents[random.below(contents.len())])
        }
        17 => Action::Module(File::Ecko, Content::Traps),
        18 => {
            let contents = [Content::First, Content::Second, Content::Half, Content::Gone];
            Action::Module(File::Ecko, contents[random.below(contents.len())])
        }
        19 => Action::Hostile(Role::Stranger),
        20 => Action::Hostile(Role::User),
        21 => Action::Hostile(Role::Monitor),
        _ if disk_is_full => return None,
        _ => {
            // Others leave for good when they are stopped, because no starter knows them.
            Action::Stop(one(&NEAR, random)?)
        }
    })
}

/// Which servers have something wrong, and until when, milliseconds.
#[derive(Default)]
struct Busy {
    servers: BTreeMap<&'static str, u64>,
    disk_until: u64,
}

impl Busy {
    /// One of these servers that is free.
    fn take(&mut self, of: &[&'static str], at: u64, wrong: Duration, random: &mut Random) -> Option<&'static str> {
        let free: Vec<_> = of.iter().filter(|id| self.servers.get(*id).is_none_or(|until| *until <= at)).collect();
        let id = **free.get(random.below(free.len().max(1)))?;
        self.servers.insert(id, at + millis(wrong) + RECOVERS);
        Some(id)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:7.2} s  ", self.at.as_secs_f64())?;
        match self.action {
            Action::KillProgram(id) => write!(f, "kill the program of {id}"),
            Action::KillMonitor(id) => write!(f, "kill the monitor of {id}"),
            Action::FreezeProgram(id, time) => write!(f, "stop the program of {id} for {time:?} (SIGSTOP)"),
            Action::FreezeMonitor(id, time) => write!(f, "stop the monitor of {id} for {time:?} (SIGSTOP)"),
            Action::Link(id, link, time) => write!(f, "the connection of {id}: {link:?} for {time:?}"),
            Action::FullDisk(time) => write!(f, "the master's disk is full for {time:?}"),
            Action::Clock(seconds) => write!(f, "the clock jumps by {seconds} s"),
            Action::Module(file, content) => write!(f, "module {file:?}: {content:?}"),
            Action::Hostile(role) => write!(f, "hostile: {role:?}"),
            Action::Stop(id) => write!(f, "level 1 stops {id} and starts it again"),
        }
    }
}

#[test]
fn a_plan_depends_on_its_seed_alone_and_has_every_kind_of_action() {
    let length = Duration::from_secs(60);
    let plan = steps(1, length);
    assert_eq!(plan, steps(1, length));
    assert_ne!(plan, steps(2, length));
    // A longer run begins as a shorter one.
    assert_eq!(plan, steps(1, 2 * length)[..plan.len()]);
    let kinds: std::collections::BTreeSet<String> = plan
        .iter()
        .map(|step| format!("{:?}", step.action).chars().take_while(|letter| letter.is_alphabetic()).collect())
        .collect();
    assert_eq!(kinds.len(), 10, "{kinds:?}");
}
