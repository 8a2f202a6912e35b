//! Programs that are run, watched, ended whole, and brought back.
//!
//! The monitor uses this for its application server, the master's starter for its monitors. A program runs in a process group of its own,
//! and whatever it started ends with it: when it exits, when it is stopped, and when this host dies without a word (see [`Guard`]).
//! This part knows processes, and neither servers, messages nor what a program is for.

mod affinity;
mod contact;
mod ending;
mod figures;
mod group;
mod guard;
mod leftovers;
mod machine;
mod output;
mod recorder;
mod ring;
mod supervisor;
mod task;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub use contact::Contact;
pub use figures::Figures;
pub use guard::Guard;
pub use leftovers::kill_leftovers;
pub use machine::{system, usage};
pub use output::{Line, LineSink, Output, print_lines};
pub use recorder::recorder;
pub use ring::{KEPT_LINES, LinePage, Ring};
pub use supervisor::Supervisor;

/// Whether a program that ended by itself is brought back. One that was stopped on purpose never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// However it ended.
    Always,
    /// Unless it ended with code 0.
    OnFailure,
    /// Not at all.
    Never,
}

/// When and how a program is brought back, and how it is ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Whether it is brought back.
    pub restart: Restart,
    /// The wait before the first restart; it doubles with every further one. Half of a wait is random, so that a fleet does not come back
    /// at once.
    pub backoff_min: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
    /// A program that ran this long begins with the shortest wait again.
    pub healthy_after: Duration,
    /// A program that has run this long counts as started.
    pub ready_delay: Duration,
    /// A program that was asked to end and has not by then is killed with its group.
    pub stop_deadline: Duration,
}

/// What is run.
#[derive(Clone)]
pub struct Spec {
    /// What it is called in logs and in front of its lines.
    pub id: String,
    /// The program and its arguments. A program whose name has a `/` and is relative is looked for in `cwd`.
    pub command: Vec<String>,
    /// Where it runs; absent: where this host runs.
    pub cwd: Option<PathBuf>,
    /// What is added to the environment that it inherits.
    pub env: BTreeMap<String, String>,
    /// What is taken away from that environment.
    pub env_remove: Vec<String>,
    /// When it is brought back.
    pub policy: Policy,
    /// A code by which it says itself that it must not be brought back, whatever the policy.
    pub final_code: Option<i32>,
    /// Where its output goes.
    pub output: Output,
    /// What it reads.
    pub input: Input,
    /// The CPUs that it and what it starts run on, by number; empty for all that this host may use.
    pub cpus: Vec<usize>,
    /// Variables, each `NAME=value`, by which processes are known that an earlier run left behind: those that have all of them are killed before
    /// each start. Empty: none are.
    pub leftovers: Vec<String>,
}

/// What a program finds on its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing.
    Empty,
    /// Nothing, and its end only when the program is asked to end, instead of a signal: for one that stands for a program elsewhere, which no
    /// signal reaches.
    Open,
}

/// How a supervised program is now. A reader that comes late sees the latest state, not every state there was: whoever must not miss a
/// restart compares process ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// How often it was started again.
    pub restarts: u64,
    /// How it last ended, if it has.
    pub last_exit: Option<Exit>,
    /// When the process that runs was started.
    pub since: Option<Instant>,
}

/// What a supervised program is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is being started, or has not run for [`Policy::ready_delay`] yet. No process id: there is no process yet.
    Starting(Option<u32>),
    /// It runs, as that process.
    Running(u32),
    /// It has ended and is started again after a wait of that length.
    BackingOff(Duration),
    /// It has ended and stays so.
    Exited(DownReason),
}

/// Why a program stays down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// It was stopped or killed on purpose.
    Stopped,
    /// It ended by itself, and its policy does not bring it back.
    GivenUp,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The manner.
    pub how: How,
    /// When.
    pub time: SystemTime,
    /// The last lines of its standard error, at most 10 and cut to 512 bytes each; empty where output is inherited.
    pub last_lines: Vec<String>,
}

/// Something that happened to a program, told as it happens: [`Status`] may skip some of it.
#[derive(Debug)]
pub enum Happened<'a> {
    /// It was started.
    Started {
        /// The new process.
        pid: u32,
        /// Whether it had run before.
        again: bool,
    },
    /// It has ended, or could not be started.
    Ended {
        /// How.
        exit: &'a Exit,
        /// Whether it was asked to end, or killed, on purpose.
        asked: bool,
        /// Whether it is started again.
        back: bool,
    },
}

/// Is told what happens to a program; must not block.
pub type Watcher = Arc<dyn Fn(&Happened<'_>) + Send + Sync>;

/// The manner in which a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// With that code.
    Code(i32),
    /// By that signal.
    Signal(i32),
    /// It could not be started, and why.
    NotStarted(String),
}

impl Exit {
    /// An end that was noticed just now.
    fn now(how: How, last_lines: Vec<String>) -> Self {
        Exit { how, time: SystemTime::now(), last_lines }
    }
}

impl Status {
    /// The id of the process, where there is one.
    pub fn pid(&self) -> Option<u32> {
        match self.phase {
            Phase::Starting(pid) => pid,
            Phase::Running(pid) => Some(pid),
            Phase::BackingOff(_) | Phase::Exited(_) => None,
        }
    }
}

impl Phase {
    /// The word for `process.stats`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Phase::Starting(_) => "starting",
            Phase::Running(_) => "running",
            Phase::BackingOff(_) => "backing-off",
            Phase::Exited(_) => "exited",
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Code(code) => write!(f, "ended with code {code}"),
            How::Signal(signal) => write!(f, "was ended by signal {signal}"),
            How::NotStarted(why) => f.write_str(why),
        }
    }
}

impl fmt::Debug for Spec {
    /// Shows neither arguments nor environment: they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec").field("id", &self.id).field("program", &self.command.first()).finish_non_exhaustive()
    }
}
