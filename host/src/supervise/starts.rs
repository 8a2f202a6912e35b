//! How many programs are started in a time. When many have failed together, the machine must not be asked to start all of them in one moment.
//!
//! Every start has a turn: so many at once as in a second, and then one in each part of a second. A turn is reserved, and whoever has it waits until
//! it comes. Monitors are processes of their own, so that the turns of one machine are kept in a file that all of them lock. If the file cannot be
//! used, each process has turns of its own.
//!
//! Programs that are started again because they ended have turns of their own. So a crash loop of many does not delay what somebody has ordered.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;

use crate::util::private;
use crate::util::proc::boot_id;

/// Why a program is not started yet that waits for its turn.
pub const TURN: &str = "it waits for its turn, because many are started";
/// How long the file may be locked by somebody else. It is locked for as long as it takes to read and write a line.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two tries to lock it.
const PAUSE: Duration = Duration::from_millis(5);
/// A turn that is further away than this is an error in the file.
const FURTHEST: Duration = Duration::from_secs(3600);
/// The most bytes of the file.
const FILE: u64 = 256;

/// Why a program is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// For the first time, or because somebody ordered it.
    Asked,
    /// Because it has ended.
    Again,
}

/// The turns of a process, or of all processes of a machine that name the same file. Clones share them.
#[derive(Clone, Debug)]
pub struct Starts(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    rate: Rate,
    /// Where the turns of several processes are kept.
    file: Option<PathBuf>,
    own: Mutex<Turns>,
    /// Whether it was said that the file cannot be used.
    warned: AtomicBool,
}

/// So many at once, and one in each interval.
#[derive(Clone, Copy, Debug)]
struct Rate {
    at_once: u32,
    interval: Duration,
}

/// When all turns that were taken have come, since the machine was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Turns {
    asked: Duration,
    again: Duration,
}

/// A program that waits for its turn, for as long as this lives. It is counted.
pub(super) struct Waits(());

impl Waits {
    pub fn begin() -> Self {
        metrics::counter!("pomelo_starts_delayed_total").increment(1);
        metrics::gauge!("pomelo_starts_waiting").increment(1.0);
        Waits(())
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        metrics::gauge!("pomelo_starts_waiting").decrement(1.0);
    }
}

impl Starts {
    /// Every start at once.
    pub const fn unlimited() -> Self {
        Starts(None)
    }

    /// So many starts in a second (at least one), and so many at once. `file` has the turns of all processes that name it; without one they are this
    /// process's own. The directory of the file must be there.
    pub fn per_second(rate: u32, file: Option<PathBuf>) -> Self {
        let at_once = rate.max(1);
        let rate = Rate { at_once, interval: Duration::from_secs(1) / at_once };
        Starts(Some(Arc::new(Shared { rate, file, own: Mutex::default(), warned: AtomicBool::new(false) })))
    }

    /// The same, where the next turns come only so much later.
    #[cfg(test)]
    pub(super) fn used_up(self, asked: Duration, again: Duration) -> Self {
        if let Some(shared) = &self.0 {
            *shared.own.lock() = Turns { asked: now() + asked, again: now() + again };
        }
        self
    }

    /// Takes a turn, and tells how long it is until then.
    pub(super) async fn turn(&self, why: Why) -> Duration {
        let Some(shared) = self.0.clone() else { return Duration::ZERO };
        if shared.file.is_none() {
            return shared.own_turn(why);
        }
        // Another process may hold the lock.
        tokio::task::spawn_blocking(move || shared.turn(why)).await.unwrap_or_default()
    }
}

impl Shared {
    fn turn(&self, why: Why) -> Duration {
        let Some(file) = &self.file else { return self.own_turn(why) };
        match turn_in(file, self.rate, why, &now, &boot_id()) {
            Ok(wait) => wait,
            Err(error) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        file = %file.display(), %error,
                        "starts of programs are not spread over all monitors of this machine, because this file cannot be used"
                    );
                }
                self.own_turn(why)
            }
        }
    }

    fn own_turn(&self, why: Why) -> Duration {
        self.own.lock().take(self.rate, why, now())
    }
}

impl Turns {
    /// Takes a turn; the time until then.
    fn take(&mut self, Rate { at_once, interval }: Rate, why: Why, now: Duration) -> Duration {
        let taken = match why {
            Why::Asked => &mut self.asked,
            Why::Again => &mut self.again,
        };
        // What is past frees no more turns than there are at once.
        let from = if *taken > now + FURTHEST { now } else { (*taken).max(now) };
        *taken = from + interval;
        taken.saturating_sub(interval * at_once).saturating_sub(now)
    }

