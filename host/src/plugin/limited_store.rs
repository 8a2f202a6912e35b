//! The wasmtime store that a guest runs in, with the limits of its module.

use std::sync::Arc;

use wasmtime::{Store, UpdateDeadline};

use super::instance_state::InstanceState;
use super::sampling::SamplingSwitch;
use super::share::CpuShare;
use super::{Engine, Limits};
use crate::budget::InstanceCharge;

/// Handles of resources that a guest may have. The host keeps something for each.
const HANDLES: usize = 1024;

/// A store with the limits of a module, whose memory is charged to `charge`. Its guest is sampled while the switch is on, and what it
/// computes is charged to the share.
pub(super) fn limited_store(
    engine: &Engine,
    limits: &Limits,
    charge: InstanceCharge,
    sampling: &Arc<SamplingSwitch>,
    share: &Arc<CpuShare>,
) -> Store<InstanceState> {
    let mut store = Store::new(engine.wasmtime(), InstanceState::new(limits, charge, engine.ticks(), share));
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(limits.handed_over());
    store.set_max_component_handles(HANDLES);
    store.set_epoch_deadline(1);
    let sampling = sampling.clone();
    store.epoch_deadline_callback(move |context| {
        sampling.sample(&context);
        // A long computation gives way at the end of each slice, and is ended when it has used up its CPU time.
        let clock = &context.data().cpu;
        Ok(match (clock.may_go_on(), clock.slice_is_over()) {
            (false, _) => UpdateDeadline::Interrupt,
            (true, true) => UpdateDeadline::Yield(1),
            (true, false) => UpdateDeadline::Continue(1),
        })
    });
    store
}
