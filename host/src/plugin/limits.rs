//! Limits of what a module may use, with their defaults.

use std::time::Duration;

/// How deeply calls may be nested in one another: a client's call is at depth 0, a call that the host makes for it at 1, and so on.
///
/// Every depth has permits of its own. A call therefore waits only for calls that are nested deeper than itself, and the deepest for none.
pub const MAX_DEPTH: u8 = 4;

/// What one module may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// CPU time of one call; waiting for others does not count. Default 1 s. Measured in ticks of [`EngineLimits::TICK`].
    pub cpu: Duration,
    /// Time from the arrival of a call to its answer, with all waiting. Default 10 s.
    pub wall: Duration,
    /// Memory of one instance, bytes. Default 16 MiB, at most [`EngineLimits::max_memory`].
    pub memory: usize,
    /// Calls that run at the same time. Calls that wait for others are not counted. As many instances are kept warm. Default 16.
    pub running: usize,
    /// Calls under way at the same time that are not nested in others, whether they run or wait. Default 256, at most half of those of all
    /// modules.
    pub instances: usize,
    /// Calls under way at each greater depth of nesting. Default 16, at most half of those of all modules.
    pub reserve: usize,
    /// Calls that wait until they may begin. One more fails with `busy`. Default 1024.
    pub queue: usize,
    /// Keys and values of the module's store, bytes. Default 1 MiB.
    pub store: usize,
    /// An answer, and a message that a module sends, bytes. Default 1 MiB. Answers that a module gets to one request of several servers have together
    /// at most three quarters of it.
    pub answer: usize,
    /// How much of the CPU the module may use beside others that compute as well: twice the weight, twice the time. Default [`Limits::WEIGHT`], 1 to 10,000. The
    /// built-in modules have ten times as much where nothing else is configured.
    pub weight: u32,
    /// A message to the module, and the answer of one server to it, bytes. Default 1 MiB. What is larger is refused before it is copied, and whoever sent it
    /// has the failure.
    pub message: usize,
    /// What all instances of the module hold together, and all that the host holds for it, bytes. Default 64 MiB, and at least what one instance may have.
    /// Absent for the modules that the host carries: no other module keeps them from their work.
    pub module: Option<usize>,
}

impl Limits {
    /// Bytes that a guest may hand to its host in one call: as much as two of the largest texts that any function takes, and as much again as a list of
    /// names may need. wasmtime refuses more before it is copied.
    pub fn handed_over(&self) -> usize {
        self.answer.max(self.message).max(self.store).saturating_mul(2).saturating_add(64 << 10)
    }

    /// Bytes that may be held for the module in all: at least what one instance may have.
    pub fn sum(&self) -> Option<usize> {
        self.module.map(|module| module.max(self.memory.saturating_add(EngineLimits::INSTANCE)))
    }
}

impl Limits {
    /// The weight of a module for which nothing else is said.
    pub const WEIGHT: u32 = 100;
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            cpu: Duration::from_secs(1),
            wall: Duration::from_secs(10),
            memory: 16 << 20,
            running: 16,
            instances: 256,
            reserve: 16,
            queue: 1024,
            store: 1 << 20,
            answer: 1 << 20,
            weight: Limits::WEIGHT,
            message: 1 << 20,
            module: Some(64 << 20),
        }
    }
}

/// What it may cost to compile a file, and how much compiled code a host may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// CPU time for one file, counted in whole seconds. Default 60 s. As much as four times of it may pass on the clock.
    pub cpu: Duration,
    /// Memory of the compiler, bytes, counted in whole MiB. Default 1 GiB.
    pub memory: usize,
    /// Compiled code of all modules together, bytes. One file has at most half. Default 128 MiB.
    pub code: usize,
}

impl CompileLimits {
    /// Seconds of CPU time for one file, at least one.
    pub fn seconds(&self) -> u64 {
        self.cpu.as_secs().max(1)
    }

    /// MiB of memory, at least one.
    pub fn mib(&self) -> u64 {
        (self.memory as u64 >> 20).max(1)
    }

    /// How long the compiler of one file may take on the clock.
    pub fn wall(&self) -> Duration {
        Duration::from_secs(self.seconds().saturating_mul(4))
    }
}

impl Default for CompileLimits {
    fn default() -> Self {
        CompileLimits { cpu: Duration::from_secs(60), memory: 1 << 30, code: 128 << 20 }
    }
}

/// What all modules of a process may use together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// Calls under way in all modules. A quarter of them is reserved for nested calls. Default 1024, at least 16.
    pub total_instances: u32,
    /// The most memory that any module's limit may name, bytes. Default 64 MiB.
    pub max_memory: usize,
    /// What all modules may hold together that the host does not carry, bytes. Default 128 MiB. `modules_mib` in `[limits]`.
    pub modules: usize,
}

impl EngineLimits {
    /// The unit of CPU time: a running guest is looked at once a tick, and gives way to others when it has run for at least half of one.
    pub const TICK: Duration = Duration::from_millis(4);

    /// What an instance counts for beside its memories and tables, bytes: its stack, and what wasmtime keeps of it.
    pub const INSTANCE: usize = 64 << 10;
}

impl Default for EngineLimits {
    fn default() -> Self {
        EngineLimits { total_instances: 1024, max_memory: 64 << 20, modules: 128 << 20 }
    }
}