    /// `BOOT ASKED AGAIN`, the times in nanoseconds. Turns of an earlier run of the machine, or none that can be read, are none.
    fn parse(text: &str, boot: &str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [at, asked, again] = words[..] else { return Turns::default() };
        let time = |word: &str| word.parse().map(Duration::from_nanos).unwrap_or_default();
        if at == boot { Turns { asked: time(asked), again: time(again) } } else { Turns::default() }
    }
}

/// Takes a turn of those in a file. `now` is asked when the file is locked.
fn turn_in(path: &Path, rate: Rate, why: Why, now: &dyn Fn() -> Duration, boot: &str) -> io::Result<Duration> {
    let mut file = private::options().read(true).write(true).create(true).truncate(false).open(path)?;
    lock(&file)?;
    let mut text = Vec::new();
    Read::by_ref(&mut file).take(FILE).read_to_end(&mut text)?;
    let mut turns = Turns::parse(&String::from_utf8_lossy(&text), boot);
    let wait = turns.take(rate, why, now());
    file.rewind()?;
    file.set_len(0)?;
    // The lock ends with the file. A process that dies before it has written leaves no turns.
    file.write_all(format!("{boot} {} {}\n", turns.asked.as_nanos(), turns.again.as_nanos()).as_bytes())?;
    Ok(wait)
}

fn lock(file: &File) -> io::Result<()> {
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if waited >= PATIENCE => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "somebody holds its lock"));
            }
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(PAUSE);
                waited += PAUSE;
            }
        }
    }
}

/// The time since the machine was started, the same for all its processes. Nobody can set this clock.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { at_once: 20, interval: Duration::from_millis(50) };

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn so_many_start_at_once_as_in_a_second_and_the_others_one_after_another() {
        let mut turns = Turns::default();
        let begin = millis(1_000_000);
        let mut take = |why, at| turns.take(RATE, why, begin + millis(at)).as_millis();
        let waits: Vec<_> = (0..200).map(|_| take(Why::Again, 0)).collect();
        let expected: Vec<_> = (0..200_u128).map(|n| (n + 1).saturating_sub(20) * 50).collect();
        assert_eq!(waits, expected, "200 take 9 s");
        assert_eq!(take(Why::Asked, 0), 0, "an order does not wait behind a crash loop");
        assert_eq!(take(Why::Again, 9_000), 50);
        assert_eq!(take(Why::Again, 9_100), 0);
        let after: Vec<_> = (0..21).map(|_| take(Why::Again, 60_000)).collect();
        assert_eq!(after[..20], [0; 20], "and no more at once after a pause");
        assert_eq!(after[20], 50);
    }

    #[test]
    fn many_processes_share_the_turns_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("starts");
        let at = || millis(5_000);
        let take = || turn_in(&path, RATE, Why::Again, &at, "boot").unwrap();
        let mut waits: Vec<Duration> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..5).map(|_| take()).collect::<Vec<_>>())).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        waits.sort_unstable();
        let expected: Vec<_> = (0..40_u64).map(|n| millis((n + 1).saturating_sub(20) * 50)).collect();
        assert_eq!(waits, expected, "no turn is given twice");
        // Those of an earlier run of the machine are over, whatever its clock said.
        assert_eq!(turn_in(&path, RATE, Why::Again, &|| millis(3), "next boot").unwrap(), Duration::ZERO);
        // What cannot be read, or says a time that cannot be, delays nobody.
        for text in ["", "x", "boot x y", "boot 99999999999999999999 99999999999999999999", "boot 9999999999999999 1"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(take(), Duration::ZERO, "{text}");
        }
    }

    #[tokio::test]
    async fn without_its_file_a_process_has_turns_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        // At a rate of one a second, the second start waits, however slow this test is: turns are taken from a far future.
        let starts = Starts::per_second(1, Some(dir.path().join("gone").join("starts")));
        let starts = starts.used_up(Duration::ZERO, millis(600_000));
        assert!(starts.turn(Why::Again).await > millis(1_000));
        assert!(starts.0.as_ref().unwrap().warned.load(Ordering::Relaxed), "it is said");
        assert_eq!(Starts::unlimited().turn(Why::Again).await, Duration::ZERO);
    }
}
