//! From a message to a handler's answer.

use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;

use super::lane::Place;
use super::{Console, permissions};
use crate::failure::{Failure, code};
use crate::plugin::{Call, Caller, CallerRole, Handler, StoreView};

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
}

/// Takes the outcome of a message. Called exactly once.
pub type Reply = Box<dyn FnOnce(Result<Box<RawValue>, Failure>) + Send>;

/// A call that has been let in and waits for its turn.
pub(super) struct Turn {
    pub id: String,
    pub handler: Handler,
    pub msg: Option<Box<RawValue>>,
    pub caller: Arc<Caller>,
    pub wants_answer: bool,
    pub depth: u8,
    pub arrived: Instant,
}

impl Console {
    /// Hands a message to its handler; what comes of it goes to `reply`. Does not block, and keeps the order in which it is called for
    /// handlers that are serial.
    pub fn dispatch(&self, inbound: Inbound<'_>, reply: Reply) {
        let place = match self.admit(&inbound) {
            Ok(place) => place,
            Err(failure) => return reply(Err(failure)),
        };
        let turn = Turn {
            id: inbound.module.to_owned(),
            handler: inbound.handler,
            msg: inbound.body.map(RawValue::to_owned),
            caller: inbound.caller,
            wants_answer: inbound.wants_answer,
            depth: inbound.depth,
            arrived: Instant::now(),
        };
        let console = self.clone();
        let job = async move { reply(console.call(turn).await) };
        match place {
            Some(place) => place.put(job),
            None => drop(self.0.tasks.spawn(job)),
        }
    }

    /// What can be said at once: no such module, disabled, not permitted, too many waiting. A place in the lane where the handler is serial.
    fn admit(&self, inbound: &Inbound<'_>) -> Result<Option<Place>, Failure> {
        if self.0.shutdown.is_cancelled() {
            return Err(Failure::new(code::BUSY, "this host is shutting down"));
        }
        let table = self.0.table.read();
        let slot = table.slots.get(inbound.module).ok_or_else(|| unknown(inbound.module))?;
        self.enabled(inbound.module)?;
        if inbound.caller.role == CallerRole::Client {
            permissions::check(&inbound.caller, inbound.module, &slot.operations, inbound.body)?;
        }
        if !slot.is_serial(inbound.handler) {
            return Ok(None);
        }
        let full = || Failure::new(code::BUSY, format!("too many calls wait for module {}", inbound.module));
        slot.unit.lane.place().ok_or_else(full).map(Some)
    }

    pub(super) fn enabled(&self, id: &str) -> Result<(), Failure> {
        if self.0.disabled.read().contains(id) {
            return Err(Failure::new(code::DISABLED, format!("module {id} is disabled")));
        }
        Ok(())
    }

    /// Calls the version of a module that is in force.
    pub(super) async fn call(&self, turn: Turn) -> Result<Box<RawValue>, Failure> {
        let (lease, context) = {
            let table = self.0.table.read();
            let slot = table.slots.get(&turn.id).ok_or_else(|| unknown(&turn.id))?;
            (slot.lease(), slot.context.clone())
        };
        let (wall, waited) = (lease.module().limits().wall, turn.arrived.elapsed());
        // Who asked may be about to give up, and those behind have more time left: a lane that is too full answers some in time, not all too
        // late.
        if turn.wants_answer && waited > wall / 2 {
            let message = format!("the call waited {} ms for its turn: the module cannot keep up", waited.as_millis());
            return Err(Failure::new(code::BUSY, message));
        }
        let call = Call {
            deadline: turn.arrived + wall,
            store: StoreView::direct(context.store.clone()),
            context,
            caller: turn.caller,
            msg: turn.msg,
            wants_answer: turn.wants_answer,
            depth: turn.depth,
        };
        lease.call(turn.handler, call).await
    }
}

fn unknown(id: &str) -> Failure {
    Failure::new(code::UNKNOWN_MODULE, format!("unknown module {id}"))
}
