//! Which request a call belongs to. The id is made where a client asks. It goes with the request from the master to its monitors and back, so that the
//! lines of their logs can be brought together.
//!
//! The form is that of W3C's Trace Context, `00-TRACE-SPAN-FLAGS` in hexadecimal, so that a client's own id can be used. The id says nothing about who
//! asks, and nothing is decided by it. Within a call it is a task-local value, so that whatever the call sends carries it and no function needs it as
//! an argument.

use std::fmt;

use serde::{Serialize, Serializer};

/// The id of a request, and that of the step in it that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    span: u64,
    flags: u8,
}

tokio::task_local! {
    static CURRENT: Option<Trace>;
}

impl Trace {
    /// A new request.
    pub fn begin() -> Self {
        // Zero is not a valid id.
        Trace { id: rand::random::<u128>().max(1), span: rand::random::<u64>().max(1), flags: 1 }
    }

    /// A further step of the same request.
    pub fn step(self) -> Self {
        Trace { span: rand::random::<u64>().max(1), ..self }
    }

    /// The request that the text names. Absent where the text is not a `traceparent` of version 00.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let dashes = [2, 35, 52].iter().all(|&at| bytes.get(at) == Some(&b'-'));
        let lower = bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
        if bytes.len() != 55 || !dashes || !lower || &text[..2] != "00" {
            return None;
        }
        let id = u128::from_str_radix(&text[3..35], 16).ok().filter(|id| *id != 0)?;
        let span = u64::from_str_radix(&text[36..52], 16).ok().filter(|span| *span != 0)?;
        Some(Trace { id, span, flags: u8::from_str_radix(&text[53..], 16).ok()? })
    }

    /// The request that the call which runs here belongs to, if any.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|trace| *trace).ok().flatten()
    }

    /// Runs something as part of a request.
    pub async fn within<T>(trace: Option<Self>, what: impl Future<Output = T>) -> T {
        CURRENT.scope(trace, what).await
    }

    /// The request's id.
    pub fn id(&self) -> impl fmt::Display + use<> {
        let id = self.id;
        fmt::from_fn(move |f| write!(f, "{id:032x}"))
    }

    /// The step's id.
    pub fn span(&self) -> impl fmt::Display + use<> {
        let span = self.span;
        fmt::from_fn(move |f| write!(f, "{span:016x}"))
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.id, self.span, self.flags)
    }
}

impl Serialize for Trace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x4_a_trace_is_written_and_read_as_a_traceparent() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = Trace::parse(text).unwrap();
        assert_eq!(trace.to_string(), text);
        let step = trace.step();
        assert!(step.id().to_string() == trace.id().to_string() && step.span().to_string() != trace.span().to_string());
        assert_eq!(Trace::parse(&Trace::begin().to_string()).map(|trace| trace.flags), Some(1));
        for bad in [
            "",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6-3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Trace::parse(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn x4_what_runs_within_a_request_knows_it_and_what_is_spawned_does_not() {
        let trace = Trace::begin();
        let (here, elsewhere) = Trace::within(Some(trace), async {
            (Trace::current(), tokio::spawn(async { Trace::current() }).await.unwrap())
        })
        .await;
        assert_eq!((here, elsewhere, Trace::current()), (Some(trace), None, None));
    }
}
