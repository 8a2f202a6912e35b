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
    waiting: HashMap<u64, (oneshot::Sender<Outcome>, usize)>,
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

    /// Takes a place. An answer of more than `limit` bytes is not kept: the request fails with `bad-answer`.
    ///
    /// # Errors
    /// `busy` where the limit is reached, or the failure that [`Pending::fail_all`] was given.
    pub fn wait(&self, limit: usize) -> Result<Waiting, Failure> {
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
        table.waiting.insert(id, (sender, limit));
        Ok(Waiting { id, answer, table: self.clone() })
    }

    /// Gives a request its answer; whether it was waited for.
    pub fn complete(&self, id: u64, outcome: Outcome) -> bool {
        let waiting = self.0.lock().waiting.remove(&id);
        waiting.is_some_and(|(sender, limit)| {
            let outcome = match outcome {
                Ok(answer) if answer.get().len() > limit => Err(too_large(answer.get().len(), limit)),
                outcome => outcome,
            };
            sender.send(outcome).is_ok()
        })
    }

    /// Fails all that are under way, and all that would follow.
    pub fn fail_all(&self, failure: &Failure) {
        let waiting = {
            let mut table = self.0.lock();
            table.over = Some(failure.clone());
            std::mem::take(&mut table.waiting)
        };
        for (sender, _) in waiting.into_values() {
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

/// The failure in the place of an answer that is too large.
fn too_large(bytes: usize, limit: usize) -> Failure {
    let message = format!(
        "it answered with {bytes} bytes; what a module is sent has at most {limit} ([module.ID.limits] message_kib)"
    );
    Failure::new(code::BAD_ANSWER, message)
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
        let (first, second) = (pending.wait(usize::MAX).unwrap(), pending.wait(usize::MAX).unwrap());
        assert_eq!(pending.wait(usize::MAX).map(|w| w.id).unwrap_err().code, code::BUSY);
        assert!(pending.complete(second.id, Ok(raw(&2))));
        assert!(!pending.complete(second.id, Ok(raw(&3))), "a second answer is nobody's");
        assert!(!pending.complete(99, Ok(raw(&3))), "an unknown answer is nobody's");
        assert_eq!(second.await.unwrap().get(), "2");
        pending.fail_all(&Failure::new(code::DISCONNECTED, "gone"));
        assert_eq!(first.await.unwrap_err().code, code::DISCONNECTED);
        assert_eq!(pending.wait(usize::MAX).map(|w| w.id).unwrap_err().code, code::DISCONNECTED);
        assert!(pending.is_empty());
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_is_a_failure_that_names_both_sizes() {
        let pending = Pending::new(2);
        let (small, large) = (pending.wait(4).unwrap(), pending.wait(4).unwrap());
        assert!(pending.complete(small.id, Ok(raw(&1234))) && pending.complete(large.id, Ok(raw(&12345))));
        assert_eq!(small.await.unwrap().get(), "1234");
        let failure = large.await.unwrap_err();
        assert_eq!(failure.code, code::BAD_ANSWER);
        assert!(failure.message.contains("5 bytes") && failure.message.contains("at most 4"), "{failure}");
    }

    #[test]
    fn a_request_that_is_given_up_leaves_no_trace() {
        let pending = Pending::new(1);
        let id = pending.wait(usize::MAX).map(|waiting| waiting.id).unwrap();
        assert!(pending.is_empty());
        assert!(!pending.complete(id, Ok(raw(&1))));
    }
}
