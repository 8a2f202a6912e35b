//! New versions of a module while it has work: what of it fails, and for how long nobody is answered.
//!
//! The module is a fixture of 115 kB. Its second version answers with a member of another name, by which the answers of the two are told apart.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::{Run, median_and_worst, millis};
use crate::client::{Ask, Client};
use crate::master::{Home, Master};
use crate::wire::Wire;

/// What `probe` is asked.
pub const LOOK: Ask<'static> = Ask::Module("probe", r#"{"do":"look"}"#);
const CASE: &str = "reload of 115 kB, 64 in flight";
const AT_ONCE: usize = 64;
/// Between two versions.
const PAUSE: Duration = Duration::from_millis(150);
/// How long a version may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which version an answer is of, 0 or 1.
pub fn version(answer: &[u8]) -> usize {
    usize::from(memchr::memmem::find(answer, b"option2").is_some())
}

/// What the thread that asks has seen.
struct Seen {
    version: AtomicUsize,
    when: Mutex<Instant>,
    stop: AtomicUsize,
}

pub fn run(run: &mut Run<'_>) -> Result<()> {
    let reloads = if run.short { 10 } else { 40 };
    let versions = run.probes()?;
    let home = run.home(0)?;
    home.put_module("probe.wasm", &versions[0])?;
    let master = Master::start(run.kind, &home)?;
    let mut client = Client::connect(master.address(), Wire::Pomelo)?;
    client.until_answered(LOOK)?;
    quiet(run, &mut client, PAUSE * u32::try_from(reloads)?)?;
    let now = Instant::now();
    let seen = Arc::new(Seen { version: AtomicUsize::new(0), when: Mutex::new(now), stop: AtomicUsize::new(0) });
    let shared = seen.clone();
    let load = thread::spawn(move || {
        let mut last = 0;
        let goes_on = |_| shared.stop.load(Relaxed) == 0;
        client.load(LOOK, AT_ONCE, goes_on, |answer, now| {
            let version = version(answer);
            if version != last {
                *shared.when.lock().unwrap_or_else(PoisonError::into_inner) = now;
                shared.version.store(version, Relaxed);
                last = version;
            }
        })
    });
    let swapped = swap(&home, &versions, &seen, reloads, || load.is_finished());
    seen.stop.store(1, Relaxed);
    let asked = load.join().ok().context("the thread that asks has panicked")?.context("a request was lost")?;
    let answered = asked.times.len();
    run.tell(CASE, "requests", "", answered as f64);
    run.tell(CASE, "failed", "", asked.failed as f64);
    run.tell(CASE, "longest time without any answer", "ms", millis(asked.silence));
    run.tell(CASE, "slowest request", "ms", millis(asked.times.iter().copied().max().unwrap_or_default()));
    run.tell(CASE, "p99 of the requests", "ms", asked.at(99) / 1e3);
    let times = swapped?;
    run.tell(CASE, "reloads", "", times.len() as f64);
    if let Some((median, worst)) = median_and_worst(times) {
        run.tell(CASE, "file closed to first answer, median", "ms", millis(median));
        run.tell(CASE, "file closed to first answer, worst", "ms", millis(worst));
    }
    run.tell(CASE, "memory, peak", "MiB", master.process().peak_mib()?);
    ensure!(asked.failed == 0, "{} requests failed: {}", asked.failed, asked.failure.unwrap_or_default());
    Ok(())
}

/// The same load without a new version, for about as long: what the machine, and the load by itself, take from those who wait.
fn quiet(run: &mut Run<'_>, client: &mut Client, time: Duration) -> Result<()> {
    const CASE: &str = "the same without a reload";
    let began = Instant::now();
    let asked = client.load(LOOK, AT_ONCE, |now| now.duration_since(began) < time, |_, _| {})?;
    run.tell(CASE, "longest time without any answer", "ms", millis(asked.silence));
    run.tell(CASE, "slowest request", "ms", millis(asked.times.iter().copied().max().unwrap_or_default()));
    run.tell(CASE, "p99 of the requests", "ms", asked.at(99) / 1e3);
    Ok(())
}

/// The same component with a section that says the time, so that its code was not compiled before, in no round.
pub fn unseen(component: &[u8]) -> Vec<u8> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string();
    let name = b"time";
    // A section without a meaning: its length, its name's length, its name, and any bytes. All lengths are short.
    let length = |bytes: usize| u8::try_from(bytes).unwrap_or_default();
    let header = [0, length(1 + name.len() + time.len()), length(name.len())];
    [component, &header, name, time.as_bytes()].concat()
}

/// Puts the versions into place in turn, each as a file that was never there before. The time of each until it has answered.
fn swap(
    home: &Home,
    versions: &[Vec<u8>; 2],
    seen: &Seen,
    count: usize,
    over: impl Fn() -> bool,
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for number in 1..=count {
        thread::sleep(PAUSE);
        let wanted = number % 2;
        let closed = home.put_module("probe.wasm", &unseen(&versions[wanted]))?;
        while seen.version.load(Relaxed) != wanted {
            ensure!(!over(), "the load has ended by itself");
            ensure!(closed.elapsed() < PATIENCE, "version {number} does not answer within {PATIENCE:?}");
            thread::sleep(Duration::from_micros(200));
        }
        times.push(seen.when.lock().unwrap_or_else(PoisonError::into_inner).saturating_duration_since(closed));
    }
    Ok(times)
}
