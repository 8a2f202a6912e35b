//! The wasmtime store that a guest runs in, with the limits of its module.

use std::sync::Arc;

use wasmtime::{Store, UpdateDeadline};

use super::instance_state::InstanceState;
use super::sampling::SamplingSwitch;
use super::{Engine, Limits};
use crate::budget::InstanceCharge;

/// Handles of resources that a guest may have. The host keeps something for each.
const HANDLES: usize = 1024;

/// A store with the limits of a module, whose memory is charged to `charge`. Its guest is sampled while the switch is on.
pub(super) fn limited_store(
    engine: &Engine,
    limits: &Limits,
    charge: InstanceCharge,
    sampling: &Arc<SamplingSwitch>,
) -> Store<InstanceState> {
    let mut store = Store::new(engine.wasmtime(), InstanceState::new(limits, charge, engine.ticks()));
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(limits.handed_over());
    store.set_max_component_handles(HANDLES);
    store.set_epoch_deadline(1);
    let sampling = sampling.clone();
    store.epoch_deadline_callback(move |context| {
        sampling.sample(&context);
        // A long computation yields to the executor at each tick, and is ended when it has used up its CPU time.
        if context.data().cpu.may_go_on() { Ok(UpdateDeadline::Yield(1)) } else { Ok(UpdateDeadline::Interrupt) }
    });
    store
}
