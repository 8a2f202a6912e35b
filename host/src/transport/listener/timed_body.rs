//! The body of a request, which must come within a time.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::transport::options::allowed;
use crate::transport::socket_io::connection::Connection;

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body did not come in time")]
    Late,
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

/// A body, and the time that it may take. One that is late ends its connection, because nothing else can follow on that.
pub(super) struct TimedBody {
    body: Incoming,
    connection: Arc<Connection>,
    begun: Instant,
    time: Duration,
    received: usize,
    /// Made when the body is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    /// A body that may take `time`, and a second more for each 64 KiB.
    pub fn new(body: Incoming, connection: Arc<Connection>, time: Duration) -> Self {
        TimedBody { body, connection, begun: Instant::now(), time, received: 0, deadline: None }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            if let Some(Ok(frame)) = &frame {
                this.received += frame.data_ref().map_or(0, Bytes::len);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
        let until = this.begun + allowed(this.time, this.received);
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if deadline.deadline() != until {
            deadline.as_mut().reset(until);
        }
        ready!(deadline.as_mut().poll(context));
        this.connection.end("slow-body");
        Poll::Ready(Some(Err(BodyError::Late)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for TimedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimedBody({} bytes)", self.received)
    }
}
