//! What a registered client says. Whatever it asks, allowed or refused, goes into the admin log.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;

use super::super::MasterCore;
use super::super::commands::Order;
use super::{Connection, Registration, giving_back, unanswered};
use crate::admin_log::{Kind, Record};
use crate::console::{Inbound, Reply, is_read};
use crate::failure::{Failure, code};
use crate::journal::{Event, kind};
use crate::plugin::{Caller, Handler};
use crate::trace::Trace;
use crate::transport::Ack;
use crate::wire::{Message, shown};

impl Connection {
    /// A message of a client's.
    pub(super) fn client(&self, peer: &Registration, payload: &RawValue, ack: Option<Ack>) {
        match Message::parse(payload) {
            Err(error) => self.malformed(error),
            Ok(Message::Request { id, module, body, depth: _, trace }) => {
                let inbound = Inbound { trace, ..peer.says(Handler::Client, &module, body) };
                self.ask(inbound, Reply::new(peer.exchange.reply(Some(id), ack)));
            }
            Ok(Message::Notify { module, body }) => {
                let wants_answer = ack.is_some();
                let inbound = Inbound { wants_answer, ..peer.says(Handler::Client, &module, body) };
                let reply: Reply = match wants_answer {
                    true => Reply::new(peer.exchange.reply(None, ack)),
                    false => Reply::new(unanswered(module.to_string(), peer.id.clone(), peer.cause().to_owned())),
                };
                self.ask(inbound, reply);
            }
            Ok(Message::Command { id, command, module, body }) => {
                let module = module.as_deref();
                let record = Record {
                    module: module.map(shown),
                    operation: Some(shown(&command)),
                    reads: is_read(&command),
                    ..Record::new(Kind::Command, peer.caller.clone())
                };
                let asked = Logged::new(&self.master, record, module);
                let order = Order { command: &command, module, body, caller: &peer.caller };
                let reply = asked.before(Reply::new(peer.exchange.reply(id, ack)));
                match self.begin_request(body) {
                    Ok(call) => self.master.command(order, &self.waiting, &self.over, giving_back(call, reply)),
                    Err(failure) => reply.send(Err(failure)),
                }
            }
            Ok(Message::Response { .. }) => {
                tracing::debug!(peer = ?self.peer, "a client answered, though nothing is asked of clients")
            }
        }
    }

    /// Hands a client's message to its module, and the outcome to the admin log as well.
    fn ask(&self, inbound: Inbound<'_>, reply: Reply) {
        // The request's trace begins here, unless the client has begun one.
        let trace = Some(inbound.trace.unwrap_or_else(Trace::begin));
        let inbound = Inbound { trace, ..inbound };
        let kind = if inbound.wants_answer { Kind::Request } else { Kind::Notify };
        let (caller, module) = (inbound.caller.clone(), inbound.module);
        let call = match inbound.wants_answer {
            true => self.begin_request(inbound.body),
            false => match self.begin_notify(inbound.body) {
                Some(call) => Ok(call),
                None => return,
            },
        };
        let call = match call {
            Ok(call) => call,
            Err(failure) => {
                // What it asks is not looked at, because there is no room for it.
                let record = Record { module: Some(shown(module)), ..Record::new(kind, caller) };
                return Logged::new(&self.master, record, Some(module)).before(reply).send(Err(failure));
            }
        };
        let admitted = self.master.console.admit(inbound);
        let record = Record {
            module: Some(shown(module)),
            operation: admitted.asked.operation.as_deref().map(shown),
            targets: admitted.asked.targets.iter().map(|target| shown(target)).collect(),
            target_count: admitted.asked.target_count,
            reads: admitted.asked.reads,
            ..Record::new(kind, caller)
        };
        let asked = Logged::new(&self.master, record, Some(module));
        admitted.dispatch(giving_back(call, asked.before(reply)));
    }
}

/// Something that a client asked, until its outcome can be written down.
struct Logged {
    master: Arc<MasterCore>,
    record: Record,
    module: Option<String>,
    came: Instant,
}

impl Logged {
    fn new(master: &Arc<MasterCore>, record: Record, module: Option<&str>) -> Self {
        Logged { master: master.clone(), record, module: module.map(str::to_owned), came: Instant::now() }
    }

    /// Writes down the outcome, before it goes to `reply`.
    fn before(self, reply: Reply) -> Reply {
        Reply::new(move |outcome| {
            let Logged { master, record, module, came } = self;
            let failure = outcome.as_ref().err();
            note_refusal(&master, &record.caller, module, failure);
            // Only the code of a failure is logged, because its sentence may repeat parts of the message.
            let failure = failure.map(|failure| match &failure.code {
                Cow::Borrowed(code) => Cow::Borrowed(*code),
                // A module may give any.
                Cow::Owned(code) => Cow::Owned(shown(code)),
            });
            master.options.admin_log.take(Record { failure, took: came.elapsed(), ..record });
            reply.send(outcome);
        })
    }
}

/// Writes into the journal what a client was not allowed to do.
fn note_refusal(master: &MasterCore, caller: &Caller, module: Option<String>, failure: Option<&Failure>) {
    if let Some(failure) = failure.filter(|failure| failure.code == code::FORBIDDEN) {
        let event = Event::new(kind::REFUSAL, failure.message.clone()).client(caller.user.as_deref());
        master.options.journal.record_some(Event { module, ..event });
    }
}
