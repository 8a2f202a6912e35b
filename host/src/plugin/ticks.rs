//! The ticks of an engine's epoch: one every [`EngineLimits::TICK`] while guests run, and none while none does, because hundreds of idle hosts of one
//! machine would wake it thousands of times a second.
//!
//! Knows when guests run, and not what they may use.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use super::EngineLimits;

/// How often a thread that has nothing to do looks whether its engine is still there.
const LOOK: Duration = Duration::from_secs(60);

/// Says when guests run.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    /// Guests that run at this moment.
    running: AtomicUsize,
    /// Whether one has run since the last tick.
    ran: AtomicBool,
    /// Whether the thread waits until one runs.
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

/// A guest runs as long as this lives.
pub(super) struct Running<'a>(&'a Ticks);

impl Ticks {
    /// Begins to increment the epoch of an engine, on a thread of its own because a busy executor would delay a task.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn begin(engine: &wasmtime::Engine) -> std::io::Result<Arc<Self>> {
        let (ticks, engine) = (Arc::new(Ticks::default()), engine.weak());
        let of_thread = ticks.clone();
        let tick = move || {
            loop {
                // The engine is not held meanwhile, because its memory would be kept.
                of_thread.wait();
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        };
        let thread = thread::Builder::new().name("epochs".into()).spawn(tick)?;
        // Set once: this is the only thread of these ticks.
        let _ = ticks.thread.set(thread.thread().clone());
        Ok(ticks)
    }

    /// A guest begins to run.
    pub fn run(&self) -> Running<'_> {
        // The order of these two, and the opposite one in `wait`, makes sure that one of the two threads sees what the other has written.
        self.running.fetch_add(1, Ordering::SeqCst);
        self.ran.store(true, Ordering::Relaxed);
        if self.asleep.load(Ordering::SeqCst)
            && self.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        Running(self)
    }

    /// Waits for the time of a tick; if no guest has run since the last one, first until one runs.
    fn wait(&self) {
        if !self.ran.swap(false, Ordering::Relaxed) {
            self.asleep.store(true, Ordering::SeqCst);
            if self.running.load(Ordering::SeqCst) == 0 {
                thread::park_timeout(LOOK);
            }
            // Also where the time was over.
            self.asleep.store(false, Ordering::SeqCst);
        }
        thread::sleep(EngineLimits::TICK);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until that holds. The deadline only keeps a failing test from hanging.
    fn until(what: &str, holds: impl Fn() -> bool) {
        for _ in 0..6000 {
            if holds() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{what}: never");
    }

    #[test]
    fn an_idle_engine_does_not_tick_and_one_whose_guests_run_does() {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let engine = wasmtime::Engine::new(&config).unwrap();
        let ticks = Ticks::begin(&engine).unwrap();
        let asleep = || ticks.asleep.load(Ordering::SeqCst);
        let weak = engine.weak();
        for _ in 0..3 {
            until("it sleeps", asleep);
            let running = ticks.run();
            assert!(!asleep(), "whoever runs wakes it at once");
            // A guest that runs is interrupted at a tick. Here the store is the guest: its deadline passes.
            let mut store = wasmtime::Store::new(&engine, ());
            store.set_epoch_deadline(2);
            let endless = wat::parse_str("(module (func (export \"f\") (loop (br 0))))").unwrap();
            let module = wasmtime::Module::new(&engine, endless).unwrap();
            let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
            let endless = instance.get_typed_func::<(), ()>(&mut store, "f").unwrap();
            assert!(endless.call(&mut store, ()).is_err(), "it was interrupted");
            drop(running);
        }
        until("it sleeps", asleep);
        drop(engine);
        assert!(weak.upgrade().is_none(), "nothing is kept for an engine that is gone");
    }
}
