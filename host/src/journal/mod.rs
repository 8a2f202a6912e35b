//! The journal: what has happened in a cluster, such as joins, exits, restarts, reloads, refusals and alarms.
//!
//! The newest events stand in a ring of fixed length. Each has a running number, so that a reader can go on after the last event that it has seen, and
//! can wait for more. A master has such a journal for operators. A monitor has one that its link reads, so that the master learns what happened while it
//! was away. This part knows neither who writes nor who reads.

mod event;
mod ring;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

pub use event::{Event, Report, kind};
pub use ring::Page;
use ring::Ring;

/// A journal. Clones are the same journal. The default one keeps nothing.
#[derive(Clone, Default)]
pub struct Journal(Option<Arc<SharedRing>>);

/// What the clones of a journal share.
struct SharedRing {
    ring: Mutex<Ring>,
    /// Number of the newest event.
    last: watch::Sender<u64>,
}

impl Journal {
    /// A journal of the newest `limit` events.
    pub fn new(limit: usize) -> Self {
        Journal(Some(Arc::new(SharedRing { ring: Mutex::new(Ring::new(limit)), last: watch::Sender::new(0) })))
    }

    /// Writes an event. The journal sets its number, and its time unless it has one.
    pub fn record(&self, event: Event) {
        metrics::counter!("pomelo_events_total", "kind" => kind::known(&event.kind)).increment(1);
        let Some(shared) = &self.0 else { return };
        // Sent under the lock, so that the number of the newest event never goes back.
        let mut ring = shared.ring.lock();
        let last = ring.push(event);
        shared.last.send_replace(last);
    }

    /// As [`Journal::record`], for events that strangers can cause as often as they like. Only some of them in a second are kept, so that they cannot push
    /// everything else out.
    pub fn record_some(&self, event: Event) {
        let Some(shared) = &self.0 else { return };
        if shared.ring.lock().has_room_for_one_more() {
            self.record(event);
        } else {
            metrics::counter!("pomelo_events_dropped_total").increment(1);
        }
    }

    /// The events after number `since`, as many as fit into one answer. A number that is not reached yet comes from an earlier process: then all events are
    /// new.
    pub fn page(&self, since: u64) -> Page {
        match &self.0 {
            Some(shared) => shared.ring.lock().page(since),
            None => Page { events: Vec::new(), last: 0, missed: 0 },
        }
    }

    /// As [`Journal::page`]. If there is no new event yet, waits for one, at most for the time given.
    pub async fn next(&self, since: u64, at_most: Duration) -> Page {
        if let Some(shared) = &self.0 {
            let mut last = shared.last.subscribe();
            let newer = last.wait_for(|last| *last != since && *last > 0);
            // The sender is part of the journal.
            let _ = tokio::time::timeout(at_most, newer).await;
        } else {
            tokio::time::sleep(at_most).await;
        }
        self.page(since)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(page: &Page) -> Vec<u64> {
        page.events.iter().map(|event| event.n).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_numbered_kept_within_bounds_and_waited_for() {
        let journal = Journal::new(3);
        assert!(journal.next(0, Duration::ZERO).await.events.is_empty());
        for number in 1..=5 {
            journal.record(Event::new(kind::JOIN, format!("event {number}")).server("s"));
        }
        let page = journal.page(0);
        assert_eq!((numbers(&page), page.last, page.missed), (vec![3, 4, 5], 5, 2));
        assert_eq!(numbers(&journal.page(4)), [5]);
        assert!(journal.page(5).events.is_empty());
        assert_eq!(numbers(&journal.page(77)), [3, 4, 5], "a number of an earlier process");
        let (waiting, writer) = (journal.clone(), journal.clone());
        let waiting = tokio::spawn(async move { waiting.next(5, Duration::from_secs(60)).await });
        tokio::task::yield_now().await;
        writer.record(Event::new(kind::LEAVE, "left"));
        let page = waiting.await.unwrap();
        assert_eq!((numbers(&page), page.last), (vec![6], 6));
    }

    #[test]
    fn what_strangers_cause_pushes_little_out_and_long_texts_are_cut() {
        let journal = Journal::new(1000);
        for _ in 0..500 {
            journal.record_some(Event::new(kind::REFUSAL, "x".repeat(10_000)));
        }
        let page = journal.page(0);
        assert!((1..=40).contains(&page.events.len()), "{}", page.events.len());
        assert!(page.events.iter().all(|event| event.message.len() < 1100));
    }

    #[test]
    fn an_answer_is_bounded_and_goes_on_where_it_ended() {
        let journal = Journal::new(1000);
        let lines = vec!["y".repeat(500); 10];
        for _ in 0..1000 {
            journal.record(Event::new(kind::EXIT, "ended").exit(Some(1), None, lines.clone()));
        }
        let (mut seen, mut since) = (0, 0);
        loop {
            let page = journal.page(since);
            assert!(serde_json::to_string(&page).unwrap().len() < 512 << 10);
            seen += page.events.len();
            since = page.last;
            if page.events.is_empty() {
                break;
            }
        }
        assert_eq!(seen, 1000);
    }

    #[test]
    fn a_monitors_report_is_what_it_says_and_never_who_it_is() {
        let report: Report = serde_json::from_str(
            r#"{"kind":"exit","server":"other","client":"admin","module":"m","message":"ended","code":3,"lines":["a"],"ago":1000,"more":1}"#,
        )
        .unwrap();
        let event = report.of("chat-1", 50_000);
        assert_eq!((event.server.as_deref(), event.time, event.code), (Some("chat-1"), 49_000, Some(3)));
        assert_eq!(event.lines, ["a"]);
        assert_eq!(event.client, None, "no client has done anything there");
        let long = "x".repeat(65);
        for (kind, expected) in [("given-up", "given-up"), ("a\u{1b}[2J", "other"), ("", "other"), (&*long, "other")] {
            let report = serde_json::json!({ "kind": kind, "message": "" });
            let report: Report = serde_json::from_value(report).unwrap();
            assert_eq!(report.of("chat-1", 0).kind, expected);
        }
    }
}
