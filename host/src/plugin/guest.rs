//! Runs what computes in a guest: where it is polled for its first slice, and in turns from there on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use async_task::FallibleTask;
use tokio::runtime::Handle;
use tracing::Instrument;

use super::cpu::CpuClock;
use super::scheduler::Scheduler;
use crate::failure::{Failure, code};
use crate::trace::Trace;

/// Where a guest is.
enum Place<F, T> {
    /// With whoever polls its call.
    Here(Pin<Box<F>>),
    /// Among those that wait for turns, or have one.
    InTurns(FallibleTask<T>),
    /// On its way between the two.
    Leaving,
}

/// Runs a guest's future, with its CPU time counted. Dropped, it ends the guest, at the latest when the slice that it computes in is over.
///
/// # Errors
/// `failed` where the runtime is shutting down, so that the guest has no more turns.
pub(super) fn run<T: Send + 'static>(
    scheduler: &Arc<Scheduler>,
    clock: &Arc<CpuClock>,
    guest: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = Result<T, Failure>> {
    // Boxed before the future that is returned is made: what a guest needs is kilobytes, and whoever waits for it would carry them along.
    let mut place = Place::Here(Box::pin(clock.clone().measure(guest)));
    let outcome = std::future::poll_fn(move |context| {
        loop {
            match &mut place {
                Place::Here(guest) => {
                    if let Some(_here) = scheduler.here(clock.share()) {
                        let polled = guest.as_mut().poll(context);
                        // It waits for something else than a turn.
                        if polled.is_ready() || !clock.slice_was_over() {
                            return polled.map(Some);
                        }
                    }
                    let Place::Here(guest) = std::mem::replace(&mut place, Place::Leaving) else { continue };
                    place = Place::InTurns(in_turns(scheduler, clock, guest));
                }
                Place::InTurns(task) => return Pin::new(task).poll(context),
                // It was left only if the line above has panicked.
                Place::Leaving => return Poll::Ready(None),
            }
        }
    });
    let lost = || Failure::new(code::FAILED, "the host ended before the call did");
    async move { outcome.await.ok_or_else(lost) }
}

/// Puts a guest among those that wait for turns.
fn in_turns<T: Send + 'static>(
    scheduler: &Arc<Scheduler>,
    clock: &Arc<CpuClock>,
    guest: Pin<Box<impl Future<Output = T> + Send + 'static>>,
) -> FallibleTask<T> {
    // What belongs to the task that has polled it so far goes with it: the request, the span, and the runtime with its timers.
    let guest = Trace::within(Trace::current(), guest.in_current_span());
    let (scheduler, share, runtime) = (scheduler.clone(), clock.share().clone(), Handle::current());
    let put = move |guest| scheduler.put(&share, guest, &runtime);
    let (runnable, task) = async_task::Builder::new().propagate_panic(true).spawn(|()| guest, put);
    runnable.schedule();
    task.fallible()
}
