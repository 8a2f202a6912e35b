//! What comes from the master over one connection: the answer to the registration, requests, notifies, commands.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::FromMaster;
use super::pomelo::answers_in_error;
use crate::console::{Console, Inbound, Reply};
use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::plugin::{Caller, Handler};
use crate::transport::{Ack, Closed, Session};
use crate::util::line_budget;
use crate::wire::{Message, OFFER, Registered, Topic};

/// What comes from the master.
pub(super) struct Incoming {
    pub exchange: Exchange,
    pub current: Arc<Mutex<Option<Exchange>>>,
    pub answered: Mutex<Option<oneshot::Sender<Registered>>>,
    pub over: CancellationToken,
    pub console: Console,
    /// Told of the command `apply`.
    pub apply: Arc<Notify>,
    /// Told what the master hands on; absent where nothing is taken.
    pub from_master: Option<Arc<FromMaster>>,
    pub caller: Arc<Caller>,
    /// The requests of an original master that have not been answered yet; absent with our master.
    pub pomelos: Option<TaskTracker>,
}

impl Session for Incoming {
    fn frame(&self, topic: &str, payload: &RawValue, _ack: Option<Ack>) {
        match Topic::parse(topic) {
            Some(Topic::Monitor) => self.message(payload),
            Some(Topic::Register | Topic::ReconnectOk) => match serde_json::from_str(payload.get()) {
                Ok(answer) => self.registered(answer),
                Err(error) => {
                    self.exchange.peer().close(format!("the answer to the registration is malformed: {error}"))
                }
            },
            _ => tracing::debug!(topic, "the master sent a frame that is not for monitors"),
        }
    }

    fn closed(&self, how: Closed) {
        tracing::debug!(?how, "the connection to the master is over");
        self.answered.lock().take();
        self.exchange.over("the connection to the master is over");
        self.over.cancel();
    }
}

impl Incoming {
    /// Takes the answer to the registration. Later answers, to a server that runs again, say nothing new.
    fn registered(&self, answer: Registered) {
        let Some(waiting) = self.answered.lock().take() else { return };
        if answer.code == 1 {
            // This is set here because the next frame may be a command that changes it. An original master sends no list of disabled modules.
            if self.pomelos.is_none() {
                self.console.set_disabled(answer.disabled.clone());
            }
            *self.current.lock() = Some(self.exchange.clone());
        }
        // The receiver may have given up.
        let _ = waiting.send(answer);
    }

    fn message(&self, payload: &RawValue) {
        let inbound = |module, body, wants_answer, depth, trace| {
            let caller = self.caller.clone();
            Inbound { handler: Handler::Monitor, module, body, caller, wants_answer, depth, trace }
        };
        match Message::parse(payload) {
            Err(error) => {
                tracing::warn!(%error, "the master sent a malformed message");
                self.exchange.peer().close(format!("the master sent a malformed message: {error}"));
            }
            Ok(Message::Response { id, outcome }) => self.exchange.complete(id, outcome),
            Ok(Message::Request { id, module, body, depth, trace }) => {
                let inbound = inbound(&module, body, true, depth, trace);
                let Some(answering) = &self.pomelos else {
                    return self.console.dispatch(inbound, Reply::new(self.exchange.reply(Some(id), None)));
                };
                let asked = answering.token();
                let reply: Reply = if answers_in_error(&module, body) {
                    Reply::new(self.exchange.reply_in_error(id))
                } else {
                    Reply::new(self.exchange.reply(Some(id), None))
                };
                self.console.dispatch(
                    inbound,
                    Reply::new(move |outcome| {
                        reply.send(outcome);
                        drop(asked);
                    }),
                );
            }
            Ok(Message::Notify { module, body }) => {
                let name = module.to_string();
                let reply = move |outcome: Result<_, Failure>| {
                    if let Err(failure) = outcome {
                        line_budget::caused(
                            "the master",
                            || tracing::warn!(module = %name, %failure, "a notify of the master's failed"),
                        );
                    }
                };
                self.console.dispatch(inbound(&module, body, false, 0, None), Reply::new(reply));
            }
            Ok(Message::Command { command, module: Some(module), .. })
                if command == "enable" || command == "disable" =>
            {
                self.console.set_enabled(&module, command == "enable");
            }
            Ok(Message::Command { command, .. }) if command == "apply" => self.apply.notify_one(),
            Ok(Message::Command { command, body, .. }) if command == OFFER => {
                let Some(from_master) = &self.from_master else { return };
                if let Err(error) = from_master.offered(&self.exchange, body) {
                    tracing::warn!(%error, "the master offers modules in a form that is not known");
                }
            }
            Ok(Message::Command { command, .. }) => tracing::debug!(%command, "the master sent an unknown command"),
        }
    }
}
