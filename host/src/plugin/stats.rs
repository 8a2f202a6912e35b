//! Figures of a module id's handlers, kept over its versions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Histogram};
use parking_lot::Mutex;
use serde::Serialize;

use super::Handler;
use crate::failure::{Failure, Whose, code};
use crate::util::label;

/// Figures of all handlers of one module id.
#[derive(Debug)]
pub struct Stats {
    module: String,
    handlers: [Counters; Handler::ALL.len()],
    skipped: AtomicU64,
    last: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Counters {
    calls: AtomicU64,
    failures: AtomicU64,
    refusals: AtomicU64,
    nanos: AtomicU64,
    exported: OnceLock<Exported>,
}

/// The same figures as metrics, looked up once: at the handler's first call.
struct Exported {
    calls: Counter,
    seconds: Histogram,
    /// By the index of the code in [`code::ALL`]. The last is for all other codes, because a module could make up new ones without end.
    failures: [OnceLock<Counter>; code::ALL.len() + 1],
}

impl fmt::Debug for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exported")
    }
}

impl Exported {
    fn new(module: &str, handler: Handler) -> Self {
        let labels = || [("module", label(module)), ("handler", handler.as_str().to_owned())];
        Exported {
            calls: metrics::counter!("pomelo_handler_calls_total", &labels()),
            seconds: metrics::histogram!("pomelo_handler_duration_seconds", &labels()),
            failures: Default::default(),
        }
    }

    fn failed(&self, module: &str, handler: Handler, failure: &Failure) {
        let index = code::ALL.iter().position(|code| *code == failure.code).unwrap_or(code::ALL.len());
        let counter = self.failures[index].get_or_init(|| {
            let code = code::ALL.get(index).copied().unwrap_or("other");
            let whose = failure.whose().as_str();
            let labels = [
                ("module", label(module)),
                ("handler", handler.as_str().to_owned()),
                ("code", code.to_owned()),
                ("whose", whose.to_owned()),
            ];
            metrics::counter!("pomelo_handler_failures_total", &labels)
        });
        counter.increment(1);
    }
}

/// Figures of one handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HandlerStats {
    /// Calls that have ended.
    pub calls: u64,
    /// Those that failed by a fault of the module's.
    pub failures: u64,
    /// Those that were not done for another reason: a mistake of the caller's, or no room.
    pub refusals: u64,
    /// Time from the arrival to the end of all calls, microseconds.
    pub micros: u64,
}

impl Stats {
    /// No calls yet.
    pub fn new(module: &str) -> Self {
        Stats {
            module: module.to_owned(),
            handlers: Default::default(),
            skipped: AtomicU64::new(0),
            last: Mutex::default(),
        }
    }

    /// Counts a call that has ended.
    pub fn ended(&self, handler: Handler, took: Duration, failure: Option<&Failure>) {
        let counters = &self.handlers[handler.index()];
        counters.calls.fetch_add(1, Ordering::Relaxed);
        let exported = counters.exported.get_or_init(|| Exported::new(&self.module, handler));
        exported.calls.increment(1);
        exported.seconds.record(took);
        counters.nanos.fetch_add(took.as_nanos().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Some(failure) = failure {
            if failure.whose() == Whose::Module {
                counters.failures.fetch_add(1, Ordering::Relaxed);
                *self.last.lock() = Some(failure.to_string());
            } else {
                counters.refusals.fetch_add(1, Ordering::Relaxed);
            }
            exported.failed(&self.module, handler, failure);
        }
    }

    /// Counts a turn of the timer that was left out because the one before it was still running.
    pub fn skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("pomelo_timer_turns_skipped_total", "module" => label(&self.module)).increment(1);
    }

    /// Turns of the timer that were left out.
    pub fn turns_skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// What the last call failed with that failed by a fault of the module's.
    pub fn last_failure(&self) -> Option<String> {
        self.last.lock().clone()
    }

    /// Figures of the handlers that have been called.
    pub fn handlers(&self) -> BTreeMap<&'static str, HandlerStats> {
        let figures = |handler: Handler| {
            let counters = &self.handlers[handler.index()];
            let stats = HandlerStats {
                calls: counters.calls.load(Ordering::Relaxed),
                failures: counters.failures.load(Ordering::Relaxed),
                refusals: counters.refusals.load(Ordering::Relaxed),
                micros: counters.nanos.load(Ordering::Relaxed) / 1000,
            };
            (stats.calls > 0).then_some((handler.as_str(), stats))
        };
        Handler::ALL.into_iter().filter_map(figures).collect()
    }

    /// Calls, failures and refusals of all handlers together.
    pub fn total(&self) -> (u64, u64, u64) {
        let sum = |of: fn(&Counters) -> &AtomicU64| self.handlers.iter().map(|c| of(c).load(Ordering::Relaxed)).sum();
        (sum(|c| &c.calls), sum(|c| &c.failures), sum(|c| &c.refusals))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_for_whoever_made_it() {
        let stats = Stats::new("a");
        let whose =
            [code::NOT_FOUND, code::BAD_MESSAGE, code::FORBIDDEN, code::BUSY, code::PUT_ASIDE, code::NO_HANDLER];
        for code in whose {
            stats.ended(Handler::Client, Duration::ZERO, Some(&Failure::new(code, "not the module's")));
        }
        assert_eq!((stats.total(), stats.last_failure()), ((6, 0, 6), None));
        for code in [code::TRAP, code::CPU_LIMIT, code::MEMORY_LIMIT, code::TIMEOUT, code::BAD_ANSWER, code::FAILED] {
            stats.ended(Handler::Client, Duration::ZERO, Some(&Failure::new(code, "the module's")));
        }
        stats.ended(Handler::Client, Duration::ZERO, Some(&Failure::new("no-luck", "a code of its own")));
        stats.ended(Handler::Client, Duration::ZERO, None);
        assert_eq!(stats.total(), (14, 7, 6));
        assert_eq!(stats.last_failure().unwrap(), "a code of its own (no-luck)");
    }
}
