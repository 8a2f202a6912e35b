//! Writes to the host's log: what a module logs with the macros of `log`, and the message of a panic before the instance traps.
//!
//! With `--cfg pomelo_silent_panics` the messages of panics are not logged. That is for builds of the standard library without these messages,
//! so that the module has no code for them.

use log::{LevelFilter, Log, Metadata, Record};

use crate::bindings::agent;

struct Logger;

static LOGGER: Logger = Logger;

/// Called before every callback. After the first call it costs one load. The linker drops the logger from a module that logs nothing.
pub(crate) fn install() {
    if log::max_level() == LevelFilter::Off && log::set_logger(&LOGGER).is_ok() {
        // Every level goes to the host, because the host decides what it writes, and may decide otherwise while the module runs.
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
