//! Supervision of programs: they are started, watched, ended, and started again when they fail.
//!
//! The monitor supervises its application server, and the master's starter its monitors. A program runs in a process group of its own. The group is
//! killed when the program exits, when it is stopped, and when this host is killed (see [`Guard`]). This part knows processes. It knows no servers,
//! no messages, and not what a program is for.

mod affinity;
mod contact;
mod ending;
mod figures;
mod group;
mod guard;
pub mod kept_output;
mod leftovers;
mod machine;
mod output;
mod recorder;
mod ring;
mod starts;
mod supervisor;
mod task;
mod waiting;

#[cfg(test)]
mod guard_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub use affinity::has_cpu;
pub use contact::Contact;
pub use figures::{Figures, resident_of_group};
pub use group::SERVICE_MANAGER;
pub use guard::Guard;
pub use leftovers::kill_leftovers;
pub use machine::{system, usage};
pub use output::{Line, LineSink, Output, print_lines};
pub use recorder::recorder;
pub use ring::{KEPT_LINES, KeptLine, LinePage, Ring};
pub use starts::{Starts, TURN};
pub use supervisor::Supervisor;

/// Whether a program that ended by itself is started again. A program that was stopped on purpose never is.
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
    /// Whether it is started again.
    pub restart: Restart,
    /// The wait before the first restart. It doubles with each further one. Half of each wait is random, so that a few servers that failed together
    /// do not start together. Many are spread by [`Starts`].
    pub backoff_min: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
    /// After a run of this length, the next wait is the shortest again.
    pub healthy_after: Duration,
    /// A program that has run this long counts as started.
    pub ready_delay: Duration,
    /// A program that has not ended this long after it was asked to is killed with its group.
    pub stop_deadline: Duration,
}

/// What is run.
#[derive(Clone)]
pub struct Spec {
    /// The program's name in logs and in front of its lines.
    pub id: String,
    /// The program and its arguments. A program whose name has a `/` and is relative is looked for in `cwd`.
    pub command: Vec<String>,
    /// The directory in which it runs; by default this host's.
    pub cwd: Option<PathBuf>,
    /// What is added to the environment that it inherits.
    pub env: BTreeMap<String, String>,
    /// Variables that it does not inherit.
    pub env_remove: Vec<String>,
    /// When it is started again, and how it is ended.
    pub policy: Policy,
    /// The exit codes by which the program says that it must not be started again, whatever the policy.
    pub final_codes: Vec<i32>,
    /// Where its output goes.
    pub output: Output,
    /// What it reads.
    pub input: Input,
    /// The CPUs that it and what it starts run on, by number; empty for all that this host may use.
    pub cpus: Vec<usize>,
    /// Variables, each `NAME=value`, by which processes that an earlier run left behind are recognised. Processes that have all of them are killed
    /// before each start. If empty, none is killed.
    pub leftovers: Vec<String>,
    /// The turns that it is started by, shared with the other programs of this host or this machine.
    pub starts: Starts,
}

/// What a program finds on its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing.
    Empty,
    /// An empty pipe, which is closed to ask the program to end. No signal is sent, because the program is an `ssh`, and no signal reaches the
    /// program behind it on the other machine.
    Open,
}

/// How a supervised program is now. A late reader sees only the latest state. Compare process ids if no restart may be missed.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// How many times it was started again.
    pub restarts: u64,
    /// How it last ended, if it has.
    pub last_exit: Option<Exit>,
    /// When the process that runs was started.
    pub since: Option<Instant>,
}

/// What a supervised program is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is being started, or is not ready yet. The process id is absent until there is a process.
    Starting(Option<u32>),
    /// It runs, as that process.
    Running(u32),
    /// It was asked to end, or is being killed, as that process.
    Stopping(u32),
    /// It has ended, and is started again after a wait of that length.
    BackingOff(Duration),
    /// It is to be started, and waits so long for its turn, because many others are started ([`Starts`]).
    Waiting(Duration),
    /// It has ended and is not started again.
    Exited(DownReason),
}

/// Why a program stays down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// It was stopped or killed on purpose.
    Stopped,
    /// It ended by itself, and its policy does not start it again.
    GivenUp,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The manner.
    pub how: How,
    /// Why the supervisor ended it, if it did so because the program failed: `nobody listened on 127.0.0.1:4050 for 60 s`, or what its health was.
    pub why: Option<String>,
    /// When.
    pub time: SystemTime,
    /// The last lines of its standard error, at most 10 and cut to 512 bytes each; empty where output is inherited.
    pub last_lines: Vec<String>,
}

/// Something that happened to a program. A watcher is told of each; a reader of [`Status`] may miss some.
#[derive(Debug)]
pub enum Happened<'a> {
    /// It is to be started, and its turn has not come.
    Waits,
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

/// Called with everything that happens to a program. It must not block.
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
        Exit { how, why: None, time: SystemTime::now(), last_lines }
    }
}

impl Status {
    /// The id of the process, if there is one.
    pub fn pid(&self) -> Option<u32> {
        match self.phase {
            Phase::Starting(pid) => pid,
            Phase::Running(pid) | Phase::Stopping(pid) => Some(pid),
            Phase::BackingOff(_) | Phase::Waiting(_) | Phase::Exited(_) => None,
        }
    }

    /// The word for `process.stats`.
    pub fn as_str(&self) -> &'static str {
        match self.phase {
            Phase::Running(_) => "running",
            Phase::Stopping(_) => "stopping",
            Phase::BackingOff(_) => "backing-off",
            Phase::Waiting(_) if self.last_exit.is_some() => "backing-off",
            Phase::Starting(_) | Phase::Waiting(_) => "starting",
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
    /// Shows neither arguments nor environment, because they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec").field("id", &self.id).field("program", &self.command.first()).finish_non_exhaustive()
    }
}
