//! From a message to a handler's answer.
//!
//! A message is borrowed as [`Inbound`] until it is let in, and owned as [`Call`] from there on. Between the two it is looked at once: the table is
//! asked once for the module, and the body is visited once for what a client asks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use serde_json::value::RawValue;
use tokio::task::coop::consume_budget;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

use super::asked::{Asked, Visited};
use super::lane::LaneSlot;
use super::permissions;
use super::registry::Registry;
use super::table::Slot;
use crate::budget::Class;
use crate::failure::{Failure, code};
use crate::plugin::{Call, Caller, CallerRole, Handler, Lease, Operations, StoreView};
use crate::trace::Trace;
use crate::util::lasting;
use crate::wire::shown;

/// The target of calls' spans: `POMELO_LOG=info,pomelo::call=debug` shows them.
const CALLS: &str = "pomelo::call";

/// A message to a module of this host.
pub struct Inbound<'a> {
    /// The callback that it is for.
    pub handler: Handler,
    /// The module id.
    pub module: &'a str,
    /// What is said; absent when a timer fired.
    pub body: Option<&'a RawValue>,
    /// Who says it.
    pub caller: Arc<Caller>,
    /// Whether the caller waits for the answer.
    pub wants_answer: bool,
    /// In how many calls this one is nested.
    pub depth: u8,
    /// The request that it belongs to.
    pub trace: Option<Trace>,
}

impl<'a> Inbound<'a> {
    /// A message of the host itself to a module. Nobody waits for its answer.
    pub(super) fn unasked(handler: Handler, module: &'a str, body: Option<&'a RawValue>, caller: Arc<Caller>) -> Self {
        Inbound { handler, module, body, caller, wants_answer: false, depth: 0, trace: None }
    }
}

/// Takes the outcome of a message, exactly once. One that is dropped without an outcome, because the task that had it has ended, answers `failed`: whoever waits
/// must not take that for success, nor wait in vain.
pub struct Reply(Option<Box<TakeOutcome>>);

type TakeOutcome = dyn FnOnce(Result<Box<RawValue>, Failure>) + Send;

impl Reply {
    /// `take` gets the outcome.
    pub fn new(take: impl FnOnce(Result<Box<RawValue>, Failure>) + Send + 'static) -> Self {
        Reply(Some(Box::new(take)))
    }

    /// Gives the outcome.
    pub fn send(mut self, outcome: Result<Box<RawValue>, Failure>) {
        if let Some(take) = self.0.take() {
            take(outcome);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(take) = self.0.take() {
            take(Err(Failure::new(code::FAILED, "the host lost this call before it was answered; its log says why")));
        }
    }
}

/// A message that has been looked at: what it asks, and the call, or the refusal, that comes of it.
pub struct Admitted {
    /// What a client's message is about, allowed or not. Empty for messages of others.
    pub asked: Asked,
    call: Result<Admission, Failure>,
}

/// A call that has been let in.
struct Admission {
    registry: Arc<Registry>,
    handler: Handler,
    /// Its deadline is set when it is made, because the deadline depends on the version that serves it.
    call: Call,
    trace: Option<Trace>,
    arrived: Instant,
    way: Way,
}

/// How a call that has been let in comes to a version of the module.
enum Way {
    /// It is served by the version that was in force when it came. So the calls of one connection change over to a new version once, in the
    /// order in which they were sent.
    AtOnce(Lease),
    /// It is serial, and is served by the version that is in force when its turn comes.
    InTurn(LaneSlot),
}

impl Registry {
    /// Looks at a message: which module it is for, what it asks, whether the caller may ask that. Does not block.
    ///
    /// Serial handlers are called in the order in which admitted messages are dispatched.
    pub fn admit(self: &Arc<Self>, inbound: Inbound<'_>) -> Admitted {
        let found = self.find(inbound.module, inbound.handler);
        let slot = found.as_ref().ok().map(|(slot, _)| slot);
        let client = inbound.caller.role == CallerRole::Client;
        let operations = slot.filter(|_| client).map(|slot| slot.operations());
        // What an operation does is what its module says of it, whatever level the configuration gives.
        let version = slot.filter(|_| client).map(|slot| slot.unit.module());
        let visited = if client {
            Visited::new(operations.as_ref().and_then(|operations| operations.by.as_deref()), inbound.body)
        } else {
            Visited::default()
        };
        let call = found.and_then(|(slot, lease)| {
            self.check_enabled(inbound.module)?;
            if let Some(operations) = &operations {
                permissions::check(&inbound.caller, inbound.module, operations, &visited.operation)?;
            }
            check_size(&inbound, &slot, lease.as_ref())?;
            let way = match lease {
                Some(lease) => Way::AtOnce(lease),
                None => Way::InTurn(slot.unit.lane.slot(&inbound.caller).map_err(|waiting| {
                    let limit = "a bound that grows with the servers that are expected, `max_joined` in [network] of pomelo.toml";
                    Failure::new(code::BUSY, format!("{waiting} wait for module {} already ({limit})", inbound.module))
                })?),
            };
            Ok(self.admission(inbound, &slot, operations.clone(), way))
        });
        Admitted { asked: visited.asked(version.as_deref().map(|version| &version.descriptor().operations)), call }
    }

