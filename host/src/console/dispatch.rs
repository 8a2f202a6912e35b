//! From a message to a handler's answer.

use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;

use tracing::{Instrument, Span};

use super::lane::Place;
use super::{Console, permissions};
use crate::failure::{Failure, code};
use crate::plugin::{Call, Caller, CallerRole, Context, Handler, Lease, StoreView};
use crate::trace::Trace;

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

/// Takes the outcome of a message. Called exactly once.
pub type Reply = Box<dyn FnOnce(Result<Box<RawValue>, Failure>) + Send>;

/// A call that has been let in.
struct Turn {
    id: String,
    handler: Handler,
    msg: Option<Box<RawValue>>,
    caller: Arc<Caller>,
    wants_answer: bool,
    depth: u8,
    trace: Option<Trace>,
    arrived: Instant,
}

/// How a call that has been let in comes to a version of the module.
enum Way {
    /// It is served by the version that was in force when it came: so the calls of one connection change over to a new version once, in the
    /// order in which they were sent.
    AtOnce(Lease, Arc<Context>),
    /// It is serial, and is served by the version that is in force when its turn comes.
    InTurn(Place),
}

impl Console {
    /// Hands a message to its handler; what comes of it goes to `reply`. Does not block, and keeps the order in which it is called for
    /// handlers that are serial.
    pub fn dispatch(&self, inbound: Inbound<'_>, reply: Reply) {
        let way = match self.admit(&inbound) {
            Ok(way) => way,
            Err(failure) => return reply(Err(failure)),
        };
        let turn = Turn {
            id: inbound.module.to_owned(),
            handler: inbound.handler,
            msg: inbound.body.map(RawValue::to_owned),
            caller: inbound.caller,
            wants_answer: inbound.wants_answer,
            depth: inbound.depth,
            trace: inbound.trace,
            arrived: Instant::now(),
        };
        match way {
            Way::AtOnce(lease, context) => {
                self.0.tasks.spawn(async move { reply(turn.call(lease, context).await) });
            }
            Way::InTurn(place) => {
                let console = self.clone();
                place.put(async move { reply(console.call_in_turn(turn).await) });
            }
        }
    }

    /// What can be said at once: no such module, disabled, not permitted, too many waiting.
    fn admit(&self, inbound: &Inbound<'_>) -> Result<Way, Failure> {
        if self.0.shutdown.is_cancelled() {
            // To others it is as good as gone, and is not to be tried again.
            return Err(Failure::new(code::DISCONNECTED, "this host is shutting down"));
        }
        let table = self.0.table.read();
        let slot = table.slots.get(inbound.module).ok_or_else(|| unknown(inbound.module))?;
        self.enabled(inbound.module)?;
        if inbound.caller.role == CallerRole::Client {
            permissions::check(&inbound.caller, inbound.module, &slot.operations, inbound.body)?;
        }
        if !slot.is_serial(inbound.handler) {
            return Ok(Way::AtOnce(slot.lease(), slot.context.clone()));
        }
        let full = || Failure::new(code::BUSY, format!("too many calls wait for module {}", inbound.module));
        slot.unit.lane.place().ok_or_else(full).map(Way::InTurn)
    }

    pub(super) fn enabled(&self, id: &str) -> Result<(), Failure> {
        if self.0.disabled.read().contains(id) {
            return Err(Failure::new(code::DISABLED, format!("module {id} is disabled")));
        }
        Ok(())
    }

    async fn call_in_turn(&self, turn: Turn) -> Result<Box<RawValue>, Failure> {
        let (lease, context) = {
            let table = self.0.table.read();
            let slot = table.slots.get(&turn.id).ok_or_else(|| unknown(&turn.id))?;
            (slot.lease(), slot.context.clone())
        };
        turn.call(lease, context).await
    }
}

impl Turn {
    async fn call(self, lease: Lease, context: Arc<Context>) -> Result<Box<RawValue>, Failure> {
        let (wall, waited) = (lease.module().limits().wall, self.arrived.elapsed());
        // Who asked may be about to give up, and those behind have more time left: a lane that is too full answers some in time, not all too
        // late.
        if self.wants_answer && waited > wall / 2 {
            let message = format!("the call waited {} ms for its turn: the module cannot keep up", waited.as_millis());
            return Err(Failure::new(code::BUSY, message));
        }
        let call = Call {
            deadline: self.arrived + wall,
            store: StoreView::direct(context.store.clone()),
            context,
            caller: self.caller,
            msg: self.msg,
            wants_answer: self.wants_answer,
            depth: self.depth,
        };
        // Where nobody looks, a call that belongs to nothing begins nothing.
        let looked_at = tracing::enabled!(target: CALLS, tracing::Level::DEBUG);
        let trace = self.trace.map(Trace::step).or_else(|| looked_at.then(Trace::begin));
        if !looked_at {
            return Trace::within(trace, lease.call(self.handler, call)).await;
        }
        let span = call_span(&self.id, self.handler, &call.caller, self.trace, trace);
        async {
            let began = Instant::now();
            let outcome = Trace::within(trace, lease.call(self.handler, call)).await;
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
}

/// The span of a call: whose it is, and by `trace` to which request it belongs, on whatever host.
fn call_span(module: &str, handler: Handler, caller: &Caller, parent: Option<Trace>, trace: Option<Trace>) -> Span {
    tracing::debug_span!(
        target: CALLS,
        "call",
        module,
        handler = handler.as_str(),
        caller = caller.role.as_str(),
        from = caller.id,
        user = caller.user,
        trace = trace.map(|trace| tracing::field::display(trace.id())),
        span = trace.map(|trace| tracing::field::display(trace.span())),
        parent = parent.map(|parent| tracing::field::display(parent.span())),
        outcome = tracing::field::Empty,
    )
}

fn unknown(id: &str) -> Failure {
    Failure::new(code::UNKNOWN_MODULE, format!("unknown module {id}"))
}
