//! `start`: called once for each module id and version on a host.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::source::Origin;
use super::table::Slot;
use super::turns::Turns;
use crate::failure::{Failure, code};
use crate::plugin::{Call, Caller, CallerRole, Context, Handler, Module, StoreView};
use crate::util::Backoff;

/// How long a `start` that failed waits before it is called again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl Turns {
    /// Schedules the timers, and calls each module's `start`: those of the built-in modules one after another, in the order of their names, and those of
    /// files side by side. It does not wait for files, because what is not carried by this program must not keep it from its work. A `start` that fails is
    /// reported, and called again with back-off.
    ///
    /// This may be dropped half way, because a monitor has lost its master. Call it again then: what was started before is not started again.
    pub async fn start(self: &Arc<Self>) {
        self.started.send_replace(true);
        self.schedule();
        let mut slots: Vec<Arc<Slot>> = self.registry.table.read().slots.values().cloned().collect();
        slots.sort_by_key(|slot| (slot.unit.name.clone(), slot.descriptor.id.clone()));
        let (built_in, of_files): (Vec<_>, Vec<_>) =
            slots.into_iter().partition(|slot| slot.unit.origin == Origin::BuiltIn);
        // First, because files may turn to them.
        for slot in built_in {
            self.start_slot(slot).await;
        }
        for slots in of_files.chunk_by(|one, other| Arc::ptr_eq(&one.unit, &other.unit)) {
            self.start_beside(slots.to_vec());
        }
    }

    /// Calls the `start` of one file under each of its ids, one after another, and does not wait for that.
    pub(super) fn start_beside(self: &Arc<Self>, slots: Vec<Arc<Slot>>) {
        let (turns, begun) = (self.clone(), Begun::new(&self.starting));
        self.registry.life.tasks.spawn(async move {
            for slot in slots {
                turns.start_slot(slot).await;
            }
            drop(begun);
        });
    }

    /// Waits until the `start` of each file that is in force has been called.
    pub async fn files_started(&self) {
        // The sender lives as long as this.
        let _ = self.starting.subscribe().wait_for(|starting| *starting == 0).await;
    }

    /// Calls a version's `start` under one id, unless it was called already or is being called.
    pub(super) async fn start_slot(self: &Arc<Self>, slot: Arc<Slot>) {
        let Some(claim) = Claim::take(slot) else { return };
        if let Err((claim, failure)) = self.start_once(claim).await {
            tracing::error!(module = %claim.slot.context.id, %failure, "`start` failed; it will be called again");
            self.registry.life.tasks.spawn(self.clone().start_again(claim));
        }
    }

    /// Calls `start` when it is its turn, unless another version is in force by then. A failure comes with the claim.
    async fn start_once(self: &Arc<Self>, claim: Claim) -> Result<(), (Claim, Failure)> {
        let slot = claim.slot.clone();
        if !slot.is_serial(Handler::Start) {
            return self.start_now(claim).await;
        }
        let lane_slot = match slot.unit.lane.slot(&Caller::of(CallerRole::Host)) {
            Ok(lane_slot) => lane_slot,
            Err(waiting) => {
                let what = format!("{waiting} wait for module {} already", slot.context.id);
                return Err((claim, Failure::new(code::BUSY, what)));
            }
        };
        let (done, ended) = oneshot::channel();
        let turns = self.clone();
        lane_slot.put(async move {
            // Whoever waited may have given up, because its monitor has lost its master. A `start` that succeeded is not called again. If it failed,
            // its claim is dropped here, and so given back.
            let _ = done.send(turns.start_now(claim).await);
        });
        ended.await.unwrap_or_else(|_| {
            // The claim was dropped with the call, and so given back. Nobody else may have taken it meanwhile: then there is nothing left to do here.
            let Some(claim) = Claim::take(slot) else { return Ok(()) };
            Err((claim, Failure::new(code::FAILED, "the host lost the call before it had ended; its log says why")))
        })
    }

    async fn start_now(&self, claim: Claim) -> Result<(), (Claim, Failure)> {
        let slot = &claim.slot;
        if self.in_force(slot) {
            let store = StoreView::direct(slot.context.store.clone());
            if let Err(failure) = call_start(slot.unit.module(), slot.context.clone(), store).await {
                return Err((claim, failure));
            }
        }
        slot.ready.store(true, Ordering::Release);
        claim.keep();
        Ok(())
    }

    fn in_force(&self, slot: &Arc<Slot>) -> bool {
        self.registry.table.read().slots.get(&slot.context.id).is_some_and(|now| Arc::ptr_eq(now, slot))
    }

    async fn start_again(self: Arc<Self>, mut claim: Claim) {
        let (id, mut backoff) = (claim.slot.context.id.clone(), Backoff::new(RETRY.0, RETRY.1));
        loop {
            let wait = backoff.next_wait();
            tokio::select! {
                () = self.registry.life.shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            claim = match self.start_once(claim).await {
                Ok(()) => {
                    tracing::info!(module = %id, "`start` succeeded");
                    return;
                }
                Err((claim, failure)) => {
                    tracing::error!(module = %id, %failure, ?wait, "`start` failed again");
                    claim
                }
            };
        }
    }
}

/// Calls a version's `start` under a module id, where it has one.
pub(super) async fn call_start(module: Arc<Module>, context: Arc<Context>, store: StoreView) -> Result<(), Failure> {
    if !module.inspection().has(Handler::Start) {
        return Ok(());
    }
    let call = Call {
        caller: Arc::new(Caller::of(CallerRole::Host)),
        operations: None,
        msg: None,
        wants_answer: false,
        depth: 0,
        deadline: Instant::now() + module.limits().wall,
        context,
        store,
    };
    module.lease().call(Handler::Start, call).await.map(drop)
}

/// Files whose `start` is under way, one of them counted as long as this lives.
struct Begun(watch::Sender<usize>);

impl Begun {
    fn new(starting: &watch::Sender<usize>) -> Self {
        starting.send_modify(|starting| *starting += 1);
        Begun(starting.clone())
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.send_modify(|starting| *starting -= 1);
    }
}

/// The right to call a version's `start` under an id. Given back when it is dropped without having been kept.
struct Claim {
    slot: Arc<Slot>,
    kept: bool,
}

impl Claim {
    fn take(slot: Arc<Slot>) -> Option<Self> {
        (!slot.started.swap(true, Ordering::AcqRel)).then_some(Claim { slot, kept: false })
    }

    /// `start` has succeeded.
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.kept {
            self.slot.started.store(false, Ordering::Release);
        }
    }
}
