//! The newest lines that a program has written, numbered, for readers that come later or follow.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use super::kept_output::OutputFile;

/// The default number of lines that are kept, each of at most 8 KiB.
pub const KEPT_LINES: usize = 1000;
/// The most bytes of all texts in one answer, fewer than a module may be given.
const MAX_ANSWER: usize = 512 * 1024;

/// A bounded number of lines. A new line replaces the oldest one. Numbers begin at 1 and go on over restarts of the program; with a file they go on over
/// restarts of this process too.
pub struct Ring {
    lines: Mutex<VecDeque<KeptLine>>,
    limit: usize,
    /// The number of the last line; 0 before the first.
    last: watch::Sender<u64>,
    /// Where all lines are written.
    file: Option<OutputFile>,
}

/// A line that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptLine {
    /// Its number.
    pub n: u64,
    /// When it was read, milliseconds since 1970-01-01 00:00 UTC.
    pub time: u64,
    /// Whether it was written to standard error.
    pub error: bool,
    /// Whether the host says it: that lines are missing at this place.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host: bool,
    /// The line without its end.
    pub text: String,
}

/// Some lines of a ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinePage {
    /// In their order.
    pub lines: Vec<KeptLine>,
    /// The number of the ring's last line, which need not be one of these; 0 if there is none.
    pub last: u64,
}

impl Ring {
    /// A ring of at most `limit` lines.
    pub fn new(limit: usize) -> Self {
        Ring { lines: Mutex::default(), limit: limit.max(1), last: watch::Sender::new(0), file: None }
    }

    /// As [`Ring::new`], with a file that all lines are written to. Numbers go on after the file's last line.
    pub fn kept_in(limit: usize, file: OutputFile) -> Self {
        let last = watch::Sender::new(file.last());
        Ring { last, file: Some(file), ..Ring::new(limit) }
    }

    /// Waits until all lines are in the file, at most for that time. Blocks the thread.
    pub fn flush(&self, at_most: Duration) -> bool {
        self.file.as_ref().is_none_or(|file| file.flush(at_most))
    }

    /// Adds a line and wakes those who wait for one.
    pub(super) fn push(&self, error: bool, text: &str) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let time = time.try_into().unwrap_or(u64::MAX);
        let mut lines = self.lines.lock();
        if lines.len() >= self.limit {
            lines.pop_front();
        }
        let n = *self.last.borrow() + 1;
        let line = KeptLine { n, time, error, host: false, text: text.to_owned() };
        // Under the lock, so that the lines of both streams stand in the file in the order of their numbers.
        if let Some(file) = &self.file {
            file.take(&line);
        }
        lines.push_back(line);
        // Sent under the lock, so that numbers are told in their order.
        self.last.send_replace(n);
    }

    /// The newest lines, or with `since` the first ones after that number, at most `limit`. If there are none, waits for one, at most `wait`. With a
    /// `since` above the last number all lines count as new, because the number comes from an earlier host.
    pub async fn read(&self, since: Option<u64>, limit: usize, wait: Duration) -> LinePage {
        let mut last = self.last.subscribe();
        let known = *last.borrow_and_update();
        let since = since.map(|since| if since > known { 0 } else { since });
        if known <= since.unwrap_or(0) {
            // The answer is the same whether a line came or the time is over: the lines that there are.
            let _ = tokio::time::timeout(wait, last.changed()).await;
        }
        let lines = self.lines.lock();
        let after = since.map_or(0, |since| lines.partition_point(|line| line.n <= since));
        let count = (lines.len() - after).min(limit);
        let first = if since.is_some() { after } else { lines.len() - count };
        let mut chosen: Vec<KeptLine> = Vec::with_capacity(count);
        let mut room = MAX_ANSWER;
        let fits = |line: &KeptLine, room: &mut usize| match room.checked_sub(line.text.len()) {
            Some(left) => {
                *room = left;
                true
            }
            None => false,
        };
        let range = lines.range(first..first + count);
        if since.is_some() {
            chosen.extend(range.take_while(|line| fits(line, &mut room)).cloned());
        } else {
            // The newest lines are taken first, because they matter most if not all fit.
            chosen.extend(range.rev().take_while(|line| fits(line, &mut room)).cloned());
            chosen.reverse();
        }
        LinePage { lines: chosen, last: *self.last.borrow() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn numbers(kept: &LinePage) -> (Vec<u64>, u64) {
        (kept.lines.iter().map(|line| line.n).collect(), kept.last)
    }

    #[tokio::test]
    async fn p_the_newest_lines_are_kept_and_followed_without_a_gap() {
        let ring = Ring::new(3);
        let read = async |since, limit| numbers(&ring.read(since, limit, Duration::ZERO).await);
        assert_eq!(read(None, 10).await, (vec![], 0));
        (1..=5).for_each(|n| ring.push(n % 2 == 0, &format!("line {n}")));
        assert_eq!(read(None, 10).await, (vec![3, 4, 5], 5));
        assert_eq!(read(None, 2).await, (vec![4, 5], 5));
        assert_eq!(read(Some(3), 1).await, (vec![4], 5));
        assert_eq!(read(Some(0), 10).await, (vec![3, 4, 5], 5));
        assert_eq!(read(Some(5), 10).await, (vec![], 5));
        assert_eq!(read(Some(77), 10).await, (vec![3, 4, 5], 5), "a number of an earlier host");
        let kept = ring.read(Some(3), 1, Duration::ZERO).await;
        assert!(kept.lines[0].error && kept.lines[0].text == "line 4" && kept.lines[0].time > 1_600_000_000_000);
    }

    #[tokio::test]
    async fn p_whoever_waits_is_woken_by_the_next_line() {
        let ring = Arc::new(Ring::new(3));
        ring.push(false, "one");
        let follower = ring.clone();
        let waiting = tokio::spawn(async move { follower.read(Some(1), 10, Duration::from_secs(60)).await });
        tokio::task::yield_now().await;
        ring.push(false, "two");
        assert_eq!(numbers(&waiting.await.unwrap()), (vec![2], 2));
    }

    #[tokio::test]
    async fn p_an_answer_is_bounded() {
        let ring = Ring::new(1000);
        let text = "x".repeat(8 * 1024);
        (0..200).for_each(|_| ring.push(false, &text));
        assert_eq!(numbers(&ring.read(None, 1000, Duration::ZERO).await).0, (137..=200).collect::<Vec<_>>());
        assert_eq!(numbers(&ring.read(Some(0), 1000, Duration::ZERO).await).0, (1..=64).collect::<Vec<_>>());
    }
}