    /// The module that a message is for, and a lease of its version where the handler is not serial.
    fn find(&self, module: &str, handler: Handler) -> Result<(Arc<Slot>, Option<Lease>), Failure> {
        if self.life.shutdown.is_cancelled() {
            // To its callers this host has left already: they must not ask it again.
            return Err(Failure::new(code::DISCONNECTED, "this host is shutting down"));
        }
        let table = self.table.read();
        let slot = table.slots.get(module).ok_or_else(|| unknown(module))?;
        // Taken under the lock, because the version could be replaced and drained between the look-up and the lease.
        let lease = (!slot.is_serial(handler)).then(|| slot.lease());
        Ok((slot.clone(), lease))
    }

    /// Copies the body. There is no other copy on this side of the guest's memory.
    fn admission(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        slot: &Slot,
        operations: Option<Arc<Operations>>,
        way: Way,
    ) -> Admission {
        let arrived = Instant::now();
        let call = Call {
            context: slot.context.clone(),
            store: StoreView::direct(slot.context.store.clone()),
            caller: inbound.caller,
            operations,
            msg: inbound.body.map(RawValue::to_owned),
            wants_answer: inbound.wants_answer,
            depth: inbound.depth,
            deadline: arrived,
        };
        Admission { registry: self.clone(), handler: inbound.handler, call, trace: inbound.trace, arrived, way }
    }

