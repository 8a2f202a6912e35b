//! A connection that has said `hello`: what the program offers over it, and calls to the program.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::RwLock;
use serde_json::value::RawValue;

use super::super::{Answer, MAX_CALLS, late};
use super::message::{self, Offers};
use super::outbox::Outbox;
use crate::exchange::Pending;
use crate::failure::{Failure, code};
use crate::wire::null;

/// A connection that has said `hello`. Clones are the same connection.
#[derive(Clone)]
pub(super) struct Session(Arc<SessionParts>);

struct SessionParts {
    number: u64,
    /// The number of the program's process that was running when the connection was made.
    process: u64,
    /// The server's id, for the log.
    id: String,
    offers: RwLock<BTreeSet<String>>,
    outbox: Outbox,
    pending: Pending,
}

impl Session {
    /// A connection that said `hello` with those `offers`. `number` tells it from others. `process` is the number of the program's process that was
    /// running when it connected. `id` is the server's.
    pub(super) fn new(number: u64, process: u64, id: &str, offers: Offers, outbox: Outbox) -> Self {
        let (offers, pending) = (RwLock::new(offers.0), Pending::new(MAX_CALLS));
        Session(Arc::new(SessionParts { number, process, id: id.to_owned(), offers, outbox, pending }))
    }

    pub(super) fn offers(&self) -> Vec<String> {
        self.0.offers.read().iter().cloned().collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.offers.read().contains(name)
    }

    /// The number of the program's process that was running when the connection was made.
    pub(super) fn process(&self) -> u64 {
        self.0.process
    }

    pub(super) fn is(&self, other: &Session) -> bool {
        self.0.number == other.0.number
    }

    /// Calls a function of the program's. When this returns, the call is in the outbox.
    pub(super) fn call(&self, name: &str, args: &RawValue, deadline: Duration) -> BoxFuture<'static, Answer> {
        let waiting = match self.0.pending.wait(usize::MAX) {
            Ok(waiting) => waiting,
            Err(failure) => return ready(Err(failure)).boxed(),
        };
        if !self.0.outbox.send(message::call(waiting.id, name, args)) {
            let what = "the program is not connected to its control socket any more";
            return ready(Err(Failure::new(code::DISCONNECTED, what))).boxed();
        }
        let (name, begun) = (name.to_owned(), Instant::now());
        async move {
            let answer = match tokio::time::timeout(deadline, waiting).await {
                Ok(answer) => answer,
                Err(_) => Err(late(&name, deadline)),
            };
            metrics::histogram!("pomelo_control_call_seconds").record(begun.elapsed());
            answer
        }
        .boxed()
    }

    /// Ends the connection.
    pub(super) fn close(&self, why: &str) {
        self.0.pending.fail_all(&Failure::new(code::DISCONNECTED, why.to_owned()));
        let failure = Failure::new(code::DISCONNECTED, why.to_owned());
        self.0.outbox.send(message::answer(null(), &Err(failure)));
        self.0.outbox.close();
    }

    /// Replaces the functions that the program offers.
    pub(super) fn set_offers(&self, offers: Offers) {
        *self.0.offers.write() = offers.0;
    }

    /// Completes the call of that id with its answer. False if nobody waits for it.
    pub(super) fn complete(&self, id: u64, outcome: Answer) -> bool {
        self.0.pending.complete(id, outcome)
    }

    /// Lets the calls under way fail, because the connection is over.
    pub(super) fn over(&self) {
        let what = format!("the program of {} has closed its control socket", self.0.id);
        self.0.pending.fail_all(&Failure::new(code::DISCONNECTED, what));
    }
}
