//! The wasmtime store that a guest runs in, with the limits of its module.

use std::sync::Arc;

use wasmtime::{Store, UpdateDeadline};

use super::instance_state::InstanceState;
use super::sampling::SamplingSwitch;
use super::{Engine, Limits};

/// A store with the limits of a module. Its guest is sampled while the switch is on.
pub(super) fn limited_store(engine: &Engine, limits: &Limits, sampling: &Arc<SamplingSwitch>) -> Store<InstanceState> {
    let mut store = Store::new(engine.wasmtime(), InstanceState::new(limits, engine.ticks()));
    store.limiter(|state| &mut state.memory);
    store.set_epoch_deadline(1);
    let sampling = sampling.clone();
    store.epoch_deadline_callback(move |context| {
        sampling.sample(&context);
        // A long computation yields to the executor at each tick, and is ended when it has used up its CPU time.
        if context.data().cpu.may_go_on() { Ok(UpdateDeadline::Yield(1)) } else { Ok(UpdateDeadline::Interrupt) }
    });
    store
}
