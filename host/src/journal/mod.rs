//! The journal: what has happened in a cluster, such as joins, exits, restarts, reloads, refusals and alarms.
//!
//! The newest events stand in a ring of fixed length. Each has a running number, so that a reader can go on after the last event that it has seen, and
//! can wait for more. A master has such a journal for operators. A monitor has one that its link reads, so that the master learns what happened while it
//! was away. Faults of the machine that last are named apart (`faults`). This part knows neither who writes nor who reads.

mod archive;
mod event;
mod faults;
mod ring;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

pub use archive::Archive;
pub use event::{Event, Report, kind};
use faults::Faults;
pub use faults::at;
pub use ring::Page;
use ring::Ring;

/// A journal. Clones are the same journal. The default one keeps nothing but the faults that last.
#[derive(Clone, Default)]
pub struct Journal {
    kept: Option<Arc<SharedRing>>,
    faults: Faults,
}

/// What the clones of a journal share.
struct SharedRing {
    ring: Mutex<Ring>,
    /// Number of the newest event.
    last: watch::Sender<u64>,
}

impl Journal {
    /// A journal of the newest `limit` events.
    pub fn new(limit: usize) -> Self {
        Self::of(Ring::new(limit))
    }

    /// A journal of the newest `limit` events, which folds those that a server in a crash loop causes again and again: an event that repeats one of the
    /// last ten minutes takes its place, with a new number, a count, and the time of the first. With an archive, events and numbers outlive the process.
    pub fn folding(limit: usize, archive: Option<Arc<dyn Archive>>) -> Self {
        Self::of(Ring::folding(limit, archive))
    }

    fn of(ring: Ring) -> Self {
        let last = watch::Sender::new(ring.last());
        Journal { kept: Some(Arc::new(SharedRing { ring: Mutex::new(ring), last })), faults: Faults::default() }
    }

    /// Says that the process ends in order, so that the next one goes on with the next number. Events may still be written.
    pub fn close(&self) {
        if let Some(shared) = &self.kept {
            shared.ring.lock().close();
        }
    }

    /// Writes an event. The journal sets its number, and its time unless it has one.
    pub fn record(&self, event: Event) {
        metrics::counter!("pomelo_events_total", "kind" => kind::known(&event.kind)).increment(1);
        let Some(shared) = &self.kept else { return };
        // Sent under the lock, so that the number of the newest event never goes back.
        let mut ring = shared.ring.lock();
        let last = ring.push(event);
        shared.last.send_replace(last);
    }

    /// As [`Journal::record`], for events that strangers can cause as often as they like. Only some of them in a second are kept, so that they cannot push
    /// everything else out.
    pub fn record_some(&self, event: Event) {
        let Some(shared) = &self.kept else { return };
        if shared.ring.lock().has_room_for_one_more() {
            self.record(event);
        } else {
            metrics::counter!("pomelo_events_dropped_total").increment(1);
        }
    }

    /// The events after number `since`, as many as fit into one answer. A number that is not reached yet comes from an earlier process: then all events are
    /// new.
    pub fn page(&self, since: u64) -> Page {
        match &self.kept {
            Some(shared) => shared.ring.lock().page(since),
            None => Page { events: Vec::new(), last: 0, newest: 0, missed: 0, durable: false },
        }
    }

