use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::journal::{Journal, kind};
use crate::supervise::Ring;

const LONG: Duration = Duration::from_secs(60);

fn opened(dir: &Path, options: Options, journal: &Journal) -> Ring {
    Ring::kept_in(10, OutputFile::open(dir, options, "chat-1", journal.clone()).unwrap())
}

fn write(ring: &Ring, lines: std::ops::RangeInclusive<u64>) {
    for number in lines {
        ring.push(number % 2 == 0, &format!("line {number}"));
    }
    assert!(ring.flush(LONG));
}

fn numbers(read: &Read) -> Vec<u64> {
    read.lines.iter().map(|line| line.n).collect()
}

#[test]
fn lines_are_numbered_over_restarts_and_read_from_either_end() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_bytes: 300, keep: 3 };
    assert!(matches!(read(dir.path(), &Query::default()), Err(QueryError::NoFile)));
    let ring = opened(dir.path(), options, &Journal::default());
    write(&ring, 1..=20);
    assert!(matches!(
        OutputFile::open(dir.path(), options, "chat-1", Journal::default()),
        Err(OpenError::InUse { .. })
    ));
    drop(ring);
    // As after a crash in the middle of a line.
    let mut text = fs::read(dir.path().join(FILE)).unwrap();
    text.extend_from_slice(b"2026-01-31T12:00:00.000Z 99999 ou");
    fs::write(dir.path().join(FILE), text).unwrap();
    let ring = opened(dir.path(), options, &Journal::default());
    write(&ring, 21..=40);
    let all = read(dir.path(), &Query { since: Some(0), ..Query::default() }).unwrap();
    let first = all.lines[0].n;
    assert!(first > 1 && first <= 21, "older files are gone: {first}");
    assert_eq!(numbers(&all), (first..=40).collect::<Vec<_>>());
    assert_eq!((all.last, all.end, all.more), (40, 40, false));
    assert!(all.lines.iter().all(|line| line.error == (line.n % 2 == 0) && line.text == format!("line {}", line.n)));
    assert!(!dir.path().join("output.log.4").exists() && dir.path().join("output.log.3").exists());
    let newest = read(dir.path(), &Query { lines: Some(3), ..Query::default() }).unwrap();
    assert_eq!((numbers(&newest), newest.end), (vec![38, 39, 40], 40));
    for since in first..=40 {
        let rest = read(dir.path(), &Query { since: Some(since), lines: Some(2), ..Query::default() }).unwrap();
        assert_eq!(numbers(&rest), (since + 1..=(since + 2).min(40)).collect::<Vec<_>>());
        assert_eq!((rest.end, rest.more), ((since + 2).min(40), since + 2 < 40));
    }
}

#[test]
fn lines_are_found_by_pattern_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let ring = opened(dir.path(), Options::default(), &Journal::default());
    write(&ring, 1..=30);
    ring.push(true, "a (strange [line");
    assert!(ring.flush(LONG));
    let grep = |grep: &str, since| {
        let query = Query { grep: Some(grep.into()), since, ..Query::default() };
        numbers(&read(dir.path(), &query).unwrap())
    };
    assert_eq!(grep("line [12]$", None), [1, 2]);
    assert_eq!(grep("e 3", Some(3)), [30]);
    assert_eq!(grep("(strange [", None), [31], "what is no pattern is looked for as it stands");
    let long = Query { grep: Some("x".repeat(2000)), ..Query::default() };
    assert!(matches!(read(dir.path(), &long), Err(QueryError::Pattern)));
    let all = read(dir.path(), &Query { since: Some(0), from: Some(1), ..Query::default() }).unwrap();
    assert_eq!(all.lines.len(), 31);
    let later = Query { from: Some(all.lines[30].time + 1), ..Query::default() };
    assert!(read(dir.path(), &later).unwrap().lines.is_empty());
    let later = read(dir.path(), &Query { since: Some(0), ..later }).unwrap();
    assert_eq!((later.lines.len(), later.end), (0, 31), "whoever follows goes on after the last line");
    let small = read(dir.path(), &Query { since: Some(0), bytes: Some(300), ..Query::default() }).unwrap();
    assert_eq!((numbers(&small), small.end, small.more), (vec![1, 2, 3], 3, true));
}

#[test]
fn a_line_is_found_in_a_file_that_is_too_large_to_be_read_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let ring = opened(dir.path(), Options::default(), &Journal::default());
    for number in 1..=5000 {
        ring.push(false, &"x".repeat(number % 300));
        if number % 500 == 0 {
            assert!(ring.flush(LONG));
        }
    }
    for since in (0..5000).step_by(317) {
        let rest = read(dir.path(), &Query { since: Some(since), lines: Some(1), ..Query::default() }).unwrap();
        assert_eq!(numbers(&rest), [since + 1]);
    }
}

#[test]
fn a_disk_that_takes_no_lines_is_an_alarm_and_the_lines_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join(FILE)).unwrap();
    let journal = Journal::new(10);
    let ring = opened(dir.path(), Options::default(), &journal);
    write(&ring, 1..=5);
    let events = journal.page(0).events;
    assert_eq!((events.len(), &*events[0].kind, events[0].server.as_deref()), (1, kind::ALARM, Some("chat-1")));
    assert!(events[0].message.contains("No space left"), "{}", events[0].message);
}

#[tokio::test]
async fn whoever_waits_is_told_of_the_next_line_that_matches() {
    let dir = tempfile::tempdir().unwrap();
    let ring = Arc::new(opened(dir.path(), Options::default(), &Journal::default()));
    ring.push(false, "one");
    let query = Query { since: Some(1), grep: Some("three".into()), wait: 60_000, ..Query::default() };
    let waiting = tokio::spawn(read_or_wait(dir.path().to_owned(), query, LONG));
    ring.push(false, "two");
    ring.push(false, "three");
    let read = waiting.await.unwrap().unwrap();
    assert_eq!((numbers(&read), read.end), (vec![3], 3));
}
