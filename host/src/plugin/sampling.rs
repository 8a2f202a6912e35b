//! The samples of a profile that is being made. They are taken of a guest while it runs.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use wasmtime::{AsContext, GuestProfiler};

/// Time between two samples while a profile is made.
pub(super) const INTERVAL: Duration = Duration::from_millis(1);
/// Samples that a profile has at most: those of several calls that run at once for a minute. Later samples are left out.
const MAX_SAMPLES: usize = 100_000;

/// Whether the calls of a version of a module are being profiled, and into which recording. All instances of the version share it.
#[derive(Default)]
pub(super) struct SamplingSwitch(Mutex<Option<Arc<Recording>>>);

/// A profile that is being made. It ends when its profiler is taken out.
pub(super) struct Recording(Mutex<Option<Samples>>);

struct Samples {
    profiler: GuestProfiler,
    taken: usize,
}

impl SamplingSwitch {
    /// Takes a sample of the guest that runs in a store, where a profile is being made. To be called while the guest is on the stack.
    pub fn sample(&self, store: impl AsContext) {
        let recording = self.0.lock().clone();
        let Some(recording) = recording else { return };
        if let Some(samples) = recording.0.lock().as_mut().filter(|samples| samples.taken < MAX_SAMPLES) {
            samples.profiler.sample(store, INTERVAL);
            samples.taken += 1;
        }
    }

    /// Samples go into this recording from now on; whether no other profile is being made.
    pub fn turn_on(&self, recording: &Arc<Recording>) -> bool {
        let mut on = self.0.lock();
        let free = on.is_none();
        if free {
            *on = Some(recording.clone());
        }
        free
    }

    /// No samples are taken any more.
    pub fn turn_off(&self) {
        *self.0.lock() = None;
    }
}

impl Recording {
    pub fn new(profiler: GuestProfiler) -> Arc<Self> {
        Arc::new(Recording(Mutex::new(Some(Samples { profiler, taken: 0 }))))
    }

    /// Ends the recording. Absent where it was ended before.
    pub fn end(&self) -> Option<GuestProfiler> {
        self.0.lock().take().map(|samples| samples.profiler)
    }
}
