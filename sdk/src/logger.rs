//! Carries what a module writes with the macros of `log` to the host's log, and the message of a panic before it traps.
//!
//! A build that leaves the messages of panics out says so with `--cfg pomelo_silent_panics`, and nothing is needed for them.

use log::{LevelFilter, Log, Metadata, Record};

use crate::bindings::agent;

struct Logger;

static LOGGER: Logger = Logger;

/// Called before every callback. It costs a load, and the linker drops the logger from a module that logs nothing.
pub(crate) fn install() {
    if log::max_level() == LevelFilter::Off && log::set_logger(&LOGGER).is_ok() {
        // The host decides what it writes: which level that is can change while the module runs.
        log::set_max_level(LevelFilter::Trace);
        #[cfg(all(target_arch = "wasm32", not(pomelo_silent_panics)))]
        std::panic::set_hook(Box::new(|panic| agent::log("error", &panic.to_string())));
    }
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            log::Level::Error => "error",
            log::Level::Warn => "warn",
            log::Level::Info => "info",
            log::Level::Debug => "debug",
            log::Level::Trace => "trace",
        };
        match record.args().as_str() {
            Some(text) => agent::log(level, text),
            None => agent::log(level, &record.args().to_string()),
        }
    }

    fn flush(&self) {}
}
