//! What a registered monitor says: messages to modules, answers, that its server came or went, what the server does, and events.

use std::time::Instant;

use serde_json::value::RawValue;

use super::registration::{check_info, described};
use super::{Connection, Registration, giving_back, unanswered};
use crate::console::{Inbound, Reply};
use crate::journal::Report;
use crate::plugin::Handler;
use crate::util::line_budget;
use crate::wire::{MODULES, Message, Phase, Register, Registered, Topic};

impl Connection {
    /// A message of a monitor's.
    pub(super) fn monitor(&self, peer: &Registration, payload: &RawValue) {
        match Message::parse(payload) {
            Err(error) => self.malformed(error),
            Ok(Message::Response { id, outcome }) => peer.exchange.complete(id, outcome),
            Ok(Message::Request { id, module, body, depth, trace }) => {
                let inbound = Inbound { depth, trace, ..peer.says(Handler::Master, &module, body) };
                let reply = Reply::new(peer.exchange.reply(Some(id), None));
                match self.begin_request(body) {
                    Ok(call) if module == MODULES => self.asks_for_modules(body, giving_back(call, reply)),
                    Ok(call) => self.master.console.dispatch(inbound, giving_back(call, reply)),
                    Err(failure) => reply.send(Err(failure)),
                }
            }
            Ok(Message::Notify { module, body }) => {
                let inbound = Inbound { wants_answer: false, ..peer.says(Handler::Master, &module, body) };
                let Some(call) = self.begin_notify(body) else { return };
                let reply = unanswered(module.to_string(), peer.id.clone(), peer.cause().to_owned());
                self.master.console.dispatch(inbound, giving_back(call, Reply::new(reply)));
            }
            Ok(Message::Command { .. }) => {
                tracing::debug!(peer = ?self.peer, "a monitor sent a command, which it may not")
            }
        }
    }

    /// A monitor asks for a part of a module, or says what it runs.
    fn asks_for_modules(&self, body: Option<&RawValue>, reply: Reply) {
        let (distribution, connection) = (self.master.distribution.clone(), self.peer.id());
        let (body, over) = (body.map(RawValue::to_owned), self.over.clone());
        tokio::spawn(async move {
            if let Some(answer) = over.run_until_cancelled(distribution.asked(connection, body.as_deref())).await {
                reply.send(answer);
            }
        });
    }

    /// A monitor that is registered says that its server runs again. Its id and type stay those that it registered with.
    pub(super) fn present(&self, peer: &Registration, payload: &RawValue) {
        match serde_json::from_str::<Register>(payload.get()) {
            Ok(register) => {
                if let Err(why) = check_info(register.info.as_ref()) {
                    return self.malformed(why);
                }
                let server_type = peer.caller.server_type.as_deref().unwrap_or_default();
                let info = described(register.info, &peer.id, server_type, register.pid);
                if let Err(refusal) = self.master.members.admits_info(&peer.id, self.peer.id(), &info) {
                    metrics::counter!("pomelo_joins_refused_total", "why" => refusal.label()).increment(1);
                    return self.malformed(refusal);
                }
                self.answer(Topic::Reconnect, None, &Registered::ok(self.master.console.disabled()));
                self.master.members.present(
                    &peer.id,
                    self.peer.id(),
                    info,
                    register.phase.map(|phase| phase.bounded()),
                );
            }
            Err(error) => self.malformed(error),
        }
    }

    /// A monitor says what its server does. One that says it too often is closed and not passed over, because the phase that is passed over may be the
    /// last.
    pub(super) fn does(&self, peer: &Registration, payload: &RawValue) {
        let phase: Phase = match serde_json::from_str(payload.get()) {
            Ok(phase) => phase,
            Err(error) => return self.malformed(error),
        };
        if !self.phases.lock().take(Instant::now()) {
            metrics::counter!("pomelo_peers_cut_total", "reason" => "turns").increment(1);
            return self.peer.close("it says too often what its server does");
        }
        self.master.members.does(&peer.id, self.peer.id(), phase.bounded());
    }

    /// A monitor reports what has happened beside it.
    pub(super) fn reported(&self, peer: &Registration, payload: &RawValue) {
        let report: Report = match serde_json::from_str(payload.get()) {
            Ok(report) => report,
            Err(error) => return self.malformed(error),
        };
        if !self.reports.lock().take(Instant::now()) {
            metrics::counter!("pomelo_events_dropped_total").increment(1);
            return;
        }
        let event = report.received(&peer.id);
        line_budget::of_server(&peer.id, || {
            tracing::info!(server = %peer.id, kind = %event.kind, module = event.module, "{}", event.message);
        });
        self.master.options.journal.record(event);
    }
}
