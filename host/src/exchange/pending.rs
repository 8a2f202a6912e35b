//! Requests under way to one peer, each waiting for its answer.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::failure::{Failure, code};

type Outcome = Result<Box<RawValue>, Failure>;

/// The requests under way to one peer, at most a set number of them.
///
/// Ids count up from 1 and are never used twice, so that a late answer can meet no other request.
#[derive(Clone)]
pub struct Pending(Arc<Mutex<Table>>);

struct Table {
    waiting: HashMap<u64, oneshot::Sender<Outcome>>,
    last: u64,
    limit: usize,
    /// Why no answer can come any more, once that is so.
    over: Option<Failure>,
}

/// A request's place in the table and the answer to come; dropping it gives the place back.
pub struct Waiting {
    /// The id to send.
    pub id: u64,
    answer: oneshot::Receiver<Outcome>,
    table: Pending,
}

impl Pending {
    /// A table for at most `limit` requests at a time.
    pub fn new(limit: usize) -> Self {
        Pending(Arc::new(Mutex::new(Table { waiting: HashMap::new(), last: 0, limit, over: None })))
    }

    /// Takes a place.
    ///
    /// # Errors
    /// `busy` where the limit is reached, or the failure that [`Pending::fail_all`] was given.
    pub fn wait(&self) -> Result<Waiting, Failure> {
        let mut table = self.0.lock();
        if let Some(over) = &table.over {
            return Err(over.clone());
        }
        if table.waiting.len() >= table.limit {
            return Err(Failure::new(
                code::BUSY,
                format!("{} requests to this peer are under way already", table.limit),
            ));
        }
        table.last += 1;
        let (sender, answer) = oneshot::channel();
        let id = table.last;
        table.waiting.insert(id, sender);
        Ok(Waiting { id, answer, table: self.clone() })
    }

    /// Gives a request its answer; whether it was waited for.
    pub fn complete(&self, id: u64, outcome: Outcome) -> bool {
        let waiting = self.0.lock().waiting.remove(&id);
        waiting.is_some_and(|sender| sender.send(outcome).is_ok())
    }

    /// Fails all that are under way, and all that would follow.
    pub fn fail_all(&self, failure: &Failure) {
        let waiting = {
            let mut table = self.0.lock();
            table.over = Some(failure.clone());
            std::mem::take(&mut table.waiting)
        };
        for sender in waiting.into_values() {
            // Whoever no longer waits does not need to know.
            let _ = sender.send(Err(failure.clone()));
        }
    }

    /// How many requests are under way.
    pub fn len(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Future for Waiting {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        Pin::new(&mut self.answer).poll(context).map(|answer| {
            // A sender is dropped without an answer only together with the table.
            answer.unwrap_or_else(|_| Err(Failure::new(code::DISCONNECTED, "the peer is gone")))
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.table.0.lock().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::raw;

    #[tokio::test]
    async fn answers_reach_their_request_once() {
        let pending = Pending::new(2);
        let (first, second) = (pending.wait().unwrap(), pending.wait().unwrap());
        assert_eq!(pending.wait().map(|w| w.id).unwrap_err().code, code::BUSY);
        assert!(pending.complete(second.id, Ok(raw(&2))));
        assert!(!pending.complete(second.id, Ok(raw(&3))), "a second answer is nobody's");
        assert!(!pending.complete(99, Ok(raw(&3))), "an unknown answer is nobody's");
        assert_eq!(second.await.unwrap().get(), "2");
        pending.fail_all(&Failure::new(code::DISCONNECTED, "gone"));
        assert_eq!(first.await.unwrap_err().code, code::DISCONNECTED);
        assert_eq!(pending.wait().map(|w| w.id).unwrap_err().code, code::DISCONNECTED);
        assert!(pending.is_empty());
    }

    #[test]
    fn a_request_that_is_given_up_leaves_no_trace() {
        let pending = Pending::new(1);
        let id = pending.wait().map(|waiting| waiting.id).unwrap();
        assert!(pending.is_empty());
        assert!(!pending.complete(id, Ok(raw(&1))));
    }
}