    /// As [`Journal::page`]. If there is no new event yet, waits for one, at most for the time given.
    pub async fn next(&self, since: u64, at_most: Duration) -> Page {
        if let Some(shared) = &self.kept {
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

    /// An archive in memory.
    #[derive(Default)]
    struct Kept(Mutex<(std::collections::BTreeMap<u64, String>, Option<u64>)>);

    impl Archive for Kept {
        fn load(&self) -> Vec<(u64, String)> {
            self.0.lock().0.iter().map(|(number, event)| (*number, event.clone())).collect()
        }

        fn put(&self, number: u64, event: Option<String>) {
            let events = &mut self.0.lock().0;
            match event {
                Some(event) => drop(events.insert(number, event)),
                None => drop(events.remove(&number)),
            }
        }

        fn reserved(&self) -> Option<u64> {
            self.0.lock().1
        }

        fn reserve(&self, number: u64) {
            self.0.lock().1 = Some(number);
        }
    }

    fn exit(server: &str, code: i32) -> Event {
        Event::new(kind::EXIT, format!("the program ended with code {code}")).server(server).exit(
            Some(code),
            None,
            vec![],
        )
    }

    #[test]
    fn a_crash_loop_is_one_event_of_each_cause_and_its_number_tells_that_it_goes_on() {
        let journal = Journal::folding(20, None);
        journal.record(Event::new(kind::ALARM, "look"));
        for pid in 0..500 {
            journal.record(exit("chat-1", 7));
            journal.record(Event::new(kind::RESTART, format!("runs again, as process {pid}")).server("chat-1"));
        }
        journal.record(exit("chat-1", 8));
        journal.record(exit("chat-2", 7));
        let page = journal.page(0);
        let shown: Vec<_> = page.events.iter().map(|event| (&*event.kind, event.code, event.count)).collect();
        assert_eq!(
            shown,
            [
                (kind::ALARM, None, None),
                (kind::EXIT, Some(7), Some(500)),
                (kind::RESTART, None, Some(500)),
                (kind::EXIT, Some(8), None),
                (kind::EXIT, Some(7), None),
            ]
        );
        assert_eq!((page.missed, page.last), (0, 1003));
        assert!(page.events[1].first.unwrap() <= page.events[1].time);
        journal.record(exit("chat-1", 7));
        let news = journal.page(page.last);
        assert_eq!((numbers(&news), news.events[0].count, news.missed), (vec![1004], Some(501), 0));
    }

    #[test]
    fn events_and_numbers_go_on_over_a_restart() {
        let archive = Arc::new(Kept::default());
        let journal = || Journal::folding(3, Some(archive.clone()));
        let first = journal();
        for code in 0..5 {
            first.record(exit("chat-1", code));
        }
        let before = first.page(0);
        assert_eq!((numbers(&before), before.missed, before.durable), (vec![3, 4, 5], 2, true));
        first.close();
        let second = journal();
        let kept = second.page(0);
        assert_eq!(kept.events, before.events);
        second.record(exit("chat-1", 4));
        let folded = second.page(5);
        assert_eq!((numbers(&folded), folded.events[0].count), (vec![6], Some(2)));
        // It was killed: what it gave last may not be on the disk, and nobody is given one of its numbers.
        archive.put(6, None);
        let third = journal();
        third.record(Event::new(kind::ALARM, "look"));
        let page = third.page(6);
        assert!(page.events.len() == 1 && page.events[0].n > 6, "{page:?}");
        assert_eq!(archive.load().len(), 3, "no more is kept on the disk than in memory");
    }

    proptest::proptest! {
        #[test]
        fn folding_never_loses_an_event_of_another_cause(happened in proptest::collection::vec((0..4_u8, 0..3_i32), 1..200)) {
            // As many causes as there can be, so that nothing has to be pushed out.
            let journal = Journal::folding(12, None);
            let mut wanted = std::collections::BTreeMap::<(String, i32), u64>::new();
            for (server, code) in happened {
                let server = format!("chat-{}", char::from(b'a' + server));
                journal.record(exit(&server, code));
                *wanted.entry((server, code)).or_default() += 1;
            }
            let page = journal.page(0);
            let seen = page.events.iter().map(|event| {
                ((event.server.clone().unwrap(), event.code.unwrap()), event.count.unwrap_or(1))
            });
            proptest::prop_assert_eq!(seen.collect::<std::collections::BTreeMap<_, _>>(), wanted);
            proptest::prop_assert_eq!(page.missed, 0);
            proptest::prop_assert!(page.events.windows(2).all(|pair| pair[0].n < pair[1].n));
        }
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
