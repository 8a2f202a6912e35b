//! Figures of a module id's handlers, kept over its versions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::Handler;
use crate::failure::Failure;

/// Figures of all handlers of one module id.
#[derive(Debug, Default)]
pub struct Stats {
    handlers: [Counters; Handler::ALL.len()],
    skipped: AtomicU64,
    last: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Counters {
    calls: AtomicU64,
    failures: AtomicU64,
    nanos: AtomicU64,
}

/// Figures of one handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HandlerStats {
    /// Calls that have ended.
    pub calls: u64,
    /// Those that failed, for whatever reason.
    pub failures: u64,
    /// Time from the arrival to the end of all calls, microseconds.
    pub micros: u64,
}

impl Stats {
    /// Counts a call that has ended.
    pub fn ended(&self, handler: Handler, took: Duration, failure: Option<&Failure>) {
        let counters = &self.handlers[handler.index()];
        counters.calls.fetch_add(1, Ordering::Relaxed);
        counters.nanos.fetch_add(took.as_nanos().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Some(failure) = failure {
            counters.failures.fetch_add(1, Ordering::Relaxed);
            *self.last.lock() = Some(failure.to_string());
            // A module's own codes are no label: it could make up new ones for ever.
            let code = crate::failure::code::ALL.iter().find(|code| **code == failure.code).copied().unwrap_or("other");
            metrics::counter!("pomelo_handler_failures_total", "handler" => handler.as_str(), "code" => code)
                .increment(1);
        }
    }

    /// Counts a turn of the timer that was left out since the last one still ran.
    pub fn skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// Turns of the timer that were left out.
    pub fn turns_skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// What the last failed call failed with.
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
                micros: counters.nanos.load(Ordering::Relaxed) / 1000,
            };
            (stats.calls > 0).then_some((handler.as_str(), stats))
        };
        Handler::ALL.into_iter().filter_map(figures).collect()
    }

    /// Calls and failures of all handlers together.
    pub fn total(&self) -> (u64, u64) {
        let sum = |of: fn(&Counters) -> &AtomicU64| self.handlers.iter().map(|c| of(c).load(Ordering::Relaxed)).sum();
        (sum(|c| &c.calls), sum(|c| &c.failures))
    }
}
