//! [`Scripts`] and [`Profiler`]: programs that are run once, and profiles.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use crate::bindings::{profiler, scripts};
use crate::failure::{Result, from_host};
use crate::json;

/// Programs that are run once: components, or their text form. Their `monitor-handler` is called with the arguments.
#[derive(Debug)]
pub struct Scripts {
    _private: (),
}

impl Scripts {
    pub(crate) const fn new() -> Self {
        Self { _private: () }
    }

    /// Names of the saved scripts.
    pub fn names(&self) -> Result<Vec<String>> {
        scripts::names().map_err(from_host)
    }

    /// A saved script as it was saved.
    pub fn get(&self, name: &str) -> Result<Vec<u8>> {
        scripts::get(name).map_err(from_host)
    }

    /// Saves a script. Fails with `bad-message` where the name is not a plain file name, or the content is not a script.
    pub fn save(&self, name: &str, content: &[u8]) -> Result {
        scripts::save(name, content).map_err(from_host)
    }

    /// Runs a saved script once.
    pub fn run<T: DeserializeOwned>(&self, name: &str, args: &(impl Serialize + ?Sized)) -> Result<T> {
        json::answer(scripts::run(name, &json::encode(args)?))
    }

    /// Runs a script that is not saved, once.
    pub fn run_content<T: DeserializeOwned>(&self, content: &[u8], args: &(impl Serialize + ?Sized)) -> Result<T> {
        json::answer(scripts::run_content(content, &json::encode(args)?))
    }
}

/// Profiles, in the Firefox Profiler's format.
#[derive(Debug)]
pub struct Profiler {
    _private: (),
}

impl Profiler {
    pub(crate) const fn new() -> Self {
        Self { _private: () }
    }

    /// Profiles the CPU use of the process that this host stands beside.
    pub fn cpu<T: DeserializeOwned>(&self, duration: Duration) -> Result<T> {
        json::answer(profiler::cpu(milliseconds(duration)))
    }

    /// Profiles the calls of a module of this host.
    pub fn guest<T: DeserializeOwned>(&self, module_id: &str, duration: Duration) -> Result<T> {
        json::answer(profiler::guest(module_id, milliseconds(duration)))
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
