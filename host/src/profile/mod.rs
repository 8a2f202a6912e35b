//! Profiles, for the interface `profiler`. The system's `perf` profiles the process that a host stands beside, and the runtime its modules. Both
//! profiles are JSON in the Firefox Profiler's processed format.
//!
//! | file | what is there |
//! |---|---|
//! | `perf` | runs `perf`, and says why it cannot |
//! | `convert` | from what `perf script` prints to the format |
//!
//! This part does not know what the process is or which modules there are. It is given both as traits.

mod convert;
mod perf;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use crate::failure::{Failure, code};
use crate::plugin::capability::{Process, Profiler};
use crate::plugin::{ModulesInForce, profile};

/// The longest time that is profiled.
pub const MAX_DURATION: Duration = Duration::from_secs(60);

/// What the interface `profiler` acts on. One profile is made at a time.
pub struct HostProfiler {
    process: Option<Arc<dyn Process>>,
    modules: Mutex<Vec<Arc<dyn ModulesInForce>>>,
    turn: Semaphore,
}

impl HostProfiler {
    /// A profiler of that process, without modules.
    pub fn new(process: Option<Arc<dyn Process>>) -> Self {
        HostProfiler { process, modules: Mutex::default(), turn: Semaphore::new(1) }
    }

    /// Adds the modules of a host of this process.
    pub fn add_modules(&self, modules: Arc<dyn ModulesInForce>) {
        self.modules.lock().push(modules);
    }

    /// Makes a profile, if no other is being made and the time is within bounds.
    async fn in_turn(
        &self,
        duration: Duration,
        profile: impl Future<Output = Result<Box<RawValue>, Failure>>,
    ) -> Result<Box<RawValue>, Failure> {
        check(duration)?;
        let Ok(_turn) = self.turn.try_acquire() else {
            return Err(Failure::new(
                code::BUSY,
                "another profile is being made on this server: ask again when it is done",
            ));
        };
        metrics::counter!("pomelo_profiles_total").increment(1);
        profile.await
    }

    fn pid(&self) -> Result<u32, Failure> {
        let unavailable = |why: &str| Failure::new(code::NOT_AVAILABLE, why);
        let process = self.process.as_ref().ok_or_else(|| unavailable("this host stands beside no process"))?;
        match process.stats()?.pid {
            0 => Err(unavailable("the server's process does not run: there is nothing to profile")),
            pid => Ok(pid),
        }
    }
}

/// Makes a CPU profile of a process, for the host itself. It takes no turn: whoever else profiles the process does not disturb it.
///
/// # Errors
/// `bad-message` where the time is out of bounds, `not-available` where `perf` is missing or not allowed, `failed` where it fails.
pub async fn process(pid: u32, duration: Duration) -> Result<Box<RawValue>, Failure> {
    check(duration)?;
    metrics::counter!("pomelo_profiles_total").increment(1);
    perf::profile("perf".as_ref(), pid, duration).await
}

fn check(duration: Duration) -> Result<(), Failure> {
    if duration.is_zero() || duration > MAX_DURATION {
        let message = format!("a profile takes from 1 ms to {} s, not {duration:?}", MAX_DURATION.as_secs());
        return Err(Failure::new(code::BAD_MESSAGE, message));
    }
    Ok(())
}

impl Profiler for HostProfiler {
    fn cpu(&self, duration: Duration) -> BoxFuture<'_, Result<Box<RawValue>, Failure>> {
        self.in_turn(duration, async move { perf::profile("perf".as_ref(), self.pid()?, duration).await }).boxed()
    }

    fn guest(&self, module: String, duration: Duration) -> BoxFuture<'_, Result<Box<RawValue>, Failure>> {
        let guest = async move {
            let hosts = self.modules.lock().clone();
            let found: Vec<_> = hosts.iter().filter_map(|host| host.module(&module)).collect();
            if found.is_empty() {
                return Err(Failure::new(code::UNKNOWN_MODULE, format!("unknown module {module}")));
            }
            profile(&module, found, duration).await
        };
        self.in_turn(duration, guest).boxed()
    }
}