    /// A lease of the version of a module that is in force now.
    fn lease(&self, module: &str) -> Result<Lease, Failure> {
        let table = self.table.read();
        table.slots.get(module).map(|slot| slot.lease()).ok_or_else(|| unknown(module))
    }
}

impl Admitted {
    /// Makes the call; what comes of it, or the refusal, goes to `reply`. A call that is not serial begins here, and gets a task of its own when it has to
    /// wait: most never do, and a task would cost more than they.
    pub fn dispatch(self, reply: Reply) {
        let Admission { registry, handler, call, trace, arrived, way } = match self.call {
            Ok(admission) => admission,
            Err(failure) => return reply.send(Err(failure)),
        };
        match way {
            Way::AtOnce(lease) => {
                let calling = async move {
                    // Whoever has begun many calls without a pause has used up its budget, and the rest get tasks: then others have their turns, and the
                    // limits on calls under way hold.
                    consume_budget().await;
                    reply.send(make(lease, handler, call, trace, arrived).await);
                };
                begin(&registry.life.tasks, Box::pin(calling));
            }
            Way::InTurn(slot) => slot.put(async move {
                let outcome = match registry.lease(&call.context.id) {
                    Ok(lease) => make(lease, handler, call, trace, arrived).await,
                    Err(failure) => Err(failure),
                };
                reply.send(outcome);
            }),
        }
    }
}

/// Begins a call where it came. Where it has to wait, it goes on in a task.
fn begin(tasks: &TaskTracker, mut calling: Pin<Box<impl Future<Output = ()> + Send + 'static>>) {
    // Whoever waits for all calls waits for this one from here on.
    let _token = tasks.token();
    // A future that was polled here is polled again by its task, whose waker replaces this one.
    let mut context = Context::from_waker(Waker::noop());
    match catch_unwind(AssertUnwindSafe(|| calling.as_mut().poll(&mut context))) {
        Ok(Poll::Ready(())) => {}
        Ok(Poll::Pending) => drop(tasks.spawn(calling)),
        // The call ends with its future, and is answered that it has failed.
        Err(panic) => lasting::said("a call", &lasting::message_of(&*panic)),
    }
}

/// Makes a call that came at `arrived`, on the version of a lease.
async fn make(
    lease: Lease,
    handler: Handler,
    mut call: Call,
    parent: Option<Trace>,
    arrived: Instant,
) -> Result<Box<RawValue>, Failure> {
    let (wall, waited) = (lease.module().limits().wall, arrived.elapsed());
    // Half of the time is over before the call begins, and its caller may be about to give up. It is refused, because calls behind it in the lane
    // have more time left: the module answers some of them in time instead of all of them too late.
    if call.wants_answer && waited > wall / 2 {
        let message = format!("the call waited {} ms for its turn: the module cannot keep up", waited.as_millis());
        return Err(Failure::new(code::BUSY, message));
    }
    call.deadline = arrived + wall;
    // A call that belongs to no request begins a trace only where its span is logged.
    let looked_at = tracing::enabled!(target: CALLS, tracing::Level::DEBUG);
    let trace = parent.map(Trace::step).or_else(|| looked_at.then(Trace::begin));
    if !looked_at {
        return Trace::within(trace, lease.call(handler, call)).await;
    }
    let span = call_span(handler, &call, parent, trace);
    async {
        let began = Instant::now();
        let outcome = Trace::within(trace, lease.call(handler, call)).await;
        let (micros, code) = (
            u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
            outcome.as_ref().err().map_or("ok", |failure| &failure.code),
        );
        tracing::Span::current().record("outcome", code);
        tracing::debug!(target: CALLS, micros, "{code}");
        outcome
    }
    .instrument(span)
    .await
}

/// The span of a call: who calls which module, and in `trace` the request, which is the same on all hosts.
fn call_span(handler: Handler, call: &Call, parent: Option<Trace>, trace: Option<Trace>) -> Span {
    tracing::debug_span!(
        target: CALLS,
        "call",
        module = call.context.id,
        handler = handler.as_str(),
        caller = call.caller.role.as_str(),
        from = call.caller.id,
        user = call.caller.user,
        trace = trace.map(|trace| tracing::field::display(trace.id())),
        span = trace.map(|trace| tracing::field::display(trace.span())),
        parent = parent.map(|parent| tracing::field::display(parent.span())),
        outcome = tracing::field::Empty,
    )
}

/// Refuses a message that is larger than the module takes, before it is copied. What the host itself says is bounded where it is made.
fn check_size(inbound: &Inbound<'_>, slot: &Slot, lease: Option<&Lease>) -> Result<(), Failure> {
    let bytes = inbound.body.map_or(0, |body| body.get().len());
    let limit = lease.map_or_else(|| slot.unit.module().limits().message, |lease| lease.module().limits().message);
    if bytes <= limit || inbound.caller.class() == Class::Host {
        return Ok(());
    }
    metrics::counter!("pomelo_messages_too_large_total", "from" => inbound.caller.class().as_str()).increment(1);
    let module = inbound.module;
    let message = format!(
        "the message has {bytes} bytes; module {module} takes at most {limit} (`message_kib` in [module.{module}.limits] or [limits] of pomelo.toml)"
    );
    Err(Failure::new(code::BAD_MESSAGE, message))
}

fn unknown(id: &str) -> Failure {
    Failure::new(code::UNKNOWN_MODULE, format!("unknown module {}", shown(id)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn a_reply_that_is_lost_answers_failed_and_one_that_was_given_says_no_more() {
        let (told, outcomes) = std::sync::mpsc::channel();
        let reply = || {
            let told = told.clone();
            Reply::new(move |outcome| told.send(outcome.map(|_| ())).unwrap())
        };
        drop(reply());
        assert_eq!(outcomes.recv().unwrap().unwrap_err().code, code::FAILED);
        reply().send(Ok(crate::wire::null().to_owned()));
        assert_eq!(outcomes.recv().unwrap(), Ok(()));
        assert!(outcomes.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_call_that_need_not_wait_is_over_when_it_was_begun() {
        let tasks = TaskTracker::new();
        let (done, mut ended) = oneshot::channel();
        begin(&tasks, Box::pin(async move { done.send(1).unwrap() }));
        assert_eq!((ended.try_recv(), tasks.len()), (Ok(1), 0));
    }

    #[tokio::test]
    async fn a_call_that_waits_goes_on_in_a_task_when_it_is_woken() {
        let tasks = TaskTracker::new();
        let (wake, woken) = oneshot::channel::<u8>();
        let (done, ended) = oneshot::channel();
        begin(&tasks, Box::pin(async move { done.send(woken.await.unwrap()).unwrap() }));
        assert_eq!(tasks.len(), 1);
        wake.send(2).unwrap();
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap(), Ok(2));
    }

    #[tokio::test]
    async fn a_call_that_panics_where_it_began_ends_alone() {
        let tasks = TaskTracker::new();
        let (reply, ended) = oneshot::channel::<()>();
        begin(
            &tasks,
            Box::pin(async move {
                let _reply = reply;
                panic!("a mistake");
            }),
        );
        assert!(ended.await.is_err(), "whoever waits for it learns that nothing comes");
        assert_eq!(tasks.len(), 0);
    }

    #[tokio::test]
    async fn of_many_calls_without_a_pause_the_last_get_tasks() {
        let tasks = TaskTracker::new();
        for _ in 0..1000 {
            begin(&tasks, Box::pin(consume_budget()));
        }
        assert!((500..1000).contains(&tasks.len()), "{}", tasks.len());
    }
}
