//! `start`: called once for each module id and version on a host.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::install::{Candidate, Overlays};
use super::table::Slot;
use super::{Console, InstallError, Origin};
use crate::failure::{Failure, code};
use crate::plugin::{Call, Caller, CallerRole, Context, Handler, Module, StagedChanges, StoreView};
use crate::util::Backoff;

/// How long a `start` that failed waits before it is called again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl Console {
    /// Calls the candidate's `start` under each of its ids, with what it stores held back.
    pub(super) async fn start_candidate(&self, candidate: &Candidate) -> Result<Overlays, InstallError> {
        let mut overlays = Vec::new();
        for id in &candidate.ids {
            let context = self.context(&id.id)?;
            let overlay = Arc::new(StagedChanges::default());
            let store = StoreView::staged(context.store.clone(), overlay.clone());
            overlays.push((context.store.clone(), overlay));
            call_start(candidate.module.clone(), context, store)
                .await
                .map_err(|failure| InstallError::Start { id: id.id.clone(), failure })?;
        }
        Ok(overlays)
    }

    /// Schedules the timers, then calls each module's `start` in the order of the files' names, built-in modules first. One that fails is reported,
    /// and called again with back-off.
    ///
    /// A call that is given up half way, since a monitor lost its master, is made anew the next time; what was started before is not started again.
    pub async fn start(&self) {
        self.0.started.send_replace(true);
        self.schedule();
        let mut slots: Vec<Arc<Slot>> = self.0.table.read().slots.values().cloned().collect();
        slots.sort_by_key(|slot| {
            (slot.unit.origin != Origin::BuiltIn, slot.unit.name.clone(), slot.descriptor.id.clone())
        });
        for slot in slots {
            self.start_slot(slot).await;
        }
    }

    /// Calls a version's `start` under one id, unless that was done, or another does it.
    pub(super) async fn start_slot(&self, slot: Arc<Slot>) {
        let Some(claim) = Claim::take(slot) else { return };
        if let Err((claim, failure)) = self.start_once(claim).await {
            tracing::error!(module = %claim.slot.context.id, %failure, "`start` failed; it will be called again");
            self.0.tasks.spawn(self.clone().start_again(claim));
        }
    }

    /// Calls `start` when it is its turn, unless another version is in force by then. The claim comes back where it failed.
    async fn start_once(&self, claim: Claim) -> Result<(), (Claim, Failure)> {
        let slot = claim.slot.clone();
        if !slot.is_serial(Handler::Start) {
            return self.start_now(claim).await;
        }
        let Some(place) = slot.unit.lane.place() else {
            let what = format!("too many calls wait for module {}", slot.context.id);
            return Err((claim, Failure::new(code::BUSY, what)));
        };
        let (done, ended) = oneshot::channel();
        let console = self.clone();
        place.put(async move {
            // Whoever waited may have given up, since its monitor has lost its master. What was called stays called, and the claim of what failed is
            // given back.
            let _ = done.send(console.start_now(claim).await);
        });
        // There is no answer only where this host is shutting down.
        ended.await.unwrap_or(Ok(()))
    }

    async fn start_now(&self, claim: Claim) -> Result<(), (Claim, Failure)> {
        let slot = &claim.slot;
        if self.in_force(slot) {
            let store = StoreView::direct(slot.context.store.clone());
            if let Err(failure) = call_start(slot.unit.module.clone(), slot.context.clone(), store).await {
                return Err((claim, failure));
            }
        }
        claim.keep();
        Ok(())
    }

    fn in_force(&self, slot: &Arc<Slot>) -> bool {
        self.0.table.read().slots.get(&slot.context.id).is_some_and(|now| Arc::ptr_eq(now, slot))
    }

    async fn start_again(self, mut claim: Claim) {
        let (id, mut backoff) = (claim.slot.context.id.clone(), Backoff::new(RETRY.0, RETRY.1));
        loop {
            let wait = backoff.next_wait();
            tokio::select! {
                () = self.0.shutdown.cancelled() => return,
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

async fn call_start(module: Arc<Module>, context: Arc<Context>, store: StoreView) -> Result<(), Failure> {
    if !module.inspection().has(Handler::Start) {
        return Ok(());
    }
    let call = Call {
        caller: Arc::new(Caller::of(CallerRole::Host)),
        msg: None,
        wants_answer: false,
        depth: 0,
        deadline: Instant::now() + module.limits().wall,
        context,
        store,
    };
    module.lease().call(Handler::Start, call).await.map(drop)
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
