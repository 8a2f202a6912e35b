//! Profiles of modules: where their calls spend their time, sampled while they run.
//!
//! wasmtime interrupts a running guest whenever an epoch has passed. Its use of CPU time is checked then, and where a profile is being made, its
//! stack is sampled. While no profile is made, this costs a look at a switch once in [`EngineLimits::TICK`], and nothing in calls that are
//! shorter. While a profile is made, the epochs of the engine pass every millisecond.
//!
//! A profile shows the guest's own work: neither the time that a call waits for its host nor the host's functions are in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use wasmtime::GuestProfiler;

#[cfg(doc)]
use super::EngineLimits;
use super::Module;
use super::sampling::{INTERVAL, Recording, SamplingSwitch};
use crate::failure::{Failure, code};

/// The versions of modules that are in force on a host of this process.
pub trait ModulesInForce: Send + Sync {
    /// The version in force of a module id.
    fn module(&self, id: &str) -> Option<Arc<Module>>;
}

/// Profiles the calls of a module for the time given, those that run already and those that come. `modules` are its versions in force, one for
/// each host of this process that has the module; versions of another file than the first are left out. The answer is JSON in the Firefox
/// Profiler's processed format, with all calls on one thread.
///
/// # Errors
/// `busy` where one of them is being profiled already.
pub async fn profile(name: &str, modules: Vec<Arc<Module>>, duration: Duration) -> Result<Box<RawValue>, Failure> {
    let failed =
        |why: &dyn std::fmt::Display| Failure::new(code::FAILED, format!("{name} could not be profiled: {why}"));
    let Some(first) = modules.first() else { return Err(failed(&"it is not loaded")) };
    let engine = first.engine().wasmtime().clone();
    let file = first.compiled().clone();
    // A profile is of one file's code.
    let modules: Vec<_> = modules.into_iter().filter(|module| Arc::ptr_eq(module.compiled(), &file)).collect();
    let profiler = GuestProfiler::new_component(&engine, name, INTERVAL, file.component.clone(), [])
        .map_err(|error| failed(&error))?;
    let recording = Recording::new(profiler);
    let on = On::new(name, &modules, &recording)?;
    let cancelled = CancellationToken::new();
    let _cancel = cancelled.clone().drop_guard();
    // A blocking thread, because a busy executor would delay a task.
    let record = move || -> wasmtime::Result<Vec<u8>> {
        let end = Instant::now() + duration;
        while Instant::now() < end && !cancelled.is_cancelled() {
            std::thread::sleep(INTERVAL);
            engine.increment_epoch();
        }
        drop(on);
        let mut profile = Vec::new();
        if let Some(profiler) = recording.end() {
            profiler.finish(&mut profile)?;
        }
        Ok(profile)
    };
    let profile = tokio::task::spawn_blocking(record).await.map_err(|error| failed(&error))?;
    let profile = String::from_utf8(profile.map_err(|error| failed(&error))?).map_err(|error| failed(&error))?;
    RawValue::from_string(profile).map_err(|error| failed(&error))
}

/// Keeps the switches of some modules on until it is dropped.
struct On(Vec<Arc<SamplingSwitch>>);

impl On {
    fn new(name: &str, modules: &[Arc<Module>], recording: &Arc<Recording>) -> Result<Self, Failure> {
        let mut on = On(Vec::new());
        for module in modules {
            if !module.sampling().turn_on(recording) {
                return Err(Failure::new(code::BUSY, format!("module {name} is being profiled already")));
            }
            on.0.push(module.sampling().clone());
        }
        Ok(on)
    }
}

impl Drop for On {
    fn drop(&mut self) {
        for switch in &self.0 {
            switch.turn_off();
        }
    }
}
